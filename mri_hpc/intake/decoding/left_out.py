"""Left out: masks beside their pictures, and slices above and below the head."""

import re
from pathlib import Path

import cv2
import numpy as np

from mri_hpc.intake.decoding.grey_values import to_8_bits
from mri_hpc.intake.decoding.samples import Sample
from mri_hpc.intake.files.content import is_there

MASK = re.compile(r"(?P<stem>.+)[-_. ](mask|masks|seg|segmentation|label|labels)", re.IGNORECASE)
SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp", ".gif", ".jp2", ".mat")
# Of a mask that was saved as JPEG, this fraction of pixels lies so near to black or white.
NEAR, LEAST_NEAR = 48, 0.95
TILES = 14
"""Along a side of the image."""
BRIGHTER = 16
"""Levels of 255 by which a tile of the head is brighter than the darkest twentieth of all tiles."""
LEAST_HEAD = 0.02
"""Fraction of tiles that show something: of a slice with a head, 0.25 and more."""


def is_named_like_mask(root: Path, path: str) -> bool:
    """Tell whether a file is named as the mask of a picture beside it: ``x_mask.tif`` beside ``x.tif``."""
    folder, _slash, name = path.rpartition("/")
    stem, dot, suffix = name.rpartition(".")
    if suffix.lower() == "gz":
        stem, dot, inner = stem.rpartition(".")
        suffix = f"{inner}.{suffix}"
    found = MASK.fullmatch(stem)
    if not (found and dot):
        return False
    picture = root / folder / found["stem"]
    return any(is_there(picture.with_name(picture.name + ending)) for ending in (f".{suffix}", *SUFFIXES))


def is_mask(grey: np.ndarray) -> bool:
    """Tell whether an image has two values, or one: an empty mask. grey: as its source has it, (h, w)."""
    low, high = grey.min(), grey.max()
    if ((grey == low) | (grey == high)).all():
        return True
    if grey.dtype != np.uint8 or high - low < 128:
        return False
    return bool(np.mean((grey < low + NEAR) | (grey > high - NEAR)) >= LEAST_NEAR)


def shows_head(sample: Sample) -> bool:
    """Tell whether anything but air is to be seen: a function of the pixels that are stored.

    The picture's part of the image is cut into 14 x 14 tiles, whose means count, so that noise evens out. It
    shows a head if one strip of tiles is brighter than another by 16 levels of 255, or at least 2 % of the
    tiles are brighter than the darkest twentieth by as much.
    """
    height, width = sample.pixels.shape
    left, top, across, down = sample.placed
    rows = slice(round(top * height), max(1, round((top + down) * height)))
    columns = slice(round(left * width), max(1, round((left + across) * width)))
    picture = to_8_bits(sample.pixels[rows, columns])
    # Some of the rows tell this of nearly all that show a head, in a tenth of the time.
    darkest, brightest, _where, _there = cv2.minMaxLoc(
        _means(picture[:: max(1, len(picture) // TILES)], (TILES, 1))
    )
    if brightest - darkest >= BRIGHTER:
        return True
    levels = np.sort(_means(picture, (TILES, TILES)), axis=None).astype(np.int16)
    dark = levels[levels.size // 20]
    return bool(np.mean(levels >= dark + BRIGHTER) >= LEAST_HEAD)


def _means(picture: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    return cv2.resize(picture, shape, interpolation=cv2.INTER_AREA)
