"""Parts: arrays kept beside a store to save work, in files that never change: what is new is a new one."""

import contextlib
import hashlib
import io
import tokenize
import zipfile
from collections.abc import Callable, Mapping

import numpy as np

from mri_hpc.base.access import publish_shared
from mri_hpc.storage.store import Store

# By its own type, names of arrays are mistaken for its switch.
SAVE: Callable[..., None] = np.savez
# What zipfile makes of a flag or a version that no sound part has is a RuntimeError. numpy reads a header as
# Python, and a damaged one may end its tokenizer before the checksum of the part is reached.
DAMAGED_ZIP = (EOFError, RuntimeError, SyntaxError, tokenize.TokenError, zipfile.BadZipFile)
MOST_PARTS = 16
"""So many become one."""


def read_parts(store: Store, kind: str, wanted: Mapping[str, np.ndarray]) -> dict[str, np.ndarray] | None:
    """Read the arrays of all parts of a kind, rows behind rows; None where there is none.

    wanted: arrays of no rows, by name, of the types and shapes that are kept. A part that is damaged is
    removed: all of it can be made again.
    """
    found = []
    for path in store.kept_parts(kind):
        try:
            found.append(_read(path.read_bytes(), wanted))
        except OSError:
            # Another task has just joined it with others, or it cannot be read for now.
            continue
        except (*DAMAGED_ZIP, KeyError, ValueError):
            with contextlib.suppress(OSError):
                path.unlink()
    return {name: np.concatenate([part[name] for part in found]) for name in wanted} if found else None


def keep_part(store: Store, kind: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Keep new rows; where there are many parts, one of them all. A store that may only be read gets none."""
    with contextlib.suppress(OSError):
        before = store.kept_parts(kind)
        if len(before) < MOST_PARTS:
            _publish(store, kind, arrays)
            return
        empty = {name: values[:0] for name, values in arrays.items()}
        joined = read_parts(store, kind, empty) or empty
        kept = _publish(store, kind, {name: np.concatenate([joined[name], arrays[name]]) for name in arrays})
        for path in before:
            if path.name != kept:
                path.unlink(missing_ok=True)


def _publish(store: Store, kind: str, arrays: Mapping[str, np.ndarray]) -> str:
    data = io.BytesIO()
    SAVE(data, **arrays)
    store.make_twins()
    path = store.twins / f"{kind}-{hashlib.sha256(data.getvalue()).hexdigest()[:16]}.npz"
    publish_shared(path, data.getvalue())
    return path.name


def _read(data: bytes, wanted: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(data), allow_pickle=False) as part:
        arrays = {name: part[name] for name in wanted}
    for name, array in arrays.items():
        if array.dtype != wanted[name].dtype or array.shape[1:] != wanted[name].shape[1:]:
            raise ValueError("not as it is kept")
    if len({len(array) for array in arrays.values()}) != 1:
        raise ValueError("not as it is kept")
    return arrays
