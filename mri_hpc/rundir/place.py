"""The place of one rank among all ranks of a job."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Place:
    """The number of one rank among all, its host, and the start of the job to which it belongs."""

    rank: int = 0
    local_rank: int = 0
    """Rank within the host: picks the GPU."""
    world_size: int = 1
    host: str = "localhost"
    """Name of its machine; ranks of one name share one."""
    addresses: tuple[str, ...] = ()
    """Addresses, or names, by which the scheduler reaches that machine."""
    restart: int = 0
    """Number of times the job was requeued or restarted."""
    job_id: str = ""
    """Slurm's number of the job; empty without Slurm."""
