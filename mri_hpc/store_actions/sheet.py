"""``mri-hpc store sheet``: a selection of the images at a glance, as one picture."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np

from mri_hpc.base.atomic import replace_bytes
from mri_hpc.base.command import Action, print_json
from mri_hpc.base.errors import UserError
from mri_hpc.base.marks import POSITIONAL, Flag, Word
from mri_hpc.intake.decoding.grey_values import to_8_bits
from mri_hpc.intake.decoding.pictures import png_bytes
from mri_hpc.storage.store import Snapshot, Store

GAP = 2
"""Pixels between images."""
GAP_GREY = 96
SIDES = ("RLAP", "RL", "AP")
"""Letters of each plane, as its slices hang: at the left, the right, the top and the bottom."""


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
    columns = math.isqrt(len(rows) - 1) + 1
    described = [_described(snapshot, int(row), index, columns) for index, row in enumerate(rows)]
    if options.json:
        print_json({"file": str(options.out), "images": described})
    else:
        print("line column  key               class  patient")
        for one in described:
            print("{line:4d} {column:6d}  {key}  {class}  {patient}".format(**one).rstrip())
        print(f"{len(rows)} images are in {options.out}, {columns} a line")


def selected(snapshot: Snapshot, options: Sheet) -> np.ndarray:
    """Find rows of the wanted class and patient, by key: int64, (n,). UserError where there are none."""
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


def evenly(rows: np.ndarray, count: int) -> np.ndarray:
    """Return at most `count` of some rows, evenly spread."""
    return rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(np.int64)]


def sides_of(snapshot: Snapshot, row: int) -> str:
    """Return the letters of a slice whose sides its volume tells; none of another image."""
    plane = int(snapshot.plane[row])
    is_known = plane >= 0 and not snapshot.plane_inferred[row]
    return SIDES[plane] if is_known and np.isfinite(snapshot.position[row]) else ""


def draw_sides(image: np.ndarray, letters: str) -> None:
    """Write letters at the left, the right, the top and the bottom of an image, uint8, (H, W)."""
    height, width = image.shape
    scale = height / 400
    side = max(8, round(height / 16))
    middle, centre = (height + side) // 2, (width - side) // 2
    places = ((2, middle), (width - side - 1, middle), (centre, side + 2), (centre, height - 4))
    for letter, place in zip(letters, places, strict=False):
        for grey, thickness in ((0, 3), (255, 1)):
            cv2.putText(image, letter, place, cv2.FONT_HERSHEY_SIMPLEX, scale, grey, thickness, cv2.LINE_AA)


def tiled(images: np.ndarray) -> np.ndarray:
    """Lay images side by side, in about as many lines as columns: uint8, (h, w). images: uint8, (n, H, W)."""
    count, height, width = images.shape
    columns = math.isqrt(count - 1) + 1
    lines = -(-count // columns)
    sheet = np.full((lines * (height + GAP) + GAP, columns * (width + GAP) + GAP), GAP_GREY, np.uint8)
    for index, image in enumerate(images):
        line, column = divmod(index, columns)
        top, left = GAP + line * (height + GAP), GAP + column * (width + GAP)
        sheet[top : top + height, left : left + width] = image
    return sheet


def _described(snapshot: Snapshot, row: int, index: int, columns: int) -> dict[str, Any]:
    line, column = divmod(index, columns)
    return {
        "line": line + 1,
        "column": column + 1,
        "key": f"{int(snapshot.key[row]):016x}",
        "class": snapshot.text("label", row),
        "patient": snapshot.text("patient", row),
    }


ACTION = Action(options=Sheet, body=draw_sheet, example="mri-hpc store sheet data/store sheet.png")
