"""``mri-hpc store sheet``: a selection of the images at a glance, as one picture."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from mri_hpc.base.atomic import replace_bytes
from mri_hpc.base.command import Action, print_json
from mri_hpc.base.errors import UserError
from mri_hpc.base.marks import POSITIONAL, Flag, Word
from mri_hpc.storage.store import Store
from mri_hpc.store_actions.made import note_made

if TYPE_CHECKING:
    import numpy as np

    from mri_hpc.storage.store import Snapshot


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """Draw a contact sheet: images spread evenly over a selection, the same each time."""

    store: Annotated[Path, POSITIONAL]
    """Folder of the store."""
    out: Annotated[Path, POSITIONAL]
    """The PNG file to write."""
    label: Annotated[str, Word(option="class")] = ""
    """Only images of this class."""
    patient: str = ""
    """Only images of this patient, by the name that the store has for them."""
    count: int = 64
    """Most images to draw."""
    json: Flag = False
    """Print as JSON."""


def draw_sheet(options: Sheet) -> None:
    """Write the picture, and print which image is where."""
    # Here and below: whoever asks for help need not wait for what draws.
    from mri_hpc.intake.decoding.grey_values import to_8_bits
    from mri_hpc.intake.decoding.pictures import png_bytes
    from mri_hpc.results.pages.contact_sheet import draw_sides, evenly, sides_of, tiled

    if options.count < 1:
        raise UserError(f"--count must be at least 1, got {options.count}")
    if options.out.suffix.lower() != ".png":
        raise UserError(f"{options.out} is to be a PNG: give it a name that ends with .png")
    store = Store.open(options.store)
    snapshot = store.resolve()
    rows = evenly(selected(snapshot, options), options.count)
    with store.reader(snapshot) as reader:
        images = to_8_bits(reader.read(rows))
    for image, row in zip(images, rows, strict=True):
        draw_sides(image, sides_of(snapshot, int(row)))
    sheet = tiled(images)
    replace_bytes(options.out, png_bytes(sheet))
    keys = snapshot.key[rows].tolist()
    note_made(store, options.out, "store sheet", snapshot=snapshot.digest, keys=keys)
    columns = math.isqrt(len(rows) - 1) + 1
    described = [_described(snapshot, int(row), index, columns) for index, row in enumerate(rows)]
    if options.json:
        print_json({"file": str(options.out), "images": described})
    else:
        print("line column  key               class  patient")
        for one in described:
            print("{line:4d} {column:6d}  {key}  {class}  {patient}".format(**one).rstrip())
        print(f"{len(rows)} images are in {options.out}, {columns} a line")


def selected(snapshot: "Snapshot", options: Sheet) -> "np.ndarray":
    """Find rows of the wanted class and patient, by key: int64, (n,). UserError where there are none."""
    import numpy as np

    wanted = np.ones(len(snapshot), bool)
    if options.label:
        if options.label not in snapshot.classes:
            raise UserError(
                f"{options.store} has no class {options.label!r}; it has: {', '.join(snapshot.classes)}"
            )
        wanted &= snapshot.label == snapshot.classes.index(options.label)
    if options.patient:
        wanted &= snapshot.is_of(np.array([options.patient.encode()]))
    rows = np.flatnonzero(wanted)
    if not len(rows):
        what = f"of patient {options.patient!r}" + (f" and class {options.label!r}" if options.label else "")
        raise UserError(f"{options.store} has no image {what}: patients are named as in the column patient")
    return rows


def _described(snapshot: "Snapshot", row: int, index: int, columns: int) -> dict[str, Any]:
    line, column = divmod(index, columns)
    return {
        "line": line + 1,
        "column": column + 1,
        "key": f"{int(snapshot.key[row]):016x}",
        "class": snapshot.text("label", row),
        "patient": snapshot.text("patient", row),
    }


ACTION = Action(options=Sheet, body=draw_sheet, example="mri-hpc store sheet data/store sheet.png")
