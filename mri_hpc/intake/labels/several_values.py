"""Several values of one: patients of whom some images say one class and some another, and the like."""

from collections.abc import Iterable

import numpy as np


def of_several(groups: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the groups whose rows have several values, ascending: int64.

    groups, values: integers, (n,), one of each a row; a row without a group, or without a value, has -1 and
    is in none.
    """
    known = (groups >= 0) & (values >= 0)
    if not known.all():
        groups, values = groups[known], values[known]
    if not len(groups):
        return np.empty(0, np.int64)
    # Of each group some value stays, whichever: where another one differs from it, there are several.
    one = np.zeros(int(groups.max()) + 1, values.dtype)
    one[groups] = values
    are_several = np.zeros(len(one), bool)
    are_several[groups[one[groups] != values]] = True
    return np.flatnonzero(are_several)


def num_of_several(pairs: Iterable[tuple[str, str]]) -> int:
    """Count the names that stand beside several values in (name, value); an empty one is unknown."""
    names, words = {"": -1}, {"": -1}
    rows = [
        (names.setdefault(name, len(names) - 1), words.setdefault(word, len(words) - 1))
        for name, word in set(pairs)
    ]
    groups, values = np.array(rows, np.int64).reshape(-1, 2).T
    return len(of_several(groups, values))
