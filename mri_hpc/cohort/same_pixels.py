"""Images of a snapshot that are the same to the pixel."""

from collections.abc import Iterator

import numpy as np

from mri_hpc.storage.store import Reader, Snapshot

PART_BYTES = 16 * 2**20
"""Pixels in memory at a time."""


def same_pixels(snapshot: Snapshot, reader: Reader) -> list[np.ndarray]:
    """Group rows of the same pixels, but for those that show nothing; a CRC alone can agree by chance."""
    found = []
    for rows in equal_values(np.asarray(snapshot.crc).astype(np.uint64)):
        images = _read(snapshot, reader, rows)
        by_pixels: dict[bytes, list[int]] = {}
        for row, image in zip(rows.tolist(), images, strict=True):
            if image.min() != image.max():
                by_pixels.setdefault(image.tobytes(), []).append(row)
        found += [np.array(equal) for equal in by_pixels.values() if len(equal) > 1]
    return found


def equal_values(values: np.ndarray) -> list[np.ndarray]:
    """Group rows of equal values, where there are several. values: of 8 bytes, (n,)."""
    order = np.argsort(values, kind="stable")
    edges = np.flatnonzero(np.diff(values[order].view(np.int64)) != 0) + 1
    starts, ends = np.append(0, edges), np.append(edges, len(order))
    several = np.flatnonzero(ends - starts > 1)
    return [order[starts[i] : ends[i]] for i in several.tolist()]


def _read(snapshot: Snapshot, reader: Reader, rows: np.ndarray) -> Iterator[np.ndarray]:
    at_once = max(1, PART_BYTES // snapshot.image_bytes)
    for start in range(0, len(rows), at_once):
        yield from reader.read(rows[start : start + at_once])
