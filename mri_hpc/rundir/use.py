"""Use that attempts of a run made of what they were given: a pure fold over its ledger."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from mri_hpc.rundir.layout import Attempt
from mri_hpc.rundir.ledger import Event, Kind


@dataclass(frozen=True, kw_only=True)
class Use:
    """Use that one attempt made, from when its ranks were ready. What was not measured is None."""

    attempt: str
    seconds: float = 0.0
    """Seconds over which it was measured."""
    cores_used: float | None = None
    """Mean of a rank."""
    cores: float | None = None
    """Of a rank, as asked for."""
    memory_bytes: int | None = None
    """Most on a node; without mapped files, where the ranks themselves have measured it."""
    memory_limit_bytes: int | None = None
    """Of a node, as asked for; None where no job could ask for less."""
    has_gpu: bool = False
    gpu_busy: float | None = None
    """Fraction of the time in which the GPU computed."""
    gpu_bytes: int | None = None
    """Most that was taken of the memory of a GPU."""
    gpu_limit_bytes: int | None = None
    is_of_job: bool = False
    """A job has asked for it, and could have asked for other."""


# Values of the ledger's events, by which they are put into a Use.
MEASURED = tuple(field.name for field in fields(Use) if field.name != "attempt")

MEMORY = "memory_bytes"


def uses_of(events: Sequence[Event]) -> tuple[Use, ...]:
    """Return the use of each attempt of which any was measured, oldest first.

    Rank 0 measures itself, and the scheduler's accounting all ranks: that counts where it knows, but for
    memory that rank 0 has measured: the accounting adds a mapped store, which needs none.
    """
    found: dict[str, dict[str, Any]] = {}
    for kind in (Kind.USED, Kind.ACCOUNTED):
        for event in events:
            if event.kind == kind:
                values = found.setdefault(event.attempt, {})
                measured = {MEMORY: values[MEMORY]} if kind == Kind.ACCOUNTED and MEMORY in values else {}
                values.update(_known(event.values) | measured)
    return tuple(Use(attempt=name, **found[name]) for name in sorted(found, key=Attempt.parse))


def _known(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: values[name] for name in MEASURED if values.get(name) is not None}
