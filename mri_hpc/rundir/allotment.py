"""The share of a node that was given to a rank."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Allotment:
    """Cores of a rank, and memory of all ranks of its node."""

    cores: int = 1
    """Of this rank."""
    memory_bytes: int | None = None
    """Of all ranks on the node together; None where it is not known."""
    is_of_job: bool = False
    """A job has asked for it, and could have asked for other."""
