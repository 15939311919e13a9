"""Laying one image over another, to see on pixels whether both are the same slice.

What tells twins from neighbouring slices of one head is the fine structure: twins keep it through a JPEG of
quality 70, neighbours do not have it.
"""

import functools
from dataclasses import dataclass

import cv2
import numpy as np

from mri_hpc.cohort.looks import shrunk

LEAST_OVERLAP = 0.3
"""Fraction of the first image that the second must cover."""
LEAST_OPEN = 0.06
"""Fraction of its pixels that must be neither black nor white in both."""
LEAST_TEXTURE = 0.3
"""Grey levels of fine structure, root mean square, below which there is none to compare."""
SATURATED = (2, 253)
OTHER_CONTRAST, OTHER_BRIGHTNESS = 0.07, 8.0
"""Part of the contrast, and grey levels, from which they are another one."""
LEAST_OF_COARSE, LEAST_OF_FINE = 0.88, 0.9
"""Fractions that the second image must explain of the first, of its coarse and of its fine structure.

Measured 2026-11-29 on `cheng`: 420 twins by five changes at least 0.929 and 0.938; of 744 other pairs 9 of 10
at most 0.906 and 0.825."""
MOST_MOVED = 6.0
"""Pixels by which one round of laying moves an image at most."""


class Detail:
    """One image, as it is laid over others; each part of it is made when it is first asked for."""

    def __init__(self, image: np.ndarray) -> None:
        """Prepare an image, uint8, (H, W)."""
        self._small, place = shrunk(image)
        self._grey = self._small.astype(np.float32)
        height, width = self._small.shape
        self.soft = np.asarray(
            cv2.resize(self._grey, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
        )
        """float32, (h / 2, w / 2): of half the size."""
        self.to_whole = _to_whole(self._grey.shape, place)
        """float64, (3, 3): from its pixels to those of the whole image, edges as integers."""
        self.soft_to_whole = _to_whole(self.soft.shape, place)
        """float64, (3, 3): the same from pixels of `soft`."""
        self.from_whole, self.soft_from_whole = np.linalg.inv([self.to_whole, self.soft_to_whole])

    @functools.cached_property
    def coarse(self) -> np.ndarray:
        """Structure of `soft`: float32, (h / 2, w / 2)."""
        return _structure(self.soft)

    @functools.cached_property
    def fine(self) -> np.ndarray:
        """Fine structure: float32, (h, w)."""
        return _structure(self._grey)

    @functools.cached_property
    def is_open(self) -> np.ndarray:
        """float32, (h, w): 1 where the grey values are neither black nor white."""
        return ((self._small >= SATURATED[0]) & (self._small <= SATURATED[1])).astype(np.float32)


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


def first_matrix(frames: tuple[np.ndarray, np.ndarray], variant: int, move: np.ndarray) -> np.ndarray:
    """Return the matrix of whole images that a pair of candidates gives: float64, (3, 3).

    frames: of both images, as in looks.py. move: as in candidates.py.
    """
    right, down, across, along = (float(value) for value in np.clip(move, -0.3, 0.3))
    moved = np.array([[1 + across, 0, right], [0, 1 + along, down], [0, 0, 1.0]])
    mirrored = np.diag([-1.0 if variant & 1 else 1.0, -1.0 if variant & 2 else 1.0, 1.0])
    swapped = np.eye(3)[[1, 0, 2]] if variant & 4 else np.eye(3)
    return np.asarray(_from_unit(frames[1]) @ swapped @ mirrored @ np.linalg.inv(moved) @ _to_unit(frames[0]))


def is_as_fine(second: Detail, first: Detail, matrix: np.ndarray) -> bool:
    """Tell whether the second image has at least as many pixels in the same place. matrix: as in `lay`."""
    small = second.from_whole @ matrix @ first.to_whole
    return bool(abs(np.linalg.det(small)) >= 1)


def lay(first: Detail, second: Detail, matrix: np.ndarray) -> Overlay | None:
    """Lay the second image over the first one; None where they cannot be twins. matrix: to begin with."""
    start = second.soft_from_whole @ matrix @ first.soft_to_whole
    moved = _moved(first.coarse, second.coarse, start, LEAST_OF_COARSE)
    if moved is None:
        return None
    matrix = matrix @ first.soft_to_whole @ moved @ first.soft_from_whole
    moved = _moved(first.fine, second.fine, second.from_whole @ matrix @ first.to_whole, LEAST_OF_FINE)
    if moved is None:
        return None
    matrix = matrix @ first.to_whole @ moved @ first.from_whole
    return _overlay(first, second, matrix)


def _structure(grey: np.ndarray) -> np.ndarray:
    """Return what stands out within about 3 pixels, whatever the brightness: float32, (h, w)."""
    return np.asarray(cv2.GaussianBlur(grey, (0, 0), 0.8) - cv2.GaussianBlur(grey, (0, 0), 3))


def _to_whole(shape: tuple[int, ...], place: tuple[int, int, int, int]) -> np.ndarray:
    """Return the matrix from pixels of a shrunk image to those of the whole one. place: where it was."""
    top, bottom, left, right = place
    down, across = (bottom - top) / shape[0], (right - left) / shape[1]
    return np.array([[across, 0, left + across / 2], [0, down, top + down / 2], [0, 0, 1.0]])


def _to_unit(frame: np.ndarray) -> np.ndarray:
    """Return the matrix from pixels to a frame, which goes from -1 to 1."""
    top, bottom, left, right = (float(edge) for edge in frame)
    return np.array([
        [2 / (right - left), 0, -2 * left / (right - left) - 1],
        [0, 2 / (bottom - top), -2 * top / (bottom - top) - 1],
        [0, 0, 1.0],
    ])  # fmt: skip


def _from_unit(frame: np.ndarray) -> np.ndarray:
    """Return the matrix from a frame to pixels."""
    top, bottom, left, right = (float(edge) for edge in frame)
    return np.array([
        [(right - left) / 2, 0, (right + left) / 2],
        [0, (bottom - top) / 2, (bottom + top) / 2],
        [0, 0, 1.0],
    ])  # fmt: skip


def _moved(first: np.ndarray, second: np.ndarray, matrix: np.ndarray, least: float) -> np.ndarray | None:
    """Return the move and stretch of the first by which the second explains it best: float64, (3, 3).

    One round of Gauss and Newton. None where less than that fraction of the first is explained.
    """
    height, width = first.shape
    laid, is_met = _laid(second, matrix, (height, width))
    if is_met.sum() < LEAST_OVERLAP * is_met.size:
        return None
    across = cv2.Sobel(laid, cv2.CV_32F, 1, 0, ksize=1, scale=0.5)
    down = cv2.Sobel(laid, cv2.CV_32F, 0, 1, ksize=1, scale=0.5)
    x = ((2 * np.arange(width) - (width - 1)) / width).astype(np.float32)
    y = ((2 * np.arange(height) - (height - 1)) / height).astype(np.float32)[:, None]
    # Every other row says enough.
    parts = (laid[::2], is_met[::2], across[::2], down[::2], across[::2] * x, down[::2] * y[::2], first[::2])
    columns = np.empty((7, *parts[0].shape), np.float32)
    for column, values in zip(columns, parts, strict=True):
        np.multiply(values, is_met[::2], out=column)
    flat = columns.reshape(7, -1)
    products = (flat @ flat.T).astype(np.float64)
    inner, both = products[:6, :6], products[:6, 6]
    inner[np.diag_indices(6)] *= 1 + 1e-4
    inner[np.diag_indices(6)] += 1e-6
    found = np.linalg.solve(inner, both)
    mean = products[1, 6] / products[1, 1]
    varied = products[6, 6] - mean * products[1, 6]
    if found @ both - mean * products[1, 6] < least * varied or abs(found[0]) < 1e-3:
        return None
    right, low, wide, long = np.clip(found[2:] / found[0], -MOST_MOVED, MOST_MOVED)
    return np.array([
        [1 + 2 * wide / width, 0, right - wide * (width - 1) / width],
        [0, 1 + 2 * long / height, low - long * (height - 1) / height],
        [0, 0, 1.0],
    ])  # fmt: skip


def _laid(second: np.ndarray, matrix: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the second image in the pixels of the first, and 1 where it is known there: float32."""
    height, width = shape
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    laid = cv2.warpAffine(second, matrix[:2], (width, height), flags=how, borderMode=cv2.BORDER_REPLICATE)
    # Rows and columns of one image are rows or columns of the other: either depends on one of x and y alone.
    along = np.arange(width), np.arange(height)
    is_known = [np.ones(width, np.float32), np.ones(height, np.float32)]
    for row, length in zip(matrix[:2], second.shape[::-1], strict=True):
        axis = 0 if abs(row[0]) > abs(row[1]) else 1
        at = row[axis] * along[axis] + row[2]
        is_known[axis] *= (at >= 1) & (at <= length - 2)
    return np.asarray(laid), np.outer(is_known[1], is_known[0])


def _overlay(first: Detail, second: Detail, matrix: np.ndarray) -> Overlay | None:
    small = second.from_whole @ matrix @ first.to_whole
    laid, is_met = _laid(second.fine, small, first.fine.shape)
    is_open, _ = _laid(second.is_open, small, first.fine.shape)
    weight = is_met * (first.is_open * is_open > 0.99)
    total = float(weight.sum())
    if total < LEAST_OPEN * weight.size:
        return None
    mine, other = first.fine * weight, laid * weight
    mine, other = (part - weight * (part.sum() / total) for part in (mine, other))
    power, others_power, both = (
        float(np.vdot(a, b)) for a, b in ((mine, mine), (other, other), (mine, other))
    )
    if min(power, others_power) < LEAST_TEXTURE**2 * total:
        return None
    return Overlay(
        score=abs(both) / (power * others_power) ** 0.5,
        is_inverted=both < 0,
        matrix=matrix,
        is_brighter=_is_brighter(first, second, matrix, is_inverted=both < 0),
    )


def _is_brighter(first: Detail, second: Detail, matrix: np.ndarray, *, is_inverted: bool) -> bool:
    """Tell whether grey values are others, but for being inverted."""
    small = second.soft_from_whole @ matrix @ first.soft_to_whole
    laid, is_met = _laid(second.soft, small, first.soft.shape)
    mine, other = first.soft[is_met > 0], laid[is_met > 0]
    if is_inverted:
        other = 255 - other
    has_other_contrast = abs(mine.std() - other.std()) > OTHER_CONTRAST * min(mine.std(), other.std())
    return bool(has_other_contrast or abs(mine.mean() - other.mean()) > OTHER_BRIGHTNESS)
