"""Older snapshots: where their images lie now, after chunks were compacted and patients retracted."""

import dataclasses
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from mri_hpc.base.errors import ImagesRetracted, StoreDamage
from mri_hpc.storage.disk.columns import ChunkHeader
from mri_hpc.storage.disk.commits import Commit
from mri_hpc.storage.snapshot.retractions import of_commits
from mri_hpc.storage.snapshot.table import Snapshot

PIXELS = np.dtype([("key", "<u8"), ("source_hash", "<u8"), ("crc", "<u4")])
"""Columns that tell the pixels of an image from those of any other, and from other versions of it."""


def refuse_retracted(store: Path, snapshot: Snapshot, retractions: Iterable[Commit]) -> None:
    """Raise ImagesRetracted where a snapshot holds images that have been retracted since."""
    gone: set[int] = set()
    reasons, of_patients = [], False
    for commit in retractions:
        retracted = of_commits([commit])
        is_gone = retracted.has_keys(snapshot.key) | snapshot.is_of(retracted.patients)
        if is_gone.any():
            gone.update(np.flatnonzero(is_gone).tolist())
            reasons.append((commit.created, commit.why))
            of_patients = of_patients or bool(len(retracted.patients))
    if gone:
        when, why = max(reasons)
        day_and_why = time.strftime("%Y-%m-%d", time.localtime(when)) + (f", {why}" if why else "")
        who = "of patients who" if of_patients else "that"
        raise ImagesRetracted(
            f"{store}: snapshot {snapshot.digest} holds {len(gone)} images {who} have been "
            f"retracted ({day_and_why}): their pixels are gone, and a run on it cannot go on; start a new "
            "run on the newest snapshot, from its weights if you like: "
            "mri-hpc launch --run NEW --continue-from RUN"
        )


def relocated(
    store: Path, snapshot: Snapshot, now: Snapshot, header_of: Callable[[str], ChunkHeader]
) -> Snapshot:
    """Return the snapshot with its rows where `now` has their images; StoreDamage where they are nowhere."""
    if not len(now.chunks):
        raise StoreDamage(f"{store}: the images of snapshot {snapshot.digest} are gone: restore a backup")
    index = np.minimum(np.searchsorted(now.chunks["name"], snapshot.chunks["name"]), len(now.chunks) - 1)
    stays = now.chunks["name"][index] == snapshot.chunks["name"]
    # A chunk that another version of this program has made again may begin elsewhere in its file.
    if stays.all() and np.array_equal(now.chunks["offset"][index], snapshot.chunks["offset"]):
        return snapshot
    chunk, row = index[snapshot.chunk].astype("<i4"), np.array(snapshot.row)
    moved = np.flatnonzero(~stays[snapshot.chunk])
    wanted = pixels_of(snapshot, moved)
    at = np.minimum(np.searchsorted(now.key, wanted["key"]), max(0, len(now) - 1))
    is_found = pixels_of(now, at) == wanted if len(now) else np.zeros(len(wanted), bool)
    chunk[moved[is_found]], row[moved[is_found]] = now.chunk[at[is_found]], now.row[at[is_found]]
    chunk[moved[~is_found]] = -1
    _find_older_versions(snapshot, now, chunk, row, header_of)
    if (chunk < 0).any():
        raise StoreDamage(
            f"{store}: {int((chunk < 0).sum())} images of snapshot {snapshot.digest} are in no chunk: "
            f"restore a backup; see: mri-hpc store verify {store}"
        )
    return dataclasses.replace(snapshot, chunks=now.chunks, chunk=chunk, row=row)


def pixels_of(snapshot: Snapshot, rows: np.ndarray) -> np.ndarray:
    """Return PIXELS of these rows."""
    found = np.empty(len(rows), PIXELS)
    for name in PIXELS.names or ():
        found[name] = getattr(snapshot, name)[rows]
    return found


def pixels_of_header(header: ChunkHeader) -> np.ndarray:
    """Return PIXELS of all rows of a chunk."""
    found = np.empty(len(header), PIXELS)
    for name in PIXELS.names or ():
        found[name] = header.columns[name]
    return found


def _find_older_versions(
    snapshot: Snapshot,
    now: Snapshot,
    chunk: np.ndarray,
    row: np.ndarray,
    header_of: Callable[[str], ChunkHeader],
) -> None:
    """Fill in chunk and row of images that have been replaced since, which compaction keeps."""
    used = np.bincount(now.chunk, minlength=len(now.chunks))
    for index in np.flatnonzero(used < now.chunks["images"]).tolist():
        missing = np.flatnonzero(chunk < 0)
        if not len(missing):
            return
        stored = pixels_of_header(header_of(now.chunks["name"][index].decode()))
        wanted = pixels_of(snapshot, missing)
        order = np.argsort(stored)
        at = order[np.minimum(np.searchsorted(stored[order], wanted), len(stored) - 1)]
        is_found = stored[at] == wanted
        chunk[missing[is_found]], row[missing[is_found]] = index, at[is_found]
