"""Looks of test images that are kept: comparing new images with them costs what is new."""

from dataclasses import dataclass

import numpy as np

from mri_hpc.cohort.kept_parts import keep_part, read_parts
from mri_hpc.cohort.looks import NUM_FRAMES, NUM_FREQUENCIES, RULE, Looks
from mri_hpc.storage.store import Snapshot, Store

KIND = f"looks-{RULE}"
"""By the rule that makes them."""
PAIR = np.dtype([("key", "<u8"), ("crc", "<u4")])
NONE = {
    "pair": np.zeros(0, PAIR),
    "frames": np.zeros((0, NUM_FRAMES, 4), np.float32),
    "coefficients": np.zeros((0, NUM_FRAMES, NUM_FREQUENCIES, NUM_FREQUENCIES), np.float16),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class KeptLooks:
    """Looks of n images."""

    pair: np.ndarray
    """PAIR, (n,): key and CRC of the pixels that were looked at."""
    looks: Looks


def read_looks(store: Store) -> KeptLooks:
    """Read the looks that are kept."""
    kept = read_parts(store, KIND, NONE) or NONE
    return KeptLooks(pair=kept["pair"], looks=Looks(frames=kept["frames"], coefficients=kept["coefficients"]))


def keep_looks(store: Store, snapshot: Snapshot, rows: np.ndarray, looks: Looks) -> None:
    """Keep the looks of some rows of a snapshot, int64, (n,)."""
    arrays = {"frames": looks.frames, "coefficients": looks.coefficients}
    keep_part(store, KIND, {"pair": pairs_of(snapshot, rows), **arrays})


def pairs_of(snapshot: Snapshot, rows: np.ndarray) -> np.ndarray:
    """Return key and CRC of rows of a snapshot: PAIR, (n,)."""
    pairs = np.empty(len(rows), PAIR)
    pairs["key"], pairs["crc"] = snapshot.key[rows], snapshot.crc[rows]
    return pairs
