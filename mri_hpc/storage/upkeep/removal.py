"""Removing chunk files that hold nothing any more, while others may be publishing files of the same names.

A file is set aside before the commits are looked at for the last time: whoever commits a chunk looks for its
file afterwards, and publishes it again where it is not there. So no commit is ever left without its file.
What is set aside has a name of its own: nobody removes what somebody else has set aside since.
"""

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from mri_hpc.base.atomic import move, sync_folder
from mri_hpc.base.errors import UserError
from mri_hpc.storage.disk.chunk_file import read_head
from mri_hpc.storage.disk.commits import COMPACT, RETRACT, Commit, read_commit, read_commits
from mri_hpc.storage.disk.layout import GONE_PREFIX, LITTER_AGE_S, StoreDir, compaction_id
from mri_hpc.storage.snapshot.folding import live_chunks
from mri_hpc.storage.snapshot.table import Snapshot

T = TypeVar("T")


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
    aside = store.chunks / f"{GONE_PREFIX}{os.urandom(4).hex()}-{name}.h5"
    return move(store.chunk(name), aside) and _settle(store, aside, snapshot)


def open_chunk(store: StoreDir, name: str) -> int:
    """Descriptor of a chunk's file; FileNotFoundError where it is neither there nor set aside."""
    try:
        return os.open(store.chunk(name), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        bring_back(store, name)
        return os.open(store.chunk(name), os.O_RDONLY | os.O_CLOEXEC)


def bring_back(store: StoreDir, name: str) -> None:
    """Settle what becomes of a missing chunk: whoever set it aside may have been killed, or be at it now."""
    # Where this user may not write, or nobody, the chunk stays missing until somebody may.
    with contextlib.suppress(OSError):
        settle_removals(store, name)


def is_there(store: StoreDir, name: str) -> bool:
    """Whether a chunk's file is there, as its server says: only opening makes a network file system ask."""
    try:
        os.close(os.open(store.chunk(name), os.O_RDONLY | os.O_CLOEXEC))
    except FileNotFoundError:
        return False
    return True


def publish_and_commit(
    store: StoreDir, name: str, publish: Callable[[], bool], commit: Callable[[], T]
) -> tuple[bool, T]:
    """Publish a chunk, then its commit; whether the chunk is new, and what `commit` says. name: or empty."""
    while True:
        is_new = bool(name) and publish()
        try:
            return is_new, commit()
        except FileNotFoundError:
            # A copy without a commit was there, and was removed as litter between the two.
            if not name or is_there(store, name):
                raise


def keep_there(store: StoreDir, name: str, publish: Callable[[], object]) -> None:
    """After its commit: publish a chunk again where its file was removed by who saw no commit yet."""
    while name and not is_there(store, name) and not is_superseded(store, name):
        publish()
        remove_if_withdrawn(store, name)


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


def settle_removals(store: StoreDir, name: str = "") -> None:
    """End what was killed between setting a file aside and removing it. name: of one chunk; empty: all."""
    for aside in store.chunks.glob(f"{GONE_PREFIX}*{name}.h5"):
        _settle(store, aside, None)


def _settle(store: StoreDir, aside: Path, snapshot: Snapshot | None) -> bool:
    name = aside.stem.rpartition("-")[2]
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
        try:
            return _age_s(path.stat().st_mtime) >= LITTER_AGE_S
        except FileNotFoundError:
            # Somebody else was first.
            return False
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
