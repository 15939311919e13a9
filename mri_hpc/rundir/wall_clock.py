"""The wall clock of a run by part, every second in one: a pure fold over its ledger and its metrics."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any

from mri_hpc.rundir.decisions import Action
from mri_hpc.rundir.layout import Attempt
from mri_hpc.rundir.ledger import Event, Kind

# What launch, and whoever starts the ranks, write; all other events are words of the ranks.
NOT_OF_RANKS = {
    Kind.SUBMITTED, Kind.CANCELLED, Kind.STARTING, Kind.RANKS_GONE, Kind.ACCOUNTED, Kind.DECIDED,
}  # fmt: skip
BY_LAUNCH = {Kind.SUBMITTED, Kind.CANCELLED}
# Lines of several writers may stand a little out of order.
LEAST_BEHIND_S = 5.0
# Slurm's own credentials allow five minutes either way: by more, it is no clock.
MOST_BEHIND_S = 600.0
# Events that tell of a piece of work, or of its end: by then the ranks were ready.
WORK = (Kind.FIRST_STEP, Kind.SAVED, Kind.EPOCH, Kind.TRAINED, Kind.STOP_AGREED, Kind.PREDICTED)
# What FIRST_STEP holds beside the seconds since the process began, by part.
STEP_ITSELF = "seconds"


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Cost of the end of one attempt."""

    attempt: str
    steps_lost: int | None = None
    """Steps that a later attempt had to do again; None while none has gone on from it."""
    seconds_lost: float = 0.0
    """Seconds that those steps had taken, and what it never finished, until its death was noticed."""
    seconds_down: float = 0.0
    """Seconds from the end of its work to the next attempt's first step: stopping, queueing, starting."""


@dataclass(frozen=True, kw_only=True)
class WallClock:
    """Seconds from the first submission to the end, or to now; every second is in one part."""

    queueing: float = 0.0
    """Submitted, or to be run again, and no ranks started."""
    starting: float = 0.0
    """From the start of the ranks to the beginning of their first step: imports, meeting, data, model."""
    training: float = 0.0
    """Steps that count. Of one done again, the second time."""
    validation: float = 0.0
    """Of epochs that count."""
    predicting: float = 0.0
    """With the finished model."""
    saving: float = 0.0
    """Checkpoints, as far as the ranks waited for them."""
    lost: float = 0.0
    """Work that had to be done again or was never finished, and the time until a death was noticed."""
    stopping: float = 0.0
    """From the agreement to stop, or the end of the work, to the decision what comes next; saving apart."""
    away: float = 0.0
    """Not asked for: from when it was cancelled, given up or vanished until it was launched again."""
    under_way: float = 0.0
    """Time of the attempt that runs now of which it has written nothing down yet."""
    unaccounted: float = 0.0
    """The rest, in none of the above; below zero where they overlap."""
    costs: tuple[Cost, ...] = ()
    """Of each attempt whose ranks were started, oldest first."""

    @property
    def parts(self) -> dict[str, float]:
        """Seconds by part."""
        return {part.name: getattr(self, part.name) for part in fields(self) if part.name != "costs"}

    @property
    def total(self) -> float:
        """The wall clock."""
        return sum(self.parts.values())

    @property
    def ettr(self) -> float | None:
        """Effective training time ratio: useful seconds / seconds in which the run ran or waited to run.

        Useful is what an uninterrupted run does as well and what was not done in vain: training, validation
        and predicting. After Kokolis et al., arXiv 2410.21680: productive runtime / available wall clock,
        which counts queueing, and leaves out the time in which the run was not asked for. None before
        there is any.
        """
        return self._useful_fraction_of(self.total - self.away)

    @property
    def ettr_without_queueing(self) -> float | None:
        """The same ratio while ranks ran, for which this software, and not the cluster, is to answer."""
        return self._useful_fraction_of(self.total - self.away - self.queueing)

    def _useful_fraction_of(self, seconds: float) -> float | None:
        useful = self.training + self.validation + self.predicting
        return round(useful / seconds, 4) if seconds > 0 else None


