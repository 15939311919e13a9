"""Pairs of images whose looks are so near that they may be twins: found before any pixels are compared.

Images are sorted into cells of near looks, and searched for among those of neighbouring cells alone: ten
times the images take about ten times as long. The looks of a pair are then compared in all variants, allowing
for frames that lie a little elsewhere.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from mri_hpc.cohort.looks import NUM_FRAMES, NUM_VARIANTS, Looks, slopes, turned_back, unturned

CELL_IMAGES = 400
"""Images in a cell, on average."""
CELLS_SEARCHED = 16
NEAREST = 20
"""Images that are compared in all variants, for each image and frame."""
LEAST_LIKENESS = 0.72
"""Measured 2026-11-29 on 2,400 slices of `cheng`: of 1,000 twins that are cropped by 5 % on each side, 2 lie
below 0.82; 7 of 10 images have no other one above this, but for neighbouring slices."""
AT_ONCE = 64
ASKED_AT_ONCE = 256
SAMPLE_PER_CELL = 32
ROUNDS = 6


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidates:
    """Pairs of images, the likeliest twins of each image first."""

    first: np.ndarray
    """int64, (n,): row of an image."""
    second: np.ndarray
    """int64, (n,): row of the other one."""
    rank: np.ndarray
    """int64, (n,): number of likelier pairs that an image is in; of the two numbers the smaller one."""
    likeness: np.ndarray
    """float32, (n,): fraction of the second look that the first one explains, at best."""
    frame: np.ndarray
    """int64, (n,): frame in which they are most alike."""
    variant: np.ndarray
    """int64, (n,): turn or mirroring that makes the second most like the first."""
    move: np.ndarray
    """float32, (n, 4): how far the first frame lies off: right, down, stretched across, and down."""

    def __len__(self) -> int:
        return len(self.first)

    def taken(self, rows: np.ndarray) -> "Candidates":
        """Return some of the pairs."""
        return Candidates(**{name: values[rows] for name, values in vars(self).items()})


def find_candidates(looks: Looks, progress: Callable[[range], Iterable[int]]) -> Candidates:
    """Find pairs that may be twins. progress: as in twins.py."""
    parts = []
    for frame in range(NUM_FRAMES):
        coefficients = looks.coefficients[:, frame]
        rows = np.flatnonzero(coefficients.any(axis=(1, 2)))
        if len(rows) < 2:
            continue
        cells = _Cells(unturned(coefficients[rows]))
        for cell in progress(range(len(cells))):
            asked, near = cells.nearest(cell)
            parts += [
                _compare(coefficients, rows[asked[part]], rows[near[part]], frame)
                for part in (slice(start, start + AT_ONCE) for start in range(0, len(asked), AT_ONCE))
            ]
    return _ranked(_joined(parts))


def find_candidates_between(
    looks: Looks, num_asked: int, progress: Callable[[range], Iterable[int]]
) -> Candidates:
    """Find pairs that may be twins of one of the first `num_asked` images and one of the others.

    progress: as in twins.py.
    """
    parts = []
    for frame in range(NUM_FRAMES):
        coefficients = looks.coefficients[:, frame]
        rows = np.flatnonzero(coefficients.any(axis=(1, 2)))
        points = unturned(coefficients[rows])
        asked, among = np.arange(np.searchsorted(rows, num_asked)), np.flatnonzero(rows >= num_asked)
        if not len(among):
            continue
        for start in progress(range(0, len(asked), AT_ONCE)):
            part = asked[start : start + AT_ONCE]
            near = among[_nearest(points[part], points[among], NEAREST)]
            parts.append(_compare(coefficients, rows[part], rows[near], frame))
    return _ranked(_joined(parts))


class _Cells:
    """Points by the cells that they lie in."""

    def __init__(self, points: np.ndarray) -> None:
        """Sort points into cells. points: float32, (n, d)."""
        num_cells = max(1, len(points) // CELL_IMAGES)
        self._points, self._centres = points, _centres(points, num_cells)
        cell = _cell_of(points, self._centres)
        order = np.argsort(cell, kind="stable")
        edges = np.searchsorted(cell[order], np.arange(num_cells + 1))
        self._members = [order[edges[c] : edges[c + 1]] for c in range(num_cells)]
        self._num_nearest = min(NEAREST, len(points) - 1)

    def __len__(self) -> int:
        return len(self._members)

    def nearest(self, cell: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the points of a cell, int64, (n,), and about the nearest others, int64, (n, at most 20)."""
        asked, among = self._members[cell], self._around(cell)
        nearest = np.empty((len(asked), self._num_nearest), np.int64)
        for start in range(0, len(asked), ASKED_AT_ONCE):
            part = asked[start : start + ASKED_AT_ONCE]
            is_itself = among[None] == part[:, None]
            found = _nearest(self._points[part], self._points[among], self._num_nearest, is_out=is_itself)
            nearest[start : start + len(part)] = among[found]
        return asked, nearest

    def _around(self, cell: int) -> np.ndarray:
        """Return the points of the cells around one, and of this."""
        away = ((self._centres - self._centres[cell]) ** 2).sum(axis=1)
        found: list[np.ndarray] = []
        for index, number in enumerate(np.argsort(away, kind="stable").tolist()):
            if index >= CELLS_SEARCHED and sum(map(len, found)) > NEAREST:
                break
            found.append(self._members[number])
        return np.concatenate(found)


