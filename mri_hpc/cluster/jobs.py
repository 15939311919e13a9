"""Who runs a submission of a run: a job of Slurm, or a supervisor on some machine."""

import contextlib
import json
import os
import signal
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from mri_hpc.base.atomic import publish_new_bytes
from mri_hpc.base.documents import convert, parse, with_format, without_format
from mri_hpc.base.errors import UserError
from mri_hpc.base.process import look_at
from mri_hpc.cluster import slurm
from mri_hpc.rundir.layout import Attempt, RunDir

JOB = "job.json"
FORMAT = 1


class Phase(StrEnum):
    """Where a job stands."""

    PENDING = "pending"
    RUNNING = "running"
    GONE = "gone"


@dataclass(frozen=True, kw_only=True)
class Job:
    """Who runs a submission; published as attempts/<submission>.0/job.json."""

    cluster: str
    """slurm or local; empty where submitting failed."""
    job_id: str = ""
    """Slurm's number."""
    host: str = ""
    """Machine of the supervisor."""
    pid: int = 0
    """Process of the supervisor."""
    began: str = ""
    """When that process began: with the pid it names it for good."""
    failure: str = ""
    """Why nothing was started, where submitting failed."""

    @property
    def name(self) -> str:
        """For people."""
        if self.failure:
            return f"nothing ({self.failure})"
        return (
            f"Slurm job {self.job_id}" if self.cluster == "slurm" else f"supervisor {self.pid} on {self.host}"
        )

    @property
    def is_elsewhere(self) -> bool:
        """Whether it is a supervisor on another machine, which cannot be asked or told anything."""
        return self.cluster == "local" and self.host != os.uname().nodename


def local_job(pid: int) -> Job:
    """The supervisor `pid` on this machine, as a job."""
    return Job(cluster="local", host=os.uname().nodename, pid=pid, began=process_began(pid) or "")


def publish_job(run: RunDir, submission: int, job: Job) -> bool:
    """Say who runs a submission; False if that was said already."""
    document = json.dumps(with_format(FORMAT, asdict(job)), indent=1)
    return publish_new_bytes(_job_file(run, submission), document.encode())


def job_of(run: RunDir, submission: int) -> Job | None:
    """Who runs a submission; None where its launch has not come so far. UserError where it cannot be read."""
    path = _job_file(run, submission)
    try:
        return convert(without_format(parse(path.read_bytes()), of=path, reads=FORMAT), Job)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); restore it from a backup") from None


def phase_of(job: Job) -> Phase:
    """Where the job stands now. A supervisor on another machine counts as running.

    Raises UserError where Slurm does not answer.
    """
    return phase_and_wait(job)[0]


def phase_and_wait(job: Job) -> tuple[Phase, str]:
    """Where the job stands, as `phase_of` tells, and Slurm's word for what it waits for."""
    if job.failure:
        return Phase.GONE, ""
    if job.cluster == "local":
        is_here = process_began(job.pid) == job.began
        return (Phase.RUNNING if job.is_elsewhere or is_here else Phase.GONE), ""
    state = slurm.job_state(job.job_id)
    if state is None or not state.is_live:
        return Phase.GONE, ""
    # Of a suspended job Slurm gives no reason beside the state.
    return (Phase.PENDING, state.reason or state.state) if state.is_waiting else (Phase.RUNNING, "")


def end_in_slurm(job: Job) -> str:
    """As what Slurm holds a job that has ended; empty where it does not say. UserError as by `phase_of`."""
    state = slurm.job_state(job.job_id) if job.cluster == "slurm" else None
    return state.state if state else ""


def cancel(job: Job) -> None:
    """Tell the job to end for good; its ranks save first. UserError where it is out of reach."""
    if job.cluster == "slurm":
        slurm.cancel(job.job_id)
        return
    if job.is_elsewhere:
        raise UserError(
            f"{job.name} cannot be told from {os.uname().nodename}: cancel it there; "
            f"or, if that machine is gone, launch again: the run goes on here"
        )
    with contextlib.suppress(ProcessLookupError):
        os.kill(job.pid, signal.SIGTERM)


def process_began(pid: int) -> str | None:
    """Boot and clock tick at which a process began; None when it has ended, waited for or not."""
    try:
        process = look_at(pid)
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if process.state in "ZX" else f"{boot}:{process.start_ticks}"


def _job_file(run: RunDir, submission: int) -> Path:
    return run.attempt_folder(Attempt(submission=submission, restart=0)) / JOB
