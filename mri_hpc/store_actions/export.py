"""``mri-hpc store export``: one HDF5 file of everything, for any other tool."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

from mri_hpc.base.command import Action, print_json, progress, shown_bytes
from mri_hpc.base.errors import UserError
from mri_hpc.base.marks import POSITIONAL, Flag, Word
from mri_hpc.storage.store import Store

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write the newest snapshot into one HDF5 file: images, all columns and the names of the classes."""

    store: Annotated[Path, POSITIONAL]
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
    store = Store.open(options.store)
    snapshot = store.resolve()
    store.export(snapshot, target, progress=_shown)
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


def _shown(parts: Sequence[T]) -> Iterable[T]:
    return progress(parts, what="exporting", total=len(parts))


ACTION = Action(options=Export, body=export_store, example="mri-hpc store export data/store --single all.h5")
