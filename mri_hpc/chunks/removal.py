"""Removing chunk files that hold nothing any more, while others may be publishing files of the same names.

A file is set aside before the commits are looked at for the last time: whoever commits a chunk looks for its
file afterwards, and publishes it again where it is not there. So no commit is ever left without its file.
"""

import time
from pathlib import Path

import numpy as np

from mri_hpc.base.atomic import move, sync_folder
from mri_hpc.base.errors import UserError
from mri_hpc.chunks.chunk import read_head
from mri_hpc.chunks.commits import COMPACT, RETRACT, Commit, read_commit, read_commits
from mri_hpc.chunks.folding import live_chunks
from mri_hpc.chunks.layout import GONE_PREFIX, LITTER_AGE_S, StoreDir, compaction_id
from mri_hpc.chunks.table import Snapshot


def remove_superseded(store: StoreDir, snapshot: Snapshot, *, keep_s: float) -> list[Path]:
    """Remove chunks superseded `keep_s` seconds ago, and a day later those that were never committed.

    Either go at once where they hold images of withdrawn patients. snapshot: a recent one.
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


def remove(store: StoreDir, name: str, snapshot: Snapshot | None = None) -> bool:
    """Remove a chunk, unless it holds content; says whether it is gone. snapshot: a recent one saves time."""
    aside = store.chunks / f"{GONE_PREFIX}{name}.h5"
    return move(store.chunk(name), aside) and _settle(store, aside, snapshot)


def remove_if_withdrawn(store: StoreDir, name: str) -> None:
    """Remove a chunk that was just published again if it is superseded by now and holds withdrawn images.

    Whoever withdraws images after this has looked finds the file, and removes it.
    """
    if not is_superseded(store, name):
        return
    keys = [int(key, 16) for commit in _commits(store, RETRACT) for key in commit.retracted_keys]
    if _holds(store.chunk(name), np.array(keys, "<u8")) and remove(store, name):
        sync_folder(store.chunks)


def is_superseded(store: StoreDir, name: str) -> bool:
    """Whether the last compaction that mentions a chunk has put others in its place."""
    mentions = [
        (commit.number, commit.chunk == name)
        for commit in _commits(store, COMPACT)
        if name == commit.chunk or name in commit.superseded
    ]
    return bool(mentions) and not max(mentions)[1]


def _commits(store: StoreDir, kind: str) -> list[Commit]:
    return read_commits(store, (name for name in store.commit_ids() if name.startswith(kind)))


def settle_removals(store: StoreDir) -> None:
    """End what was killed between setting a file aside and removing it."""
    for aside in store.chunks.glob(f"{GONE_PREFIX}*.h5"):
        _settle(store, aside, None)


def _settle(store: StoreDir, aside: Path, snapshot: Snapshot | None) -> bool:
    name = aside.stem.removeprefix(GONE_PREFIX)
    if name in _live_now(store, snapshot):
        move(aside, store.chunk(name))
        return False
    aside.unlink(missing_ok=True)
    return True


def _live_now(store: StoreDir, snapshot: Snapshot | None) -> set[str]:
    """Chunks that hold content, as the commits say that there are at this moment."""
    folded = set() if snapshot is None else {name.decode() for name in snapshot.commits.tolist()}
    return live_chunks(snapshot, read_commits(store, set(store.commit_ids()) - folded))


def _is_due(store: StoreDir, snapshot: Snapshot, path: Path, number: int, keep_s: float) -> bool:
    """Whether a chunk that holds nothing any more can go. number: of the compaction that superseded it."""
    # One without a commit, too: whoever is about to commit it publishes it again.
    if _holds(path, snapshot.retracted_keys):
        return True
    if not number:
        return _age_s(path.stat().st_mtime) >= LITTER_AGE_S
    return _age_s(read_commit(store, compaction_id(number)).created) >= keep_s


def _age_s(since: float) -> float:
    return time.time() - since


def _holds(path: Path, keys: np.ndarray) -> bool:
    if not len(keys):
        return False
    try:
        return bool(np.isin(read_head(path).columns["key"], keys).any())
    except UserError:
        # Nobody can tell what is in it.
        return True
