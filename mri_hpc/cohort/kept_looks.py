"""Looks of test images that are kept: comparing new images with them costs what is new."""

import contextlib
import io
import zipfile
from dataclasses import dataclass

import numpy as np

from mri_hpc.base.access import make_shared, replace_shared
from mri_hpc.cohort.looks import NUM_FRAMES, NUM_FREQUENCIES, Looks
from mri_hpc.cohort.twins import RULE
from mri_hpc.storage.store import Snapshot, Store


@dataclass(frozen=True, kw_only=True, eq=False)
class KeptLooks:
    """Looks of n images."""

    key: np.ndarray
    """uint64, (n,): ascending."""
    crc: np.ndarray
    """uint32, (n,): of the pixels that were looked at."""
    looks: Looks


def read_looks(store: Store) -> KeptLooks:
    """Read the looks that are kept; none where there are none, or by another rule."""
    try:
        with np.load(io.BytesIO(store.looks.read_bytes()), allow_pickle=False) as kept:
            if int(kept["rule"]) != RULE:
                raise ValueError("of another rule")
            found = KeptLooks(
                key=kept["key"],
                crc=kept["crc"],
                looks=Looks(frames=kept["frames"], coefficients=kept["coefficients"]),
            )
        num = len(found.key)
        shapes = (num,), (num, NUM_FRAMES, 4), (num, NUM_FRAMES, NUM_FREQUENCIES, NUM_FREQUENCIES)
        if (found.crc.shape, found.looks.frames.shape, found.looks.coefficients.shape) != shapes:
            raise ValueError("not as they are kept")
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile):
        # They can be made again.
        frames = np.zeros((0, NUM_FRAMES, 4), np.float32)
        coefficients = np.zeros((0, NUM_FRAMES, NUM_FREQUENCIES, NUM_FREQUENCIES), np.float16)
        none = Looks(frames=frames, coefficients=coefficients)
        return KeptLooks(key=np.zeros(0, np.uint64), crc=np.zeros(0, np.uint32), looks=none)
    return found


def keep_looks(store: Store, snapshot: Snapshot, rows: np.ndarray, looks: Looks) -> None:
    """Keep the looks of some rows, int64, (n,), ascending, in place of those before."""
    data = io.BytesIO()
    np.savez(
        data, rule=RULE, key=snapshot.key[rows], crc=snapshot.crc[rows], frames=looks.frames,
        coefficients=looks.coefficients,
    )  # fmt: skip
    # A store that may only be read, or a full disk: the next one looks again.
    with contextlib.suppress(OSError):
        make_shared(store.twins)
        replace_shared(store.looks, data.getvalue())
