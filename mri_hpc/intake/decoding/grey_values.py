"""Grey values: colours become one, and integers and floats become levels of 8 bits or 16, as the recipe says.

- Since "grey601-dct-area-2": black and white are the ends of the window of the group, as in window.py.
- In stores of 0.1.0, each picture by itself. Unsigned 16 bits: white is the end of the smallest of the ranges
  of 8, 10, 12 and 16 bits that holds the largest pixel. Other numbers: least to greatest.

Pictures of 8 bits stay as they are; in a store of 16 bits each value is multiplied by 257, so that white is
white in both.
"""

from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np

from mri_hpc.intake.decoding.recipe import DEEP_STEP, Recipe
from mri_hpc.intake.decoding.samples import pixel_type_of
from mri_hpc.intake.decoding.window import Window

BIT_DEPTHS = (8, 10, 12, 16)
LEVELS = np.dtype(np.uint8)


def to_levels(grey: np.ndarray, recipe: Recipe, window: Window | None) -> np.ndarray:
    """Make levels of the recipe's pixel type of grey values of more than 8 bits, or of 8: (h, w).

    window: of their group; None where its pictures hold one value only.
    """
    if grey.dtype == np.uint8:
        return grey if recipe.bits == 8 else np.multiply(grey, DEEP_STEP, dtype=np.uint16)
    if not recipe.has_windows:
        return _in_own_range(grey)
    return levels_of(grey, window, recipe.bits)


def to_8_bits(pixels: np.ndarray) -> np.ndarray:
    """Make uint8 of stored pixels, (..., w), of whichever depth: the nearest level of each."""
    if pixels.dtype == np.uint8:
        return pixels
    # More than two dimensions would be colours to OpenCV.
    flat = pixels.reshape(-1, pixels.shape[-1])
    return np.asarray(cv2.convertScaleAbs(flat, alpha=1 / DEEP_STEP)).reshape(pixels.shape)


def levels_of(grey: np.ndarray, window: Window | None, bits: int = 8) -> np.ndarray:
    """Make levels of 8 or 16 bits of grey values, (h, w), in a window; all are black where there is none."""
    pixel_type = pixel_type_of(bits)
    if window is None:
        return np.zeros(grey.shape, pixel_type)
    if grey.dtype == np.uint16:
        return _looked_up(window.levels_of_words if bits == 8 else window.deep_levels_of_words, grey)
    white = np.iinfo(pixel_type).max
    return _by_bands(grey, lambda band: window.levels(band, white), pixel_type)


def _looked_up(levels: np.ndarray, grey: np.ndarray) -> np.ndarray:
    try:
        return cv2.LUT(grey, levels)
    except cv2.error:
        # Before 4.13 it looked up bytes alone. Three times as slow, and half as slow as indexing.
        return levels.take(grey)


def _in_own_range(grey: np.ndarray) -> np.ndarray:
    if grey.dtype == np.uint16:
        return _in_bits(grey)
    low, high = float(grey.min()), float(grey.max())
    if grey.dtype == np.int32 and low >= 0 and high < 2**16:
        return _in_bits(grey)
    scale = 255.0 / (high - low) if high > low else 0.0
    return _by_bands(grey, lambda band: np.rint((band.astype(np.float64) - low) * scale))


def _in_bits(grey: np.ndarray) -> np.ndarray:
    largest = max(1, int(grey.max()))
    white = next(2**bits - 1 for bits in BIT_DEPTHS if largest < 2**bits)
    return _by_bands(grey, lambda band: (band.astype(np.int64) * 255 + white // 2) // white)


def _by_bands(
    grey: np.ndarray,
    convert: Callable[[np.ndarray], np.ndarray],
    pixel_type: np.dtype[Any] = LEVELS,
) -> np.ndarray:
    """Convert some rows at a time, to levels of that type, (h, w)."""
    found = np.empty(grey.shape, pixel_type)
    for rows in bands(*grey.shape):
        found[rows] = convert(grey[rows])
    return found


BAND_PIXELS = 2**20


def bands(height: int, width: int) -> Iterator[slice]:
    """Yield all rows of a picture of that shape, some at a time."""
    rows = max(1, BAND_PIXELS // width)
    for top in range(0, height, rows):
        yield slice(top, min(top + rows, height))


# As Pillow weighs them, of 65536: equal samples stay what they are.
WEIGHTS = (19595, 38470, 7471)


def luma_of(samples: np.ndarray, *, has_alpha: bool = False) -> np.ndarray:
    """Make grey, (h, w), of samples, (h, w, 1 to 4), of the same type: unsigned integers, or floats.

    has_alpha: the last of them says how much of the pixel lies on black.
    """
    grey = np.empty(samples.shape[:2], samples.dtype)
    for rows in bands(*grey.shape):
        grey[rows] = _of_band(samples[rows], has_alpha)
    return grey


def _of_band(band: np.ndarray, has_alpha: bool) -> np.ndarray:
    is_coloured = band.shape[2] - has_alpha >= 3
    if band.dtype.kind == "f":
        colours = band[..., :3].astype(np.float64) @ np.array(WEIGHTS) / 2**16
        return colours if is_coloured else band[..., 0]
    values = band.astype(np.int64)
    grey = (values[..., :3] @ np.array(WEIGHTS) + 2**15) >> 16 if is_coloured else values[..., 0]
    if has_alpha:
        opaque = np.iinfo(band.dtype).max
        grey = (grey * values[..., -1] + opaque // 2) // opaque
    return np.asarray(grey)
