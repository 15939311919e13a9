"""``mri-hpc store export``: one HDF5 file of everything, or a patient's volumes, for any other tool."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, TypeVar

from mri_hpc.base.command import Action, print_json, progress, shown_bytes
from mri_hpc.base.errors import UsageError, UserError
from mri_hpc.base.marks import POSITIONAL, Flag, Word
from mri_hpc.storage.store import Store
from mri_hpc.store_actions.made import note_made

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write the newest snapshot into one HDF5 file: images, all columns and the names of the classes.

    Or the volumes of one patient, as they are stored, as NIfTI: --nifti PATIENT --out FILE.
    """

    store: Annotated[Path, POSITIONAL]
    """Folder of the store."""
    single: Annotated[Path | None, Word(value="FILE")] = None
    """The file to make; it must not be there yet. It is built as the chunks are, and as easily read."""
    nifti: Annotated[str, Word(value="PATIENT")] = ""
    """Write the volumes of this patient instead: by the name in the store, or the id as in the labels."""
    out: Annotated[Path | None, Word(value="FILE")] = None
    """With --nifti: the file to make, .nii.gz or .nii; of several volumes FILE-1, FILE-2 and on."""
    with_face: Flag = False
    """With --nifti: write heads, of which any may show a face."""
    json: Flag = False
    """Print as JSON."""

    def __post_init__(self) -> None:
        if bool(self.nifti) == (self.single is not None) or bool(self.nifti) != (self.out is not None):
            raise UsageError("give --single FILE, or --nifti PATIENT --out FILE")
        if self.with_face and not self.nifti:
            raise UsageError("--with-face goes with --nifti PATIENT")


def export_store(options: Export) -> None:
    """Write what is asked for; UserError where something is there already."""
    if options.single is not None:
        _export_all(options, options.single)
    elif options.out is not None:
        _export_volumes(options, options.out)


def _export_volumes(options: Export, out: Path) -> None:
    from mri_hpc.store_actions.volume_files import lines, write_volumes

    files = write_volumes(Store.open(options.store), options.nifti, out, with_face=options.with_face)
    if options.json:
        print_json({"files": [asdict(file) for file in files]})
    else:
        print("\n".join(lines(files)))


def _export_all(options: Export, target: Path) -> None:
    """Write the file; UserError where a pixel differs from its CRC."""
    if target.exists():
        raise UserError(f"{target} is there already: remove it, or name another file")
    if not target.parent.is_dir():
        raise UserError(f"{target.parent} is no folder: make it, or name another file")
    store = Store.open(options.store)
    snapshot = store.resolve()
    store.export(snapshot, target, progress=_shown)
    note_made(store, target, "store export --single", snapshot=snapshot.digest, shows_all=True)
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
