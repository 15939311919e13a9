"""The look of an image: numbers that mirroring, turning and inverting change by rule alone.

Looks are low frequencies (a cosine transform) of the image within a frame that is laid around the head, so
that resizing and cropping move little. A mirrored image has the same numbers with other signs, a turned one
has them transposed as well, an inverted one has all signs changed: magnitudes stay. Frames are laid in two
ways, since a crop moves one of them more than the other.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

RULE = 1
"""Version of how looks are made: what was kept by another one is not taken up."""
WORK_SIDE = 112
"""Pixels of the longer side to which images are brought before anything is compared."""
SIDE = 32
"""Pixels a side of what is sampled within a frame."""
NUM_FREQUENCIES = 16
"""Frequencies kept, a side."""
NUM_FRAMES = 2
NUM_VARIANTS = 8
"""Turns and mirrorings: bit 0 mirrors left to right, bit 1 top to bottom, bit 2 transposes before that."""
LEAST_CONTRAST = 4
"""Grey levels between dark and bright below which an image shows nothing."""

Frame = tuple[float, float, float, float]
"""top, bottom, left, right in pixels, as edges."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Looks:
    """Looks of n images."""

    frames: np.ndarray
    """float32, (n, 2, 4): top, bottom, left, right of each frame, as edges in pixels of the image."""
    coefficients: np.ndarray
    """float16, (n, 2, 16, 16): by frame; of length 1, without the mean; zeros: nothing is shown."""

    def __len__(self) -> int:
        return len(self.frames)

    def taken(self, rows: np.ndarray) -> "Looks":
        """Return those of some images."""
        return Looks(frames=self.frames[rows], coefficients=self.coefficients[rows])

    def joined(self, others: "Looks") -> "Looks":
        """Return them with those of other images behind."""
        return Looks(
            frames=np.concatenate([self.frames, others.frames]),
            coefficients=np.concatenate([self.coefficients, others.coefficients]),
        )


def look_at(parts: Iterable[np.ndarray], count: int) -> Looks:
    """Compute the looks of `count` images, which come in parts: uint8, (B, H, W) each."""
    frames = np.zeros((count, NUM_FRAMES, 4), np.float32)
    coefficients = np.zeros((count, NUM_FRAMES, NUM_FREQUENCIES, NUM_FREQUENCIES), np.float16)
    start = 0
    for images in parts:
        sampled = np.zeros((len(images), NUM_FRAMES, SIDE, SIDE), np.float32)
        for index, image in enumerate(images):
            found = _look_at_one(image)
            if found:
                frames[start + index], sampled[index] = found
        coefficients[start : start + len(images)] = _coefficients(sampled)
        start += len(images)
    return Looks(frames=frames, coefficients=coefficients)


def _coefficients(sampled: np.ndarray) -> np.ndarray:
    coefficients = COSINES @ (sampled - sampled.mean(axis=(2, 3), keepdims=True)) @ COSINES.T
    coefficients[:, :, 0, 0] = 0
    length = np.sqrt((coefficients**2).sum(axis=(2, 3), keepdims=True))
    return np.asarray(coefficients / np.maximum(length, 1e-6))


def turned(coefficients: np.ndarray, variant: np.ndarray) -> np.ndarray:
    """Turn looks, (n, 16, 16), each by its variant, int64, (n,): onto those that they are a turn of."""
    across, down, swapped = (((variant >> bit) & 1 > 0)[:, None, None] for bit in range(3))
    coefficients = np.where(swapped, np.swapaxes(coefficients, 1, 2), coefficients)
    return coefficients * np.where(across, SIGNS, 1) * np.where(down, SIGNS[:, None], 1)


def moved(coefficients: np.ndarray, move: np.ndarray) -> np.ndarray:
    """Return the coefficients, (n, 16, 16), with the frame moved and stretched by (n, 4), as slopes go."""
    across, down = (_resampled(move[:, axis], move[:, 2 + axis]) for axis in (0, 1))
    return np.asarray(down @ coefficients @ across.transpose(0, 2, 1))


def unturned(coefficients: np.ndarray) -> np.ndarray:
    """Return what no turn, mirroring or inversion changes: float32, (n, 100), of (n, 16, 16).

    Two images in their best variants are never nearer to each other than these are.
    """
    low = np.abs(coefficients[:, :10, :10].astype(np.float32))
    turned = np.swapaxes(low, 1, 2)
    upper, above = np.triu_indices(10), np.triu_indices(10, 1)
    return np.concatenate(
        [np.maximum(low, turned)[:, *upper], np.minimum(low, turned)[:, *above]], axis=1
    )  # fmt: skip


def slopes(coefficients: np.ndarray) -> np.ndarray:
    """Return how coefficients change as the frame moves: (n, 4, 16, 16), of (n, 16, 16).

    By moves to the right and down, and by stretching sideways and lengthwise, in halves of the frame.
    """
    return np.stack(
        [
            coefficients @ SLOPE.T,
            SLOPE @ coefficients,
            coefficients @ STRETCH.T,
            STRETCH @ coefficients,
        ],
        axis=1,
    )


def content(image: np.ndarray) -> tuple[int, int, int, int]:
    """Find top, bottom, left, right of an image without the bars that letterboxing put around it."""
    rows = _without_bars(image, 1) if not (image[0].any() and image[-1].any()) else (0, image.shape[0])
    columns = (
        _without_bars(image, 0) if not (image[:, 0].any() and image[:, -1].any()) else (0, image.shape[1])
    )
    return (*rows, *columns)


