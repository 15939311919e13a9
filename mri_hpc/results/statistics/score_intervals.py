"""Intervals at 95 % of average precision, and of sensitivity at a fixed specificity.

`tools/benchmarks/coverage.py` counts how often they hold the truth.
"""

import math

import numpy as np

from mri_hpc.results.statistics.intervals import (
    FEW_CLUSTERS,
    Limits,
    agresti_coull,
    correlation_within,
    effective_num,
    of_proportion,
    quantile_of_t,
    sums_by_cluster,
)


def of_average_precision(scores: np.ndarray, is_class: np.ndarray, cluster: np.ndarray) -> Limits:
    """Estimate the average precision, a sum over distinct scores, with limits as of a proportion.

    scores: float, (n,); is_class: bool, (n,), some of each; cluster: int, (n,). Of units in clusters the
    class counts as many as would be independent; where nearly all is ranked rightly, each cluster once.
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    hits = np.cumsum(is_class[order])[ends]
    value = float(np.sum(np.diff(hits, prepend=0) * hits / (ends + 1)) / hits[-1])
    num, quantile = _independent(scores, is_class, cluster, value)
    return Limits(value, *agresti_coull(value, num, quantile))


def of_sensitivity_at(
    scores: np.ndarray, is_class: np.ndarray, cluster: np.ndarray, specificity: float
) -> Limits:
    """Estimate the most sensitivity whose threshold has at least this specificity among the units.

    Arguments as of `of_average_precision`. Two things are not known: the threshold, which the others give,
    and the sensitivity there. The limits of both are joined by MOVER. They are no numbers where the others
    are too few to bound the threshold.
    """
    others = np.sort(scores[~is_class])
    value = _above(scores[is_class], _threshold(others, specificity))
    num, quantile = _independent(scores, ~is_class, cluster, 0.5)
    least, most = agresti_coull(specificity, num, quantile)
    # Slices may seem to tell it, of patients too few for one of them to be taken for the class.
    is_of_few = len(np.unique(cluster[~is_class])) * (1 - specificity) < 1
    if is_of_few or most >= 1 - 1 / (num + 1):
        return Limits(value, math.nan, math.nan)
    inside, of_class = scores[is_class], cluster[is_class]
    found = of_proportion(inside > _threshold(others, specificity), of_class)
    low, high = (_above(inside, _threshold(others, part)) for part in (most, least))
    down = math.hypot(found.value - found.low, found.value - low)
    up = math.hypot(found.high - found.value, high - found.value)
    return Limits(value, value - down, value + up)


def _threshold(others: np.ndarray, specificity: float) -> float:
    """Return the least score of the others that so many of them do not pass. others: ascending."""
    # A sum that is a hair too large by rounding asks for no further unit.
    at = math.ceil(specificity * len(others) - 1e-9) - 1
    return float(others[min(max(at, 0), len(others) - 1)])


def _above(scores: np.ndarray, threshold: float) -> float:
    return float((scores > threshold).mean())


def _independent(
    scores: np.ndarray, is_in: np.ndarray, cluster: np.ndarray, value: float
) -> tuple[float, float]:
    """Return how many independent units those of a class, or the others, are, and the quantile to take."""
    units_of = sums_by_cluster(cluster[is_in], np.ones(int(is_in.sum())))
    num = len(units_of)
    quantile = quantile_of_t(max(num - 1, 1))
    if num == is_in.sum() or min(value, 1 - value) * num < FEW_CLUSTERS:
        return num, quantile
    ordered = np.sort(scores)
    rank = np.searchsorted(ordered, scores[is_in], "left") / len(scores)
    return effective_num(units_of, correlation_within(rank, cluster[is_in])), quantile
