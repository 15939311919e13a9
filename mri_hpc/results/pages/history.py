"""History of a run: one line an attempt, from the ledger."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from mri_hpc.rundir.decisions import Action, Cause
from mri_hpc.rundir.layout import Attempt
from mri_hpc.rundir.ledger import Event, Kind
from mri_hpc.rundir.wall_clock import Cost, account


@dataclass(frozen=True, kw_only=True)
class AttemptHistory:
    """One start of the ranks, and how it ended."""

    attempt: str
    """As ``submission.restart``."""
    began_s: float
    """Unix time at which its ranks were started."""
    ended_s: float | None
    """Unix time at which its ranks had gone; None while the ledger does not say."""
    job_id: str
    ranks: int | None
    host: str
    resumed_step: int | None
    """Step it went on from; None where its ranks never came to say."""
    reached_step: int | None
    """Step of its last checkpoint."""
    cost: Cost
    """Cost of its end."""
    cause: str
    """Reason of its end, in the words of whoever started it; empty while the ledger gives none."""
    decision: str
    reason: str


def attempts_of(events: Sequence[Event]) -> list[AttemptHistory]:
    """List attempts that left a trace in the ledger, oldest first."""
    names = sorted({event.attempt for event in events}, key=Attempt.parse)
    costs = {cost.attempt: cost for cost in account(events, [], events[-1].time).costs} if events else {}
    return [
        _history([event for event in events if event.attempt == name], costs.get(name, Cost(attempt=name)))
        for name in names
    ]


def resumed_steps(attempts: Iterable[AttemptHistory]) -> list[int]:
    """List steps from which the run went on after an interruption."""
    begun = [attempt.resumed_step for attempt in attempts if attempt.resumed_step is not None]
    return begun[1:]


def _history(events: list[Event], cost: Cost) -> AttemptHistory:
    last = {event.kind: event for event in events}  # of several of a kind, the last
    submitted, started = _values(last, Kind.SUBMITTED), _values(last, Kind.STARTED)
    decided = _values(last, Kind.DECIDED)
    # The ranks write their predictions last; whoever started them says so a little later.
    is_done = Kind.PREDICTED in last
    gone = last.get(Kind.RANKS_GONE) or last.get(Kind.PREDICTED) or _last_word(events)
    return AttemptHistory(
        attempt=cost.attempt,
        began_s=(last.get(Kind.STARTING) or last.get(Kind.STARTED) or events[0]).time,
        ended_s=gone.time if gone else None,
        job_id=str(started.get("job_id") or submitted.get("job_id") or ""),
        ranks=started.get("ranks"),
        host=str(started.get("host", "")),
        resumed_step=started.get("resumed_step"),
        reached_step=_values(last, Kind.SAVED).get("step"),
        cost=cost,
        cause=str(decided.get("cause", Cause.FINISHED if is_done else "")),
        decision=str(decided.get("decision", Action.FINISHED if is_done else "")),
        reason=str(decided.get("reason", "")),
    )


def _last_word(events: list[Event]) -> Event | None:
    """Return the last event before others recorded that it had vanished; None while none has."""
    if events[-1].kind != Kind.DECIDED:
        return None
    return events[-2] if len(events) > 1 else events[-1]


def _values(last: dict[str, Event], kind: Kind) -> dict[str, Any]:
    return dict(last[kind].values) if kind in last else {}
