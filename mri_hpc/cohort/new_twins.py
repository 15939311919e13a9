"""New twins of test images: told as they come, by whoever adds them.

New images of other splits are compared with the test images alone, whose looks are kept: so it costs what is
new. An audit compares all with all.
"""

import functools
import shlex
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mri_hpc.base.command import counted, progress
from mri_hpc.base.errors import StoreDamage, UserError
from mri_hpc.cohort.kept_parts import keep_part, read_parts
from mri_hpc.cohort.splits import TEST, UNUSED, split_of
from mri_hpc.intake.labels.doubts import Doubt
from mri_hpc.storage.store import Snapshot, Store

if TYPE_CHECKING:
    from mri_hpc.cohort.looks import Looks
    from mri_hpc.cohort.twins import Twin

MOST_IMAGES = 200_000
"""In a store, beyond which none are compared: splitting it would cost more than what is new."""
MOST_LOOKED_AT = 10_000
"""New images, and test images whose looks are not kept: some seven seconds each."""
COMPARED = "compared"
"""Kind of the kept keys of images that were compared with the test images, or were there before any were."""


class _Stopped(Exception):
    """The task was asked to stop."""


@dataclass(frozen=True, kw_only=True)
class _Comparison:
    """New images, and test images that are the same slice."""

    twins: "list[Twin]"
    new: frozenset[int]
    """Rows of the new images that have a twin."""
    num_tested: int
    """Test images that were compared."""
    num_left: int
    """Test images that had to be left out."""


def new_twins_of_test(
    store: Store,
    current: Callable[[], Snapshot],
    num_stored: int,
    *,
    images: int,
    is_stopping: Callable[[], bool],
) -> list[Doubt]:
    """Return what is to be said of images that came since this was last asked; nothing of a new store.

    current: folds the store, where that is needed; num_stored: images that were stored just now, of `images`
    there are. What a stop cuts short is done the next time.
    """
    is_due = 0 < num_stored < images
    if images > MOST_IMAGES:
        return [_left_out(store, num_stored, f"in a store of over {MOST_IMAGES:,}")] if is_due else []
    snapshot, compared = current(), _compared(store)
    if compared is None:
        _keep_compared(store, snapshot)
        return [_left_out(store, num_stored, "the first time")] if is_due else []
    new = np.flatnonzero(~np.isin(snapshot.column("key"), compared))
    if not len(new):
        return []
    if len(new) > MOST_LOOKED_AT:
        _keep_compared(store, snapshot, new)
        return [_left_out(store, len(new), f"being over {MOST_LOOKED_AT:,}")]
    try:
        found = _compare(store, snapshot, new, is_stopping)
    except _Stopped:
        return []
    except StoreDamage as error:
        return [_left_out(store, len(new), str(error))]
    _keep_compared(store, snapshot, new)
    return list(_describe(store, snapshot, found)) if found else []


def _compared(store: Store) -> np.ndarray | None:
    """Read the keys of the images that were compared, uint64, (n,); None where nothing tells them."""
    parts = read_parts(store, COMPARED, {"key": np.zeros(0, np.uint64)})
    return None if parts is None else parts["key"]


def _keep_compared(store: Store, snapshot: Snapshot, rows: np.ndarray | slice = slice(None)) -> None:
    """Keep the keys of images as compared: of all, or of rows of a snapshot."""
    keep_part(store, COMPARED, {"key": snapshot.column("key")[rows].astype(np.uint64)})


def _compare(
    store: Store, snapshot: Snapshot, new: np.ndarray, is_stopping: Callable[[], bool]
) -> _Comparison | None:
    """Compare new images of other splits with the test images; None where there is nothing to compare."""
    from mri_hpc.cohort.twins import find_twins_between, looks_of

    try:
        code = split_of(snapshot)
    except UserError:
        # No run would begin with it.
        return None
    asked, tested = new[(code[new] != TEST) & (code[new] != UNUSED)], np.flatnonzero(code == TEST)
    if not len(asked) or not len(tested):
        return None

    def in_parts(parts: range) -> Iterator[int]:
        for part in progress(parts, what="comparing new images with test images", total=len(parts)):
            if is_stopping():
                raise _Stopped
            yield part

    side = max(snapshot.image_shape)
    with store.reader(snapshot, is_read_once=True) as reader:
        look = functools.partial(looks_of, reader.read, side=side, progress=in_parts)
        test_rows, test_looks = _looks_of_test(store, snapshot, tested, look)
        looks = look(asked).joined(test_looks)
        rows = np.concatenate([asked, test_rows])
        twins = find_twins_between(reader.read, rows, looks, len(asked), side=side, progress=in_parts)
    return _Comparison(
        twins=twins,
        new=frozenset(asked.tolist()).intersection(
            row for twin in twins for row in (twin.first, twin.second)
        ),
        num_tested=len(test_rows),
        num_left=len(tested) - len(test_rows),
    )


def _looks_of_test(
    store: Store, snapshot: Snapshot, tested: np.ndarray, look: "Callable[[np.ndarray], Looks]"
) -> "tuple[np.ndarray, Looks]":
    """Return the rows of test images that are compared, ascending, and their looks, which are kept."""
    from mri_hpc.cohort.kept_looks import keep_looks, pairs_of, read_looks

    kept = read_looks(store)
    _pairs, of_tested, of_kept = np.intersect1d(pairs_of(snapshot, tested), kept.pair, return_indices=True)
    known, looks = tested[of_tested], kept.looks.taken(of_kept)
    fresh = np.setdiff1d(tested, known)[:MOST_LOOKED_AT]
    if len(fresh):
        new = look(fresh)
        keep_looks(store, snapshot, fresh, new)
        known, looks = np.concatenate([known, fresh]), looks.joined(new)
    order = np.argsort(known)
    return known[order], looks.taken(order)


def _describe(store: Store, snapshot: Snapshot, found: _Comparison) -> Iterator[Doubt]:
    audit = f"mri-hpc store audit {shlex.quote(str(store.path))}"
    if found.new:
        twin = found.twins[0]
        pair = (twin.first, twin.second) if twin.first in found.new else (twin.second, twin.first)
        new = f"{counted(len(found.new), 'new image')} {'shows' if len(found.new) == 1 else 'show'}"
        yield Doubt(
            kind="new-twins-of-test-images",
            count=len(found.new),
            # By their keys: a path may name a person, and this is kept in the logs of jobs.
            text=f"{new} the same slice as one of the test split, such as {_keys(snapshot, pair)} "
            f"({', '.join(twin.how)}): {audit} shows all by path, and no run begins with them",
        )
    if found.num_left:
        total = found.num_tested + found.num_left
        yield Doubt(
            kind="not-compared",
            count=found.num_left,
            text=f"new images were compared with {found.num_tested:,} of {total:,} test images: {audit} "
            "compares all",
        )


def _keys(snapshot: Snapshot, rows: Iterable[int]) -> str:
    return " = ".join(f"{int(snapshot.key[row]):016x}" for row in rows)


def _left_out(store: Store, count: int, why: str) -> Doubt:
    return Doubt(
        kind="not-compared",
        count=count,
        text=f"{counted(count, 'new image')} {'was' if count == 1 else 'were'} not compared with the test "
        f"images ({why}): mri-hpc store audit {shlex.quote(str(store.path))} compares all",
    )
