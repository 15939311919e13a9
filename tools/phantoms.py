"""Makes a small set of brain phantoms: heads drawn from formulas, as a scanner would show them.

    python tools/phantoms.py OUT [--patients N] [--seed S] [--size PX]

Below OUT/CLASS/PATIENT lie slices in three planes, as JPEG; OUT/labels.csv names each one's class, patient,
plane, split and the box around its tumour. The same seed makes the same bytes. Needs numpy, opencv, pillow.

They are no patients: what a network learns on them says nothing about any.
"""

import argparse
import csv
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

# The folder of this file: also where it is imported rather than run.
sys.path.insert(0, str(Path(__file__).parent))
from phantom.lesions import CLASSES, TUMOURS, Lesion, random_lesion
from phantom.scan import AXES, PLANES, Patient
from phantom.shapes import Field

SLICES_A_PLANE = 2
SHARE_HELD_BACK = 0.2
"""Share of the patients for validation, and as many for testing."""
COLUMNS = ("path", "label", "patient", "plane", "split", "box_cx", "box_cy", "box_w", "box_h")
JPEG_QUALITY = 92
# 2**32 keeps the field's random numbers apart from those of any patient.
FIELD_STREAM = 2**32


@dataclass(frozen=True, kw_only=True)
class Slice:
    """One image of a patient."""

    plane: str
    """One of PLANES."""
    number: int
    """From 1, within its plane."""
    pixels: np.ndarray
    """uint8, (side, side)."""
    mask: np.ndarray
    """Where the tumour is: bool, (side, side)."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to make; must be new or empty")
    parser.add_argument("--patients", type=int, default=20, metavar="N", help="patients of each class (20)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="other numbers make other heads (0)")
    parser.add_argument("--size", type=int, default=128, metavar="PX", help="side of the images (128)")
    options = parser.parse_args(argv)
    for name, value, least in (
        ("--patients", options.patients, 3), ("--seed", options.seed, 0), ("--size", options.size, 32),
    ):  # fmt: skip
        if value < least:
            parser.error(f"{name} must be at least {least}, got {value}")
    if options.out.exists() and (not options.out.is_dir() or any(options.out.iterdir())):
        parser.error(f"{options.out} is there already: choose a new folder")
    num = write_set(options.out, patients=options.patients, seed=options.seed, side=options.size)
    print(f"{num} images of {options.patients} patients of each of {len(CLASSES)} classes in {options.out}")
    return 0


def write_set(out: Path, *, patients: int, seed: int, side: int) -> int:
    """Write all images and their labels; returns how many images."""
    field = field_of(seed)
    rows = []
    for number in range(1, patients + 1):
        for kind in CLASSES:
            name = f"{kind}_{number:03}"
            folder = out / kind / name
            folder.mkdir(parents=True)
            for image in slices(field, kind, number, seed=seed, side=side):
                path = folder / f"{image.plane}_{image.number}.jpg"
                Image.fromarray(image.pixels).save(path, quality=JPEG_QUALITY)
                where = (path.relative_to(out).as_posix(), kind, name, image.plane)
                rows.append((*where, split_of(number, patients), *box_around(image.mask)))
    # Last: a set with labels is complete.
    with (out / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *sorted(rows)])
    return len(rows)


def field_of(seed: int) -> Field:
    """The noise from which all heads of a set take their folds and textures, each from a place of its own."""
    return Field(np.random.default_rng([seed, FIELD_STREAM]))


def slices(field: Field, kind: str, number: int, *, seed: int, side: int) -> Iterator[Slice]:
    """The images of one patient, through the tumour, or through where the healthy might have one."""
    random = np.random.default_rng([seed, CLASSES.index(kind), number])
    # Slices of the healthy lie where those of the ill do, or their place alone would give the class away.
    aim = random_lesion(kind if kind in TUMOURS else str(random.choice(TUMOURS)), random)
    patient = Patient.random(aim if kind in TUMOURS else None, random)
    for plane in PLANES:
        for count in range(SLICES_A_PLANE):
            position_mm = position_through(aim, patient, plane) + offset(aim, count, random)
            pixels, mask = patient.slice(field, plane, position_mm, side, random)
            yield Slice(plane=plane, number=count + 1, pixels=pixels, mask=mask)


def position_through(aim: Lesion, patient: Patient, plane: str) -> float:
    """Where a plane meets the middle of the lesion, in the scanner's mm."""
    return float(patient.in_scanner(aim.centre_mm)[AXES[plane][2]])


def offset(aim: Lesion, count: int, random: np.random.Generator) -> float:
    """How far from the middle a slice lies: spread over the inner half of the lesion, in mm."""
    spread = (count + random.uniform(0.2, 0.8)) / SLICES_A_PLANE - 0.5
    return float(spread * aim.radius_mm)


def split_of(number: int, patients: int) -> str:
    """What the n-th patient of a class is for."""
    held_back = max(1, round(patients * SHARE_HELD_BACK))
    if number > patients - held_back:
        return "test"
    return "validation" if number > patients - 2 * held_back else "train"


def box_around(mask: np.ndarray) -> tuple[str, ...]:
    """Centre and size of the box around a mask, as fractions of the image; empty where there is none."""
    if not mask.any():
        return ("",) * 4
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    (top, bottom), (left, right) = ((found[0], found[-1] + 1) for found in (rows, columns))
    box = ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)
    return tuple(f"{value / len(mask):.4f}" for value in box)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
