"""Laying one image over another, to see on pixels whether both are the same slice.

What tells twins from neighbouring slices of one head is the fine structure: twins keep it through a JPEG of
quality 70, neighbours do not have it.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from mri_hpc.cohort.looks import shrunk

LEAST_OVERLAP = 0.3
"""Fraction of the first image that the second must cover."""
LEAST_TEXTURE = 0.3
"""Grey levels of fine structure, root mean square, below which there is none to compare."""
SATURATED = (2, 253)
OTHER_CONTRAST, OTHER_BRIGHTNESS = 0.07, 8.0
"""Part of the contrast, and grey levels, from which they are another one."""
MOST_MOVED = 6.0
"""Pixels by which one round of laying moves an image at most."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Detail:
    """One image, as it is laid over others."""

    soft: np.ndarray
    """float32, (h, w): blurred."""
    fine: np.ndarray
    """float32, (h, w): its fine structure."""
    is_open: np.ndarray
    """float32, (h, w): 1 where the grey values are neither black nor white."""
    to_whole: np.ndarray
    """float64, (3, 3): from its pixels to those of the whole image, edges as integers."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Overlay:
    """One image laid over another."""

    score: float
    """Correlation of fine structure, from 0 to 1."""
    is_inverted: bool
    matrix: np.ndarray
    """float64, (3, 3): from pixels of the first image to those of the second, edges as integers."""
    is_brighter: bool
    """True where brightness or contrast are others."""


def detail_of(image: np.ndarray) -> Detail:
    """Prepare an image, uint8, (H, W)."""
    small, (top, bottom, left, right) = shrunk(image)
    height, width = small.shape
    across, down = (right - left) / width, (bottom - top) / height
    grey = small.astype(np.float32)
    fine = cv2.GaussianBlur(grey, (0, 0), 0.8) - cv2.GaussianBlur(grey, (0, 0), 3)
    return Detail(
        soft=np.asarray(cv2.GaussianBlur(grey, (0, 0), 1.5)),
        fine=np.asarray(fine),
        is_open=((small >= SATURATED[0]) & (small <= SATURATED[1])).astype(np.float32),
        to_whole=np.array([[across, 0, left + across / 2], [0, down, top + down / 2], [0, 0, 1.0]]),
    )


def first_matrix(frames: tuple[np.ndarray, np.ndarray], variant: int, move: np.ndarray) -> np.ndarray:
    """Return the matrix of whole images that a pair of candidates gives: float64, (3, 3).

    frames: of both images, as in looks.py. move: as in candidates.py.
    """
    right, down, across, along = (float(value) for value in np.clip(move, -0.3, 0.3))
    moved = np.array([[1 + across, 0, right], [0, 1 + along, down], [0, 0, 1.0]])
    mirrored = np.diag([-1.0 if variant & 1 else 1.0, -1.0 if variant & 2 else 1.0, 1.0])
    swapped = np.eye(3)[[1, 0, 2]] if variant & 4 else np.eye(3)
    of_first, of_second = (_to_unit(frame) for frame in frames)
    return np.asarray(np.linalg.inv(of_second) @ swapped @ mirrored @ np.linalg.inv(moved) @ of_first)


def lay(first: Detail, second: Detail, matrix: np.ndarray) -> Overlay | None:
    """Lay the second image over the first one; None where too little of them meets. matrix: to begin with."""
    to_second = np.linalg.inv(second.to_whole)
    small = to_second @ matrix @ first.to_whole
    for name, step in (("soft", 2), ("fine", 1)):
        moved = _moved(getattr(first, name), getattr(second, name), small, step)
        if moved is None:
            return None
        small = small @ moved
    return _overlay(first, second, small)


def _to_unit(frame: np.ndarray) -> np.ndarray:
    """Return the matrix from pixels to a frame, which goes from -1 to 1."""
    top, bottom, left, right = (float(edge) for edge in frame)
    return np.array([
        [2 / (right - left), 0, -2 * left / (right - left) - 1],
        [0, 2 / (bottom - top), -2 * top / (bottom - top) - 1],
        [0, 0, 1.0],
    ])  # fmt: skip


def _moved(first: np.ndarray, second: np.ndarray, matrix: np.ndarray, step: int) -> np.ndarray | None:
    """Return the move and stretch of the first by which the second explains it best: float64, (3, 3).

    One round of Gauss and Newton, on every `step`-th pixel.
    """
    height, width = first.shape
    laid, is_met = _laid(second, matrix, (height, width))
    across = cv2.Sobel(laid, cv2.CV_32F, 1, 0, ksize=1, scale=0.5)
    down = cv2.Sobel(laid, cv2.CV_32F, 0, 1, ksize=1, scale=0.5)
    x = (2 * np.arange(width, dtype=np.float32) - (width - 1)) / width
    y = ((2 * np.arange(height, dtype=np.float32) - (height - 1)) / height)[:, None]
    every = (slice(None, None, step), slice(None, None, step))
    columns = np.stack(
        [part[every].ravel() for part in (laid, np.ones_like(laid), across, down, across * x, down * y)]
    )
    weight = is_met[every].ravel()
    if weight.sum() < LEAST_OVERLAP * weight.size:
        return None
    weighted = columns * weight
    inner = (weighted @ columns.T).astype(np.float64)
    inner[np.diag_indices(6)] = np.diagonal(inner) * (1 + 1e-4) + 1e-6
    found = np.linalg.solve(inner, weighted @ first[every].ravel())
    if abs(found[0]) < 1e-3:
        return None
    right, low, wide, long = np.clip(found[2:] / found[0], -MOST_MOVED, MOST_MOVED)
    return np.array([
        [1 + 2 * wide / width, 0, right - wide * (width - 1) / width],
        [0, 1 + 2 * long / height, low - long * (height - 1) / height],
        [0, 0, 1.0],
    ])  # fmt: skip


def _laid(second: np.ndarray, matrix: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the second image in the pixels of the first, and 1 where it is known there."""
    height, width = shape
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    laid = cv2.warpAffine(second, matrix[:2], (width, height), flags=how, borderMode=cv2.BORDER_REPLICATE)
    x, y = np.arange(width), np.arange(height)[:, None]
    at_x, at_y = (row[0] * x + row[1] * y + row[2] for row in matrix[:2])
    is_met = (at_x >= 1) & (at_x <= second.shape[1] - 2) & (at_y >= 1) & (at_y <= second.shape[0] - 2)
    return np.asarray(laid), is_met.astype(np.float32)


