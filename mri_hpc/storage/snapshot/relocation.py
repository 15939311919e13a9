"""Older snapshots: where their images lie now, after chunks were compacted and patients withdrawn."""

import dataclasses
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from mri_hpc.base.errors import StoreDamage, UserError
from mri_hpc.storage.disk.columns import ChunkHead
from mri_hpc.storage.disk.commits import Commit
from mri_hpc.storage.snapshot.retractions import of_commits
from mri_hpc.storage.snapshot.table import Snapshot

PIXELS = np.dtype([("key", "<u8"), ("source_hash", "<u8"), ("crc", "<u4")])
"""What tells the pixels of an image from those of any other, and from other versions of it."""


def refuse_withdrawn(store: Path, snapshot: Snapshot, retractions: Iterable[Commit]) -> None:
    """UserError where a snapshot holds images that have been withdrawn since."""
    gone: set[int] = set()
    reasons = []
    for commit in retractions:
        retracted = of_commits([commit])
        is_gone = retracted.has_keys(snapshot.key) | snapshot.is_of(retracted.patients)
        if is_gone.any():
            gone.update(np.flatnonzero(is_gone).tolist())
            reasons.append((commit.created, commit.why))
    if gone:
        when, why = max(reasons)
        told = time.strftime("%Y-%m-%d", time.localtime(when)) + (f", {why}" if why else "")
        raise UserError(
            f"{store}: snapshot {snapshot.digest} holds {len(gone)} images of patients who have been "
            f"withdrawn ({told}): their pixels are gone, and a run on it cannot go on; start a new run on "
            "the newest snapshot, from its weights if you like: mri-hpc launch --run NEW --continue-from RUN"
        )


def relocated(
    store: Path, snapshot: Snapshot, now: Snapshot, head_of: Callable[[str], ChunkHead]
) -> Snapshot:
    """The snapshot with its rows where `now` says that chunks are; StoreDamage where they are nowhere."""
    if not len(now.chunks):
        raise StoreDamage(f"{store}: the images of snapshot {snapshot.digest} are gone: restore a backup")
    places = np.minimum(np.searchsorted(now.chunks["name"], snapshot.chunks["name"]), len(now.chunks) - 1)
    stays = now.chunks["name"][places] == snapshot.chunks["name"]
    # A chunk that another version of this program has made again may begin elsewhere in its file.
    if stays.all() and np.array_equal(now.chunks["offset"][places], snapshot.chunks["offset"]):
        return snapshot
    chunk, row = places[snapshot.chunk].astype("<i4"), np.array(snapshot.row)
    moved = np.flatnonzero(~stays[snapshot.chunk])
    wanted = pixels_of(snapshot, moved)
    at = np.minimum(np.searchsorted(now.key, wanted["key"]), max(0, len(now) - 1))
    is_found = pixels_of(now, at) == wanted if len(now) else np.zeros(len(wanted), bool)
    chunk[moved[is_found]], row[moved[is_found]] = now.chunk[at[is_found]], now.row[at[is_found]]
    chunk[moved[~is_found]] = -1
    _find_older_versions(snapshot, now, chunk, row, head_of)
    if (chunk < 0).any():
        raise StoreDamage(
            f"{store}: {int((chunk < 0).sum())} images of snapshot {snapshot.digest} are in no chunk: "
            f"restore a backup; see: mri-hpc store verify {store}"
        )
    return dataclasses.replace(snapshot, chunks=now.chunks, chunk=chunk, row=row)


def pixels_of(snapshot: Snapshot, rows: np.ndarray) -> np.ndarray:
    """PIXELS of these rows."""
    found = np.empty(len(rows), PIXELS)
    for name in PIXELS.names or ():
        found[name] = getattr(snapshot, name)[rows]
    return found


def pixels_of_head(head: ChunkHead) -> np.ndarray:
    """PIXELS of all rows of a chunk."""
    found = np.empty(len(head), PIXELS)
    for name in PIXELS.names or ():
        found[name] = head.columns[name]
    return found


def _find_older_versions(
    snapshot: Snapshot,
    now: Snapshot,
    chunk: np.ndarray,
    row: np.ndarray,
    head_of: Callable[[str], ChunkHead],
) -> None:
    """Fill in places of images that have been replaced since, which compaction keeps."""
    used = np.bincount(now.chunk, minlength=len(now.chunks))
    for place in np.flatnonzero(used < now.chunks["images"]).tolist():
        missing = np.flatnonzero(chunk < 0)
        if not len(missing):
            return
        stored = pixels_of_head(head_of(now.chunks["name"][place].decode()))
        wanted = pixels_of(snapshot, missing)
        order = np.argsort(stored)
        at = order[np.minimum(np.searchsorted(stored[order], wanted), len(stored) - 1)]
        is_found = stored[at] == wanted
        chunk[missing[is_found]], row[missing[is_found]] = place, at[is_found]
