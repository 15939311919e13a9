"""Links of a chain: who holds one, and what came of it, as one file each.

Whoever publishes the claim of a number first has that link, so that of two at once one ends. A link that was
killed leaves a claim without an outcome: the next one writes down that it was, and takes the number after it.
"""

import datetime
import enum
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mri_hpc.base.access import publish_shared, user_name
from mri_hpc.base.documents import convert, parse, with_format, without_format
from mri_hpc.base.errors import UserError
from mri_hpc.chain.layout import ChainDir
from mri_hpc.cluster.choice import phase_of, this_process
from mri_hpc.cluster.jobs import Job, slurm_job
from mri_hpc.cluster.scheduler import Phase
from mri_hpc.cluster.slurm import own_job_id

FORMAT = 1
LEAK, CLASSES, LOOK, LABELS = "leak", "classes", "look", "labels"
ACCEPTED = (LEAK, CLASSES, LOOK, LABELS)
"""Words by which a person accepts what looks wrong."""
MOST_FAILURES = 3
"""In a row, which end a chain of jobs."""


class State(enum.StrEnum):
    """Outcomes of a link."""

    NOTHING = "nothing new"
    TRAINING = "training"
    PROPOSED = "proposed"
    PROMOTED = "promoted"
    STOPPED = "stopped"
    """Nothing was trained on what came, as it looks wrong."""
    OUT_OF_HOURS = "out of GPU hours"
    INTERRUPTED = "interrupted"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """Holder of a link."""

    holder: Job
    """The process, on its machine."""
    job_id: str = ""
    """Slurm's job in which it runs; empty outside of one."""
    began: str = ""
    """In UTC, to the second."""
    who: str = ""
    is_of_job: bool = False
    """The chain submitted it; no person typed it."""


@dataclass(frozen=True, kw_only=True)
class Objection:
    """Reason why nothing is trained on what came, and the word by which a person accepts it."""

    word: str
    words: str
    """In words and figures; no patient is named."""
    images: int = 0
    """Images to which it refers."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Outcome of one link."""

    number: int
    state: State
    words: str
    """In one line."""
    began: str = ""
    ended: str = ""
    """Both in UTC, to the second."""
    who: str = ""
    is_of_job: bool = False
    """As of its claim."""
    snapshot: str = ""
    """Digest of the store's snapshot."""
    new_images: int = 0
    """Images that came, or have other labels, since what was last trained on."""
    gone_images: int = 0
    """Images that left."""
    objections: tuple[Objection, ...] = ()
    accepted: tuple[str, ...] = ()
    """Words of objections that a person accepted."""
    listed_in: str = ""
    """Path of the table of the images that objections are about, for the store's owner alone; else empty."""
    notes: tuple[str, ...] = ()
    run: str = ""
    """Path of the run that was launched, or is waited for."""
    cancelled: int = 0
    """Submission of the run that the link has cancelled, as the GPU hours were used up; 0: none."""
    model: str = ""
    """Name of the model that was proposed."""
    to_promote: str = ""
    """Line to type for its promotion, as it was then."""
    gpu_hours: float = 0.0
    """Of all runs of the chain so far."""
    ended_because: str = ""
    """Reason why no job follows, in a chain of jobs; empty where one does, and outside of one."""
    next_begins: str = ""
    """In UTC, of the job that follows."""


def now() -> str:
    """Return the time as outcomes have it."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def claim_link(chain: ChainDir, *, is_of_job: bool) -> tuple[int, Claim] | str:
    """Claim the next link for this process; the reason, for people, where another one has it."""
    while True:
        newest = chain.num_claimed()
        if newest and not chain.outcome(newest).exists():
            held = read_claim(chain, newest)
            if not _is_gone(held):
                return _at_work(chain, newest, held)
            _note_killed(chain, newest, held)
        mine = Claim(
            holder=this_process(), job_id=own_job_id(), began=now(), who=user_name(), is_of_job=is_of_job
        )
        if publish_shared(chain.claim(newest + 1), to_json(mine)):
            return newest + 1, mine


def is_held_by_job(chain: ChainDir) -> bool:
    """Tell whether the newest link is of a job of the chain, which submits the next one itself."""
    newest = chain.num_claimed()
    return bool(newest) and read_claim(chain, newest).is_of_job


def to_json(values: Any) -> bytes:
    """Return a claim, an outcome or a job as it lies on disk."""
    import json

    return json.dumps(with_format(FORMAT, asdict(values)), indent=1).encode() + b"\n"


def read_claim(chain: ChainDir, number: int) -> Claim:
    """Read who holds a link; UserError where it is damaged."""
    path = chain.claim(number)
    try:
        return convert(without_format(parse(path.read_bytes()), of=path, reads=FORMAT), Claim)
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): remove it where no link is at work") from None


def read_outcome(chain: ChainDir, number: int) -> Outcome | None:
    """Read what came of a link; None where there is nothing yet. UserError where it is damaged."""
    path = chain.outcome(number)
    try:
        return convert(without_format(parse(path.read_bytes()), of=path, reads=FORMAT), Outcome)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): remove it, and that link counts as killed") from None


def outcomes(chain: ChainDir) -> list[Outcome]:
    """Read what came of all links that have ended, oldest first."""
    found = [read_outcome(chain, number) for number in range(1, chain.num_claimed() + 1)]
    return [one for one in found if one]


def failures_in_a_row(found: Sequence[Outcome]) -> int:
    """Count the last links that failed in a row, since a person typed one. found: oldest first."""
    num = 0
    for one in reversed(found):
        if one.state is not State.FAILED or not one.is_of_job:
            break
        num += 1
    return num


def _is_gone(held: Claim) -> bool:
    """Tell whether the holder of a link has ended; of another machine without a Slurm job it is not known."""
    if held.holder.host == os.uname().nodename:
        return phase_of(held.holder) is Phase.GONE
    if not held.job_id:
        return False
    # A job that was requeued to here has left its first start behind.
    return held.job_id == own_job_id() or phase_of(slurm_job(held.job_id)) is Phase.GONE


def _at_work(chain: ChainDir, number: int, held: Claim) -> str:
    job = f", Slurm job {held.job_id}" if held.job_id else ""
    here = held.holder.host == os.uname().nodename or held.job_id
    way_out = "" if here else f"; if that machine is gone for good: rm {chain.claim(number)}"
    return (
        f"link {number} of {chain.name} is at work (process {held.holder.pid} on {held.holder.host}{job}, "
        f"since {held.began}): nothing was done{way_out}"
    )


def _note_killed(chain: ChainDir, number: int, held: Claim) -> None:
    """Write down that a link was killed; harmless where another one was faster."""
    killed = Outcome(
        number=number, state=State.FAILED, words="it was killed before it could say what it did",
        began=held.began, ended=now(), who=held.who, is_of_job=held.is_of_job,
    )  # fmt: skip
    publish_shared(chain.outcome(number), to_json(killed))
