"""The appearance of an image in a few numbers: grey values, edges, symmetry, extent, and small pixels."""

import cv2
import numpy as np

SIDE = 12
"""Pixels of a side of the small image."""
NUM_PIXELS = SIDE * SIDE
NUM_STATISTICS = 19
RIM = 16
"""Part of a side, from its edge, that counts as air around the head: one in so many."""
FAINT, BRIGHT = 0.1, 0.5
"""Grey values, of 1, above which something is there, and is bright."""
LEAST_THERE = 0.05
"""Part of a row or column in which something is there, above which the head reaches it."""
PERCENTILES = (5, 25, 50, 75, 95)


def appearance_of(images: np.ndarray) -> np.ndarray:
    """Describe images in NUM_STATISTICS numbers and NUM_PIXELS small pixels each: float64, (n, both).

    images: uint8 or uint16, (n, H, W), as a recipe makes them.
    """
    return np.stack([_one(image) for image in images])


def small_pixels_of(image: np.ndarray) -> np.ndarray:
    """Return the NUM_PIXELS small pixels of one image alone: float64. image: as of `appearance_of`."""
    return _small(grey_of(image)).astype(np.float64)


def extent_of(grey: np.ndarray) -> tuple[float, float]:
    """Return the part of the columns, and of the rows, that the head reaches. grey: as of `grey_of`."""
    is_there = grey > FAINT
    across, along = (is_there.mean(axis=axis) > LEAST_THERE for axis in (0, 1))
    return float(across.mean()), float(along.mean())


def _one(image: np.ndarray) -> np.ndarray:
    grey = grey_of(image)
    return np.concatenate([_statistics(grey), _small(grey)]).astype(np.float64)


def grey_of(image: np.ndarray) -> np.ndarray:
    """Return grey values from 0 to 1: float32, (H, W). image: uint8 or uint16, (H, W)."""
    return np.asarray(image.astype(np.float32) / np.iinfo(image.dtype).max)


def _small(grey: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA).ravel())


def _statistics(grey: np.ndarray) -> np.ndarray:
    """Compute statistics of grey values from 0 to 1: (NUM_STATISTICS,). grey: (H, W)."""
    height, width = grey.shape
    rim = np.ones_like(grey, bool)
    rim[height // RIM : -(height // RIM) or None, width // RIM : -(width // RIM) or None] = False
    around, is_there = grey[rim] if rim.any() else grey.ravel(), grey > FAINT
    return np.array(
        [
            grey.mean(),
            grey.std(),
            *np.percentile(grey, PERCENTILES),
            around.mean(),
            around.std(),
            np.abs(np.diff(grey, axis=1)).mean(),
            np.abs(np.diff(grey, axis=0)).mean(),
            np.abs(cv2.Laplacian(grey, cv2.CV_32F)).mean(),
            np.abs(grey - grey[:, ::-1]).mean(),
            np.abs(grey - grey[::-1]).mean(),
            is_there.mean(),
            (grey > BRIGHT).mean(),
            *extent_of(grey),
            grey[: height // 2].mean() - grey[(height + 1) // 2 :].mean(),
        ]
    )
