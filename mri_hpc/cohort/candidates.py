"""Pairs of images whose looks are so near that they may be twins: found before any pixels are compared.

Near ones are found by cells (cells.py). The looks of a pair are compared in all variants, and once more with
the frame moved to where a twin would have it (likeness.py): few but twins are left to be judged on pixels.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from mri_hpc.cohort.cells import distances, nearest
from mri_hpc.cohort.likeness import closer, likeness
from mri_hpc.cohort.looks import NUM_FRAMES, Looks, unturned

NEAREST = 20
"""Images that are compared in all variants, for each image and frame."""
LEAST_LIKENESS = 0.66
"""Of looks as they are, to be moved and compared again."""
LEAST_MOVED = 0.84
"""Of looks that were moved. Measured 2026-11-30 on `cheng`, of 1,200 twins by each of nine
changes: 5 lie below, all of them brighter or changed in several ways."""
AT_ONCE = 64


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
        near = rows[nearest(unturned(coefficients[rows]), NEAREST + 1, progress)]
        for start in progress(range(0, len(rows), AT_ONCE)):
            part = slice(start, start + AT_ONCE)
            parts.append(_compare(coefficients, rows[part], near[part], frame))
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
            away = distances(points[part], points[among])
            number = min(NEAREST, len(among))
            near = among[np.argpartition(away, number - 1, axis=1)[:, :number]]
            parts.append(_compare(coefficients, rows[part], rows[near], frame))
    return _ranked(_joined(parts))


def _compare(
    coefficients: np.ndarray, asked: np.ndarray, near: np.ndarray, frame: int
) -> dict[str, np.ndarray]:
    """Compare looks with those near them.

    asked: int64, (n,), rows of images; near: int64, (n, k), rows of those near each, which may be itself.
    """
    own = coefficients[asked].astype(np.float32)
    found = likeness(own, coefficients[near])
    is_kept = (found.explained > LEAST_LIKENESS) & (near != asked[:, None])
    which, rows = np.nonzero(is_kept)[0], near[is_kept]
    found = closer(own[which], coefficients[rows].astype(np.float32), found.taken(is_kept))
    is_kept = found.explained > LEAST_MOVED
    return {
        "first": asked[which[is_kept]], "second": rows[is_kept], "likeness": found.explained[is_kept],
        "variant": found.variant[is_kept], "frame": np.full(int(is_kept.sum()), frame),
        "move": found.move[is_kept],
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
