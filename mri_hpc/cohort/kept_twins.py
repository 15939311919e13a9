"""Twins that an audit has found, kept by snapshot: whoever trains on one need not look again.

A file says which images of a snapshot are twins. Whether that is a leak depends on the splits of a run.
"""

import contextlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from mri_hpc.base.access import replace_shared
from mri_hpc.base.documents import convert, parse, with_format, without_format
from mri_hpc.base.errors import NewerFormat
from mri_hpc.cohort.splits import TEST, TRAIN, VALIDATION, Split
from mri_hpc.cohort.twins import RULE, Shown, Twin, TwinGroup, find_twins, group_twins
from mri_hpc.storage.store import Reader, Snapshot, Store

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class KeptTwin:
    """Two images that are the same slice, by their keys."""

    first: str
    """Key of an image: 16 hex digits."""
    second: str
    """Key of the other one."""
    how: tuple[str, ...]
    """As in Twin."""
    score: float
    """As in Twin."""


@dataclass(frozen=True, kw_only=True)
class KeptTwins:
    """All twins of a snapshot."""

    snapshot: str
    """Digest of the snapshot."""
    images: int
    """Images that were looked at."""
    rule: int
    """Version of how twins are found."""
    twins: tuple[KeptTwin, ...]
    """Pairs that connect all images that are the same slice."""


def twins_of(
    store: Store,
    snapshot: Snapshot,
    reader: Reader,
    same: Sequence[np.ndarray],
    *,
    progress: Shown = lambda starts: starts,
) -> list[TwinGroup]:
    """Return the twins of a snapshot: as kept, else found now, and kept where this user may write.

    same: rows of the same pixels, as same_pixels finds them.
    """
    kept = kept_twins(store, snapshot)
    if kept is not None:
        return kept
    side = max(snapshot.image_shape)
    found = find_twins(reader.read, len(snapshot), side=side, same=same, progress=progress)
    _keep(store, snapshot, found)
    return found


def kept_twins(store: Store, snapshot: Snapshot) -> list[TwinGroup] | None:
    """Read the twins of a snapshot; None where they were not looked for yet, or by another rule."""
    path = store.twins / f"{snapshot.digest}.json"
    try:
        values = without_format(parse(path.read_bytes()), of=path, reads=FORMAT)
        kept = convert(values, KeptTwins)
        rows = _rows_of(snapshot, [key for twin in kept.twins for key in (twin.first, twin.second)])
    except (FileNotFoundError, PermissionError, NewerFormat, ValueError, OverflowError):
        # It can be found again.
        return None
    if (kept.snapshot, kept.images, kept.rule) != (snapshot.digest, len(snapshot), RULE) or rows is None:
        return None
    pairs = zip(rows[::2].tolist(), rows[1::2].tolist(), kept.twins, strict=True)
    return group_twins(
        Twin(first=first, second=second, how=twin.how, score=twin.score) for first, second, twin in pairs
    )


def leaking(groups: list[TwinGroup], code: np.ndarray) -> list[TwinGroup]:
    """Return the groups of which a run trains on some images and is judged on others. code: of split_of."""
    return [group for group in groups if _leaks(set(code[list(group.rows)].tolist()))]


def num_trained_on(groups: list[TwinGroup], split: Split) -> int:
    """Count the test images that are the same slice as one of the training images."""
    training, tested = set(split.train.tolist()), set(split.test.tolist())
    return sum(
        len(tested.intersection(group.rows)) for group in groups if not training.isdisjoint(group.rows)
    )


def leak_text(snapshot: Snapshot, groups: list[TwinGroup]) -> str:
    """Describe leaking groups in a few words, with the first of them."""
    first = groups[0]
    keys = " = ".join(f"{int(snapshot.key[row]):016x}" for row in first.rows[:2])
    count = "1 slice is" if len(groups) == 1 else f"{len(groups)} slices are"
    return f"{count} both trained on and judged on, such as {keys} ({', '.join(first.how)})"


def _leaks(codes: set[int]) -> bool:
    return TRAIN in codes and (VALIDATION in codes or TEST in codes)


def _keep(store: Store, snapshot: Snapshot, groups: list[TwinGroup]) -> None:
    twins = tuple(
        KeptTwin(
            first=f"{int(snapshot.key[twin.first]):016x}",
            second=f"{int(snapshot.key[twin.second]):016x}",
            how=twin.how,
            score=twin.score,
        )
        for group in groups
        for twin in group.twins
    )
    kept = KeptTwins(snapshot=snapshot.digest, images=len(snapshot), rule=RULE, twins=twins)
    # A store that may only be read, or a full disk: the next one looks again.
    with contextlib.suppress(OSError):
        store.make_twins()
        path = store.twins / f"{snapshot.digest}.json"
        replace_shared(path, json.dumps(with_format(FORMAT, asdict(kept)), indent=1).encode())


def _rows_of(snapshot: Snapshot, keys: list[str]) -> np.ndarray | None:
    """Find the rows of keys: int64, (n,); None where one of them is not there."""
    wanted = np.array([int(key, 16) for key in keys], np.uint64)
    rows = np.searchsorted(snapshot.key, wanted)
    if len(rows) and (rows.max() >= len(snapshot) or (np.asarray(snapshot.key)[rows] != wanted).any()):
        return None
    return rows.astype(np.int64)
