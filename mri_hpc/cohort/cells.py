"""Points in cells: those near a point are found without comparing all with all.

Each point is compared with those of the cells nearest to itself: ten times the points take about ten times
as long. All that search a cell are compared with it at once.
"""

from collections.abc import Callable, Iterable

import numpy as np

CELL_POINTS = 200
"""Points in a cell, on average."""
CELLS_SEARCHED = 16
"""For each point: those whose centres are nearest to it."""
SAMPLE_PER_CELL = 16
ROUNDS = 4
AT_ONCE = 1024


def nearest(points: np.ndarray, number: int, progress: Callable[[range], Iterable[int]]) -> np.ndarray:
    """Find about the nearest points of each, with itself: int32, (n, at most `number`).

    points: float32, (n, d). progress: as in twins.py. Where fewer are found, itself stands for the others.
    """
    centres = _centres(points, max(1, len(points) // CELL_POINTS))
    searched = _nearest_centres(points, centres)
    order = np.argsort(searched[:, 0], kind="stable").astype(np.int32)
    sorted_points, searched = points[order], searched[order]
    found = _Nearest(sorted_points, min(number, len(points)))
    edges = np.searchsorted(searched[:, 0], np.arange(len(centres) + 1))
    # The nearest cells first: the others have little to add then.
    asking = [_by_cell(column, len(centres)) for column in searched.T]
    for part in progress(range(searched.size and len(asking) * len(centres))):
        rank, cell = divmod(part, len(centres))
        asked = asking[rank][cell]
        for start in range(0, len(asked), AT_ONCE):
            found.search(asked[start : start + AT_ONCE], int(edges[cell]), int(edges[cell + 1]))
    rows = np.empty_like(found.rows)
    rows[order] = order[found.rows]
    return rows


class _Nearest:
    """The nearest points that were found up to now."""

    def __init__(self, points: np.ndarray, number: int) -> None:
        """Begin a search among points, float32, (n, d)."""
        self._points, self._squares = points, (points**2).sum(axis=1)
        self._distances = np.full((len(points), number), np.inf, np.float32)
        self.rows = np.repeat(np.arange(len(points), dtype=np.int32)[:, None], number, axis=1)
        """int32, (n, number)."""

    def search(self, asked: np.ndarray, begin: int, end: int) -> None:
        """Search a block of points for those near some, int, (m,)."""
        # Squared distances, but for what is the same in a row.
        distances = self._squares[begin:end] - 2 * (self._points[asked] @ self._points[begin:end].T)
        is_nearer = distances.min(axis=1, initial=np.inf) < self._distances[asked].max(axis=1)
        asked, distances = asked[is_nearer], distances[is_nearer]
        number = self.rows.shape[1]
        both = np.concatenate([self._distances[asked], distances], axis=1)
        kept = np.argpartition(both, number - 1, axis=1)[:, :number]
        self._distances[asked] = np.take_along_axis(both, kept, axis=1)
        before = np.take_along_axis(self.rows[asked], np.minimum(kept, number - 1), axis=1)
        self.rows[asked] = np.where(kept < number, before, begin - number + kept)


def _by_cell(cell: np.ndarray, num_cells: int) -> list[np.ndarray]:
    """Return the points of each cell, int64, (m,) each. cell: int32, (n,)."""
    order = np.argsort(cell, kind="stable")
    return np.split(order, np.searchsorted(cell[order], np.arange(1, num_cells)))


def _nearest_centres(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Return the cells nearest to each point, the nearest first: int32, (n, at most 16)."""
    number = min(CELLS_SEARCHED, len(centres))
    found = np.empty((len(points), number), np.int32)
    for start in range(0, len(points), AT_ONCE):
        away = distances(points[start : start + AT_ONCE], centres)
        some = np.argpartition(away, number - 1, axis=1)[:, :number]
        order = np.argsort(np.take_along_axis(away, some, axis=1), axis=1)
        found[start : start + AT_ONCE] = np.take_along_axis(some, order, axis=1)
    return found


def _centres(points: np.ndarray, num_cells: int) -> np.ndarray:
    """Return centres of cells, from some of the points by Lloyd's way: float32, (c, d)."""
    random = np.random.default_rng(0)
    some = points[np.sort(random.permutation(len(points))[: num_cells * SAMPLE_PER_CELL])]
    centres = some[np.sort(random.permutation(len(some))[:num_cells])].copy()
    for _ in range(ROUNDS if num_cells > 1 else 0):
        cell = np.concatenate([
            distances(some[start : start + AT_ONCE], centres).argmin(axis=1)
            for start in range(0, len(some), AT_ONCE)
        ])  # fmt: skip
        counts = np.bincount(cell, minlength=num_cells)
        sums = np.zeros_like(centres)
        np.add.at(sums, cell, some)
        filled = counts > 0
        centres[filled] = sums[filled] / counts[filled, None]
    return centres


def distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return squared distances, but for what is the same in a row: float32, (n, m)."""
    return np.asarray((second**2).sum(axis=1) - 2 * (first @ second.T))
