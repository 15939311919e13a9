"""Images that came, changed or left since what was last trained on."""

from dataclasses import dataclass

import numpy as np

from mri_hpc.base.command import counted
from mri_hpc.storage.store import Snapshot


@dataclass(frozen=True, kw_only=True, eq=False)
class Delivery:
    """Difference of a store from what was last trained on."""

    snapshot: Snapshot
    """The newest."""
    rows: np.ndarray
    """Of images that are new, replaced, or have another label: int64, (n,)."""
    num_gone: int
    """Images that left."""

    @property
    def images(self) -> int:
        """Number of images that came or changed."""
        return len(self.rows)

    @property
    def is_nothing(self) -> bool:
        """Tell whether all is as it was."""
        return not self.images and not self.num_gone

    @property
    def words(self) -> str:
        """Say how many came and left."""
        gone = f", {self.num_gone:,} gone" if self.num_gone else ""
        return f"{counted(self.images, 'new or changed image')}{gone}"


def delivery_of(snapshot: Snapshot, before: Snapshot | None) -> Delivery:
    """Find what is new in a snapshot. before: what was last trained on; None: nothing, so that all is new."""
    if before is None:
        return Delivery(snapshot=snapshot, rows=np.arange(len(snapshot)), num_gone=0)
    keys, old_keys = np.asarray(snapshot.key), np.asarray(before.key)
    known = np.isin(keys, old_keys)
    place = np.searchsorted(old_keys, keys[known])
    is_same = known.copy()
    is_same[known] = (_labels(snapshot)[known] == _labels(before)[place]) & (
        np.asarray(snapshot.generation)[known] == np.asarray(before.generation)[place]
    )
    return Delivery(
        snapshot=snapshot, rows=np.flatnonzero(~is_same), num_gone=len(old_keys) - int(known.sum())
    )


def _labels(snapshot: Snapshot) -> np.ndarray:
    """Return the class of each image by name, which holds in all snapshots; empty where it is not known."""
    return np.array([*snapshot.classes, ""])[np.asarray(snapshot.label)]
