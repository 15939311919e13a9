"""Intervals at 95 % where units, such as slices, come in clusters, such as patients.

`tools/benchmarks/coverage.py` counts how often they hold the truth.
"""

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

Z_95 = NormalDist().inv_cdf(0.975)
FEW_CLUSTERS = 5
"""Clusters' worth of the rarer answer, below which their likeness cannot be told from the data."""
HALVINGS = 50
"""Of an interval of width 1, so that what is left is far below what is printed."""


class Limits(NamedTuple):
    """An estimate and its limits, which may lie beyond 0 and 1: what is made of them needs them whole."""

    value: float
    low: float
    high: float


def agresti_coull(proportion: float, num: float, z: float = Z_95) -> tuple[float, float]:
    """Compute the interval of Agresti and Coull (1998) of a proportion observed on `num` independent units.

    Wilson's, round which it lies, holds the truth in only 84 of 100 samples where nearly all are right.
    Limits may lie beyond 0 and 1.
    """
    more = num + z**2
    centre = (proportion * num + z**2 / 2) / more
    margin = z * math.sqrt(centre * (1 - centre) / more)
    return centre - margin, centre + margin


def clopper_pearson(hits: int, num: int, error: float = 0.05) -> Limits:
    """Estimate a proportion with exact limits (Clopper and Pearson 1934): they miss it in `error` at most."""

    def limit(held: Callable[[float], bool], low: float, high: float) -> float:
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            low, high = (low, middle) if held(middle) else (middle, high)
        return (low + high) / 2

    value = hits / num
    # Of that many misses at most, and not as 1 less the rest: a small error were lost in rounding.
    low = limit(lambda truth: binomial(num - hits, num, 1 - truth) > error / 2, 0.0, value) if hits else 0.0
    high = limit(lambda truth: binomial(hits, num, truth) < error / 2, value, 1.0) if hits < num else 1.0
    return Limits(value, low, high)


def binomial(hits: int, num: int, chance: float) -> float:
    """Compute the probability of at most that many hits in `num` independent tries, -1 and more; exact."""
    if chance <= 0 or hits >= num:
        return 1.0
    if chance >= 1:
        return 0.0
    found = np.arange(hits + 1)
    ways = np.append(0.0, np.cumsum(np.log(num - found[:-1]) - np.log(found[1:]))) if hits > 0 else 0.0
    terms = ways + found * math.log(chance) + (num - found) * math.log1p(-chance)
    return min(1.0, float(np.exp(terms).sum()))


def of_proportion(hits: np.ndarray, cluster: np.ndarray) -> Limits:
    """Estimate a proportion of units, with limits for as many units as would be independent.

    hits: bool, (n,), at least one; cluster: int, (n,). That number is the smaller of those by the correlation
    within clusters (analysis of variance; Donner and Klar 2000) and by the variance between them. Where the
    rarer answer is too rare to tell, each cluster counts once. The quantile is that of Student's t: with the
    normal one, of 7 independent units 91 of 100 intervals hold the truth, and 90 of the mean of three such.
    """
    hits_of, units_of = sums_by_cluster(cluster, hits), sums_by_cluster(cluster, np.ones(len(cluster)))
    num, value = len(units_of), float(hits.mean())
    quantile = quantile_of_t(max(num - 1, 1))
    if num == len(hits) or min(value, 1 - value) * num < FEW_CLUSTERS:
        return Limits(value, *agresti_coull(value, num, quantile))
    between = num / (num - 1) * float(np.sum((hits_of - units_of * value) ** 2)) / len(hits) ** 2
    by_correlation = effective_num(units_of, correlation_within(hits.astype(float), cluster))
    by_variance = value * (1 - value) / between if between > 0 else math.inf
    return Limits(value, *agresti_coull(value, min(by_correlation, by_variance), quantile))


