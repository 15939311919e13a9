"""The way a stop goes: what is left until the kill is held against what a step and a save cost."""

import logging
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from mri_hpc.base.errors import UserError
from mri_hpc.base.stop_flag import StopFlag, StopRequest
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.ledger import Kind, read_events

KillTime = Callable[[StopRequest], float | None]
"""Unix time from which a process that was asked to stop may be killed; None where it is not known."""
MARGIN = 1.5
"""A save may take so many times what the last ones took."""
SAVES_TIMED = 5
"""The last so many saves tell what a save takes."""
PATIENCE_S = 1.0
"""Seconds in which whoever knows the deadline is waited for, once the ranks have to know it."""

log = logging.getLogger(__name__)


class Way(StrEnum):
    """A way in which the ranks stop."""

    FINISH = "finish"  # the step under way, then save
    GIVE_UP = "give_up"  # the step under way, and save the state before it
    RELY = "rely"  # on the last checkpoint: no save would end in time


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """All that is known when the way to stop is chosen."""

    left_s: float | None = None
    """Until the kill; None where it is not known."""
    save_s: float | None = None
    """Cost of a save; None before the first one."""
    rest_of_step_s: float = 0.0
    """The rest of the step under way; 0 between steps."""

    def way(self) -> Way:
        """Choose how to stop: without knowledge, the step is finished and the state saved."""
        if self.left_s is None:
            return Way.FINISH
        if self.save_s is not None and self.save_s > self.left_s:
            return Way.RELY
        is_enough = self.rest_of_step_s + MARGIN * (self.save_s or 0.0) <= self.left_s
        return Way.FINISH if is_enough or not self.rest_of_step_s else Way.GIVE_UP

    def has_time_for_save_under_way(self, age_s: float, *, passed_s: float) -> bool:
        """Tell whether a save of this age may end before another one, so long after this was known."""
        if self.left_s is None or self.save_s is None:
            return False
        rest_s = max(0.0, self.save_s - age_s)
        return MARGIN * (rest_s + self.save_s) <= self.left_s - passed_s

    def has_time_for_rest_of_save(self, age_s: float, *, passed_s: float) -> bool:
        """Tell whether a save of this age may end, so long after this was known; also without knowledge."""
        if self.left_s is None or self.save_s is None:
            return True
        return max(0.0, self.save_s - age_s) <= self.left_s - passed_s

    def why(self) -> str:
        """Explain the choice to people, in one line."""
        if self.left_s is None:
            return "saves: nothing says how much time is left"
        left = f"{max(0.0, self.left_s):.1f} s left"
        save = "no save was timed so far" if self.save_s is None else f"a save takes {self.save_s:.1f} s"
        rest = f", the rest of the step {self.rest_of_step_s:.1f} s" if self.rest_of_step_s else ""
        doing = {
            Way.FINISH: "saves",
            Way.GIVE_UP: "gives up the step under way and saves the state before it",
            Way.RELY: "relies on the last checkpoint",
        }[self.way()]
        return f"{doing}: {left}, {save}{rest}"


class Deadline:
    """Time of the kill, and cost of a save: looked up in a thread once the ranks are to stop."""

    def __init__(self, flag: StopFlag, run: RunDir, kill_time: KillTime) -> None:
        self._flag, self._run, self._kill_time = flag, run, kill_time
        self._kill_s: float | None = None
        self._save_s: float | None = None
        self._is_known = threading.Event()
        self._wanted_s: float | None = None
        threading.Thread(target=self._look, name="deadline", daemon=True).start()

    def outlook(self, rest_of_step_s: float = 0.0) -> Outlook:
        """Return what is known by now, or a second after this was first asked."""
        assert self._flag.request, "nobody has asked to stop"
        now = time.monotonic()
        # Not after the signal, which another rank may have got long before it could say so.
        self._wanted_s = now if self._wanted_s is None else self._wanted_s
        self._is_known.wait(max(0.0, self._wanted_s + PATIENCE_S - now))
        left_s = None if self._kill_s is None else round(self._kill_s - time.time(), 3)
        return Outlook(left_s=left_s, save_s=self._save_s, rest_of_step_s=round(rest_of_step_s, 3))

    def _look(self) -> None:
        self._flag.is_up.wait()
        assert self._flag.request
        try:
            self._save_s = self._cost_of_save()
        except (OSError, UserError) as error:
            # Of a file server that is away, or a ledger in which a newer version has written meanwhile.
            log.warning("what a save takes is unknown: %s", error)
        self._kill_s = self._kill_time(self._flag.request)
        self._is_known.set()
        log.info("to be killed at %s, by Unix time; a save takes %s s", self._kill_s, self._save_s)

    def _cost_of_save(self) -> float | None:
        """Return the seconds of a typical save so far; None before the first."""
        saves = [event for event in read_events(self._run) if event.kind == Kind.SAVED]
        # Of several, since one that a busy disk has slowed down must not keep the ranks from saving.
        # One beside the training has held it up for less, and waited for cores, which a stop leaves.
        last = [float(event.values.get("work_s", event.values["seconds"])) for event in saves[-SAVES_TIMED:]]
        return statistics.median_low(last) if last else None
