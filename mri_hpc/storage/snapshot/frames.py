"""Frames: which stored images are of one source that holds several."""

from collections.abc import Collection

import numpy as np

from mri_hpc.storage.disk.layout import StoreDir
from mri_hpc.storage.disk.private_tables import find_in_names
from mri_hpc.storage.snapshot.table import Snapshot


def frames_of(store: StoreDir, snapshot: Snapshot, own: Collection[int]) -> dict[int, str]:
    """Return the other stored images of sources that hold several, by key, with their paths.

    own: of each source the key of one stored image. The table of names that lists one lists all.
    """
    hashes = np.asarray(snapshot.source_hash)
    rows = np.searchsorted(snapshot.key, np.fromiter(own, "<u8", len(own)))
    hash_of_own = dict(zip(own, hashes[rows].tolist(), strict=True))
    near = np.flatnonzero(np.isin(hashes, hashes[rows]) & (np.asarray(snapshot.slice_index) >= 0))
    hash_of = dict(zip(snapshot.key[near].tolist(), hashes[near].tolist(), strict=True))
    others = hash_of.keys() - hash_of_own.keys()
    if not others:
        return {}

    def named(listed: list[dict[str, str]]) -> dict[int, str]:
        keyed = [(int(row["key"], 16), row["path"]) for row in listed]
        sources = {(path, hash_of_own[key]) for key, path in keyed if key in hash_of_own}
        return {key: path for key, path in keyed if key in others and (path, hash_of[key]) in sources}

    wanted = {f"{key:016x}" for key in (*others, *hash_of_own)}
    found = find_in_names(store, named, keys=wanted)
    return {key: path for some in found.values() for key, path in some.items()}
