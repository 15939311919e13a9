"""Words: grey values of any type as unsigned 16 bits where these hold them exactly.

They are counted and looked up several times as fast as floats. Scanners give whole numbers, of whatever type
programs then write them.
"""

import io

import numpy as np

from mri_hpc.base.errors import BadSource
from mri_hpc.intake.decoding.pictures import TRUNCATED
from mri_hpc.intake.decoding.window import WORDS

PART = 2**16
"""Values that are read at a time: they stay in the processor's cache until they are words."""


def in_words(voxels: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return grey values as uint16 where these hold them, else as they are. low, high: least and greatest.

    Whole numbers below 0 are moved upwards, all of a volume alike.
    """
    start = min(low, 0.0)
    if high - start >= WORDS or not _are_whole(voxels[::4, ::4, ::4]):
        return voxels
    if voxels.dtype == np.int16 and not start:
        return voxels.view(np.uint16)
    words = np.empty_like(voxels, np.uint16)
    # Along the axis on which they lie furthest apart: each part is read once, its copies stay in the cache.
    axis = int(np.argmax(np.abs(voxels.strides)))
    for part, into in zip(np.moveaxis(voxels, axis, 0), np.moveaxis(words, axis, 0), strict=True):
        if not _are_whole(part):
            return voxels
        into[:] = (part - start if start else part).astype(np.uint16)
    return words


def read_values(file: io.BufferedIOBase, dtype: np.dtype, count: int) -> np.ndarray:
    """Read so many values, (count,): as uint16 where they are such, else of their type.

    BadSource where there are fewer of them.
    """
    if dtype.itemsize <= 2:
        return _next(file, dtype, count).astype(dtype.newbyteorder("="), copy=False)
    words = np.empty(count, np.uint16)
    for start in range(0, count, PART):
        part = _next(file, dtype, min(PART, count - start))
        if not _become_words(part, words[start : start + len(part)]):
            return _with_rest(words[:start], part, file, count)
    return words


def _with_rest(words: np.ndarray, part: np.ndarray, file: io.BufferedIOBase, count: int) -> np.ndarray:
    """Go on reading values some of which are no words. words, part: those that were read already."""
    values = np.empty(count, part.dtype.newbyteorder("="))
    values[: len(words)] = words
    start = len(words)
    values[start : start + len(part)] = part
    for place in range(start + len(part), count, PART):
        more = _next(file, part.dtype, min(PART, count - place))
        values[place : place + len(more)] = more
    return values


def _next(file: io.BufferedIOBase, dtype: np.dtype, count: int) -> np.ndarray:
    data = file.read(count * dtype.itemsize)
    if len(data) != count * dtype.itemsize:
        raise BadSource(TRUNCATED)
    return np.frombuffer(data, dtype)


def _become_words(part: np.ndarray, into: np.ndarray) -> bool:
    """Write values as words, (n,), and tell whether these are the same."""
    with np.errstate(invalid="ignore"):
        # What is no word becomes another number.
        np.copyto(into, part, casting="unsafe")
    return bool((into == part).all())


def _are_whole(values: np.ndarray) -> bool:
    return values.dtype.kind in "iu" or bool((np.rint(values) == values).all())
