"""The saves of an attempt on rank 0: which way they go, and what comes of them."""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from mri_hpc.rundir.layout import Attempt, RunDir
from mri_hpc.rundir.ledger import Kind, record
from mri_hpc.rundir.progress import Progress
from mri_hpc.rundir.saving_interval import Pace
from mri_hpc.training.agreed_stop import SUPERSEDED, AgreedStop
from mri_hpc.training.checkpoint import Saved
from mri_hpc.training.saver import Fate, Order, Outcome, Saver, Spent
from mri_hpc.training.slowed_steps import SlowedSteps
from mri_hpc.training.state import TrainingState
from mri_hpc.training.use_meter import UseMeter

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Surroundings of the saves."""

    state: Callable[[Progress], TrainingState]
    """Gives the state after the last step, which led to this progress."""
    before: Callable[[], None]
    """Makes durable what comes before a checkpoint, in whichever thread."""
    stop: AgreedStop
    meter: UseMeter
    pace: Pace


class Saves:
    """Begins saves, and takes up what has become of them, between steps.

    A save that fails beside the training is told at the next step, and its copy written once more, while the
    training waits: an error then ends the attempt as it would have, and one that has passed costs nothing.
    """

    def __init__(self, run: RunDir, attempt: Attempt, saver: Saver, around: Surroundings) -> None:
        self._run, self._attempt, self._saver, self._around = run, attempt, saver, around
        self._begun_s = time.monotonic()
        self._slowed = SlowedSteps()
        self._once_saved: list[Callable[[], None]] = []

    def is_due(self) -> bool:
        """Take up what has become of the save under way; tell whether it is time for the next one."""
        self._take_up(self._saver.ended())
        return time.monotonic() - self._begun_s >= self._around.pace.seconds

    def begin(
        self, progress: Progress, *, reason: str, is_checked: bool, then: Callable[[], None] | None = None
    ) -> None:
        """Save the state while the training goes on; the one before is waited for.

        is_checked: the state is known to be finite. then: called once it is durable, or one after it. Raises
        OSError where one cannot be written.
        """
        began_s = time.monotonic()
        self._take_up(self._saver.wait())
        self._once_saved += [then] if then else []
        order = self._order(progress, reason, began_s, is_checked=is_checked)
        self._begun_s = time.monotonic()
        self._slowed.begin()
        self._take_up(self._saver.begin(order))

    def save(
        self, progress: Progress, *, reason: str, is_checked: bool, then: Callable[[], None] | None = None
    ) -> bool:
        """Save a state while the training waits; False where a newer attempt owns the run. then: as of begin.

        The save under way is finished where this state rests on it, or time is left for both; else this one
        overtakes it. Raises OSError.
        """
        began_s = time.monotonic()
        under_way = self._saver.under_way
        if under_way and not self._may_finish(*under_way, progress):
            self._saver.overtake()
        outcome = self._saver.wait()
        if outcome and outcome.fate is Fate.FAILED and not self._rests_on(outcome.progress, progress):
            log.warning("step %d could not be saved: %s", outcome.progress.step, outcome.error)
        else:
            self._take_up(outcome)
        self._once_saved += [then] if then else []
        is_saved = outcome is not None and outcome.fate is Fate.SAVED and outcome.progress == progress
        if not is_saved:
            order = self._order(progress, reason, began_s, is_checked=is_checked)
            is_saved = self._take_up(self._saver.save(order))
        return is_saved

    def add_step(self, seconds: float) -> None:
        """Take up what a step has taken."""
        self._slowed.add(seconds, is_beside_save=self._saver.under_way is not None)

    def close(self) -> None:
        """Wait for the save under way, if it may end before a kill; nothing is done about one that fails."""
        under_way = self._saver.under_way
        if under_way and not self._around.stop.has_time_for_rest_of_save(under_way[1]):
            # Ranks that are killed here would leave no time to have the job come again.
            self._saver.overtake()
        outcome = self._saver.wait()
        if outcome and outcome.fate is Fate.FAILED:
            log.warning("step %d could not be saved: %s", outcome.progress.step, outcome.error)
        else:
            self._take_up(outcome)

    def _may_finish(self, order: Order, age_s: float, progress: Progress) -> bool:
        if self._rests_on(order.state.progress, progress):
            return True
        return self._around.stop.has_time_for_save_under_way(age_s)

    def _rests_on(self, under_way: Progress, progress: Progress) -> bool:
        # Without the checkpoint of its best epoch a run cannot end.
        return under_way == progress or under_way.step == progress.early_stopping.best_step

    def _order(self, progress: Progress, reason: str, began_s: float, *, is_checked: bool) -> Order:
        def note(saved: Saved, spent: Spent) -> None:
            self._note(saved, spent, progress, reason)

        return Order(
            state=self._around.state(progress), began_s=began_s, is_checked=is_checked,
            before=self._around.before, after=note,
        )  # fmt: skip

    def _note(self, saved: Saved, spent: Spent, progress: Progress, reason: str) -> None:
        """Add a durable checkpoint to the ledger; called in the thread that has written it."""
        beside = {}
        if spent.written_s is not None and spent.work_s is not None:
            beside = {
                "written_s": round(spent.written_s, 3), "work_s": round(spent.work_s, 3),
                "slowed_s": round(self._slowed.seconds, 3),
            }  # fmt: skip
        values: dict[str, Any] = {
            "step": progress.step,
            "seconds": round(spent.held_s, 3),
            "bytes": saved.num_bytes,
        }
        values |= {**beside, "reason": reason}
        saved_at = record(self._run, self._attempt, Kind.SAVED, **values)
        record(self._run, self._attempt, Kind.USED, **self._around.meter.values())
        if interval := self._around.pace.add(values, saved_at.time):
            record(self._run, self._attempt, Kind.INTERVAL, **interval.to_values())
        log.info("saved %s", " ".join(f"{name}={value}" for name, value in values.items()))

    def _take_up(self, outcome: Outcome | None) -> bool:
        """Draw the consequences of what has become of a state; True where it is durable."""
        if outcome is None:
            return False
        step = outcome.progress.step
        if outcome.fate is Fate.FAILED:
            assert outcome.order
            log.warning("step %d could not be saved: %s; once more, and waiting", step, outcome.error)
            outcome = self._saver.save(replace(outcome.order, began_s=time.monotonic()))
        if outcome.fate is Fate.SAVED:
            for call in self._once_saved:
                call()
            self._once_saved = []
        elif outcome.fate is Fate.SUPERSEDED:
            log.warning("superseded: attempt %s owns the run, nothing was saved", self._run.newest_attempt())
            self._around.stop.request(SUPERSEDED)
        else:
            log.warning("step %d is not saved: numbers are not finite", step)
            self._begun_s = -math.inf
        return outcome.fate is Fate.SAVED
