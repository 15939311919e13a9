"""Intervals at 95 %: patients drawn with replacement, Wilson's where drawing cannot tell, and their means."""

import math
from collections.abc import Iterator

import numpy as np

NUM_RESAMPLES = 1000
SEED = 0
"""Fixed, so that the same predictions always give the same interval."""
Z_95 = 1.959964
WEIGHTS_AT_ONCE = 1_000_000
"""Units times resamples of one block: bounds its memory."""


def resample_counts(
    num_clusters: int, num_units: int, num_resamples: int = NUM_RESAMPLES
) -> Iterator[np.ndarray]:
    """Yield blocks of resamples, each of as many clusters as there are, drawn with replacement.

    Yields float64, (num_clusters, r): how often each cluster was drawn; r adds up to num_resamples. The more
    units there are, the smaller the blocks; what is drawn does not depend on it.
    """
    generator = np.random.default_rng(SEED)
    at_once = max(1, min(num_resamples, WEIGHTS_AT_ONCE // num_units))
    for start in range(0, num_resamples, at_once):
        num = min(at_once, num_resamples - start)
        drawn = generator.integers(0, num_clusters, size=(num, num_clusters))
        drawn += np.arange(num)[:, None] * num_clusters
        counts = np.bincount(drawn.ravel(), minlength=num * num_clusters).reshape(num, num_clusters)
        yield np.ascontiguousarray(counts.T, dtype=np.float64)


def percentiles(resampled: np.ndarray) -> tuple[float, float]:
    """Return the middle 95 % of a figure's resampled values."""
    low, high = np.percentile(resampled, (2.5, 97.5))
    return float(low), float(high)


def mover(of_parts: np.ndarray) -> tuple[float, float]:
    """Compute limits of the mean of independent figures. of_parts: (k, 3), value, low and high of each.

    MOVER (Zou and Donner, Statistics in Medicine 2008): the distances to the limits add up as variances do.
    """
    value, low, high = of_parts.T
    down, up = (float(np.sqrt(np.sum((value - limit) ** 2))) / len(value) for limit in (low, high))
    return max(0.0, float(value.mean()) - down), min(1.0, float(value.mean()) + up)


def means(of_parts: np.ndarray) -> tuple[float, float]:
    """Compute limits of the mean of dependent figures: wider than need be. of_parts: as for mover."""
    _value, low, high = of_parts.T
    return float(low.mean()), float(high.mean())


def wilson(proportion: float, num: int) -> tuple[float, float]:
    """Compute Wilson's score interval (1927) of a proportion observed on `num` independent units."""
    centre = proportion + Z_95**2 / (2 * num)
    margin = Z_95 * math.sqrt(proportion * (1 - proportion) / num + Z_95**2 / (4 * num**2))
    scale = 1 + Z_95**2 / num
    return max(0.0, (centre - margin) / scale), min(1.0, (centre + margin) / scale)
