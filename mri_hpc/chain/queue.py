"""Jobs of a chain on Slurm: a link is a small job, which submits the one that follows as it ends.

One job of a chain waits or works at a time. Slurm holds one that was submitted until the one before has ended
(--dependency=singleton), and a number in the folder of jobs can be published once.
"""

import datetime
import hashlib
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from mri_hpc.base.access import publish_shared
from mri_hpc.base.documents import convert, parse, without_format
from mri_hpc.base.errors import UserError
from mri_hpc.chain.layout import ChainDir
from mri_hpc.chain.links import FORMAT, to_json
from mri_hpc.cluster.choice import name_of, phase_of, scheduler_of
from mri_hpc.cluster.jobs import Job
from mri_hpc.cluster.scheduler import Phase
from mri_hpc.cluster.slurm import controller_answers, own_job_id, own_job_name
from mri_hpc.cluster.small_job import submit_small

NO_SLURM = (
    "--every submits jobs to a Slurm, and there is none here: have cron, or a timer of systemd, type the "
    "line without it (docs/watching.md)"
)
Answer = TypeVar("Answer")
PATIENT_TRIES = 10
PAUSE_S = 40.0
"""Between tries of a job of the chain; longer than what was answered last is kept for."""


@dataclass(frozen=True, kw_only=True)
class LinkJob:
    """A job that was submitted for a link."""

    job: Job
    begins: str
    """In UTC: no sooner than that."""


def newest_job(chain: ChainDir) -> LinkJob | None:
    """Read the job that was submitted last; None before the first. UserError where it is damaged."""
    number = chain.num_submitted()
    if not number:
        return None
    path = chain.job(number)
    try:
        return convert(without_format(parse(path.read_bytes()), of=path, reads=FORMAT), LinkJob)
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): remove it where no job of the chain waits") from None


def is_own_job(chain: ChainDir) -> bool:
    """Tell whether this process is in the job of the chain, and not in one requeued behind its successor.

    UserError where Slurm does not answer for minutes; of the newest job it is not asked.
    """
    newest = newest_job(chain)
    if newest and own_job_id() and newest.job.job_id == own_job_id():
        return True
    if own_job_name() != job_name(chain):
        return False
    # This one may have begun before it was written down.
    live = patiently(lambda: live_link_job(chain))
    return live is None or live.job.job_id == own_job_id()


def job_name(chain: ChainDir) -> str:
    """Name the jobs of a chain, of which Slurm runs one at a time; no other folder's chain has that name."""
    place = hashlib.sha256(str(chain.path.resolve()).encode()).hexdigest()[:8]
    return f"mri-watch-{chain.name}-{place}"


def patiently(ask: Callable[[], Answer], tries: int = PATIENT_TRIES) -> Answer:
    """Return what Slurm answers, asked again for some minutes; the last UserError where it does not."""
    for _left in range(tries - 1):
        try:
            return ask()
        except UserError:
            time.sleep(PAUSE_S)
    return ask()


def live_link_job(chain: ChainDir) -> LinkJob | None:
    """Return the job of the chain that waits or works; None where there is none. UserError: no answer."""
    newest = newest_job(chain)
    return newest if newest and phase_of(newest.job) is not Phase.GONE else None


def submit_next(
    chain: ChainDir, words: Sequence[str], *, in_s: int, options: Sequence[str], tries: int = 1
) -> LinkJob:
    """Submit the job of the next link; UserError where another one was faster, or Slurm refuses.

    words: of mri-hpc watch. in_s: seconds from now before which it does not begin. options: of sbatch.
    tries: as of `patiently`.
    """

    def submit() -> Job:
        if not controller_answers():
            raise UserError(NO_SLURM)
        return submit_small(
            [sys.executable, "-m", "mri_hpc.watch", *words], name=job_name(chain),
            output=chain.logs / "job-%j.out", begin_in_s=in_s, options=options,
        )  # fmt: skip

    number = chain.num_submitted() + 1
    job = patiently(submit, tries)
    begins = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=in_s)
    submitted = LinkJob(job=job, begins=begins.strftime("%Y-%m-%d %H:%M:%S UTC"))
    if not publish_shared(chain.job(number), to_json(submitted)):
        scheduler_of(job).cancel(job)
        raise UserError(
            f"another watch of {chain.name} has submitted its job at the same time: nothing was added"
        )
    return submitted


def stop_chain(chain: ChainDir) -> str:
    """Leave the stop file, take a waiting job out of the queue, and say what comes of it."""
    chain.stop.touch()
    live = live_link_job(chain)
    if live is None:
        return f"{chain.name} is stopped: no link begins while {chain.stop} is there"
    if phase_of(live.job) is Phase.PENDING:
        scheduler_of(live.job).cancel(live.job)
        return f"{chain.name} is stopped: {name_of(live.job)} was taken out of the queue"
    return f"{chain.name} is stopped: {name_of(live.job)} ends its link, and none follows"