def _overlay(first: Detail, second: Detail, matrix: np.ndarray) -> Overlay | None:
    laid, is_met = _laid(second.fine, matrix, first.fine.shape)
    is_open, _ = _laid(second.is_open, matrix, first.fine.shape)
    weight = is_met * (first.is_open * is_open > 0.99)
    total = float(weight.sum())
    if total < LEAST_OVERLAP * weight.size * 0.2:
        return None
    mine, other = first.fine * weight, laid * weight
    mine, other = (part - weight * (part.sum() / total) for part in (mine, other))
    power, others_power, both = (
        float((a * b).sum()) for a, b in ((mine, mine), (other, other), (mine, other))
    )
    if min(power, others_power) < LEAST_TEXTURE**2 * total:
        return None
    return Overlay(
        score=abs(both) / (power * others_power) ** 0.5,
        is_inverted=both < 0,
        matrix=second.to_whole @ matrix @ np.linalg.inv(first.to_whole),
        is_brighter=_is_brighter(first, second, matrix, weight / total, is_inverted=both < 0),
    )


def _is_brighter(
    first: Detail, second: Detail, matrix: np.ndarray, weight: np.ndarray, *, is_inverted: bool
) -> bool:
    """Tell whether grey values are others, but for being inverted. weight: of 1 in all."""
    laid, _ = _laid(second.soft, matrix, first.soft.shape)
    if is_inverted:
        laid = 255 - laid
    means = [float((part * weight).sum()) for part in (first.soft, laid)]
    spreads = [
        float(((part - mean) ** 2 * weight).sum()) ** 0.5
        for part, mean in zip((first.soft, laid), means, strict=True)
    ]
    has_other_contrast = abs(spreads[0] - spreads[1]) > OTHER_CONTRAST * min(spreads)
    return has_other_contrast or abs(means[0] - means[1]) > OTHER_BRIGHTNESS
