"""Layout: where the voxels of a volume lie in its files, and how in the patient, as any header tells.

Slices were acquired along the axis that the header names; else the one on which voxels are much longer than
on the others; else the one that holds much fewer of them; else, since nothing tells, along the head.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mri_hpc.base.errors import BadSource
from mri_hpc.intake.decoding.foreign import NOT_READ_YET
from mri_hpc.intake.decoding.volumes.geometry import axes_of, spacing_mm

MOST_OFFSET = 64 * 2**20
MOST_VOLUMES = 2**16
MOST_FILES = 10_000
TEXT_BYTES = 2**20
"""So many first bytes hold a header that is a text."""
LONGER, FEWER = 1.2, 0.75
"""So much longer than others voxels are, or so much fewer, where slices were acquired along an axis."""
NUMBER = re.compile(r"%0?[0-9]?d")
TO_THE_END = -1
"""In place of an offset: voxels are the last bytes of their file."""

DAMAGED_HEADER = "damaged header of a volume"
OTHER_NUMBERS = f"{NOT_READ_YET}: sound, but voxels of colours, complex or other numbers (convert to grey)"
OTHER_DIMENSIONS = f"{NOT_READ_YET}: sound, but of more than 4 dimensions (save each volume as a file)"


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The files that hold the voxels, and how these are coded there. By default: behind a plain header."""

    num_files: int = 0
    """Files of voxels, whose parts follow each other; 0: they lie behind the header."""
    begins: int = 0
    """Byte at which what is coded begins; of the file of the header."""
    lines_before: int = 0
    """Lines before it, in each file."""
    encoding: str = ""
    """gzip, bzip2, zlib, ascii; empty where bytes are those of the voxels."""
    is_interleaved: bool = False
    """True where all volumes have their first voxel before any has its second."""


PLAIN = Layout()


@dataclass(frozen=True, kw_only=True, eq=False)
class VolumeHeader:
    """Place of the voxels in their file, and in the patient."""

    shape: tuple[int, int, int]
    num_volumes: int
    """They follow each other, or are interleaved."""
    dtype: np.dtype
    """As in the file, of its byte order."""
    offset: int
    """Byte of what was decoded at which the first voxel begins; the first axis of a volume runs fastest."""
    affine: np.ndarray
    """As in Volume, as are all that follow."""
    acquired: int
    is_side_known: bool
    notes: tuple[str, ...] = ()
    is_inverted: bool = False
    """True where large numbers are dark: a slope below 0."""
    zero: float = 0.0
    layout: Layout = PLAIN

    @property
    def volume_bytes(self) -> int:
        """Bytes of each volume."""
        return math.prod(self.shape) * self.dtype.itemsize


def checked_shape(lengths: Sequence[int], num_volumes: int) -> tuple[tuple[int, int, int], int]:
    """Return the shape of a volume of two or three axes, and how many there are; BadSource: cannot be."""
    x, y, z, *_rest = [*lengths, 1]
    if not all(0 < length < 2**31 for length in (x, y, z)) or not 0 < num_volumes <= MOST_VOLUMES:
        raise BadSource(DAMAGED_HEADER)
    return (x, y, z), num_volumes


def plain_numbers(dtype: np.dtype) -> np.dtype:
    """Return a type; BadSource where it is not one of integers or floats."""
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise BadSource(OTHER_NUMBERS)
    return dtype


def untold_affine(spacing: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Return how voxels lie where nothing tells: as nibabel takes it, the first axis to the left."""
    given = [*map(float, spacing), 1.0, 1.0, 1.0][:3]
    x, y, z = (abs(mm) if math.isfinite(mm) and mm else 1.0 for mm in given)
    affine = np.diag([-x, y, z, 1.0])
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


def acquired_axis(named: int | None, affine: np.ndarray, shape: tuple[int, int, int]) -> int:
    """Return the axis along which slices were acquired. named: by the header; None where it names none."""
    if named is not None:
        return named
    for lengths, factor in ((spacing_mm(affine), LONGER), ([1 / count for count in shape], 1 / FEWER)):
        *_others, second, first = np.argsort(lengths, kind="stable").tolist()
        if lengths[first] >= factor * lengths[second]:
            return int(first)
    return axes_of(affine).order[2]


def numbered_names(pattern: str, first: str, last: str, step: str) -> tuple[str, ...]:
    """Return names that differ in a number, as headers shorten them; BadSource where these are none."""
    try:
        numbers = range(int(first), int(last) + 1, int(step))
        are_few = len(numbers) <= MOST_FILES
    except (ValueError, OverflowError):
        raise BadSource(DAMAGED_HEADER) from None
    # A width of many digits would make a name of as many.
    if len(NUMBER.findall(pattern)) != 1 or pattern.count("%") != 1 or not are_few:
        raise BadSource(DAMAGED_HEADER)
    return tuple(pattern % number for number in numbers)
