"""The interval between periodic checkpoints, by what a save costs and how often attempts have died."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from mri_hpc.rundir.decisions import Cause
from mri_hpc.rundir.ledger import Event, Kind

LEAST_S, MOST_S = 60.0, 1800.0
"""Bounds: below, a file server is asked for little gain; above, a death costs more than anyone expects."""
BUSY = 0.1
"""Fraction of the time in which a save may be under way."""
ASSUMED_S, ASSUMED_FAILURES = 6 * 3600.0, 0.5
"""Before any is known, one failure in 6 hours is assumed, which counts as half of one in 3 hours."""
SAVES_TIMED = 5
"""The last so many saves tell what one costs."""
NOTED_CHANGE = 0.1
"""An interval is noted where it differs by such a fraction from the one noted before."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Seconds that one save has cost."""

    held_s: float
    """While the training waited, and by which steps were slowed while it was under way."""
    written_s: float
    """Until it was durable."""


@dataclass(frozen=True, kw_only=True)
class Failures:
    """Attempts that have lost work, and the seconds in which ranks worked."""

    number: int = 0
    watched_s: float = 0.0

    def between_s(self) -> float:
        """Estimate the seconds between two failures: as a rate with a gamma prior, by its mean."""
        return (ASSUMED_FAILURES * ASSUMED_S + self.watched_s) / (ASSUMED_FAILURES + self.number)


@dataclass(frozen=True, kw_only=True)
class SavingInterval:
    """An interval, and its reasons."""

    seconds: float
    held_s: float | None = None
    """Seconds that a save costs the training; None before one was timed."""
    between_s: float = ASSUMED_S
    """Seconds between two failures, as they are estimated."""
    failures: int = 0
    """Of them, those that were seen."""
    watched_s: float = 0.0
    """Seconds in which they would have been."""

    def to_values(self) -> dict[str, Any]:
        """Return plain values for the ledger."""
        return asdict(self)

    def differs(self, noted: "SavingInterval | None") -> bool:
        """Tell whether it is worth a line of its own beside the one noted before."""
        return noted is None or abs(self.seconds - noted.seconds) > NOTED_CHANGE * noted.seconds

    def why(self) -> str:
        """Explain it to people, in one line."""
        if self.held_s is None:
            return f"every {self.seconds:.0f} s until a save was timed"
        seen = f"{self.failures} in {_hours(self.watched_s)}, and one in {_hours(ASSUMED_S)} was assumed"
        return (
            f"every {self.seconds:.0f} s: a save holds training for {self.held_s:.2g} s, and a failure is "
            f"expected every {_hours(self.between_s)} ({seen})"
        )


def choose(costs: Sequence[Cost], failures: Failures) -> SavingInterval:
    """Choose the interval of least loss, sqrt(2 · cost · seconds between failures), within bounds.

    Young, Commun. ACM 17 (1974) 530. Daly's terms of higher order (Future Gener. Comput. Syst. 22 (2006) 303)
    do not count where a save costs a thousandth of what lies between two failures.
    """
    between_s = failures.between_s()
    known: dict[str, Any] = {
        "between_s": round(between_s, 1), "failures": failures.number,
        "watched_s": round(failures.watched_s, 1),
    }  # fmt: skip
    if not costs:
        return SavingInterval(seconds=LEAST_S, **known)
    held_s = statistics.median(cost.held_s for cost in costs[-SAVES_TIMED:])
    written_s = statistics.median(cost.written_s for cost in costs[-SAVES_TIMED:])
    least_s = max(LEAST_S, written_s / BUSY)
    seconds = min(max(math.sqrt(2 * held_s * between_s), least_s), max(MOST_S, least_s))
    return SavingInterval(seconds=round(seconds, 1), held_s=round(held_s, 4), **known)


class Pace:
    """The interval of an attempt, as it goes on."""

    def __init__(self, typed: float | Literal["auto"], events: Sequence[Event], now: float) -> None:
        """typed: as in the settings. events: of the ledger so far. now: Unix time."""
        self._typed = typed
        self._costs, self._noted = costs_of(events), newest(events)
        self._failures, self._then = failures_of(events, now), now
        self._interval = choose(self._costs, self._failures)

    @property
    def seconds(self) -> float:
        """The interval."""
        return self._interval.seconds if self._typed == "auto" else self._typed

    def add(self, saved: Mapping[str, Any], now: float) -> SavingInterval | None:
        """Take up what a save has cost; returns an interval that is to be noted."""
        if self._typed != "auto" or saved["reason"] == "stop":
            return None
        self._costs.append(cost_of(saved))
        watched_s = self._failures.watched_s + max(0.0, now - self._then)
        self._interval = choose(self._costs, replace(self._failures, watched_s=watched_s))
        if not self._interval.differs(self._noted):
            return None
        self._noted = self._interval
        return self._interval


def costs_of(events: Sequence[Event]) -> list[Cost]:
    """Return what saves have cost, oldest first: of those for which the training did not end."""
    saves = [event.values for event in events if event.kind == Kind.SAVED]
    return [cost_of(values) for values in saves if values.get("reason") != "stop"]


def cost_of(saved: Mapping[str, Any]) -> Cost:
    """Return what a save has cost, by what the ledger holds of it."""
    held_s = float(saved.get("seconds", 0.0))
    return Cost(
        held_s=held_s + float(saved.get("slowed_s", 0.0)), written_s=float(saved.get("written_s", held_s))
    )


def failures_of(events: Sequence[Event], now: float) -> Failures:
    """Count the attempts that died, or relied on a checkpoint, and the time in which ranks worked.

    An error that the user has to fix is none: it comes again, however often one saves. now: Unix time.
    """
    attempts: dict[str, list[Event]] = {}
    for event in events:
        attempts.setdefault(event.attempt, []).append(event)
    number, watched_s = 0, 0.0
    for name, own in attempts.items():
        started = [event.time for event in own if event.kind == Kind.STARTED]
        if not started:
            continue
        is_over = name != events[-1].attempt or any(e.kind in (Kind.RANKS_GONE, Kind.DECIDED) for e in own)
        worked = [e.time for e in own if e.kind not in (Kind.DECIDED, Kind.CANCELLED, Kind.ACCOUNTED)]
        watched_s += max(0.0, (max(worked) if is_over else now) - started[0])
        number += is_over and _has_lost_work(own)
    return Failures(number=number, watched_s=watched_s)


def newest(events: Sequence[Event]) -> SavingInterval | None:
    """Return the interval that was noted last; None where none was."""
    noted = [event.values for event in events if event.kind == Kind.INTERVAL]
    if not noted:
        return None
    known = SavingInterval.__dataclass_fields__
    return SavingInterval(**{name: value for name, value in noted[-1].items() if name in known})


def words_of(events: Sequence[Event], typed: float | Literal["auto"]) -> str:
    """Say how often a run saves, and why. typed: as in its settings."""
    if typed != "auto":
        return f"every {typed:g} s, as its settings say"
    return (newest(events) or choose([], Failures())).why()


def _has_lost_work(own: Sequence[Event]) -> bool:
    if any(event.kind in (Kind.TRAINED, Kind.PREDICTED, Kind.CAUGHT_UP) for event in own):
        return False
    if any(e.kind == Kind.DECIDED and e.values.get("cause") == Cause.USER_ERROR for e in own):
        return False
    stops = [event.values for event in own if event.kind == Kind.STOP_AGREED]
    return not stops or stops[-1].get("way") == "rely"


def _hours(seconds: float) -> str:
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 2 * 86400 else f"{seconds / 86400:.0f} days"
