"""The images that were compared with the test images, or were there before any were."""

import contextlib
import io

import numpy as np

from mri_hpc.base.access import make_shared, replace_shared
from mri_hpc.storage.store import Snapshot, Store


def read_compared(store: Store) -> np.ndarray | None:
    """Read the keys of these images, uint64, (n,); None where nothing tells them."""
    try:
        found = np.load(io.BytesIO(store.compared.read_bytes()), allow_pickle=False)
    except (OSError, EOFError, ValueError):
        return None
    return found if isinstance(found, np.ndarray) and found.dtype == np.uint64 else None


def keep_compared(store: Store, snapshot: Snapshot) -> None:
    """Keep the keys of all images of a snapshot as compared."""
    data = io.BytesIO()
    np.save(data, snapshot.column("key").astype(np.uint64))
    # A store that others own, or a full disk: it is said that the next images are not compared.
    with contextlib.suppress(OSError):
        make_shared(store.twins)
        replace_shared(store.compared, data.getvalue())
