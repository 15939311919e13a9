"""Ranges of a file that hold numbers, not text: pixels, keys, looks, weights."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from mri_hpc.storage.disk.chunk_file import hdf5_numbers
from mri_hpc.storage.disk.column_file import read_column_header

LENGTH_BYTES = 8
"""A file of safetensors begins with the length of its header."""


class Range(NamedTuple):
    """Bytes of a file."""

    start: int
    end: int


def number_ranges(path: Path) -> list[Range]:
    """Return the ranges of a file that are known to hold numbers, in order; none of what cannot be read."""
    try:
        if path.suffix == ".h5":
            return _joined(Range(*one) for one in hdf5_numbers(path))
        if path.suffix == ".npy":
            return _of_column(path)
        if path.suffix == ".safetensors":
            with path.open("rb") as file:
                header = int.from_bytes(file.read(LENGTH_BYTES), "little")
            return [Range(min(LENGTH_BYTES + header, path.stat().st_size), path.stat().st_size)]
        # Archives of arrays alone, whose names are of ours.
        return [Range(0, path.stat().st_size)] if path.suffix in (".pt", ".npz") else []
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError):
        return []


def _of_column(path: Path) -> list[Range]:
    with path.open("rb") as file:
        _shape, dtype = read_column_header(file)
        return [] if dtype.hasobject or dtype.kind in "SUV" else [Range(file.tell(), path.stat().st_size)]


def _joined(ranges: Iterable[Range]) -> list[Range]:
    """Make one of ranges that touch."""
    found: list[Range] = []
    for one in sorted(ranges):
        if found and one.start <= found[-1].end:
            found[-1] = Range(found[-1].start, max(found[-1].end, one.end))
        else:
            found.append(one)
    return found