def of_area(scores: np.ndarray, is_class: np.ndarray, cluster: np.ndarray) -> Limits:
    """Estimate the area under the ROC curve (Mann-Whitney statistic, ties count half), with limits.

    scores: float, (n,); is_class: bool, (n,), some of each; cluster: int, (n,). The limits are those by the
    variance between clusters on the scale of log odds (DeLong, DeLong and Clarke-Pearson 1988; Obuchowski
    1997). Of units in clusters that variance is often too small, so that there the wider count of these and
    of Newcombe's for as many units as would be independent. Where nearly all is ranked rightly, it is too
    small of any units: for Newcombe's each cluster then counts once.
    """
    wins, losses = _ranked_above(scores[is_class], scores[~is_class])
    inside, outside = cluster[is_class], cluster[~is_class]
    area = float(wins.mean())
    odds = _by_odds(area, float(np.sum(_parts_of_area(wins - area, inside, losses - area, outside) ** 2)))
    units_of = [sums_by_cluster(of, np.ones(len(of))) for of in (inside, outside)]
    independent: list[float] = [len(units) for units in units_of]
    if min(area, 1 - area) * min(independent) >= FEW_CLUSTERS:
        if odds and sum(independent) == len(scores):
            return Limits(area, *odds)
        within = correlation_within(_ranks(scores), cluster, is_class)
        independent = [effective_num(units, within) for units in units_of]
    low, high = newcombe(area, *independent)
    return Limits(area, min(low, odds[0]), max(high, odds[1])) if odds else Limits(area, low, high)


def newcombe(area: float, num_inside: float, num_outside: float) -> tuple[float, float]:
    """Compute limits of an area under the ROC curve by Newcombe's method 5 (Statistics in Medicine 2006).

    num_inside, num_outside: independent units of the class, and of the others.
    """
    mean = (num_inside + num_outside) / 2

    def is_held(truth: float) -> bool:
        more = 1 + (mean - 1) * ((1 - truth) / (2 - truth) + truth / (1 + truth))
        variance = truth * (1 - truth) * more / (num_inside * num_outside)
        return abs(area - truth) < Z_95 * math.sqrt(variance)

    def limit(held: float, end: float) -> float:
        for _ in range(HALVINGS):
            middle = (held + end) / 2
            held, end = (middle, end) if is_held(middle) else (held, middle)
        return (held + end) / 2

    return (limit(area, 0.0) if area > 0 else 0.0), (limit(area, 1.0) if area < 1 else 1.0)


def mover(of_parts: np.ndarray) -> tuple[float, float]:
    """Compute limits of the mean of independent figures. of_parts: (k, 3), value, low and high of each.

    MOVER (Zou and Donner, Statistics in Medicine 2008): the distances to the limits add up as variances do.
    """
    value, low, high = of_parts.T
    down, up = (float(np.sqrt(np.sum((value - limit) ** 2))) / len(value) for limit in (low, high))
    return float(value.mean()) - down, float(value.mean()) + up


def means(of_parts: np.ndarray) -> tuple[float, float]:
    """Compute limits of the mean of dependent figures: wider than need be. of_parts: as for mover."""
    _value, low, high = of_parts.T
    return float(low.mean()), float(high.mean())


def correlation_within(values: np.ndarray, cluster: np.ndarray, group: np.ndarray | None = None) -> float:
    """Estimate how much units of one cluster are alike, 0 to 1, by analysis of variance.

    values: float, (n,); cluster: int, (n,); group: (n,), whose means may differ. 1 where it cannot be told.
    """
    of_group = np.zeros(len(values), np.int64) if group is None else group.astype(np.int64)
    _names, cell = np.unique(cluster * (int(of_group.max(axis=0)) + 1) + of_group, return_inverse=True)
    units, first = np.bincount(cell), np.unique(cell, return_index=True)[1]
    mean_of_cell = np.bincount(cell, values) / units
    num_of_group = np.bincount(of_group)
    mean_of_group = np.bincount(of_group, values) / np.maximum(num_of_group, 1)
    free_between = len(units) - np.count_nonzero(num_of_group)
    free_within = len(values) - len(units)
    if not free_between or not free_within:
        return 1.0
    between = np.sum(units * (mean_of_cell - mean_of_group[of_group[first]]) ** 2) / free_between
    within = np.sum((values - mean_of_cell[cell]) ** 2) / free_within
    squares = np.bincount(of_group[first], units.astype(float) ** 2, minlength=len(num_of_group))
    size = (len(values) - np.sum(squares / np.maximum(num_of_group, 1))) / free_between
    of_clusters = max((between - within) / size, 0.0)
    total = of_clusters + within
    return float(of_clusters / total) if total > 0 else 1.0


