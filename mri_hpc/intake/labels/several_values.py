"""Several values of one: patients of whom some images say one class and some another, and the like."""

from collections.abc import Iterable

import numpy as np


def of_several(groups: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the groups whose rows have several values, ascending: int64.

    groups, values: integers, (n,), one of each a row; a row without a group, or without a value, has -1 and
    is in none.
    """
    known = (groups >= 0) & (values >= 0)
    if not known.any():
        return np.empty(0, np.int64)
    groups, values = groups[known], values[known].astype(np.int64)
    least = np.full(int(groups.max()) + 1, np.iinfo(np.int64).max)
    greatest = np.full(len(least), -1)
    np.minimum.at(least, groups, values)
    np.maximum.at(greatest, groups, values)
    return np.flatnonzero(least < greatest)


def num_of_several(pairs: Iterable[tuple[str, str]]) -> int:
    """Count the names that stand beside several values in (name, value); an empty one is unknown."""
    names, words = {"": -1}, {"": -1}
    rows = [
        (names.setdefault(name, len(names) - 1), words.setdefault(word, len(words) - 1))
        for name, word in set(pairs)
    ]
    groups, values = np.array(rows, np.int64).reshape(-1, 2).T
    return len(of_several(groups, values))
