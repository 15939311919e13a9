"""Publishing chunks and taking them away, while others do either with files of the same names.

A file is set aside before the commits are looked at for the last time: whoever commits a chunk looks for its
file afterwards, and publishes it again where it is not there. So no commit is ever left without its file.
What is set aside has a name of its own: no task removes what another has set aside since.
"""

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mri_hpc.base.atomic import move, sync_folder
from mri_hpc.base.errors import StoreDamage
from mri_hpc.storage.disk.chunk_file import read_header
from mri_hpc.storage.disk.commits import COMPACT, RETRACT, read_commits, read_kind
from mri_hpc.storage.disk.layout import GONE_PREFIX, StoreDir
from mri_hpc.storage.snapshot.retractions import Retractions, of_commits
from mri_hpc.storage.snapshot.table import Snapshot


@dataclass(frozen=True, kw_only=True)
class Published:
    """Outcome of publishing a chunk and its commit."""

    is_new: bool
    """The chunk was not there before."""
    is_ours: bool
    """The commit was not there before."""


def remove(store: StoreDir, name: str, snapshot: Snapshot | None = None) -> bool:
    """Remove a chunk, unless it holds content; tell whether it is gone. snapshot: a recent one saves time."""
    aside = store.chunks / f"{GONE_PREFIX}{os.urandom(4).hex()}-{name}.h5"
    return move(store.chunk(name), aside) and _end_removal(store, aside, snapshot)


def open_chunk(store: StoreDir, name: str) -> int:
    """Open a chunk's file, return its descriptor; FileNotFoundError where it is not there, nor set aside."""
    try:
        return os.open(store.chunk(name), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        bring_back(store, name)
        return os.open(store.chunk(name), os.O_RDONLY | os.O_CLOEXEC)


def bring_back(store: StoreDir, name: str) -> None:
    """End the removal of a missing chunk: whoever set it aside may have been killed, or be at it now."""
    # Where this user may not write, the chunk stays missing until a user comes who may.
    with contextlib.suppress(OSError):
        end_removals(store, name)


def is_there(store: StoreDir, name: str) -> bool:
    """Tell whether a chunk's file is there, as its server says: a network file system asks it on opening."""
    try:
        os.close(os.open(store.chunk(name), os.O_RDONLY | os.O_CLOEXEC))
    except FileNotFoundError:
        return False
    return True


def publish_and_commit(
    store: StoreDir, name: str, publish: Callable[[], bool], commit: Callable[[], bool]
) -> Published:
    """Publish a chunk, then its commit; either says whether it is new. name: of the chunk, or empty."""
    while True:
        is_new = bool(name) and publish()
        try:
            return Published(is_new=is_new, is_ours=commit())
        except FileNotFoundError:
            # A copy without a commit was there, and was removed as litter between the two.
            if not name or is_there(store, name):
                raise


def keep_there(store: StoreDir, name: str, publish: Callable[[], object]) -> None:
    """Publish a chunk again, after its commit, where a task that saw no commit yet has removed its file."""
    while name and not is_there(store, name) and not is_superseded(store, name):
        publish()
        remove_if_retracted(store, name)


def remove_if_retracted(store: StoreDir, name: str) -> None:
    """Remove a chunk that was just published again if it is superseded by now and holds retracted images.

    Whoever retracts images after this has looked finds the file, and removes it.
    """
    if not is_superseded(store, name):
        return
    retracted = of_commits(read_kind(store, RETRACT))
    if holds(store.chunk(name), retracted) and remove(store, name):
        sync_folder(store.chunks)


def is_superseded(store: StoreDir, name: str) -> bool:
    """Tell whether the last compaction that mentions a chunk lets others stand for it."""
    mentions = [
        (commit.number, commit.chunk == name)
        for commit in read_kind(store, COMPACT)
        if name == commit.chunk or name in commit.superseded
    ]
    return bool(mentions) and not max(mentions)[1]


def end_removals(store: StoreDir, name: str = "") -> None:
    """End what was killed between setting a file aside and removing it. name: of one chunk; empty: all."""
    for aside in store.chunks.glob(f"{GONE_PREFIX}*{name}.h5"):
        _end_removal(store, aside, None)


def _end_removal(store: StoreDir, aside: Path, snapshot: Snapshot | None) -> bool:
    """Remove a file that was set aside, or put it back where it holds content; tell whether it is gone."""
    name = aside.stem.rpartition("-")[2]
    if name in _live_now(store, snapshot):
        move(aside, store.chunk(name))
        return False
    aside.unlink(missing_ok=True)
    return True


def _live_now(store: StoreDir, snapshot: Snapshot | None) -> set[str]:
    """Return the chunks that hold content, as the commits say that there are at this moment."""
    # Whoever only opens chunks need not load what folds commits.
    from mri_hpc.storage.snapshot.folding import live_chunks

    folded = set() if snapshot is None else {name.decode() for name in snapshot.commits.tolist()}
    return live_chunks(snapshot, read_commits(store, set(store.commit_ids()) - folded))


def holds(path: Path, retracted: Retractions) -> bool:
    """Tell whether a chunk holds images of retracted keys; True where it cannot be read."""
    if not len(retracted.keys):
        return False
    try:
        return bool(retracted.has_keys(read_header(path).columns["key"]).any())
    except StoreDamage:
        return True
