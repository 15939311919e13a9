"""No run begins to train on slices that it is judged on.

Where no audit has seen the snapshot yet, rank 0 makes one, in a thread. Its main thread meets the other ranks
after each part, and now and then within one: all can be stopped meanwhile, and none is taken to hang as long
as the audit works. An audit that fails ends all ranks with its reason.
"""

import contextlib
import enum
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from mri_hpc.base.command import shown
from mri_hpc.base.errors import UserError
from mri_hpc.cohort.kept_twins import kept_twins, leak_text, leaking, twins_of
from mri_hpc.cohort.same_pixels import same_pixels
from mri_hpc.cohort.twins import TwinGroup
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.settings import TrainingSettings
from mri_hpc.storage.store import Snapshot, Store
from mri_hpc.training.agreed_stop import AgreedStop
from mri_hpc.training.ranks import Ranks

log = logging.getLogger(__name__)

PHASE = "audit"
MEET_S = 1.0
"""Seconds within one part of the audit after which the ranks meet."""

InParts = Callable[[range], Iterable[int]]


class _Stopped(Exception):
    """The ranks have agreed to stop."""


def refuse_leaks(
    run: RunDir,
    settings: TrainingSettings,
    snapshot: Snapshot,
    code: np.ndarray,
    *,
    ranks: Ranks,
    stop: AgreedStop,
) -> None:
    """Raise UserError, on all ranks, where slices are both trained on and judged on. code: as by split_of.

    Nothing is refused where leaks are allowed, or the ranks have agreed to stop.
    """
    if settings.allow_leaks:
        return
    refusal: UserError | None = None
    try:
        groups = _find_twins(settings, snapshot, ranks, stop)
        if found := leaking(groups, code) if groups else []:
            refusal = UserError(
                f"{leak_text(snapshot, found)}: its figures would be too good; see mri-hpc store audit "
                f"{settings.store}, or go on all the same with: python -m mri_hpc.launch --run "
                f"{shown(run.path)} --allow-leaks"
            )
    except UserError as error:
        refusal = error
    if refusal := ranks.from_rank(refusal):
        raise refusal


def _find_twins(
    settings: TrainingSettings, snapshot: Snapshot, ranks: Ranks, stop: AgreedStop
) -> list[TwinGroup] | None:
    """Find twins on rank 0, while the others wait; None on these, and where the ranks have agreed to stop.

    UserError, on rank 0, after which all ranks go on, where they cannot be looked for.
    """
    if not ranks.is_first:
        _wait(ranks, stop)
        return None
    store = Store(Path(settings.store))
    if (kept := kept_twins(store, snapshot)) is None:
        log.info("looking for slices that are there twice among %d images", len(snapshot))

    def find(in_parts: InParts) -> list[TwinGroup]:
        if kept is not None:
            return kept
        with store.reader(snapshot, is_read_once=True) as reader:
            same = same_pixels(snapshot, reader)
            return twins_of(store, snapshot, reader, same, progress=in_parts)

    search = _Search(find)
    try:
        while (word := search.next_word()) is not _Word.ENDED:
            if word is _Word.PART or search.has_worked():
                _meet(ranks, stop, is_last=False)
            if word is _Word.PART:
                search.go_on(may=True)
        _meet(ranks, stop, is_last=True)
    except _Stopped:
        return None
    finally:
        search.go_on(may=False)
    return search.found()


def _wait(ranks: Ranks, stop: AgreedStop) -> None:
    """Wait until rank 0 has looked at all, or the ranks have agreed to stop."""
    try:
        while not _meet(ranks, stop, is_last=False):
            pass
    except _Stopped:
        return


def _meet(ranks: Ranks, stop: AgreedStop, *, is_last: bool) -> bool:
    """Meet the other ranks after a part of the work; return whether it was the last one."""
    if stop.is_agreed(PHASE):
        raise _Stopped
    return bool(ranks.largest(int(is_last)))


class _Word(enum.Enum):
    """The state of a search, as its thread tells it."""

    PART = enum.auto()
    """A part begins: it waits to be told to go on."""
    ENDED = enum.auto()


class _Search:
    """A search for twins in a thread of its own, which waits before each part until it may go on."""

    def __init__(self, find: Callable[[InParts], list[TwinGroup]]) -> None:
        self._words = queue.SimpleQueue[_Word]()
        self._replies = queue.SimpleQueue[bool]()
        self._clock: int | None = None
        self._worked_s = 0.0
        executor = ThreadPoolExecutor(1, thread_name_prefix="leaks")
        self._outcome = executor.submit(self._run, find)
        self._outcome.add_done_callback(lambda _outcome: self._words.put(_Word.ENDED))
        executor.shutdown(wait=False)

    def next_word(self) -> _Word | None:
        """Wait for the thread's next word; None where it works on one part for long."""
        with contextlib.suppress(queue.Empty):
            return self._words.get(timeout=MEET_S)
        return None

    def go_on(self, *, may: bool) -> None:
        """Let the thread begin its next part, or end there."""
        self._replies.put(may)

    def has_worked(self) -> bool:
        """Tell whether the thread has done anything since this was last asked: a dead disk holds it."""
        if self._clock is None:
            return False
        try:
            worked_s = time.clock_gettime(self._clock)
        except OSError:
            # It has just ended, and its last word is on its way.
            return False
        has_worked, self._worked_s = worked_s > self._worked_s, worked_s
        return has_worked

    def found(self) -> list[TwinGroup]:
        """Return what was found; raises what the thread has raised."""
        return self._outcome.result()

    def _run(self, find: Callable[[InParts], list[TwinGroup]]) -> list[TwinGroup]:
        self._clock = time.pthread_getcpuclockid(threading.get_ident())
        return find(self._in_parts)

    def _in_parts(self, parts: range) -> Iterator[int]:
        for part in parts:
            self._words.put(_Word.PART)
            if not self._replies.get():
                raise _Stopped
            yield part
