"""MATLAB 7.3: one slice of Cheng's brain tumour set as published, which is an HDF5 file with `cjdata`.

MATLAB counts columns first, so that arrays are transposed; an empty one is kept as its two dimensions, marked
by MATLAB_empty; text is an array of codes. Classes have the published numbers.
"""

import io
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from mri_hpc.base.errors import BadSource
from mri_hpc.intake.decoding.foreign import NOT_READ_YET
from mri_hpc.intake.decoding.pictures import DAMAGED, DAMAGED_PICTURE, MAX_PIXELS, check_size
from mri_hpc.intake.decoding.recipe import Recipe
from mri_hpc.intake.decoding.samples import NativeImage
from mri_hpc.intake.files.content import Content, opened_file
from mri_hpc.intake.labels.label import NO_BOX, Label

MATLAB = b"MATLAB 7.3 MAT-file"
SLICE = "cjdata"
CLASSES = {1: "meningioma", 2: "glioma", 3: "pituitary"}
MOST_LETTERS = 255
NO_SLICE = f"{NOT_READ_YET}: MATLAB file without a slice in {SLICE!r}"


class Matlab:
    """The decoder of Cheng's slices."""

    formats: tuple[str, ...] = ("MATLAB 7.3",)

    def reads(self, start: bytes) -> bool:
        """As in Decoder."""
        return start.startswith(MATLAB)

    def decode(self, content: Content, recipe: Recipe) -> Iterator[NativeImage]:
        """As in Decoder."""
        (file,) = content.files
        with _Slice(io.BytesIO(file.data)) as found:
            grey = found.array("image")
        if grey is None or grey.ndim != 2 or grey.dtype.kind not in "uif":
            raise BadSource(NO_SLICE)
        check_size(grey.shape[1], grey.shape[0])
        yield NativeImage(grey=_native(grey))

    def versions(self) -> Mapping[str, str]:
        """As in Decoder: that of HDF5 is in every chunk."""
        return {}


def label_in(path: Path) -> Label:
    """Read what a file says of its slice beside the pixels; nothing of one that is no such file."""
    try:
        with opened_file(path) as file:
            if file.read(len(MATLAB)) != MATLAB:
                return Label()
            file.seek(0)
            with _Slice(file) as found:
                return Label(label=found.label(), patient=found.text("PID"), box=found.box())
    except (OSError, BadSource):
        return Label()


class _Slice:
    """The group of a slice, open for reading; BadSource where there is none, or the file is damaged."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def __enter__(self) -> "_Slice":
        try:
            self._hdf5 = h5py.File(self._file, "r")
        except DAMAGED:
            raise BadSource(DAMAGED_PICTURE) from None
        return self

    def __exit__(self, *_raised: object) -> None:
        self._hdf5.close()

    def array(self, name: str) -> np.ndarray | None:
        """Read an array as MATLAB shows it; None where there is none, or an empty one."""
        try:
            found = self._dataset(name)
            if found is None or found.attrs.get("MATLAB_empty"):
                return None
            if math.prod(found.shape) > MAX_PIXELS:
                raise BadSource(f"picture larger than {MAX_PIXELS // 1_000_000} million pixels")
            return np.asarray(found[()]).T
        except DAMAGED:
            raise BadSource(DAMAGED_PICTURE) from None

    def label(self) -> str:
        """Name the class; empty where the number is none of the published ones."""
        number = self.array("label")
        if number is None or number.size != 1 or number.dtype.kind not in "uif":
            return ""
        return CLASSES.get(number.item(), "")

    def text(self, name: str) -> str:
        """Read a text, or a number as a text; empty where there is none that can be printed."""
        codes = self.array(name)
        if codes is None or codes.dtype.kind not in "uif" or codes.size > MOST_LETTERS:
            return ""
        if codes.size == 1 and codes.dtype.kind == "f":
            return f"{codes.item():.15g}"
        text = "".join(chr(int(code)) for code in codes.ravel(order="F") if 0 <= code < 0x110000).strip()
        return text if text.isprintable() else ""

    def box(self) -> tuple[float, float, float, float]:
        """Compute the box around the tumour's mask, as in Label."""
        mask = self.array("tumorMask")
        if mask is None or mask.ndim != 2 or not mask.any():
            return NO_BOX
        rows, columns = np.nonzero(mask)
        top, height = _extent(rows, mask.shape[0])
        left, width = _extent(columns, mask.shape[1])
        return left + width / 2, top + height / 2, width, height

    def _dataset(self, name: str) -> h5py.Dataset | None:
        """Find an array of the slice in the file itself: what links lead to elsewhere is not followed."""
        place = self._hdf5
        for step in (SLICE, name):
            if not isinstance(place, h5py.Group) or not isinstance(
                place.get(step, getlink=True), h5py.HardLink
            ):
                return None
            place = place[step]
        if not isinstance(place, h5py.Dataset) or place.is_virtual or place.external:
            return None
        return place


def _extent(places: np.ndarray, length: int) -> tuple[float, float]:
    """Return start and length of what lies at these places, as fractions of the whole."""
    first, last = int(places.min()), int(places.max())
    return first / length, (last + 1 - first) / length


def _native(grey: np.ndarray) -> np.ndarray:
    """Return grey values in a type that the window takes."""
    if grey.dtype.kind == "f":
        return np.ascontiguousarray(grey, np.float64 if grey.dtype.itemsize > 4 else np.float32)
    if grey.dtype == np.uint8 or (grey.dtype.itemsize > 2 and grey.dtype != np.int32):
        return np.ascontiguousarray(grey, np.uint8 if grey.dtype == np.uint8 else np.float64)
    return np.ascontiguousarray(grey, np.uint16 if grey.dtype.kind == "u" else np.int32)
