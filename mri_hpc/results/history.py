"""What befell a run: one line an attempt, from the ledger."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from mri_hpc.rundir.layout import Attempt
from mri_hpc.rundir.ledger import Event, Kind


@dataclass(frozen=True, kw_only=True)
class AttemptHistory:
    """One start of the ranks, and how it ended."""

    attempt: str
    """As ``submission.restart``."""
    began_s: float
    """Unix time of the first event."""
    ended_s: float | None
    """Unix time at which its ranks had gone; None while nobody has said so."""
    job_id: str
    ranks: int | None
    host: str
    resumed_step: int | None
    """Step it went on from; None where its ranks never came to say."""
    reached_step: int | None
    """Step of its last checkpoint."""
    steps_lost: int | None
    """Steps it did that the next attempt had to do again; None while there is no next one."""
    cause: str
    """Why it ended, in the words of whoever started it; empty while nobody has said so."""
    decision: str
    reason: str


def attempts_of(events: Sequence[Event]) -> list[AttemptHistory]:
    """Attempts that left a trace in the ledger, oldest first."""
    names = sorted({event.attempt for event in events}, key=Attempt.parse)
    by_attempt = {name: [event for event in events if event.attempt == name] for name in names}
    lost = _steps_lost(by_attempt)
    return [_history(name, own, lost.get(name)) for name, own in by_attempt.items()]


def resumed_steps(attempts: Iterable[AttemptHistory]) -> list[int]:
    """Steps from which the run went on after an interruption."""
    begun = [attempt.resumed_step for attempt in attempts if attempt.resumed_step is not None]
    return begun[1:]


def _history(name: str, events: list[Event], steps_lost: int | None) -> AttemptHistory:
    said = {event.kind: event for event in events}  # of several of a kind, the last
    submitted, started = _values(said, Kind.SUBMITTED), _values(said, Kind.STARTED)
    decided = _values(said, Kind.DECIDED)
    # The ranks write their predictions last; whoever started them says so a little later.
    is_done = Kind.PREDICTED in said
    gone = said.get(Kind.RANKS_GONE) or said.get(Kind.DECIDED) or said.get(Kind.PREDICTED)
    return AttemptHistory(
        attempt=name,
        began_s=said[Kind.STARTED].time if Kind.STARTED in said else events[0].time,
        ended_s=gone.time if gone else None,
        job_id=str(started.get("job_id") or submitted.get("job_id") or ""),
        ranks=started.get("ranks"),
        host=str(started.get("host", "")),
        resumed_step=started.get("resumed_step"),
        reached_step=_values(said, Kind.SAVED).get("step"),
        steps_lost=steps_lost,
        cause=str(decided.get("cause", "finished" if is_done else "")),
        decision=str(decided.get("decision", "finished" if is_done else "")),
        reason=str(decided.get("reason", "")),
    )


def _steps_lost(by_attempt: dict[str, list[Event]]) -> dict[str, int]:
    """Steps that each attempt did in vain: an attempt notes, as it begins, what the one before it lost."""
    lost: dict[str, int] = {}
    before = ""
    for name, events in by_attempt.items():
        if not any(event.kind == Kind.STARTED for event in events):
            continue
        if before:
            lost[before] = sum(
                int(event.values.get("steps", 0)) for event in events if event.kind == Kind.LOST
            )
        before = name
    return lost


def _values(said: dict[str, Event], kind: Kind) -> dict[str, Any]:
    return dict(said[kind].values) if kind in said else {}
