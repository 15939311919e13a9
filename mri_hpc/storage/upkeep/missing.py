"""Missing images: stored ones whose files a source root does not hold any more."""

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mri_hpc.intake.decoding.dicom.listing import OF_SERIES
from mri_hpc.intake.files.content import is_there
from mri_hpc.intake.files.sources import root_at_site, root_name
from mri_hpc.intake.labels.pseudonyms import Pseudonyms
from mri_hpc.storage.adding.roots import read_roots
from mri_hpc.storage.disk.columns import ascending
from mri_hpc.storage.disk.layout import StoreDir
from mri_hpc.storage.disk.private_tables import sources_of
from mri_hpc.storage.snapshot.folding import positions
from mri_hpc.storage.snapshot.frames import frames_of
from mri_hpc.storage.snapshot.grown import Grown
from mri_hpc.storage.snapshot.table import Snapshot

COMPARED = 16
"""Images that are there by which a copy of a folder is told from another one of its name."""


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


def num_without_file(grown: Grown, keys: np.ndarray) -> int:
    """Count the stored images that may be of other roots: without a known file. keys: of known ones, uint64.

    Of a source only the first slice has a known key: the others are not counted.
    """
    there = grown.change.of_keys(ascending(keys))
    of_stacks = ascending(there.source_hash[there.slice_index >= 0])
    slices = grown.change.of_bytes(of_stacks).after.slice_index >= 0
    return grown.counts.images - int(np.count_nonzero(there.slice_index < 0)) - int(np.count_nonzero(slices))


def find_missing(
    store: StoreDir,
    snapshot: Snapshot,
    root: Path,
    keys: np.ndarray,
    pseudonyms: Pseudonyms,
    *,
    series: Collection[str] = (),
    sites: Collection[str] = (),
    most: int | None = None,
) -> Missing:
    """Find the stored images of a root that have no file any more; none where the private folder is closed.

    keys: of the sources known below the root, uint64; series: ids of those that were below it, and are no
    more; sites: those that its images are of, none: as written down when it was added; most: from so many
    images on without a known file, which may be of other roots, nothing more is found out. None: never.
    """
    is_absent = ~positions(ascending(keys), np.asarray(snapshot.key))[0]
    num_absent = int(np.count_nonzero(is_absent))
    found = Missing(paths={}, num_there=len(is_absent) - num_absent)
    if not num_absent:
        return found
    is_wanted = is_absent
    if most is not None and num_absent > most:
        # Of a source only the first slice has a known key. Of so many it is not said that they moved.
        is_wanted = is_absent & ~_are_slices_of_what_is_there(snapshot, is_absent)
        if np.count_nonzero(is_wanted) > most:
            return replace(found, is_counted=False)
    # A store may hold images of other roots: by its path a key tells whether it is of this one.
    named = sources_of(store, np.asarray(snapshot.key)[is_wanted].tolist())
    sites = sites or sites_of(store, root)
    names = [root_at_site(root_name(root), site) for site in sites]
    of_series = {pseudonyms.source_key(name, f"{OF_SERIES}{one}") for name in names for one in series}
    own = {
        key: path
        for key, path in named.items()
        if key in of_series or any(pseudonyms.source_key(name, path) == key for name in names)
    }
    there = sources_of(store, np.asarray(snapshot.key)[~is_absent][:COMPARED].tolist()) if own else {}
    own, hidden = _without_file([root, *_other_places(store, root, sites, there.values())], own)
    own |= frames_of(store, snapshot, own)
    moved = _moved(snapshot, own, ~is_absent) if own else {}
    return replace(
        found,
        paths=own,
        moved=frozenset(moved),
        other_class=frozenset(key for key, one in moved.items() if one.is_of_other_class),
        other_patient=frozenset(key for key, one in moved.items() if one.is_of_other_patient),
        hidden=hidden,
    )


def _are_slices_of_what_is_there(snapshot: Snapshot, is_absent: np.ndarray) -> np.ndarray:
    """Tell of each image whether it is a slice of a source of which some image is there: bool, (n,)."""
    hashes = np.asarray(snapshot.source_hash)
    return (np.asarray(snapshot.slice_index) >= 0) & np.isin(hashes, hashes[~is_absent])


def sites_of(store: StoreDir, root: Path) -> set[str]:
    """Return the sites that a folder was added as; of one that nothing is written down of the empty one."""
    here = os.path.realpath(root)
    return {one.site for one in read_roots(store) if one.location == here} or {""}


def _other_places(store: StoreDir, root: Path, sites: Collection[str], paths: Collection[str]) -> list[Path]:
    """Return other folders of the same name and site, whose images have keys of the same kind.

    paths: some that are below the root. A folder that has them too is a copy, and keeps nothing alive.
    """
    here, name = os.path.realpath(root), root_name(root)
    alike = (one for one in read_roots(store) if one.name == name and one.site in sites)
    places = [Path(one.location) for one in alike if one.location != here]
    return [place for place in places if not any(os.path.lexists(f"{place}/{path}") for path in paths)]


def _without_file(roots: Sequence[Path], paths: dict[int, str]) -> tuple[dict[int, str], str]:
    """Return those paths that no root has now, by key, and one of which that cannot be told, or empty."""
    gone, hidden = {}, ""
    for key, path in paths.items():
        try:
            if not any(_is_there(f"{root}/{path}") for root in roots):
                gone[key] = path
        except OSError:
            hidden = path
    return gone, hidden


def _is_there(file: str) -> bool:
    try:
        os.lstat(file)
    except (FileNotFoundError, NotADirectoryError):
        return is_there(Path(file))
    return True


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
