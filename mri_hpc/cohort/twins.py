"""Twins: images that are the same slice, though re-saved, resized, cropped, turned, mirrored or inverted.

Neighbouring slices of one head are none. Candidates are found by their looks and judged on pixels.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mri_hpc.cohort.alignment import Detail, Overlay, first_matrix, is_as_fine, lay
from mri_hpc.cohort.candidates import Candidates, find_candidates, find_candidates_between
from mri_hpc.cohort.looks import Looks, look_at
from mri_hpc.intake.decoding.grey_values import to_8_bits

Read = Callable[[np.ndarray], np.ndarray]
"""Reads images of some rows: uint8 or uint16, (B, H, W); they are compared in 8 bits."""
Shown = Callable[[range], Iterable[int]]
"""Yields its numbers one by one; a part of the work, of a few seconds at most, follows each."""

RULE = 2
"""Version of how twins are found: what was kept by another one is not taken up."""
LEAST_SCORE = 0.967
"""Of the correlation of fine structure, from which two images are twins.

Measured 2026-11-29 at 224 × 224. Of `cheng`: 2,337 of 2,340 twins by nine changes lie above, neighbouring
slices at most at 0.964. Slices 1 mm apart (`ge_t1`): at most at 0.961.
"""
MOST_MISSES = 2
"""Pairs of an image that are no twins after which no more are looked at."""
PART_BYTES = 12 * 2**20
"""Pixels in memory at a time."""
AT_ONCE = 256
"""Pairs judged at a time, and images kept at hand for that."""
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
    side: int = 224,
    same: Sequence[np.ndarray] = (),
    progress: Shown = lambda starts: starts,
) -> list[TwinGroup]:
    """Group twins among `count` images, by their first rows.

    side: of the images, in pixels. same: groups of rows of the same pixels. progress: asked several times.
    """
    groups = _Groups()
    for rows in same:
        for row in rows[1:].tolist():
            groups.join(Twin(first=int(rows[0]), second=row, how=(SAME_PIXELS,), score=1.0))
    repeats = {row for rows in same for row in rows[1:].tolist()}
    kept = np.array([row for row in range(count) if row not in repeats], np.int64)
    looks = looks_of(read, kept, side=side, progress=progress)
    judge = _Judge(read, kept, looks, side)
    for twin in judge.twins(find_candidates(looks, progress), progress, is_known=groups.are_together):
        groups.join(twin)
    return groups.all()


def looks_of(read: Read, rows: np.ndarray, *, side: int, progress: Shown) -> Looks:
    """Compute the looks of images of some rows, int64, (n,). side, progress: as in `find_twins`."""
    return look_at(_read_all(read, rows, progress, side), len(rows))


def find_twins_between(
    read: Read, rows: np.ndarray, looks: Looks, num_asked: int, *, side: int, progress: Shown
) -> list[Twin]:
    """Find twins of the first `num_asked` of some rows among the others: one at least of each that has any.

    looks: of the rows, int64, (n,). side, progress: as in `find_twins`.
    """
    groups = _Groups()
    pairs = find_candidates_between(looks, num_asked, progress)
    found = []
    for twin in _Judge(read, rows, looks, side).twins(pairs, progress, is_known=groups.are_together):
        groups.join(twin)
        found.append(twin)
    return found


def group_twins(twins: Iterable[Twin]) -> list[TwinGroup]:
    """Group rows by the twins that connect them."""
    groups = _Groups()
    for twin in twins:
        groups.join(twin)
    return groups.all()


def _read_all(read: Read, rows: np.ndarray, progress: Shown, side: int) -> Iterator[np.ndarray]:
    at_once = max(1, PART_BYTES // side**2)
    for start in progress(range(0, len(rows), at_once)):
        yield to_8_bits(read(rows[start : start + at_once]))


class _Judge:
    """Judges candidates on pixels."""

    def __init__(self, read: Read, rows: np.ndarray, looks: Looks, side: int) -> None:
        self._read, self._rows, self._looks, self._side = read, rows, looks, side
        self._detail = functools.lru_cache(maxsize=AT_ONCE)(self._make_detail)

    def twins(
        self, pairs: Candidates, progress: Shown, *, is_known: Callable[[int, int], bool]
    ) -> Iterator[Twin]:
        """Yield twins among the pairs, but for those that are known to be: of each image the likeliest first.

        Copies of one image crowd out each other, so that only those that are none count against going on.
        """
        misses = np.zeros(len(self._rows), np.int64)
        for rank in range(int(pairs.rank.max(initial=-1)) + 1):
            tried = np.flatnonzero(
                (pairs.rank == rank) & (np.minimum(misses[pairs.first], misses[pairs.second]) < MOST_MISSES)
            )
            order = tried[np.lexsort((pairs.second[tried], pairs.first[tried]))]
            for start in progress(range(0, len(order), AT_ONCE)):
                for number in order[start : start + AT_ONCE].tolist():
                    both = [pairs.first[number], pairs.second[number]]
                    rows = self._rows[both].tolist()
                    if is_known(*rows):
                        continue
                    twin = self._judge(pairs, number, rows)
                    if twin:
                        yield twin
                    else:
                        misses[both] += 1

    def _judge(self, pairs: Candidates, number: int, rows: list[int]) -> Twin | None:
        """Judge one of the pairs; rows: of its images."""
        first, second, turn = (int(of[number]) for of in (pairs.first, pairs.second, pairs.variant))
        frames = self._looks.frames[[first, second], pairs.frame[number]]
        matrix = first_matrix((frames[0], frames[1]), turn, pairs.move[number])
        under, over = self._detail(first), self._detail(second)
        if not is_as_fine(over, under, matrix):
            # Fine structure is kept where the finer one of both is brought to the other's pixels.
            under, over, matrix = over, under, np.linalg.inv(matrix)
            turn, rows = BACK.get(turn, turn), rows[::-1]
        laid = lay(under, over, matrix)
        if not laid or laid.score < LEAST_SCORE:
            return None
        how = _how(laid, turn, self._side, is_backwards=rows[0] > rows[1])
        return Twin(first=min(rows), second=max(rows), how=how, score=round(laid.score, 4))

    def _make_detail(self, index: int) -> Detail:
        return Detail(to_8_bits(self._read(self._rows[index : index + 1])[0]))


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