def _nearest(
    asked: np.ndarray, among: np.ndarray, number: int, *, is_out: np.ndarray | None = None
) -> np.ndarray:
    """Find the points nearest to each of those asked: int64, (n, at most `number`). is_out: bool, (n, m)."""
    distance = _distances(asked, among)
    if is_out is not None:
        distance[is_out] = np.inf
    kth = min(number, len(among) - 1)
    return np.argpartition(distance, kth, axis=1)[:, :number]


def _distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return squared distances, but for what is the same in a row: float32, (n, m)."""
    return np.asarray((second**2).sum(axis=1) - 2 * (first @ second.T))


def _centres(points: np.ndarray, num_cells: int) -> np.ndarray:
    """Return centres of cells, from some of the points by Lloyd's way: float32, (c, d)."""
    random = np.random.default_rng(0)
    some = points[np.sort(random.permutation(len(points))[: num_cells * SAMPLE_PER_CELL])]
    centres = some[np.sort(random.permutation(len(some))[:num_cells])].copy()
    for _ in range(ROUNDS if num_cells > 1 else 0):
        cell = _cell_of(some, centres)
        counts = np.bincount(cell, minlength=num_cells)
        sums = np.zeros_like(centres)
        np.add.at(sums, cell, some)
        filled = counts > 0
        centres[filled] = sums[filled] / counts[filled, None]
    return centres


def _cell_of(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    cell = np.empty(len(points), np.int64)
    for start in range(0, len(points), 4096):
        cell[start : start + 4096] = _distances(points[start : start + 4096], centres).argmin(axis=1)
    return cell


def _compare(
    coefficients: np.ndarray, asked: np.ndarray, near: np.ndarray, frame: int
) -> dict[str, np.ndarray]:
    """Explain the looks near each image by its own look and its slopes, in the best variant.

    asked: int64, (n,), rows of images; near: int64, (n, k), rows of those near each.
    """
    own = coefficients[asked].astype(np.float32)
    explaining = np.concatenate([own[:, None], slopes(own)], axis=1)
    size = own[0].size
    # The images near are turned, or as well all that explains them is turned back.
    turned = np.stack([turned_back(explaining, number) for number in range(NUM_VARIANTS)], axis=1)
    flat = explaining.reshape(len(asked), 5, size)
    inner = flat @ flat.transpose(0, 2, 1) + 1e-6 * np.eye(5, dtype=np.float32)
    others = coefficients[near].astype(np.float32).reshape(*near.shape, size)
    products = turned.reshape(len(asked), NUM_VARIANTS * 5, size) @ others.transpose(0, 2, 1)
    # (asked, 5, variants, near)
    products = products.reshape(len(asked), NUM_VARIANTS, 5, -1).transpose(0, 2, 1, 3)
    weights = np.linalg.solve(inner, products.reshape(len(asked), 5, -1)).reshape(products.shape)
    explained = (weights * products).sum(axis=1)
    best = explained.argmax(axis=1)
    at = (np.arange(len(asked))[:, None], best, np.arange(near.shape[1])[None])
    chosen = np.moveaxis(weights, 1, 3)[at]
    likeness = explained[at]
    kept = likeness > LEAST_LIKENESS
    first, second = np.broadcast_to(asked[:, None], near.shape)[kept], near[kept]
    return {
        "first": first, "second": second, "likeness": likeness[kept], "variant": best[kept],
        "frame": np.full(len(first), frame), "move": (chosen[..., 1:] / chosen[..., :1])[kept],
    }  # fmt: skip


def _joined(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    if not parts:
        empty = np.zeros(0, np.int64)
        names = ("first", "second", "likeness", "variant", "frame")
        return {**dict.fromkeys(names, empty), "move": np.zeros((0, 4), np.float32)}
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _ranked(pairs: dict[str, np.ndarray]) -> Candidates:
    """Keep each pair once, as it is most alike, and rank the pairs of each image."""
    low, high = (by(pairs["first"], pairs["second"]) for by in (np.minimum, np.maximum))
    order = np.lexsort((-pairs["likeness"], high, low))
    is_new = np.ones(len(order), bool)
    is_new[1:] = (np.diff(low[order]) != 0) | (np.diff(high[order]) != 0)
    once = {name: values[order[is_new]] for name, values in pairs.items()}
    ends = np.concatenate([once["first"], once["second"]])
    likeness = np.tile(once["likeness"], 2)
    order = np.lexsort((-likeness, ends))
    rank = np.empty(len(ends), np.int64)
    rank[order] = np.arange(len(ends)) - np.searchsorted(ends[order], ends[order])
    return Candidates(**once, rank=np.minimum(*np.split(rank, 2)))
