"""The images that were compared with the test images, or were there before any were."""

import numpy as np

from mri_hpc.cohort.kept_parts import keep_part, read_parts
from mri_hpc.storage.store import Snapshot, Store

KIND = "compared"
NONE = {"key": np.zeros(0, np.uint64)}


def read_compared(store: Store) -> np.ndarray | None:
    """Read the keys of these images, uint64, (n,); None where nothing tells them."""
    parts = read_parts(store, KIND, NONE)
    return None if parts is None else parts["key"]


def keep_compared(store: Store, snapshot: Snapshot, rows: np.ndarray | slice = slice(None)) -> None:
    """Keep the keys of images as compared: of all, or of rows of a snapshot."""
    keep_part(store, KIND, {"key": snapshot.column("key")[rows].astype(np.uint64)})