def effective_num(units_of: np.ndarray, within: float) -> float:
    """Return how many independent units tell as much. units_of: units of each cluster, (c,)."""
    return float(units_of.sum() ** 2 / np.sum(units_of * (1 + (units_of - 1) * within)))


def _ranked_above(inside: np.ndarray, outside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which part of the others each unit is ranked rightly against: (m,) and (n,), ties count half."""
    ordered_outside, ordered_inside = np.sort(outside), np.sort(inside)
    below = [np.searchsorted(ordered_outside, inside, side) for side in ("left", "right")]
    above = [np.searchsorted(ordered_inside, outside, side) for side in ("left", "right")]
    return (below[0] + below[1]) / (2 * len(outside)), 1 - (above[0] + above[1]) / (2 * len(inside))


def parts_of_area(scores: np.ndarray, is_class: np.ndarray, cluster: np.ndarray) -> np.ndarray:
    """Compute what each cluster adds to an area's deviation from the truth: float64, (c,).

    Their squares add up to its variance. Arguments as of `of_area`.
    """
    wins, losses = _ranked_above(scores[is_class], scores[~is_class])
    area = float(wins.mean())
    return _parts_of_area(wins - area, cluster[is_class], losses - area, cluster[~is_class])


def _parts_of_area(
    wins: np.ndarray, inside: np.ndarray, losses: np.ndarray, outside: np.ndarray
) -> np.ndarray:
    """Compute what each cluster adds to an area. wins, losses: less the area."""
    num = max(int(inside.max()), int(outside.max())) + 1
    parts = []
    for values, cluster in ((wins, inside), (losses, outside)):
        clusters = len(np.unique(cluster))
        factor = math.sqrt(clusters / max(clusters - 1, 1))
        parts.append(factor * np.bincount(cluster, values, minlength=num) / len(values))
    return np.asarray(parts[0] + parts[1])


def _by_odds(area: float, variance: float) -> tuple[float, float] | None:
    """Return limits that are symmetric in the logarithm of the odds; None where nothing varies."""
    if variance <= 0 or not 0 < area < 1:
        return None
    centre, margin = math.log(area / (1 - area)), Z_95 * math.sqrt(variance) / (area * (1 - area))
    low, high = (1 / (1 + math.exp(-min(max(end, -700), 700))) for end in (centre - margin, centre + margin))
    return low, high


def _ranks(scores: np.ndarray) -> np.ndarray:
    """Return the log odds of each unit's rank, so that a few extreme scores do not count for more."""
    ordered = np.sort(scores)
    rank = (np.searchsorted(ordered, scores, "left") + np.searchsorted(ordered, scores, "right")) / 2 + 0.25
    return np.log(rank / (len(scores) + 0.5 - rank))


def sums_by_cluster(cluster: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Sum values up by cluster, those without any left out: float64, (c,)."""
    return np.bincount(np.unique(cluster, return_inverse=True)[1], values)


def quantile_of_t(freedom: int, z: float = Z_95) -> float:
    """Return a quantile of Student's t, that of 97.5 % to 0.001 from 8 degrees on (Cornish and Fisher 1937).

    z: the same quantile of the normal distribution.
    """
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3