# Read so, second by second: a run whose first attempt dies after step 12, two steps after its checkpoint.
#
#   0 submitted      10 starting: queueing 10     20 first step begins: starting 10
#   40 step 10: training 20     41 saved: saving 1     45 step 12, in no checkpoint: lost 4
#   75 ranks_gone: lost 30, until the death was noticed     76 decided, again: stopping 1
#   76 starting (1.1): queueing 0     86 ready: starting 10     90 steps 11, 12 again: training 4
#   91 epoch: validation 1     93 saved: saving 2     96 predicted: predicting 3     97 decided: stopping 1
def account(events: Sequence[Event], metrics: Sequence[Mapping[str, Any]], now: float) -> WallClock:
    """Account for the time from the first event to the end of the run, or to `now` (Unix time)."""
    events = by_one_clock(events)
    now = max([now, *(event.time for event in events[-1:])])
    spells = _spells(events, metrics, now)
    if not spells:
        return WallClock()
    last = spells[-1]
    idle = [_idle_between(before, spell) for before, spell in zip([None, *spells], spells, strict=False)]
    end_s = now if last.is_coming_back else last.ended_s
    parts = {
        "queueing": sum(queueing for _, queueing in idle) + end_s - last.ended_s,
        "starting": sum(spell.starting for spell in spells),
        "training": sum(spell.training for spell in spells),
        "validation": sum(spell.validation(in_vain=False) for spell in spells),
        "predicting": sum(spell.seconds_of(Kind.PREDICTED) for spell in spells),
        "saving": sum(spell.seconds_of(Kind.SAVED) for spell in spells),
        "lost": sum(spell.lost for spell in spells),
        "stopping": sum(spell.stopping for spell in spells),
        "away": sum(away for away, _ in idle),
        "under_way": last.under_way,
    }
    # Of what is not rounded, or it is a thousandth below zero where nothing overlaps.
    parts["unaccounted"] = end_s - min(spell.asked_s for spell in spells) - sum(parts.values())
    rounded = {name: round(seconds, 3) + 0.0 for name, seconds in parts.items()}
    return WallClock(**rounded, costs=tuple(_costs(spells, idle)))


def by_one_clock(events: Sequence[Event]) -> list[Event]:
    """Return the events with times that do not contradict their order in the ledger, which is real.

    Of each attempt, launch and those that run it are taken for one machine each: one whose clock is behind
    that of machines which wrote before is moved to where it must at least have been. For ledgers, and file
    systems, that know no clock but the writers' own.
    """
    moved_s: dict[tuple[str, bool], float] = {}
    latest_s, result = -math.inf, []
    for event in events:
        writer = (event.attempt, event.kind in BY_LAUNCH)
        if writer not in moved_s:
            behind_s = latest_s - event.time
            moved_s[writer] = behind_s if LEAST_BEHIND_S < behind_s <= MOST_BEHIND_S else 0.0
        result.append(replace(event, time=event.time + moved_s[writer]))
        latest_s = max(latest_s, result[-1].time)
    return result


