"""Missing images: stored ones whose files a source root does not hold any more."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

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
    """Stored images whose paths are known to be below the root."""
    moved: frozenset[int] = frozenset()
    """Keys of those whose bytes are stored under a path that the root does hold."""
    other_class: frozenset[int] = frozenset()
    """Keys of those that were moved, and have another label there."""
    other_patient: frozenset[int] = frozenset()
    """Keys of those that were moved, and belong to another patient there."""
    hidden: str = ""
    """A path of which it cannot be told whether a file is there; empty where there is none."""
    is_counted: bool = True
    """False where so many might be missing that nothing was found out."""


def find_missing(
    store: StoreDir,
    snapshot: Snapshot,
    root: Path,
    paths: Sequence[str],
    key_of: Callable[[str], int],
    most: int | None = None,
) -> Missing:
    """Find the stored images of a root that have no file any more; none where the private folder is closed.

    paths: those known below the root; key_of: gives the key of a path below it; most: from so many images on
    without a known path, which may be of other roots, nothing more is found out. None: never.
    """
    known = np.unique(np.fromiter(map(key_of, paths), "<u8", len(paths)))
    is_absent = ~positions(known, np.asarray(snapshot.key))[0]
    num_absent = int(np.count_nonzero(is_absent))
    found = Missing(paths={}, num_there=len(is_absent) - num_absent)
    if not num_absent:
        return found
    if most is not None and num_absent > most:
        return replace(found, is_counted=False)
    # A store may hold images of other roots: by its path a key tells whether it is of this one.
    named = sources_of(store, np.asarray(snapshot.key)[is_absent].tolist())
    own, hidden = _without_file(root, {key: path for key, path in named.items() if key_of(path) == key})
    moved = _moved(snapshot, own, ~is_absent) if own else {}
    return replace(
        found,
        paths=own,
        moved=frozenset(moved),
        other_class=frozenset(key for key, one in moved.items() if one.is_of_other_class),
        other_patient=frozenset(key for key, one in moved.items() if one.is_of_other_patient),
        hidden=hidden,
    )


def _without_file(root: Path, paths: dict[int, str]) -> tuple[dict[int, str], str]:
    """Return those paths that are not there now, by key, and one of which that cannot be told, or empty."""
    gone, hidden = {}, ""
    for key, path in paths.items():
        try:
            os.lstat(f"{root}/{path}")
        except (FileNotFoundError, NotADirectoryError):
            gone[key] = path
        except OSError:
            hidden = path
    return gone, hidden


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
