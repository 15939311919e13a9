"""Exporting: one HDF5 file of a whole snapshot, for any other tool."""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from mri_hpc.intake.decoding.recipe import load_recipe
from mri_hpc.storage.disk.chunk_file import publish_chunk_of_parts
from mri_hpc.storage.disk.columns import COLUMNS, TEXTS
from mri_hpc.storage.disk.layout import StoreDir
from mri_hpc.storage.reading.reader import Reader
from mri_hpc.storage.snapshot.table import Snapshot

PART_BYTES = 16 * 2**20
"""Pixels in memory at a time."""


def export(
    store: StoreDir,
    snapshot: Snapshot,
    target: Path,
    *,
    progress: Callable[[Sequence[int]], Iterable[int]] = lambda starts: starts,
) -> None:
    """Write a file, built as chunks are, that is not there yet; StoreDamage where a pixel is damaged."""
    attributes = {
        "recipe_digest": load_recipe(store.recipe).digest(),
        "snapshot": snapshot.digest,
        "content_digest": snapshot.content_digest,
        "classes": json.dumps(snapshot.classes, ensure_ascii=False),
    }
    at_once = max(1, PART_BYTES // snapshot.image_bytes)
    shape = (len(snapshot), *snapshot.image_shape)
    with Reader(store.path, snapshot, is_read_once=True) as reader:

        def parts() -> Iterable[np.ndarray]:
            for start in progress(range(0, len(snapshot), at_once)):
                yield reader.read(np.arange(start, min(start + at_once, len(snapshot))))

        publish_chunk_of_parts(target, parts, shape, columns_of(snapshot), attributes, bits=snapshot.bits)


def columns_of(snapshot: Snapshot) -> dict[str, np.ndarray]:
    """Return the columns of a snapshot as a chunk has them, names in place of codes."""
    columns = {column.name: np.asarray(getattr(snapshot, column.name), column.dtype) for column in COLUMNS}
    return columns | {name: snapshot.text(name, slice(None)) for name in TEXTS}
