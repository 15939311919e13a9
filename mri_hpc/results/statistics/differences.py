"""Differences of two answers about the same units, in pairs, with 95 % intervals."""

import math
from collections.abc import Callable

import numpy as np

from mri_hpc.results.statistics.figure_of_merit import Figure, Scale, figure_of_difference
from mri_hpc.results.statistics.intervals import (
    FEW_CLUSTERS,
    Z_95,
    Limits,
    correlation_within,
    effective_num,
    means,
    of_area,
    parts_of_area,
    quantile_of_t,
    sums_by_cluster,
)
from mri_hpc.results.statistics.metrics import ACCURACY, AUROC, BALANCED_ACCURACY, MEAN_AUROC, Metric
from mri_hpc.results.statistics.patients import Outcomes

POINTS = Scale(factor=100, digits=1, unit="points")
OF_AREA = Scale(factor=1, digits=3, unit="")


def differences(first: Outcomes, second: Outcomes) -> dict[Metric, Figure]:
    """Compute each figure of `first` less that of `second`; both are of the same units in the same order."""
    return {
        BALANCED_ACCURACY: _of_classes(first, second),
        ACCURACY: figure_of_difference(_of_hits(first, second, np.ones(len(first), bool)), scale=POINTS),
        MEAN_AUROC: _of_areas(first, second),
    }


def of_paired_hits(first: np.ndarray, second: np.ndarray, cluster: np.ndarray, more: float = 1.0) -> Limits:
    """Estimate by how much the part of hits differs, with limits by Bonett and Price (2012).

    first, second: bool, (n,), at least one; cluster: int, (n,). So many units more either way keep the limits
    apart where nearly all agree. Units in clusters count as many as would be independent.
    """
    gained, lost = first & ~second, second & ~first
    change = gained.astype(float) - lost
    num, quantile = _independent(change, cluster)
    better, worse = ((float(part.mean()) * num + more) / (num + 2 * more) for part in (gained, lost))
    centre = better - worse
    margin = quantile * math.sqrt(max(better + worse - centre**2, 0.0) / (num + 2 * more))
    return Limits(float(change.mean()), centre - margin, centre + margin)


def mean_of_paired_hits(of_classes: np.ndarray) -> tuple[float, float]:
    """Compute limits of the mean of independent differences, whose margins add up as deviations do.

    of_classes: (k, 3), by `of_paired_hits` with 1/k of a unit more each, shared as by Price and Bonett (2004)
    for a linear function of proportions. With a unit each, 98 to 100 of 100 hold the truth of 50 patients.
    """
    _value, low, high = of_classes.T
    centre, margin = float(np.mean(low + high)) / 2, float(np.sqrt(np.sum((high - low) ** 2))) / 2 / len(low)
    return centre - margin, centre + margin


def of_paired_areas(
    first: np.ndarray, second: np.ndarray, is_class: np.ndarray, cluster: np.ndarray
) -> Limits:
    """Estimate by how much two areas under the ROC curve differ, with limits by MOVER (Zou 2007).

    first, second: scores, float, (n,); is_class: bool, (n,), some of each; cluster: int, (n,).
    """
    one, other = (of_area(scores, is_class, cluster) for scores in (first, second))
    parts = [parts_of_area(scores, is_class, cluster) for scores in (first, second)]
    squares = math.sqrt(float(np.sum(parts[0] ** 2)) * float(np.sum(parts[1] ** 2)))
    alike = min(max(float(np.sum(parts[0] * parts[1])) / squares, 0.0), 1.0) if squares > 0 else 0.0
    value = one.value - other.value
    down = _apart(one.value - one.low, other.high - other.value, alike)
    up = _apart(one.high - one.value, other.value - other.low, alike)
    return Limits(value, value - down, value + up)


def _apart(first: float, second: float, alike: float) -> float:
    return math.sqrt(max(first**2 + second**2 - 2 * alike * first * second, 0.0))


def _independent(change: np.ndarray, cluster: np.ndarray) -> tuple[float, float]:
    """Return how many independent units tell as much, and the quantile that goes with it."""
    units_of = sums_by_cluster(cluster, np.ones(len(cluster)))
    num = len(units_of)
    if num == len(change):
        return num, Z_95
    if float((change != 0).mean()) * num < FEW_CLUSTERS:
        return num, quantile_of_t(max(num - 1, 1))
    value = float(change.mean())
    between = num / (num - 1) * float(np.sum((sums_by_cluster(cluster, change) - units_of * value) ** 2))
    within = effective_num(units_of, correlation_within(change, cluster))
    spread = float((change**2).mean()) - value**2
    by_variance = spread * len(change) ** 2 / between if between > 0 else math.inf
    return min(within, by_variance), quantile_of_t(num - 1)


def _of_hits(first: Outcomes, second: Outcomes, is_in: np.ndarray, more: float = 1.0) -> Limits | None:
    if not is_in.any():
        return None
    hits, others = ((found.predicted == found.label)[is_in] for found in (first, second))
    return of_paired_hits(hits, others, first.cluster[is_in], more)


def _of_classes(first: Outcomes, second: Outcomes) -> Figure:
    every = range(len(first.classes))
    found = [_of_hits(first, second, first.label == number, more=1 / len(every)) for number in every]
    return _mean(first, found, BALANCED_ACCURACY.of.missing, mean_of_paired_hits, POINTS)


def _of_areas(first: Outcomes, second: Outcomes) -> Figure:
    found = []
    for number in range(len(first.classes)):
        is_class = first.label == number
        scores, others = (one.probabilities[:, number] for one in (first, second))
        both = is_class.any() and not is_class.all()
        found.append(of_paired_areas(scores, others, is_class, first.cluster) if both else None)
    return _mean(first, found, AUROC.missing, means, OF_AREA)


def _mean(
    outcomes: Outcomes,
    found: list[Limits | None],
    missing: str,
    limits: Callable[[np.ndarray], tuple[float, float]],
    scale: Scale,
) -> Figure:
    """Average over the classes; none where one of them has none."""
    for label, of_class in zip(outcomes.classes, found, strict=True):
        if of_class is None:
            return figure_of_difference(None, reason=missing.format(repr(label)), scale=scale)
    parts = np.array(found)
    return figure_of_difference(Limits(float(parts[:, 0].mean()), *limits(parts)), scale=scale)
