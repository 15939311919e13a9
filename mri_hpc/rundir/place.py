"""Where one rank of a job stands."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Place:
    """One rank among all, on which host, and of which start of the job."""

    rank: int = 0
    local_rank: int = 0
    """Rank within the host: picks the GPU."""
    world_size: int = 1
    host: str = "localhost"
    """Name by which other ranks reach this one."""
    restart: int = 0
    """How often the job has been requeued or restarted."""
    job_id: str = ""
    """Slurm's number of the job; empty without Slurm."""
