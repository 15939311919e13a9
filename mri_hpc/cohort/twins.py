"""Twins: images that are the same slice, though re-saved, resized, cropped, turned, mirrored or inverted.

Neighbouring slices of one head are none. Candidates are found by their looks and judged on pixels.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mri_hpc.cohort.alignment import Detail, Overlay, detail_of, first_matrix, lay
from mri_hpc.cohort.candidates import Candidates, find_candidates
from mri_hpc.cohort.looks import Looks, look_at

Read = Callable[[np.ndarray], np.ndarray]
"""Reads images of some rows: uint8, (B, H, W)."""
Shown = Callable[[range], Iterable[int]]
"""Yields its numbers one by one, and shows how far that is."""

LEAST_SCORE = 0.965
"""Of the correlation of fine structure, from which two images are twins."""
TRIED_AT_FIRST = 3
"""Likeliest pairs of an image that are judged; of one that has a twin all are, since it may have more."""
AT_ONCE = 256
"""Images in memory at a time."""
MOVED = 0.015
"""Part of the side by which a corner lies elsewhere from which a twin is called cropped."""
TURNS = (
    "", "mirrored", "mirrored top to bottom", "rotated by 180",
    "mirrored and rotated by 270", "rotated by 270", "rotated by 90", "mirrored and rotated by 90",
)  # fmt: skip
"""By the number of the variant; degrees are clockwise."""
BACK = {5: 6, 6: 5}
"""Turns that another one undoes."""
SAME_PIXELS = "same pixels"


@dataclass(frozen=True, kw_only=True)
class Twin:
    """Two images that are the same slice."""

    first: int
    """Row of an image."""
    second: int
    """Row of the other one."""
    how: tuple[str, ...]
    """By what the second differs from the first, such as "mirrored", "cropped"."""
    score: float
    """Correlation of the fine structure, at most 1."""


@dataclass(frozen=True, kw_only=True)
class TwinGroup:
    """Images that are all the same slice."""

    rows: tuple[int, ...]
    """Ascending."""
    twins: tuple[Twin, ...]
    """Pairs that connect them all."""

    @property
    def how(self) -> tuple[str, ...]:
        """All that they differ by, each once."""
        return tuple(sorted({word for twin in self.twins for word in twin.how}))


def find_twins(
    read: Read,
    count: int,
    *,
    same: Sequence[np.ndarray] = (),
    progress: Shown = lambda starts: starts,
) -> list[TwinGroup]:
    """Group twins among `count` images, by their first rows. same: groups of rows of the same pixels."""
    groups = _Groups()
    for rows in same:
        for row in rows[1:].tolist():
            groups.join(Twin(first=int(rows[0]), second=row, how=(SAME_PIXELS,), score=1.0))
    repeats = {row for rows in same for row in rows[1:].tolist()}
    kept = np.array([row for row in range(count) if row not in repeats], np.int64)
    looks = look_at(_read_all(read, kept, progress), len(kept))
    found = find_candidates(looks)
    judge = _Judge(read, kept, looks)
    tried = found.rank < TRIED_AT_FIRST
    for twin in judge.twins(found.taken(np.flatnonzero(tried))):
        groups.join(twin)
    # Copies of one image crowd out each other among the likeliest.
    with_twin = np.isin(kept, groups.rows())
    more = found.taken(np.flatnonzero(~tried & (with_twin[found.first] | with_twin[found.second])))
    for twin in judge.twins(more, is_known=groups.are_together):
        groups.join(twin)
    return groups.all()


def _read_all(read: Read, rows: np.ndarray, progress: Shown) -> Iterator[np.ndarray]:
    for start in progress(range(0, len(rows), AT_ONCE)):
        yield read(rows[start : start + AT_ONCE])


class _Judge:
    """Judges candidates on pixels."""

    def __init__(self, read: Read, rows: np.ndarray, looks: Looks) -> None:
        self._read, self._rows, self._looks = read, rows, looks
        self._detail = functools.lru_cache(maxsize=AT_ONCE)(self._make_detail)

    def twins(
        self, pairs: Candidates, *, is_known: Callable[[int, int], bool] = lambda _first, _second: False
    ) -> Iterator[Twin]:
        """Yield those of the pairs that are twins, unless they are known to be."""
        for number in np.lexsort((pairs.second, pairs.first)).tolist():
            first, second = int(pairs.first[number]), int(pairs.second[number])
            rows = int(self._rows[first]), int(self._rows[second])
            if is_known(*rows):
                continue
            frames = self._looks.frames[[first, second], pairs.frame[number]]
            turn = int(pairs.variant[number])
            matrix = first_matrix((frames[0], frames[1]), turn, pairs.move[number])
            laid = lay(self._detail(first), self._detail(second), matrix)
            if laid and laid.score >= LEAST_SCORE:
                how = _how(laid, turn, self._side, is_backwards=rows[0] > rows[1])
                yield Twin(first=min(rows), second=max(rows), how=how, score=round(laid.score, 4))

    def _make_detail(self, index: int) -> Detail:
        image = self._read(self._rows[index : index + 1])[0]
        self._side = max(image.shape)
        return detail_of(image)


def _how(laid: Overlay, turn: int, side: int, *, is_backwards: bool) -> tuple[str, ...]:
    """Say by what the second of two twins differs from the first, or the first from the second."""
    words = [TURNS[BACK.get(turn, turn) if is_backwards else turn]] if turn else []
    if laid.is_inverted:
        words.append("inverted")
    corners = np.array([[0, 0, 1], [side, 0, 1], [0, side, 1], [side, side, 1]], float)
    turned = first_matrix((np.array([0, side, 0, side]),) * 2, turn, np.zeros(4))
    if np.abs(corners @ (laid.matrix - turned).T).max() > MOVED * side:
        words.append("cropped")
    if laid.is_brighter:
        words.append("other brightness")
    return tuple(words) or ("re-saved",)


class _Groups:
    """Rows that are joined by twins."""

    def __init__(self) -> None:
        self._head: dict[int, int] = {}
        self._twins: list[Twin] = []

    def rows(self) -> list[int]:
        """List all rows that have a twin."""
        return list(self._head)

    def join(self, twin: Twin) -> None:
        """Put both and all their twins into one group, if they are not in one already."""
        first, second = self._find(twin.first), self._find(twin.second)
        if first != second:
            self._head[max(first, second)] = min(first, second)
            self._twins.append(twin)

    def are_together(self, first: int, second: int) -> bool:
        """Tell whether two rows are in one group."""
        return self._find(first) == self._find(second)

    def all(self) -> list[TwinGroup]:
        """List the groups."""
        rows: dict[int, list[int]] = {}
        twins: dict[int, list[Twin]] = {}
        for row in sorted(self._head):
            rows.setdefault(self._find(row), []).append(row)
        for twin in self._twins:
            twins.setdefault(self._find(twin.first), []).append(twin)
        return [TwinGroup(rows=tuple(rows[head]), twins=tuple(twins[head])) for head in sorted(twins)]

    def _find(self, row: int) -> int:
        head = row
        while self._head.setdefault(head, head) != head:
            head = self._head[head]
        while row != head:
            self._head[row], row = head, self._head[row]
        return head
