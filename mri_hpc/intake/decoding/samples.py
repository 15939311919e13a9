"""Samples: what sources become, one image each; and the images in them as decoders find them."""

import datetime
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mri_hpc.intake.decoding.window import Window
from mri_hpc.intake.labels.label import NO_BOX

Placed = tuple[float, float, float, float]
"""Left, top, width, height of the source picture within the stored image, as fractions of that image."""
Box = tuple[float, float, float, float]
"""As Label.box."""
NOT_FINITE = "pixels that are not finite numbers"


def pixel_type_of(bits: int) -> np.dtype[Any]:
    """Return the type of stored pixels of so many bits: unsigned, little-endian."""
    return np.dtype(f"<u{bits // 8}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Stack:
    """The pictures that a volume becomes in one plane: where they lie, and the window that all took."""

    affine: np.ndarray
    """float64, (3, 4): from column, row and number of a picture to millimetres, RAS+."""
    shape: tuple[int, int]
    """Height and width of a picture before it is resized."""
    window: Window


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageDescription:
    """The description of an image that its source gives."""

    frame: str = ""
    """Name of the image within the source; empty where it holds only one."""
    slice_index: int = -1
    """Position within the volume; -1 none."""
    position: float = float("nan")
    """Position along the volume's axis in millimetres; NaN none."""
    plane: int = -1
    """Index into labels.PLANES; -1 unknown."""
    plane_inferred: bool = False
    """The plane was guessed."""
    label: str = ""
    """Class of the image where it is another one than its source's, as a mask says; else empty."""
    box: Box = NO_BOX
    """Box around what a mask shows, as in Label; NaN none."""
    slices_left_out: int = 0
    """Slices of its volume that show no head, and are left out; of the first one in each plane, else 0."""
    statements: frozenset[str] | None = None
    """Statements of all files of its source on their de-identification; None of formats without such."""
    date: datetime.date | None = field(default=None, repr=False)
    """Day on which its source was taken, as it says: in memory alone. None where it does not."""
    notes: tuple[str, ...] = ()
    """Remarks to be made on its volume; of the first one of each, else empty."""
    stack: Stack | None = None
    """The one it is a picture of; None where it was cut out of no volume."""


@dataclass(frozen=True, kw_only=True, eq=False)
class NativeImage(ImageDescription):
    """One image as its source holds it, before grey values become those of the store."""

    grey: np.ndarray
    """(h, w), upright: uint8; integers or finite floats of more bits; or levels as they are to be stored."""
    has_levels: bool = False
    """Its grey values are levels of the store, in a window of its volume."""

    @property
    def is_deep(self) -> bool:
        """Tell whether it has more than 8 bits, so that a window has to be chosen."""
        return self.grey.dtype != np.uint8 and not self.has_levels

    @property
    def is_of_volume(self) -> bool:
        """Tell whether it was cut out of a volume, which had a window of its own."""
        return math.isfinite(self.position)


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample(ImageDescription):
    """One image as it is stored, and what the source itself says about it."""

    pixels: np.ndarray
    """uint8 or uint16, (H, W): as the recipe says."""
    placed: Placed = (0.0, 0.0, 1.0, 1.0)
    """The part of the image that the source picture takes."""