def shrunk(image: np.ndarray) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """Return the content of an image, uint8, at most 112 pixels a side, and where it was."""
    top, bottom, left, right = place = content(image)
    scale = WORK_SIDE / max(bottom - top, right - left)
    shape = max(8, round((right - left) * scale)), max(8, round((bottom - top) * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image[top:bottom, left:right], shape, interpolation=how)), place


def _look_at_one(image: np.ndarray) -> tuple[list[Frame], list[np.ndarray]] | None:
    """Return the frames of an image, and what is in them; None where it shows nothing."""
    small, (top, bottom, left, right) = shrunk(image)
    frames = _frames(small)
    if not frames:
        return None
    soft = cv2.GaussianBlur(small, (0, 0), 1.2, borderType=cv2.BORDER_REPLICATE)
    sampled = [_sample(soft, frame) for frame in frames]
    high, wide = (bottom - top) / small.shape[0], (right - left) / small.shape[1]
    scale, origin = np.array([high, high, wide, wide]), np.array([top, top, left, left])
    return [tuple(origin + scale * frame) for frame in frames], sampled


def _without_bars(image: np.ndarray, axis: int) -> tuple[int, int]:
    """Find where rows (axis 1) or columns (axis 0) begin and end between two black bars of the same width."""
    length = image.shape[1 - axis]
    lit = np.flatnonzero(image.any(axis))
    if len(lit):
        begin, end = int(lit[0]), int(lit[-1]) + 1
        if abs(begin - (length - end)) <= 1 and end - begin >= length // 8:
            return begin, end
    return 0, length


def _frames(small: np.ndarray) -> list[Frame]:
    """Lay two frames around what stands out of the background; none where nothing does."""
    counts = np.bincount(small.ravel(), minlength=256).cumsum()
    dark, bright = (int(level) for level in np.searchsorted(counts, [0.01 * small.size, 0.99 * small.size]))
    edge = np.concatenate(
        [small[:2].ravel(), small[-2:].ravel(), small[:, :2].ravel(), small[:, -2:].ravel()]
    )
    if 2 * int(np.partition(edge, len(edge) // 2)[len(edge) // 2]) > dark + bright:
        # The background is bright: an inverted image.
        top = bright - int(np.searchsorted(counts, 0.05 * small.size))
        levels = bright - np.arange(256, dtype=np.float32)
    else:
        top = int(np.searchsorted(counts, 0.95 * small.size)) - dark
        levels = np.arange(256, dtype=np.float32) - dark
    if top < LEAST_CONTRAST:
        return []
    standing_out = (levels / top)[small]
    hard, soft = (standing_out > 0.25).astype(np.float32), np.clip((standing_out - 0.15) / 0.3, 0, 1)
    around = (*_quantiles(hard.sum(axis=1)), *_quantiles(hard.sum(axis=0)))
    within = (*_spread(soft.sum(axis=1)), *_spread(soft.sum(axis=0)))
    return [around, within]


def _quantiles(mass: np.ndarray) -> tuple[float, float]:
    """Return the edges that leave 2 % of the mass outside on either side."""
    total = np.concatenate([[0], np.cumsum(mass)])
    low, high = np.interp([0.02 * total[-1], 0.98 * total[-1]], total, np.arange(len(total)))
    return _at_least_two(float(low), float(high))


def _spread(mass: np.ndarray) -> tuple[float, float]:
    """Return the edges 1.5 deviations to either side of the mean."""
    where, total = np.arange(len(mass)) + 0.5, float(mass.sum())
    mean = float(where @ mass) / total
    away = 1.5 * math.sqrt(max(0.0, float((where - mean) ** 2 @ mass) / total))
    return _at_least_two(mean - away, mean + away)


def _at_least_two(low: float, high: float) -> tuple[float, float]:
    middle, half = (low + high) / 2, max(1.0, (high - low) / 2)
    return middle - half, middle + half


def _sample(soft: np.ndarray, frame: Frame) -> np.ndarray:
    top, bottom, left, right = frame
    across, down = SIDE / (right - left), SIDE / (bottom - top)
    matrix = np.array([[across, 0, (0.5 - left) * across - 0.5], [0, down, (0.5 - top) * down - 0.5]])
    sampled = cv2.warpAffine(
        soft, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(sampled)


def _resampled(shift: np.ndarray, stretch: np.ndarray) -> np.ndarray:
    """Return what moving and stretching does to the coefficients of one axis: float32, (n, 16, 16)."""
    angles = (1 + shift[:, None] + (1 + stretch[:, None]) * ALONG) * np.float32(np.pi / 2)
    return np.asarray(COSINES @ (np.cos(angles[:, :, None] * ORDERS) * SCALES))


def _cosines() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the transform, (16, 32), and what shifts and stretches do to its coefficients, (16, 16) each."""
    order, scale = ORDERS[:, None].astype(float), SCALES[:, None]
    angle = np.pi / 2 * (ALONG + 1)
    basis = np.cos(order * angle) * scale
    slope = -np.sin(order * angle) * scale * order * np.pi / 2
    moved, stretched = basis @ slope.T, basis @ (slope * ALONG).T
    return basis.astype(np.float32), moved.astype(np.float32), stretched.astype(np.float32)


ORDERS = np.arange(NUM_FREQUENCIES, dtype=np.float32)
SCALES = np.where(ORDERS == 0, math.sqrt(1 / SIDE), math.sqrt(2 / SIDE)).astype(np.float32)
ALONG = ((np.arange(SIDE, dtype=np.float32) + 0.5) * 2 / SIDE - 1).astype(np.float32)
"""From -1 to 1 over the frame."""
COSINES, SLOPE, STRETCH = _cosines()
SIGNS = np.where(np.arange(NUM_FREQUENCIES) % 2, -1, 1).astype(np.float32)
