"""Two groups of patients, by permutation: how far apart they are, and how often chance gives as much."""

from collections.abc import Sequence

import numpy as np

PERMUTATIONS = 4999
AT_A_TIME = 200
"""Permutations that are in memory together."""


def of_values(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Compare a number of each patient by the Kolmogorov-Smirnov distance; return that, and its p value.

    first, second: float64, (n,) and (m,), at least one each.
    """
    values = np.concatenate([first, second])
    order = np.argsort(values, kind="stable")
    # Of equal values, the last tells how many there are up to it.
    is_last = np.append(np.diff(values[order]) > 0, True)

    def distance(is_first: np.ndarray) -> np.ndarray:
        steps = np.where(is_first[:, order], 1 / len(first), -1 / len(second))
        return np.asarray(np.abs(steps.cumsum(axis=1)[:, is_last]).max(axis=1))

    is_first = np.arange(len(values)) < len(first)
    found = float(distance(is_first[None])[0])
    random = np.random.default_rng(0)
    as_much = 0
    for start in range(0, PERMUTATIONS, AT_A_TIME):
        drawn = random.permuted(np.tile(is_first, (min(AT_A_TIME, PERMUTATIONS - start), 1)), axis=1)
        as_much += _as_much(distance(drawn), found)
    return found, _p(as_much)


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