class _Spell:
    """One attempt, from the request to the decision on what comes next; seconds by part."""

    def __init__(self, attempt: str, events: Sequence[Event], *, training: float) -> None:
        self.attempt, self.training = attempt, training
        self._events = events
        self.began_s = _began_s(events)
        # The supervisor may be faster than the launch that notes it.
        self.asked_s = min(events[0].time, self.began_s or events[0].time)
        self.has_started = bool(self.of(Kind.STARTED))
        self._last_sign_s = max(
            (e.time for e in events if e.kind not in NOT_OF_RANKS), default=self.began_s or self.asked_s
        )
        # What later attempts find lost of it.
        self.steps_in_vain, self._seconds_in_vain = 0, 0.0
        self._epochs_in_vain: set[int] = set()
        # The next attempt, if there is one, begins then; else it is now.
        self.limit_s, self.is_newest = 0.0, True

    def charge(self, found: "_Spell") -> None:
        """Charge the attempt with the steps that the next one found lost as it began."""
        for event in found.of(Kind.LOST):
            self.steps_in_vain += int(event.values.get("steps", 0))
            self._seconds_in_vain += _seconds(event)
            self._last_sign_s = max(self._last_sign_s, _seconds(event, "last_step_s"))

    def charge_unsaved(self, steps: Iterable[Mapping[str, Any]]) -> None:
        """Charge the attempt, which died and has no next one, with its steps that no checkpoint holds."""
        saved = max((int(event.values.get("step", 0)) for event in self.of(Kind.SAVED)), default=0)
        seconds = sum(line.get("seconds", 0.0) for line in steps if line["step"] > saved)
        self.training -= seconds
        self._seconds_in_vain += seconds
        self._last_sign_s += seconds

    def forget_epochs(self, resumed: int) -> None:
        """Count validations from epoch `resumed` on as in vain: a later attempt does them again."""
        epochs = {int(event.values["epoch"]) for event in self.of(Kind.EPOCH)}
        self._epochs_in_vain |= {epoch for epoch in epochs if epoch >= resumed}

    def of(self, *kinds: Kind) -> list[Event]:
        """Return its events of these kinds."""
        return [event for event in self._events if event.kind in kinds]

    def seconds_of(self, kind: Kind) -> float:
        """Sum the seconds of its events of a kind."""
        return sum(_seconds(event) for event in self.of(kind))

    def validation(self, *, in_vain: bool) -> float:
        """Sum the seconds of validations that had, or had not, to be done again."""
        epochs = [e for e in self.of(Kind.EPOCH) if (e.values["epoch"] in self._epochs_in_vain) == in_vain]
        return sum(_seconds(event, "validation_s") for event in epochs)

    @property
    def starting(self) -> float:
        """Seconds until its first piece of work."""
        return max(0.0, self._ready_s - self.began_s) if self.began_s is not None else 0.0

    @property
    def lost(self) -> float:
        """Seconds of work done in vain, or never finished."""
        return self._seconds_in_vain + self.validation(in_vain=True) + self._unfinished

    @property
    def stopping(self) -> float:
        """Seconds from the end of its work on, but for saving."""
        left = self.of(Kind.STOP_AGREED, Kind.PREDICTED)
        if not left:
            return self.ended_s - self._gone_s
        saving = sum(_seconds(event) for event in self.of(Kind.SAVED) if event.time >= left[-1].time)
        return max(0.0, self.ended_s - left[-1].time - saving)

    @property
    def under_way(self) -> float:
        """Seconds, while it runs, of which it has written nothing down."""
        if self._is_over or self.began_s is None:
            return 0.0
        known = self.starting + self.training + self.validation(in_vain=False) + self.seconds_of(Kind.SAVED)
        return max(0.0, self.ended_s - self.began_s - known)

    @property
    def is_dead(self) -> bool:
        """Tell whether it ended without being asked to and without being done."""
        return self._is_over and not self.of(Kind.STOP_AGREED, Kind.PREDICTED)

    @property
    def is_coming_back(self) -> bool:
        """Tell whether it is to be run again, and nothing has happened since."""
        ends = self.of(Kind.DECIDED, Kind.CANCELLED)
        return bool(ends) and ends[-1].values.get("decision") == Action.AGAIN

    @property
    def ended_s(self) -> float:
        """Unix time of the decision on what comes next; where its own is missing, at which it was gone."""
        decided = self.of(Kind.DECIDED) if self.of(Kind.RANKS_GONE) else []
        return self._capped(max([self._gone_s, *(event.time for event in decided)]))

    @property
    def _gone_s(self) -> float:
        """Unix time at which its ranks had gone; of their last sign where that was not seen."""
        if not self._is_over:
            return self.limit_s
        gone = self.of(Kind.RANKS_GONE) or (self.of(Kind.CANCELLED) if self.began_s is None else [])
        return self._capped(gone[-1].time if gone else self._last_sign_s)

    @property
    def _is_over(self) -> bool:
        """Tell whether its ranks have gone, or are leaving, or never came."""
        ends = self.of(Kind.RANKS_GONE, Kind.DECIDED, Kind.STOP_AGREED, Kind.PREDICTED)
        return not self.is_newest or bool(ends) or (self.began_s is None and bool(self.of(Kind.CANCELLED)))

    @property
    def _ready_s(self) -> float:
        """Unix time at which its first piece of work began; at which it was gone, where it came to none."""
        began = [event.time - _work_s(event) for event in self.of(*WORK)]
        return self._capped(min(began, default=self._gone_s))

    @property
    def _unfinished(self) -> float:
        """Seconds of work that was not finished; after a death, until that was noticed."""
        work = self.of(*WORK)
        stop = self.of(Kind.STOP_AGREED)
        if stop:
            # Asked to stop before the first piece of work: that was starting.
            return 0.0 if work[0] is stop[0] else _seconds(stop[0], "unfinished_s")
        return max(0.0, self._gone_s - self._last_sign_s) if work and self.is_dead else 0.0

    def _capped(self, time_s: float) -> float:
        return min(time_s, self.limit_s)


