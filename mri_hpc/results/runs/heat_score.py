"""Score of heat maps against boxes around findings, by patient, beside a spot on the centre of the head."""

import math
from collections.abc import Sequence

import cv2
import numpy as np

from mri_hpc.results.statistics.intervals import agresti_coull, quantile_of_t
from mri_hpc.rundir.where_it_looks import Compared, Estimate

SPREAD = 0.25
"""Deviation of the spot, as a part of the head's height and width."""


def compare(network: np.ndarray, centre: np.ndarray, patients: Sequence[str]) -> tuple[Compared, Compared]:
    """Compare hits, and energy, of two maps of each image, by patient.

    network, centre: from measures_of, (n, 2); patients: (n,), of several at least.
    """
    _names, number = np.unique(np.array(patients, dtype=object), return_inverse=True)
    hits, energy = (_compared(network[:, at], centre[:, at], number) for at in range(2))
    return hits, energy


def measures_of(heat: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Measure maps against boxes: float64, (n, 2), hits and energy.

    heat: float32, (n, H, W), not negative; boxes: as the store has them, (n, 4).
    """
    return np.stack([hits_of(heat, boxes), energy_of(heat, boxes)], axis=1)


def hits_of(heat: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Tell for each map whether its hottest pixel, of equals the first, lies in the box: float64, (n,).

    A map without heat hits nothing.
    """
    count, _height, width = heat.shape
    hottest = heat.reshape(count, -1).argmax(axis=1)
    inside = inside_of(boxes, heat.shape)[np.arange(count), hottest // width, hottest % width]
    return np.asarray(inside & heat.any(axis=(1, 2)), np.float64)


def energy_of(heat: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Compute the share of each map's heat that lies in the box: float64, (n,); 0 of a map without heat."""
    total = heat.sum(axis=(1, 2), dtype=np.float64)
    within = (heat * inside_of(boxes, heat.shape)).sum(axis=(1, 2), dtype=np.float64)
    return np.asarray(within / np.where(total > 0, total, 1))


def inside_of(boxes: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Tell which pixels have their centres in the box: bool, (n, H, W). boxes: cx, cy, w, h as fractions."""
    _count, height, width = shape
    down, right = (np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width
    cx, cy, w, h = np.asarray(boxes, np.float64).T[:, :, None]
    across, along = np.abs(right - cx) <= w / 2, np.abs(down - cy) <= h / 2
    return np.asarray(along[:, :, None] & across[:, None, :])


def centre_of_head(images: np.ndarray) -> np.ndarray:
    """Draw a spot on the centre of each head, as a heat map: float32, (n, H, W). images: uint8, (n, H, W)."""
    return np.stack([_spot(image) for image in images]) if len(images) else images.astype(np.float32)


def _spot(image: np.ndarray) -> np.ndarray:
    # Heads are brighter than air, and what is bright in them is far brighter: so half of Otsu's threshold.
    level, _mask = cv2.threshold(image, 0, 1, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    mask = (image > level / 2).astype(np.uint8)
    _count, _parts, stats, _centres = cv2.connectedComponentsWithStats(mask)
    height, width = image.shape
    left, top, across, along = 0, 0, width, height
    if len(stats) > 1:
        left, top, across, along, _area = stats[1 + stats[1:, cv2.CC_STAT_AREA].argmax()].tolist()
    down = (np.arange(height) + 0.5 - top - along / 2) / (SPREAD * along)
    right = (np.arange(width) + 0.5 - left - across / 2) / (SPREAD * across)
    return np.asarray(np.exp(-(down[:, None] ** 2 + right**2) / 2), np.float32)


def _compared(network: np.ndarray, centre: np.ndarray, number: np.ndarray) -> Compared:
    network, centre = (_means(values, number) for values in (network, centre))
    value, margin = _mean_and_margin(network - centre)
    return Compared(
        network=_of_shares(network),
        centre=_of_shares(centre),
        gain=Estimate(value=value, low=max(-1.0, value - margin), high=min(1.0, value + margin)),
    )


def _means(values: np.ndarray, number: np.ndarray) -> np.ndarray:
    return np.asarray(np.bincount(number, values) / np.bincount(number))


def _of_shares(shares: np.ndarray) -> Estimate:
    """Estimate the mean of patients' shares: by Student's t, or as a proportion where that is wider.

    Where nearly all are 0 or 1, their variance is too small to go by.
    """
    value, margin = _mean_and_margin(shares)
    low, high = agresti_coull(value, len(shares))
    return Estimate(
        value=value, low=max(0.0, min(low, value - margin)), high=min(1.0, max(high, value + margin))
    )


def _mean_and_margin(values: np.ndarray) -> tuple[float, float]:
    deviation = float(values.std(ddof=1)) / math.sqrt(len(values))
    return float(values.mean()), quantile_of_t(len(values) - 1) * deviation
