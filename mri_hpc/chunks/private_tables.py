"""The private tables: names (which file and patient is which) and seen (which files were read, as they were).

A table is the set of its lines, whichever files hold them, so a line that two files hold does no harm. Many
small files become few, and lines of withdrawn patients go.
"""

import csv
import hashlib
import io
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from mri_hpc.base.atomic import publish_new_bytes, sync_folder
from mri_hpc.chunks.layout import StoreDir
from mri_hpc.chunks.table import RETRACTED, Snapshot

NAMES = ("key", "path", "patient", "patient_name", "study", "study_name", "rejected")
SEEN = np.dtype([("key", "<u8"), ("size", "<i8"), ("mtime_ns", "<i8"), ("source_hash", "<u8")])
MOST_FILES = 64
MOST_BYTES = 16 * 2**20
FOLDED = "folded-"


def tidy(store: StoreDir, snapshot: Snapshot) -> None:
    """Fold small files where there are many; take out lines of withdrawn patients. snapshot: the newest."""
    patients = {name.decode() for name in snapshot.retracted_patients.tolist()}
    keys = {f"{key:016x}" for key in snapshot.retracted_keys.tolist()}

    def without_withdrawn(row: dict[str, str]) -> bool:
        # A file that is still in the source is listed as rejected: somebody has to find it.
        return row["rejected"] == RETRACTED or not (row["patient_name"] in patients or row["key"] in keys)

    def names(files: Sequence[bytes]) -> bytes:
        rows = [row for data in files for row in read_names(data) if without_withdrawn(row)]
        return names_csv(sorted({tuple(row.values()) for row in rows}))

    def seen(files: Sequence[bytes]) -> bytes:
        table = np.unique(np.concatenate([read_seen(data) for data in files]))
        return table[~np.isin(table["key"], snapshot.retracted_keys)].tobytes()

    has_withdrawn = bool(patients or keys)
    _fold(store.names, "csv", names, has_withdrawn=has_withdrawn)
    _fold(store.seen, "bin", seen, has_withdrawn=has_withdrawn)


def read_names(data: bytes) -> list[dict[str, str]]:
    """Rows of one file of names; a damaged one gives what can be read of it."""
    text = data.decode("utf-8", "surrogateescape")
    rows = csv.DictReader(io.StringIO(text, newline=""))
    return [{name: row.get(name) or "" for name in NAMES} for row in rows]


def names_csv(rows: Iterable[tuple[str, ...]]) -> bytes:
    """A file of names. rows: as in NAMES."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(NAMES)
    writer.writerows(rows)
    return text.getvalue().encode("utf-8", "surrogateescape")


def read_seen(data: bytes) -> np.ndarray:
    """Rows of one file of what was seen, as in SEEN; of a damaged one what can be read of it."""
    return np.frombuffer(data[: len(data) // SEEN.itemsize * SEEN.itemsize], SEEN)


def _fold(
    folder: Path, suffix: str, joined: Callable[[Sequence[bytes]], bytes], *, has_withdrawn: bool
) -> None:
    """Publish what files of a folder say together, then remove them."""
    files = sorted(path for path in folder.glob(f"[!.]*.{suffix}"))
    if has_withdrawn:
        for path in files:
            _replace(folder, [path], suffix, joined)
        files = sorted(path for path in folder.glob(f"[!.]*.{suffix}"))
    small = _smallest(files)
    if len(small) > MOST_FILES:
        _replace(folder, small, suffix, joined)


def _smallest(files: Sequence[Path]) -> list[Path]:
    """The smallest files, as many as fit into MOST_BYTES together."""
    chosen, total = [], 0
    for size, path in sorted((_size(path), path) for path in files):
        total += size
        if total > MOST_BYTES:
            break
        chosen.append(path)
    return chosen


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def tables_of_names(store: StoreDir) -> list[Path]:
    """The tables of which source is which."""
    return sorted(store.names.glob("[!.]*.csv"))


def sources_of(store: StoreDir, keys: Iterable[int], files: Iterable[Path] | None = None) -> dict[int, str]:
    """Paths of the sources of some images, by key, as far as the private folder names them to this user.

    files: the tables that are looked at; None: all.
    """
    wanted = {f"{key:016x}" for key in keys}
    found: dict[int, str] = {}
    try:
        for file in tables_of_names(store) if files is None else files:
            rows = read_names(file.read_bytes())
            found |= {int(row["key"], 16): row["path"] for row in rows if row["key"] in wanted}
    except FileNotFoundError:
        # Folded into another one at this moment, which says the same.
        return sources_of(store, [int(key, 16) for key in wanted])
    except PermissionError:
        return {}
    return found


def _replace(
    folder: Path, files: Sequence[Path], suffix: str, joined: Callable[[Sequence[bytes]], bytes]
) -> None:
    found = {}
    for path in files:
        try:
            found[path] = path.read_bytes()
        except FileNotFoundError:
            # Somebody else folds it at the same time, and has published what it says.
            continue
    if not found:
        return
    data = joined(list(found.values()))
    if set(found.values()) == {data}:
        return
    target = folder / f"{FOLDED}{hashlib.sha256(data).hexdigest()[:24]}.{suffix}"
    publish_new_bytes(target, data, is_private=True)
    for path in found:
        if path != target:
            path.unlink(missing_ok=True)
    sync_folder(folder)
