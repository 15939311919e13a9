"""The job that runs a submission, as the run's folder names it: one of Slurm, or a supervisor."""

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from mri_hpc.base.atomic import publish_new_bytes
from mri_hpc.base.documents import convert, parse, with_format, without_format
from mri_hpc.base.errors import UserError
from mri_hpc.rundir.layout import Attempt, RunDir

JOB = "job.json"
FORMAT = 1
HEARTBEAT = "heartbeat"


class Cluster(StrEnum):
    """Schedulers, in the words of settings and job.json."""

    SLURM = "slurm"
    LOCAL = "local"


@dataclass(frozen=True, kw_only=True)
class Job:
    """The job of a submission; published as attempts/<submission>.0/job.json."""

    cluster: str
    """One of Cluster; empty where submitting failed."""
    job_id: str = ""
    """Slurm's number."""
    slurm_cluster: str = ""
    """Name of the cluster that gave it; empty where it is unknown, and in jobs of versions before."""
    host: str = ""
    """Machine of the supervisor."""
    pid: int = 0
    """Process of the supervisor."""
    began: str = ""
    """Start of that process: with the pid it names it for good."""
    heartbeat: str = ""
    """File that the supervisor touches, for other machines; empty in jobs of versions before."""
    failure: str = ""
    """Reason why nothing was started, where submitting failed."""


def slurm_job(job_id: str, slurm_cluster: str = "") -> Job:
    """Return Slurm's job of that number. slurm_cluster: name of that Slurm, where it is known."""
    return Job(cluster=Cluster.SLURM.value, job_id=job_id, slurm_cluster=slurm_cluster)


def publish_job(run: RunDir, submission: int, job: Job) -> bool:
    """Publish the job that runs a submission; False if one was published already."""
    document = json.dumps(with_format(FORMAT, asdict(job)), indent=1)
    return publish_new_bytes(_job_file(run, submission), document.encode())


def job_of(run: RunDir, submission: int) -> Job | None:
    """Read the job of a submission; None where its launch has not come so far. UserError: unreadable."""
    path = _job_file(run, submission)
    try:
        return convert(without_format(parse(path.read_bytes()), of=path, reads=FORMAT), Job)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); restore it from a backup") from None


def heartbeat_of(run: RunDir, submission: int) -> Path:
    """Return the file that the supervisor of a submission touches."""
    return run.attempt_folder(Attempt(submission=submission, restart=0)) / HEARTBEAT


def _job_file(run: RunDir, submission: int) -> Path:
    return run.attempt_folder(Attempt(submission=submission, restart=0)) / JOB
