"""The columns that stand beside the pixels of a chunk: their names, types and missing values."""

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mri_hpc.intake.decoding.samples import pixel_type_of


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of numbers, a value (or a row of values) an image."""

    name: str
    dtype: str
    width: int = 1
    """Values an image."""


COLUMNS = (
    Column(name="key", dtype="<u8"),
    Column(name="source_hash", dtype="<u8"),  # first 8 bytes of the sha256 of the source's bytes
    Column(name="crc", dtype="<u4"),  # zlib.crc32 of the pixels
    Column(name="generation", dtype="<i4"),  # how often the source has been replaced
    Column(name="fold", dtype="<i2"),  # -1 none
    Column(name="split", dtype="|i1"),  # index into labels.SPLITS, -1 none
    Column(name="slice_index", dtype="<i4"),  # -1 none
    Column(name="position", dtype="<f4"),  # millimetres, NaN none
    Column(name="plane", dtype="|i1"),  # index into labels.PLANES, -1 unknown
    Column(name="plane_inferred", dtype="|u1"),  # 1: guessed
    Column(name="box", dtype="<f4", width=4),  # cx, cy, w, h as fractions of the image, NaN none
)
STRINGS = ("label", "patient", "study")
"""Columns of UTF-8 strings; empty: unknown."""
OPTIONAL = ("kind", "scanner", "site", "date")
"""Further ones, which a chunk has where any of its images has a value in it."""
TEXTS = (*STRINGS, *OPTIONAL)
"""All columns of strings that a chunk may have."""
LAST_BITS = np.uint64(2**16 - 1)
NOTHING = np.uint64(0)
BLOCK = 2**20
"""Rows at a time, where a whole column would be converted."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ChunkHeader:
    """Everything in a chunk but its pixels."""

    columns: Mapping[str, np.ndarray]
    """By name, as in columns.py; strings as fixed-length UTF-8."""
    image_shape: tuple[int, int]
    offset: int
    """Offset in the file at which the first image begins; the others follow without a gap."""
    recipe_digest: str
    versions: Mapping[str, str]
    bits: int = 8
    """Of each pixel."""

    @property
    def image_bytes(self) -> int:
        """Bytes of the pixels of an image."""
        return math.prod(self.image_shape) * pixel_type_of(self.bits).itemsize

    def __len__(self) -> int:
        return len(self.columns["key"])


def bytes_table(names: Iterable[bytes]) -> np.ndarray:
    """Return a table of names: bytes, sorted, each once."""
    return np.array(sorted(set(names)), dtype=np.bytes_)


def ascending(values: np.ndarray) -> np.ndarray:
    """Sort values, each once: as np.unique, which imports numpy's masked arrays to ask whether it has one."""
    ordered = np.sort(values)
    is_new = np.ones(len(ordered), bool)
    is_new[1:] = ordered[1:] != ordered[:-1]
    return ordered[is_new]


def rows_among(parts: Iterable[np.ndarray], wanted: np.ndarray) -> np.ndarray:
    """Find the rows of a column whose value is a wanted one: int64, ascending. It takes no memory a row.

    parts: of the column, uint64, each value as likely as any other; wanted: such values, ascending.
    """
    # Most are told to be none by their last bits, in two nanoseconds each.
    is_likely = np.zeros(int(LAST_BITS) + 1, bool)
    is_likely[wanted & LAST_BITS] = True
    found, start = [np.empty(0, np.int64)], 0
    for part in parts:
        likely = np.flatnonzero(is_likely.take((part & LAST_BITS).view(np.intp)))
        at = np.searchsorted(wanted, part[likely])
        found.append(start + likely[np.append(wanted, NOTHING)[at] == part[likely]])
        start += len(part)
    return np.concatenate(found)


def blocks(column: np.ndarray) -> Iterator[np.ndarray]:
    """Yield a column in parts."""
    for start in range(0, len(column), BLOCK):
        yield column[start : start + BLOCK]


def column_bytes(values: np.ndarray) -> bytes | memoryview:
    """Return the bytes of a column, equal for equal values: one NaN, no padding that hangs on other rows."""
    if values.dtype.kind == "S":
        return b"\0".join(values.tolist())
    if values.dtype.kind == "f":
        values = np.where(np.isnan(values), np.array(math.nan, values.dtype), values)
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8).data


def texts_in(columns: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """Return a column of strings; empty ones where it is not there."""
    return columns[name] if name in columns else np.zeros(len(columns["key"]), "S1")


def joined(parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Join the columns of several chunks, of which some may have optional ones."""
    names = {name: None for part in parts for name in part}
    return {
        name: np.concatenate([texts_in(part, name) if name in OPTIONAL else part[name] for part in parts])
        for name in names
    }


def texts_written(columns: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """Return the columns of strings that a chunk has: those that each has, and others that hold something."""
    return (*STRINGS, *(name for name in OPTIONAL if texts_in(columns, name).astype(bool).any()))


def chunk_id(columns: Mapping[str, np.ndarray], recipe_digest: str) -> str:
    """Return the name of a chunk: a digest of what is in it (pixels by their CRCs) and of the recipe."""
    digest = hashlib.sha256(recipe_digest.encode())
    for name in (*(column.name for column in COLUMNS), *texts_written(columns)):
        if name in OPTIONAL:
            # Which of them these are has to be told.
            digest.update(name.encode())
        digest.update(hashlib.sha256(column_bytes(columns[name])).digest())
    return digest.hexdigest()[:32]
