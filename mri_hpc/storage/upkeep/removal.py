"""Removal of the files of chunks that hold nothing any more, once no task can be reading them."""

import time
from pathlib import Path

from mri_hpc.base.atomic import sync_folder
from mri_hpc.storage.disk.commits import read_commit
from mri_hpc.storage.disk.layout import LITTER_AGE_S, StoreDir, compaction_id
from mri_hpc.storage.snapshot.presence import holds, remove
from mri_hpc.storage.snapshot.table import Snapshot


def remove_superseded(store: StoreDir, snapshot: Snapshot, *, keep_s: float) -> list[Path]:
    """Remove chunks superseded `keep_s` seconds ago, and a day later those that were never committed.

    Either go at once where they hold images of retracted patients. snapshot: a recent one.
    """
    live = {name.decode() for name in snapshot.chunks["name"].tolist()}
    numbers = {name.decode(): number for name, number, _is_made in snapshot.compacted.tolist()}
    removed = []
    for path in sorted(store.chunks.glob("[!.]*.h5")):
        if path.stem in live or not _is_due(store, snapshot, path, numbers.get(path.stem, 0), keep_s):
            continue
        if remove(store, path.stem, snapshot):
            removed.append(path)
    if removed:
        sync_folder(store.chunks)
    return removed


def _is_due(store: StoreDir, snapshot: Snapshot, path: Path, number: int, keep_s: float) -> bool:
    """Tell whether a chunk that holds nothing now can go. number: of the compaction that superseded it."""
    # One without a commit, too: whoever is about to commit it publishes it again.
    if holds(path, snapshot.retractions):
        return True
    if not number:
        try:
            return _age_s(path.stat().st_mtime) >= LITTER_AGE_S
        except FileNotFoundError:
            # Somebody else was first.
            return False
    return _age_s(read_commit(store, compaction_id(number)).created) >= keep_s


def _age_s(since: float) -> float:
    return time.time() - since
