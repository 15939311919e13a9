"""``mri-hpc store export``: one HDF5 file of everything, for any other tool."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np

from mri_hpc.base.command import print_json, progress, shown_bytes
from mri_hpc.base.command_line import PLACE, Flag, Word
from mri_hpc.base.errors import UserError
from mri_hpc.intake.recipe import load_recipe
from mri_hpc.storage.disk.chunk_file import publish_chunk_of_parts
from mri_hpc.storage.disk.columns import COLUMNS, STRINGS
from mri_hpc.storage.disk.layout import open_store
from mri_hpc.storage.reading.reader import Reader
from mri_hpc.storage.snapshot.catalogue import resolve
from mri_hpc.storage.snapshot.table import Snapshot

PART_BYTES = 16 * 2**20
"""Pixels in memory at a time."""


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write the newest snapshot into one HDF5 file: images, all columns and the names of the classes."""

    store: Annotated[Path, PLACE]
    """Folder of the store."""
    single: Annotated[Path, Word(value="FILE")]
    """The file to make; it must not be there yet. It is built as the chunks are, and as easily read."""
    json: Flag = False
    """Print as JSON."""


def export_store(options: Export) -> None:
    """Write the file; UserError where something is there already, or a pixel differs from its CRC."""
    target = options.single
    if target.exists():
        raise UserError(f"{target} is there already: remove it, or name another file")
    if not target.parent.is_dir():
        raise UserError(f"{target.parent} is no folder: make it, or name another file")
    store = open_store(options.store)
    snapshot = resolve(store.path)
    attributes = {
        "recipe_digest": load_recipe(store.recipe).digest(),
        "snapshot": snapshot.digest,
        "content_digest": snapshot.content_digest,
        "classes": json.dumps(snapshot.classes, ensure_ascii=False),
    }
    at_once = max(1, PART_BYTES // math.prod(snapshot.image_shape))
    with Reader(store.path, snapshot, is_read_once=True) as reader:
        total = -(-len(snapshot) // at_once)
        publish_chunk_of_parts(
            target,
            lambda: progress(_parts(reader, len(snapshot), at_once), what="exporting", total=total),
            (len(snapshot), *snapshot.image_shape),
            columns_of(snapshot),
            attributes,
        )
    values = {
        "file": str(target),
        "images": len(snapshot),
        "bytes": target.stat().st_size,
        "classes": list(snapshot.classes),
        "snapshot": snapshot.digest,
    }
    if options.json:
        print_json(values)
    else:
        print(f"{len(snapshot):,} images are in {target} ({shown_bytes(target.stat().st_size)})")


def columns_of(snapshot: Snapshot) -> dict[str, np.ndarray]:
    """The columns of a snapshot as a chunk has them, names in place of codes."""
    columns = {column.name: np.asarray(getattr(snapshot, column.name), column.dtype) for column in COLUMNS}
    tables = {
        "label": [name.encode() for name in snapshot.classes],
        "patient": snapshot.patient_names.tolist(),
        "study": snapshot.study_names.tolist(),
    }
    # A code of -1 means the last: empty.
    return columns | {
        name: np.array([*tables[name], b""], np.bytes_)[getattr(snapshot, name)] for name in STRINGS
    }


def _parts(reader: Reader, images: int, at_once: int) -> Iterator[np.ndarray]:
    for start in range(0, images, at_once):
        yield reader.read(np.arange(start, min(start + at_once, images)))
