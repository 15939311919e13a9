"""Volumes as a store holds them: slices of one source in one plane, put one behind the other again.

Slices that are not stored, since they show no head or the recipe leaves them out, are black where slices are
stored on both sides of them. For example, of a volume stored by --slices every:3 the slices 4, 7 and 13 are
there: the grid has four, three slices of the source apart, and the third is black.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mri_hpc.storage.disk.commits import StoredStack, skim_stacks
from mri_hpc.storage.disk.layout import StoreDir
from mri_hpc.storage.reading.reader import Reader
from mri_hpc.storage.snapshot.table import Snapshot


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredVolume:
    """Slices of one volume in one plane."""

    voxels: np.ndarray
    """(columns, rows, slices), uint8 or uint16: the stored pixels."""
    affine: np.ndarray
    """float64, (4, 4): from an index to millimetres, RAS+."""
    is_side_known: bool
    """False: left and right are not told."""
    plane: int
    """Index into labels.PLANES."""
    study: str
    """Name in the store; empty where unknown."""
    num_stored: int
    """Slices that are stored; the others are black."""
    low: float
    """Grey value that became black."""
    high: float
    """Grey value that became white."""


def stored_volumes(store: StoreDir, snapshot: Snapshot, rows: np.ndarray) -> Iterator[StoredVolume]:
    """Yield the volumes of which some rows of a snapshot are slices, by study and plane. rows: int64, (n,).

    Rows that no commit places, as those of pictures and of earlier versions, are in none.
    """
    by_key = {f"{key:016x}": row for key, row in zip(snapshot.key[rows].tolist(), rows.tolist(), strict=True)}
    placed = [(stack, found) for stack in skim_stacks(store) if (found := _rows_in(stack, by_key, snapshot))]
    placed.sort(key=lambda one: (snapshot.text("study", one[1][0]), int(snapshot.plane[one[1][0]])))
    with Reader(store.path, snapshot, is_read_once=True) as reader:
        for stack, found in placed:
            yield _volume(stack, np.array(found), snapshot, reader)


def _rows_in(stack: StoredStack, by_key: dict[str, int], snapshot: Snapshot) -> list[int]:
    """Return the rows whose pixels are those of a stack, in the order of their slices."""
    rows = [
        by_key[key] for key, crc in stack.images.items() if key in by_key and _is(snapshot, by_key[key], crc)
    ]
    return sorted(rows, key=lambda row: int(snapshot.slice_index[row]))


def _is(snapshot: Snapshot, row: int, crc: int) -> bool:
    return int(snapshot.crc[row]) == crc


def _volume(stack: StoredStack, rows: np.ndarray, snapshot: Snapshot, reader: Reader) -> StoredVolume:
    numbers = snapshot.slice_index[rows].astype(np.int64)
    step = int(np.gcd.reduce(np.diff(numbers))) if len(rows) > 1 else 1
    at = (numbers - numbers[0]) // step
    height, width = snapshot.image_shape
    voxels = np.zeros((width, height, int(at[-1]) + 1), snapshot.pixel_type)
    voxels[:, :, at] = reader.read(rows).transpose(2, 1, 0)
    affine = np.vstack([np.array(stack.affine), [0, 0, 0, 1]])
    affine[:, 3] += affine[:, 2] * numbers[0]
    affine[:, 2] *= step
    return StoredVolume(
        voxels=voxels,
        affine=affine,
        is_side_known=not snapshot.plane_inferred[rows[0]],
        plane=int(snapshot.plane[rows[0]]),
        study=snapshot.text("study", rows[0]),
        num_stored=len(rows),
        low=stack.low,
        high=stack.high,
    )
