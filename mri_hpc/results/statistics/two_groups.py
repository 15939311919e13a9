"""Two groups of patients, by permutation: how far apart they are, and how often chance gives as much."""

from collections.abc import Sequence

import numpy as np

PERMUTATIONS = 4999
AT_A_TIME = 200
"""Permutations that are in memory together."""
MOST = 1000
"""Values of each side that are permuted: of more, time and memory would grow without bound."""


def of_values(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Compare a number of each patient by the Kolmogorov-Smirnov distance; return that, and its p value.

    The distance is of all, the p value of at most MOST of each side, drawn by chance that is the same each
    time. first, second: float64, (n,) and (m,), at least one each.
    """
    found = _distance_of(first, second)
    random = np.random.default_rng(0)
    first, second = (random.permutation(one)[:MOST] if len(one) > MOST else one for one in (first, second))
    values, is_first = np.concatenate([first, second]), np.arange(len(first) + len(second)) < len(first)
    least = _distance_of(first, second)
    as_much = 0
    for start in range(0, PERMUTATIONS, AT_A_TIME):
        drawn = random.permuted(np.tile(is_first, (min(AT_A_TIME, PERMUTATIONS - start), 1)), axis=1)
        as_much += _as_much(_distances(values, drawn), least)
    return found, _p(as_much)


def _distance_of(first: np.ndarray, second: np.ndarray) -> float:
    is_first = np.arange(len(first) + len(second)) < len(first)
    return float(_distances(np.concatenate([first, second]), is_first[None])[0])


def _distances(values: np.ndarray, is_first: np.ndarray) -> np.ndarray:
    """Return the distance of each division. values: float64, (n,); is_first: bool, (divisions, n)."""
    order = np.argsort(values, kind="stable")
    # Of equal values, the last tells how many there are up to it.
    is_last = np.append(np.diff(values[order]) > 0, True)
    num = int(is_first[0].sum())
    steps = np.where(is_first[:, order], 1 / num, -1 / (len(values) - num))
    return np.asarray(np.abs(steps.cumsum(axis=1)[:, is_last]).max(axis=1))


def of_classes(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Compare the class of each patient by the total variation distance; return that, and its p value.

    The distance is the part of patients who would have to be of another class. first, second: int64, (k,),
    patients of each class, at least one each.
    """
    every, drawn = first + second, int(first.sum())

    def distance(counts: np.ndarray) -> np.ndarray:
        shares = counts / drawn - (every - counts) / (every.sum() - drawn)
        return np.asarray(np.abs(shares).sum(axis=-1) / 2)

    found = float(distance(first))
    random = np.random.default_rng(0)
    return found, _p(
        _as_much(distance(random.multivariate_hypergeometric(every, drawn, PERMUTATIONS)), found)
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p values of several comparisons, by Holm (1979)."""
    found, largest = [0.0] * len(p_values), 0.0
    for place, number in enumerate(np.argsort(p_values, kind="stable").tolist()):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[number]))
        found[number] = largest
    return found


def _as_much(distances: np.ndarray, found: float) -> int:
    # What differs by rounding alone is as much.
    return int(np.count_nonzero(distances >= found - 1e-12))


def _p(as_much: int) -> float:
    """Return the p value, in which what was found counts as one drawn, too (Phipson and Smyth 2010)."""
    return (as_much + 1) / (PERMUTATIONS + 1)
