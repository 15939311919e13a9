"""The columns that stand beside the pixels of a chunk: their names, types and missing values."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mri_hpc.intake.labels import PLANES, SPLITS

__all__ = ["COLUMNS", "PLANES", "SPLITS", "STRINGS", "Column", "chunk_id", "column_bytes"]


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
    Column(name="split", dtype="|i1"),  # index into SPLITS, -1 none
    Column(name="slice_index", dtype="<i4"),  # -1 none
    Column(name="position", dtype="<f4"),  # millimetres, NaN none
    Column(name="plane", dtype="|i1"),  # index into PLANES, -1 unknown
    Column(name="plane_inferred", dtype="|u1"),  # 1: guessed
    Column(name="box", dtype="<f4", width=4),  # cx, cy, w, h as fractions of the image, NaN none
)
STRINGS = ("label", "patient", "study")
"""Columns of UTF-8 strings; empty: unknown."""


def column_bytes(values: np.ndarray) -> bytes:
    """The bytes of a column, the same for equal values: one NaN, no padding that depends on other rows."""
    if values.dtype.kind == "S":
        return b"\0".join(values.tolist())
    if values.dtype.kind == "f":
        values = np.where(np.isnan(values), np.array(math.nan, values.dtype), values)
    return np.ascontiguousarray(values).tobytes()


def chunk_id(columns: Mapping[str, np.ndarray], recipe_digest: str) -> str:
    """The name of a chunk: a digest of what is in it (pixels by their CRCs) and of the recipe."""
    digest = hashlib.sha256(recipe_digest.encode())
    for name in (*(column.name for column in COLUMNS), *STRINGS):
        digest.update(hashlib.sha256(column_bytes(columns[name])).digest())
    return digest.hexdigest()[:32]
