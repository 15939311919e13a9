"""No run begins to train on slices that it is judged on.

Where no audit has seen the snapshot yet, rank 0 makes one. The others wait, and all can be stopped meanwhile.
"""

import logging
from collections.abc import Iterator
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
    groups = _find_twins(settings, snapshot, ranks, stop)
    found = leaking(groups, code) if groups else []
    leaks = ranks.from_rank(leak_text(snapshot, found) if found else "")
    if leaks:
        raise UserError(
            f"{leaks}: its figures would be too good; see mri-hpc store audit {settings.store}, or go on all "
            f"the same with: python -m mri_hpc.launch --run {shown(run.path)} --allow-leaks"
        )


def _find_twins(
    settings: TrainingSettings, snapshot: Snapshot, ranks: Ranks, stop: AgreedStop
) -> list[TwinGroup] | None:
    """Find twins on rank 0, while the others wait; None on these, and where the ranks have agreed to stop."""
    if not ranks.is_first:
        _wait(ranks, stop)
        return None
    store = Store(Path(settings.store))
    if (kept := kept_twins(store, snapshot)) is None:
        log.info("looking for slices that are there twice among %d images", len(snapshot))

    def in_parts(parts: range) -> Iterator[int]:
        for part in parts:
            _meet(ranks, stop, is_last=False)
            yield part

    try:
        with store.reader(snapshot, is_read_once=True) as reader:
            found = kept
            if found is None:
                same = same_pixels(snapshot, reader)
                found = twins_of(store, snapshot, reader, same, progress=in_parts)
        _meet(ranks, stop, is_last=True)
    except _Stopped:
        return None
    return found


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
