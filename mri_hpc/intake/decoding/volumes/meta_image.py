"""MetaImage: headers of volumes as ITK and elastix write them, lines of ``Key = Value``.

Read here: what pip offers is ITK itself, of fifty megabytes, or opens whatever file a header names.

- Places are in L, P, S, as ITK has them, whatever AnatomicalOrientation says. Without a TransformMatrix left
  and right are not told.
- Voxels lie behind the header (LOCAL), in a file of their own, or in one a slice (LIST, or a pattern).
"""

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np

from mri_hpc.base.errors import BadSource
from mri_hpc.intake.decoding.volumes.layout import (
    DAMAGED_HEADER,
    MOST_FILES,
    MOST_OFFSET,
    OTHER_DIMENSIONS,
    OTHER_NUMBERS,
    Layout,
    VolumeHeader,
    acquired_axis,
    checked_shape,
    numbered_names,
    untold_affine,
)

BEGINNING = re.compile(rb"\s*(ObjectType|NDims)\s*=", re.IGNORECASE)
# To the end of a line and no further: voxels behind the last one may look like blanks, or like line ends.
LINE = re.compile(rb"\s*(\w+)\s*=([^\r\n]*)(?:\r?\n|$)")
LAST = "elementdatafile"
"""The key behind which a header ends."""
LOCAL, LIST = "local", "list"
TYPES = {
    "met_char": "i1", "met_uchar": "u1", "met_short": "i2", "met_ushort": "u2", "met_int": "i4",
    "met_uint": "u4", "met_long": "i4", "met_ulong": "u4", "met_long_long": "i8", "met_ulong_long": "u8",
    "met_float": "f4", "met_double": "f8",
}  # fmt: skip
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def is_meta_image(start: bytes) -> bool:
    """Tell whether a file is MetaImage, by its first bytes."""
    return BEGINNING.match(start) is not None


def data_files(text: bytes) -> tuple[str, ...]:
    """Return names of the files that hold the voxels, as a header has them; none where it does itself."""
    keys, length = _keys(text)
    named = keys.get(LAST, "")
    words = named.split()
    if not words or words[0].lower() == LOCAL:
        return ()
    if words[0].lower() == LIST:
        lines = text[length:].decode("utf-8", "surrogateescape").splitlines()
        return tuple(line.strip() for line in lines if line.strip())[:MOST_FILES]
    if len(words) == 4 and "%" in words[0]:
        return numbered_names(*words)
    return (named,)


def meta_image_header(text: bytes) -> VolumeHeader:
    """Read a header. text: the beginning of the file, with all of it; BadSource says why it cannot be."""
    keys, length = _keys(text)
    try:
        # Numbers that are too large are found out by what becomes of them.
        with np.errstate(all="ignore"):
            return _header(keys, length, num_files=len(data_files(text)))
    except (ValueError, KeyError, IndexError, ArithmeticError):
        raise BadSource(DAMAGED_HEADER) from None


def _keys(text: bytes) -> tuple[Mapping[str, str], int]:
    """Return the values of a header by key in lower case, and its length."""
    keys: dict[str, str] = {}
    place = 0
    while LAST not in keys and (line := LINE.match(text, place)):
        keys[line[1].decode("ascii", "replace").lower()] = line[2].decode("utf-8", "surrogateescape").strip()
        place = line.end()
    return keys, place


def _header(keys: Mapping[str, str], length: int, *, num_files: int) -> VolumeHeader:
    sizes = [int(size) for size in keys["dimsize"].split()]
    if len(sizes) != int(keys["ndims"]) or LAST not in keys:
        raise BadSource(DAMAGED_HEADER)
    if int(keys.get("elementnumberofchannels", "1")) != 1:
        raise BadSource(OTHER_NUMBERS)
    if not 2 <= len(sizes) <= 4:
        raise BadSource(OTHER_DIMENSIONS)
    shape, num_volumes = checked_shape(sizes[:3], math.prod(sizes[3:]))
    affine, is_side_known = _affine(keys, len(sizes), shape)
    return VolumeHeader(
        shape=shape,
        num_volumes=num_volumes,
        dtype=_dtype(keys),
        offset=_header_size(keys),
        affine=affine,
        acquired=acquired_axis(None, affine, shape),
        is_side_known=is_side_known,
        layout=Layout(
            begins=0 if num_files else length,
            encoding=_encoding(keys),
            num_files=num_files,
        ),
    )


def _affine(keys: Mapping[str, str], num_axes: int, shape: tuple[int, int, int]) -> tuple[np.ndarray, bool]:
    """Return the affine, and whether it tells left from right."""
    spacing = _numbers(keys, "elementspacing", "elementsize") or (1.0,) * num_axes
    matrix = _numbers(keys, "transformmatrix", "orientation", "rotation")
    if len(spacing) < num_axes:
        raise BadSource(DAMAGED_HEADER)
    if not matrix or num_axes < 3:
        return untold_affine(np.array(spacing[:3]), shape), False
    # Each of its rows is the direction of an axis of voxels.
    directions = np.array(matrix).reshape(num_axes, num_axes)[:3, :3]
    origin = _numbers(keys, "offset", "position", "origin") or (0.0,) * num_axes
    affine = np.eye(4)
    affine[:3, :3] = directions.T * np.array(spacing[:3])
    affine[:3, 3] = origin[:3]
    return LPS_TO_RAS @ affine, True


def _numbers(keys: Mapping[str, str], *names: str) -> Sequence[float]:
    """Return the numbers of the first key that is there; none where none is."""
    return next((tuple(map(float, keys[name].split())) for name in names if name in keys), ())


def _dtype(keys: Mapping[str, str]) -> np.dtype:
    code = TYPES.get(keys["elementtype"].lower())
    if code is None:
        raise BadSource(OTHER_NUMBERS)
    is_big_endian = any(
        keys.get(name, "").lower() in ("true", "1")
        for name in ("elementbyteordermsb", "binarydatabyteordermsb")
    )
    return np.dtype((">" if is_big_endian else "<") + code)


def _encoding(keys: Mapping[str, str]) -> str:
    if keys.get("binarydata", "true").lower() in ("false", "0"):
        return "ascii"
    return "zlib" if keys.get("compresseddata", "false").lower() in ("true", "1") else ""


def _header_size(keys: Mapping[str, str]) -> int:
    size = int(keys.get("headersize", "0"))
    if not -1 <= size <= MOST_OFFSET:
        raise BadSource(DAMAGED_HEADER)
    return size
