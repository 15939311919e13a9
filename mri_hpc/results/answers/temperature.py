"""One temperature for probabilities: fitted, applied, and cross-fitted.

A temperature T turns probabilities p into p ** (1 / T), scaled to add up to 1 (Guo and others, ICML 2017):
above 1 they become less sure, below 1 surer, and the most probable class stays what it is.
"""

import math

import numpy as np

from mri_hpc.results.statistics.patients import Outcomes

LEAST, MOST = 0.1, 10.0
"""Temperatures that are looked at."""
PARTS = 5
"""Of the units, by cluster, each of which has the temperature of the other parts in cross-fitting."""
USUAL_LOGARITHM = 0.5
"""Standard deviation of a temperature's logarithm before data are seen: two in three lie from 0.6 to 1.65."""
GRID, NARROWINGS = 25, 36
"""Points of the first look over the range, and steps of the golden section between two of them."""
GOLDEN = (math.sqrt(5) - 1) / 2


def tempered(probabilities: np.ndarray, temperature: float | np.ndarray) -> np.ndarray:
    """Apply a temperature, or one of each row, (n, 1): float64, (n, k), adding up to 1."""
    powers = _logarithms(probabilities) / temperature
    powers = np.exp(powers - powers.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def fit_temperature(outcomes: Outcomes) -> float:
    """Fit the temperature of least log loss, less so the further it lies from 1 and the fewer there are.

    Where every answer is right, the sharpest would be best. So its logarithm is taken to be normally
    distributed beforehand, round 0, and one more unit to have been seen whose class is not known (as Platt's
    targets, 1999): those that chose the epoch are answered too well. A cluster counts as one unit in that.
    """
    num, num_classes = outcomes.num_clusters, len(outcomes.classes)
    targets = (num * np.eye(num_classes)[outcomes.label] + 1 / num_classes) / (num + 1)
    return best_temperature(outcomes.probabilities, targets, pull=1 / (2 * USUAL_LOGARITHM**2 * num))


def best_temperature(probabilities: np.ndarray, targets: np.ndarray, *, pull: float = 0.0) -> float:
    """Find the temperature of least cross entropy, plus `pull` times the square of its logarithm.

    probabilities, targets: float64, (n, k); each row adds up to 1.
    """
    logarithms = _logarithms(probabilities)

    def cost(log_temperature: float) -> float:
        powers = logarithms / math.exp(log_temperature)
        powers -= powers.max(axis=1, keepdims=True)
        entropy = np.log(np.exp(powers).sum(axis=1)).mean() - (targets * powers).sum(axis=1).mean()
        return float(entropy) + pull * log_temperature**2

    # The pull may make a second valley: the deepest is looked for first.
    grid = np.linspace(math.log(LEAST), math.log(MOST), GRID)
    deepest = int(np.argmin([cost(point) for point in grid]))
    low, high = float(grid[max(deepest - 1, 0)]), float(grid[min(deepest + 1, GRID - 1)])
    for _ in range(NARROWINGS):
        left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
        if cost(left) <= cost(right):
            high = right
        else:
            low = left
    return math.exp((low + high) / 2)


def cross_fitted(outcomes: Outcomes) -> np.ndarray:
    """Give each unit the temperature of the clusters of other parts: float64, (n, k).

    Parts are a function of labels and of the clusters' order, and hold of each class about as many.
    """
    part = _parts(outcomes)
    found = outcomes.probabilities.copy()
    for number in range(PARTS):
        inside = part == number
        if inside.any() and not inside.all():
            found[inside] = tempered(found[inside], fit_temperature(outcomes.chosen(~inside)))
    return found


def _parts(outcomes: Outcomes) -> np.ndarray:
    """Number the part of each unit: int64, (n,)."""
    clusters, first, cluster = np.unique(outcomes.cluster, return_index=True, return_inverse=True)
    part = np.empty(len(clusters), dtype=np.int64)
    part[np.lexsort((clusters, outcomes.label[first]))] = np.arange(len(clusters)) % PARTS
    return part[cluster]


def _logarithms(probabilities: np.ndarray) -> np.ndarray:
    # One that was too small to be written stays far below all others.
    return np.log(np.maximum(probabilities, np.finfo(np.float64).tiny))