def _spells(events: Sequence[Event], metrics: Sequence[Mapping[str, Any]], now: float) -> list[_Spell]:
    """Make one spell an attempt, oldest first, each charged with what later ones found lost."""
    steps = [line for line in metrics if "loss" in line]
    training: defaultdict[str, float] = defaultdict(float)
    for line in steps:
        training[str(line.get("attempt"))] += line.get("seconds", 0.0)
    by_attempt = _by_attempt(events)
    spells = [_Spell(name, own, training=training[name]) for name, own in by_attempt.items()]
    started = [spell for spell in spells if spell.has_started]
    for before, spell in pairwise(started):
        before.charge(spell)
    for number, spell in enumerate(started):
        resumed = spell.of(Kind.STARTED)[0].values.get("epoch", 0)
        for before in started[:number]:
            before.forget_epochs(resumed)
    for spell, after in pairwise(spells):
        spell.limit_s, spell.is_newest = after.began_s or after.asked_s, False
    if spells:
        spells[-1].limit_s = now
    if started and started[-1].is_dead:
        newest = started[-1].attempt
        started[-1].charge_unsaved(line for line in steps if line.get("attempt") == newest)
    return spells


def _by_attempt(events: Sequence[Event]) -> dict[str, list[Event]]:
    """Group events by attempt, oldest first, without those that come after a newer one has begun."""
    names = sorted({event.attempt for event in events}, key=Attempt.parse)
    kept: dict[str, list[Event]] = {}
    limit_s = math.inf
    for name in reversed(names):
        kept[name] = [event for event in events if event.attempt == name and event.time <= limit_s]
        limit_s = min(limit_s, _began_s(kept[name]) or limit_s)
    return {name: kept[name] for name in names if kept[name]}


def _idle_between(before: _Spell | None, spell: _Spell) -> tuple[float, float]:
    """Return the seconds before an attempt in which the run was away, and in which it was queueing."""
    began_s = spell.began_s if spell.began_s is not None else spell.ended_s
    if before is None:
        return 0.0, began_s - spell.asked_s
    is_same_job = Attempt.parse(before.attempt).submission == Attempt.parse(spell.attempt).submission
    asked_s = before.ended_s if is_same_job else min(max(spell.asked_s, before.ended_s), began_s)
    return asked_s - before.ended_s, began_s - asked_s


def _costs(spells: Sequence[_Spell], idle: Sequence[tuple[float, float]]) -> Iterable[Cost]:
    started = [spell for spell in spells if spell.has_started]
    for number, spell in enumerate(spells):
        if spell.began_s is None:
            continue
        after = spells[number + 1] if number + 1 < len(spells) else None
        down = spell.stopping + (idle[number + 1][1] + after.starting if after else 0.0)
        is_resumed = spell.has_started and spell is not started[-1]
        yield Cost(
            attempt=spell.attempt,
            steps_lost=spell.steps_in_vain if is_resumed else None,
            seconds_lost=round(spell.lost, 3),
            seconds_down=round(down, 3),
        )


def _began_s(events: Sequence[Event]) -> float | None:
    """Return the Unix time at which the ranks of an attempt were started; None where they were not."""
    for event in events:
        if event.kind == Kind.STARTING:
            return event.time
    for event in events:
        if event.kind == Kind.FIRST_STEP:
            # Started by hand: rank 0 tells its age, by part.
            return event.time - sum(float(s) for part, s in event.values.items() if part != STEP_ITSELF)
    return next((e.time for e in events if e.kind not in (Kind.SUBMITTED, Kind.CANCELLED)), None)


def _work_s(event: Event) -> float:
    """Return the seconds of the work whose end an event is."""
    if event.kind == Kind.EPOCH:
        return _seconds(event, "training_s") + _seconds(event, "validation_s")
    return _seconds(event)


def _seconds(event: Event, name: str = "seconds") -> float:
    return float(event.values.get(name) or 0.0)
