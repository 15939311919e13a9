"""The saver that copies a state, and writes the copy while the training goes on."""

import logging
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace

from mri_hpc.base.memory import room_bytes
from mri_hpc.rundir.layout import Attempt, RunDir
from mri_hpc.training.saver import Fate, Order, Outcome, Spent, WaitingSaver
from mri_hpc.training.state_copy import StateCopy, bytes_of_copy
from mri_hpc.training.waits_for_core import waited_for_core_s

NICE = 19
"""The writer takes the cores that the training leaves idle, however short: between two steps, and in them."""
LOOK_S = 0.1
"""Whoever waits for the writer looks so often whether it waits for a core itself."""
STARVED = 0.5
"""Fraction of the time for which it has, from which on whoever waits writes by itself."""
LEAVE = 1.25
"""A copy is made where there is room for so many."""

log = logging.getLogger(__name__)


class Overtaken(OSError):
    """A newer state is saved in place of this one."""


class BackgroundSaver:
    """Saves while the training goes on. A thread writes: what takes long in it lets go of Python's lock."""

    def __init__(self, run: RunDir, attempt: Attempt, *, keep: int, ranks_on_node: int = 1) -> None:
        """keep: number of newest checkpoints that stay. ranks_on_node: who share its memory."""
        self._waiting = WaitingSaver(run, attempt, keep=keep)
        self._ranks_on_node = ranks_on_node
        # Of this thread alone; nobody may take it back, which is why whoever waits may write instead.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="saver", initializer=_give_way)
        self._copy: StateCopy | None = None
        self._write: _Write | None = None
        self._left: _Write | None = None

    def begin(self, order: Order) -> Outcome | None:
        """Copy a state, and write it from here on; without room for a copy it is written at once."""
        assert self._write is None, "one state is saved at a time"
        copy = self._room(order)
        if copy is None:
            return self._waiting.save(order)
        if self._left:
            # It may still read the copy that is filled anew.
            wait([self._left.future])
        try:
            copied = replace(order, state=copy.take(order.state))
        except MemoryError as error:
            # A limit that room does not show, as of ulimit -v, or of pinned memory.
            log.info("no memory for a copy (%s): saving while training waits", error)
            self._copy = None
            return self._waiting.save(order)
        self._write = _Write(self._waiting, copied, self._thread)
        return None

    def ended(self) -> Outcome | None:
        """Return, once, what has become of the state that was under way; None while it is."""
        if not (self._write and self._write.future.done()):
            return None
        write, self._write = self._write, None
        return write.outcome()

    def wait(self) -> Outcome | None:
        """Wait for the state under way; where its writer gets no core, write its copy here."""
        began_s = time.monotonic()
        while self._write and wait([self._write.future], timeout=LOOK_S).not_done:
            if self._write.is_starved() and self._write.leave():
                order, self._left, self._write = self._write.order, self._write, None
                # The training went on from then until now.
                order = replace(order, began_s=began_s)
                try:
                    return self.save(order)
                except OSError as error:
                    return _failed(order, error)
        return self.ended()

    def save(self, order: Order) -> Outcome:
        """Save a state while the training waits. Raises OSError."""
        try:
            return self._waiting.save(order)
        except OSError:
            if self._left is None:
                raise
            # What the one that was left had written may have taken the room.
            wait([self._left.future])
            self._left = None
            return self._waiting.save(order)

    def overtake(self) -> None:
        """Leave the state under way, if there is one; one that is about to be published is waited for."""
        if self._write and self._write.leave():
            self._left, self._write = self._write, None

    @property
    def under_way(self) -> tuple[Order, float] | None:
        """The state under way, and for how many seconds it has been."""
        return (self._write.order, self._write.age_s) if self._write else None

    def _room(self, order: Order) -> StateCopy | None:
        """Return the memory for a copy; None where there is too little. Asked once: what is taken stays."""
        if self._copy is None:
            needed, room = bytes_of_copy(order.state), room_bytes(self._ranks_on_node)
            if room is not None and LEAVE * needed > room:
                log.info("no room for a copy of %d bytes in %d: saving while training waits", needed, room)
                return None
            self._copy = StateCopy()
        return self._copy


class _Write:
    """The writing of one state in a thread."""

    def __init__(self, saver: WaitingSaver, order: Order, thread: ThreadPoolExecutor) -> None:
        self._saver, self.order = saver, order
        self._lock, self._is_left, self._is_published = threading.Lock(), False, False
        self._began_s = self._looked_s = time.monotonic()
        self._held_s = self._began_s - order.began_s
        self._thread_id: int | None = None
        self._waited_s = 0.0
        self.future = thread.submit(self._write)

    @property
    def age_s(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self._began_s

    def outcome(self) -> Outcome:
        """Return what has become of the state, once this is known; raises what is a bug."""
        try:
            return self.future.result()
        except OSError as error:
            return _failed(self.order, error)

    def leave(self) -> bool:
        """Have it end without a checkpoint; False where it is too late: it is being published."""
        with self._lock:
            self._is_left = not self._is_published
            return self._is_left

    def is_starved(self) -> bool:
        """Tell whether it has got no core most of the time since this was last asked."""
        if self._thread_id is None:
            return False
        now, waited_s = time.monotonic(), waited_for_core_s(self._thread_id)
        passed_s, more_s = now - self._looked_s, waited_s - self._waited_s
        self._looked_s, self._waited_s = now, waited_s
        return more_s > STARVED * passed_s

    def _write(self) -> Outcome:
        self._thread_id = threading.get_native_id()
        before_s = self._waited_s = waited_for_core_s()

        def spent() -> Spent:
            waited_s = waited_for_core_s() - before_s
            return Spent(held_s=self._held_s, written_s=self.age_s, work_s=max(0.0, self.age_s - waited_s))

        return self._saver.write(self.order, spent, before_piece=self._go_on, before_publishing=self._claim)

    def _go_on(self) -> None:
        if self._is_left:
            raise Overtaken("a newer state is saved")

    def _claim(self) -> None:
        with self._lock:
            self._go_on()
            self._is_published = True


def _failed(order: Order, error: OSError) -> Outcome:
    return Outcome(fate=Fate.FAILED, progress=order.state.progress, error=error, order=order)


def _give_way() -> None:
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
