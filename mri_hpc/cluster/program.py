"""The program of a job, where it is another one than training."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Program:
    """The program of a batch script."""

    module: str
    """Module that each rank runs, as ``python -m``: called with --run and --submission."""
    question: tuple[str, ...] = ()
    """Lines of the batch script that ask the nodes, in place of launch's own; where they leave it, no rank is
    started."""
