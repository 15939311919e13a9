"""Missing images: stored ones whose files a source root does not hold any more."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mri_hpc.storage.disk.layout import StoreDir
from mri_hpc.storage.disk.private_tables import sources_of
from mri_hpc.storage.snapshot.folding import positions
from mri_hpc.storage.snapshot.table import Snapshot


@dataclass(frozen=True, kw_only=True, eq=False)
class Missing:
    """Stored images of one source root whose files are not below it any more."""

    paths: dict[int, str]
    """Path below the root of each, by key."""
    num_there: int = 0
    """Stored images of this root whose files are there."""
    moved: frozenset[int] = frozenset()
    """Keys of those whose bytes are stored under a path that the root does hold."""
    other_class: frozenset[int] = frozenset()
    """Keys of those that were moved, and have another label there."""
    other_patient: frozenset[int] = frozenset()
    """Keys of those that were moved, and belong to another patient there."""
    unlisted: str = ""
    """A folder that could not be listed, below which some of them may lie; empty where there is none."""


def find_missing(
    store: StoreDir, snapshot: Snapshot, paths: Sequence[str], key_of: Callable[[str], int]
) -> Missing:
    """Find the stored images of a root that have no file any more; none where the private folder is closed.

    paths: all below the root; key_of: gives the key of a path below it.
    """
    listed = np.unique(np.fromiter(map(key_of, paths), "<u8", len(paths)))
    is_absent = ~positions(listed, np.asarray(snapshot.key))[0]
    num_there = len(is_absent) - int(is_absent.sum())
    if num_there == len(is_absent):
        return Missing(paths={}, num_there=num_there)
    # A store may hold images of other roots: by its path a key tells whether it is of this one.
    named = sources_of(store, np.asarray(snapshot.key)[is_absent].tolist())
    own = {key: path for key, path in named.items() if key_of(path) == key}
    moved = _moved(snapshot, own, ~is_absent) if own else {}
    return Missing(
        paths=own,
        num_there=num_there,
        moved=frozenset(moved),
        other_class=frozenset(key for key, found in moved.items() if found.is_of_other_class),
        other_patient=frozenset(key for key, found in moved.items() if found.is_of_other_patient),
        unlisted=_unlisted(own, paths),
    )


@dataclass(frozen=True, kw_only=True)
class _Moved:
    """Differences between an image and those of the same bytes elsewhere."""

    is_of_other_class: bool
    is_of_other_patient: bool


def _moved(snapshot: Snapshot, own: dict[int, str], is_listed: np.ndarray) -> dict[int, _Moved]:
    """Find images whose bytes are stored under a path that is there. is_listed: bool, a value a row."""
    keys = np.sort(np.fromiter(own, "<u8", len(own)))
    _is_there, rows = positions(snapshot.key, keys)
    hashes = np.asarray(snapshot.source_hash)
    others: dict[int, list[int]] = {}
    for row in np.flatnonzero(is_listed & np.isin(hashes, hashes[rows])).tolist():
        others.setdefault(int(hashes[row]), []).append(row)
    return {
        int(snapshot.key[row]): _Moved(
            is_of_other_class=not (snapshot.label[there] == snapshot.label[row]).any(),
            is_of_other_patient=not (snapshot.patient[there] == snapshot.patient[row]).any(),
        )
        for row in rows.tolist()
        if (there := others.get(int(hashes[row])))
    }


def _unlisted(own: dict[int, str], paths: Sequence[str]) -> str:
    """Return a folder above a missing image that is listed itself: it could not be looked into."""
    above = {path[:at] for path in own.values() for at, letter in enumerate(path) if letter == "/"}
    return min(above.intersection(paths), default="")
