"""NRRD: headers of volumes as Slicer and ITK write them. The only user of pynrrd.

- Where the header names a space of the scanner's or of the patient's axes, left and right are told; without
  one there are but distances of voxels.
- Axes that are no directions in space hold volumes, one after another or voxel by voxel.
- Voxels lie behind the header, in a file of their own, or in one a slice (LIST, or a pattern with a number).
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from mri_hpc.base.errors import BadSource
from mri_hpc.intake.decoding.volumes.layout import (
    DAMAGED_HEADER,
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

MAGIC = b"NRRD000"
LIST = "list"
MOST_LINES = 1000
ENCODINGS = {
    "raw": "", "gzip": "gzip", "gz": "gzip", "bzip2": "bzip2", "bz2": "bzip2",
    "ascii": "ascii", "text": "ascii", "txt": "ascii",
}  # fmt: skip
TYPES = {
    "int8": ("signed char", "int8", "int8_t"),
    "uint8": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "int16": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "uint16": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "int32": ("int", "signed int", "int32", "int32_t"),
    "uint32": ("uint", "unsigned int", "uint32", "uint32_t"),
    "int64": (
        "longlong",
        "long long",
        "long long int",
        "signed long long",
        "signed long long int",
        "int64",
        "int64_t",
    ),
    "uint64": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "float32": ("float",),
    "float64": ("double",),
}
# Signs that make right, front and up of the axes of a space.
SPACES = {
    "right-anterior-superior": (1, 1, 1), "ras": (1, 1, 1),
    "left-anterior-superior": (-1, 1, 1), "las": (-1, 1, 1),
    "left-posterior-superior": (-1, -1, 1), "lps": (-1, -1, 1),
}  # fmt: skip
MILLIMETRES = {"m": 1e3, "cm": 10.0, "mm": 1.0, "um": 1e-3, "µm": 1e-3}
OF_VOLUMES = ("list", "time", "none", "???", "")
"""Kinds of axes along which there are several volumes; along others lie colours, vectors and the like."""


def is_nrrd(start: bytes) -> bool:
    """Tell whether a file is NRRD, by its first bytes."""
    return start.startswith(MAGIC)


def data_files(text: bytes) -> tuple[str, ...]:
    """Return names of the files that hold the voxels, as a header has them; none where it does itself."""
    fields, listed = _fields(text)
    named = str(fields.get("data file", fields.get("datafile", "")))
    if not named:
        return ()
    words = named.split()
    if words[0].lower() == LIST:
        return listed
    if len(words) >= 4 and "%" in words[0]:
        return numbered_names(*words[:4])
    return (named,)


def nrrd_header(text: bytes) -> VolumeHeader:
    """Read a header. text: the beginning of the file, with all of it; BadSource says why it cannot be."""
    fields, _listed = _fields(text)
    try:
        # Numbers that are too large are found out by what becomes of them.
        with np.errstate(all="ignore"):
            return _header(fields, _length(text), num_files=len(data_files(text)))
    except (ValueError, KeyError, TypeError, IndexError, ArithmeticError):
        raise BadSource(DAMAGED_HEADER) from None


def _length(text: bytes) -> int:
    """Return the bytes of a header: it ends with an empty line."""
    ends = [place + len(end) for end in (b"\n\n", b"\n\r\n") if (place := text.find(end)) >= 0]
    return min(ends, default=len(text))


def _fields(text: bytes) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """Read the fields of a header; return also the files that it lists."""
    import nrrd

    lines = text[: _length(text)].decode("utf-8", "replace").splitlines()
    listed: list[str] = []
    for number, line in enumerate(lines):
        field, _colon, value = line.partition(":")
        if field.strip().lower() in ("data file", "datafile") and value.split()[:1] in (["LIST"], ["list"]):
            # It would take these for fields.
            lines, listed = lines[: number + 1], lines[number + 1 :]
            break
    try:
        with np.errstate(all="ignore"):
            fields = nrrd.read_header([line.encode() for line in lines])
    except (nrrd.NRRDError, ValueError, TypeError, IndexError, StopIteration, ArithmeticError):
        raise BadSource(DAMAGED_HEADER) from None
    return fields, tuple(line for line in listed if line.strip())


def _header(fields: Mapping[str, Any], length: int, *, num_files: int) -> VolumeHeader:
    sizes = [int(size) for size in fields["sizes"]]
    if len(sizes) != fields["dimension"] or not 2 <= len(sizes) <= 7:
        raise BadSource(DAMAGED_HEADER)
    in_space = _axes_in_space(fields, sizes)
    others = [axis for axis in range(len(sizes)) if axis not in in_space and sizes[axis] > 1]
    _check_others(others, in_space, _kinds(fields, len(sizes)))
    shape, num_volumes = checked_shape(
        [sizes[axis] for axis in in_space], math.prod(sizes[axis] for axis in others)
    )
    affine, is_side_known = _affine(fields, in_space, shape)
    return VolumeHeader(
        shape=shape,
        num_volumes=num_volumes,
        dtype=_dtype(fields),
        offset=_byte_skip(fields),
        affine=affine,
        acquired=acquired_axis(None, affine, shape),
        is_side_known=is_side_known,
        layout=Layout(
            begins=0 if num_files else length,
            encoding=ENCODINGS[str(fields["encoding"]).lower()],
            lines_before=_line_skip(fields),
            is_interleaved=bool(others) and others[0] < in_space[0],
            num_files=num_files,
        ),
    )


def _kinds(fields: Mapping[str, Any], num_axes: int) -> list[str]:
    kinds = [str(kind).lower() for kind in fields.get("kinds", ())]
    return kinds if len(kinds) == num_axes else [""] * num_axes


def _axes_in_space(fields: Mapping[str, Any], sizes: list[int]) -> list[int]:
    """Return the axes that are directions in space, as directions, else kinds, else their order tell."""
    directions = fields.get("space directions")
    if directions is not None:
        return [axis for axis, way in enumerate(directions) if way is not None and np.isfinite(way).all()]
    kinds = _kinds(fields, len(sizes))
    named = [axis for axis, kind in enumerate(kinds) if kind in ("domain", "space")]
    return named or list(range(min(3, len(sizes))))


def _check_others(others: list[int], in_space: list[int], kinds: list[str]) -> None:
    """Raise BadSource where an axis that is no direction in space holds no volumes, or there are several."""
    if not 2 <= len(in_space) <= 3 or len(others) > 1:
        raise BadSource(OTHER_DIMENSIONS)
    if any(kinds[axis] not in (*OF_VOLUMES, "domain", "space") for axis in others):
        raise BadSource(OTHER_NUMBERS)
    if others and in_space[0] < others[0] < in_space[-1]:
        raise BadSource(OTHER_DIMENSIONS)


def _affine(
    fields: Mapping[str, Any], in_space: list[int], shape: tuple[int, int, int]
) -> tuple[np.ndarray, bool]:
    """Return the affine, and whether it tells left from right."""
    space = str(fields.get("space", "")).lower().removesuffix("-time")
    space = space[:3] if space in ("rast", "last", "lpst") else space
    directions = fields.get("space directions")
    if space not in SPACES or directions is None:
        return untold_affine(_spacings(fields, in_space), shape), False
    columns = [np.asarray(directions[axis], np.float64)[:3] for axis in in_space]
    if len(columns) == 2:
        normal = np.cross(columns[0], columns[1])
        columns.append(normal / (np.linalg.norm(normal) or 1.0))
    origin = np.asarray(fields.get("space origin", (0.0, 0.0, 0.0)), np.float64)[:3]
    affine = np.eye(4)
    affine[:3] = np.column_stack([*columns, origin])
    affine[:3] *= np.array(SPACES[space])[:, np.newaxis] * _unit(fields)
    return affine, True


def _unit(fields: Mapping[str, Any]) -> float:
    units = [str(unit).lower() for unit in fields.get("space units", ())]
    return MILLIMETRES.get(units[0], 1.0) if units else 1.0


def _spacings(fields: Mapping[str, Any], in_space: list[int]) -> np.ndarray:
    directions = fields.get("space directions")
    if directions is not None:
        return np.array([np.linalg.norm(directions[axis]) for axis in in_space])
    spacings = fields.get("spacings")
    return np.array([float(spacings[axis]) for axis in in_space] if spacings is not None else [])


def _dtype(fields: Mapping[str, Any]) -> np.dtype:
    given = str(fields["type"]).lower()
    name = next((name for name, names in TYPES.items() if given in names), None)
    if name is None:
        raise BadSource(OTHER_NUMBERS if given == "block" else DAMAGED_HEADER)
    dtype = np.dtype(name)
    if dtype.itemsize == 1 or ENCODINGS[str(fields["encoding"]).lower()] == "ascii":
        return dtype
    return np.dtype({"little": "<", "big": ">"}[str(fields["endian"]).lower()] + dtype.str[1:])


def _byte_skip(fields: Mapping[str, Any]) -> int:
    skip = int(fields.get("byte skip", fields.get("byteskip", 0)))
    if not -1 <= skip <= MOST_OFFSET:
        raise BadSource(DAMAGED_HEADER)
    return skip


def _line_skip(fields: Mapping[str, Any]) -> int:
    skip = int(fields.get("line skip", fields.get("lineskip", 0)))
    if not 0 <= skip <= MOST_LINES:
        raise BadSource(DAMAGED_HEADER)
    return skip
