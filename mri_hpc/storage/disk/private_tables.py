"""The private tables: names (which file and patient is which) and seen (which files were read, as they were).

A table is the set of its lines, whichever files hold them, so a line that two files hold does no harm. Many
small files become few, and lines of withdrawn patients go.
"""

import contextlib
import csv
import hashlib
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from mri_hpc.base.atomic import publish_new_bytes, sync_folder
from mri_hpc.storage.disk.layout import StoreDir
from mri_hpc.storage.snapshot.table import RETRACTED, Snapshot

NAMES = ("key", "path", "patient", "patient_name", "study", "study_name", "rejected")
SEEN = np.dtype([("key", "<u8"), ("size", "<i8"), ("mtime_ns", "<i8"), ("source_hash", "<u8")])
HEADER = ",".join(NAMES)
KEY = re.compile("[0-9a-f]{16}")
# A path below a root never has two slashes side by side.
LINE_ENDS = {"\n": "//n", "\r": "//r"}
MOST_FILES = 64
MOST_BYTES = 16 * 2**20
FOLDED = "folded-"

T = TypeVar("T")


def tidy(store: StoreDir, snapshot: Snapshot) -> None:
    """Fold small files where there are many; take out lines of withdrawn patients. snapshot: the newest."""
    patients = {name.decode() for name in snapshot.retracted_patients.tolist()}
    keys = {f"{key:016x}" for key in snapshot.retracted_keys.tolist()}

    def kept(data: bytes) -> list[tuple[str, ...]]:
        # A file that is still in the source is listed as rejected: somebody has to find it.
        return [
            tuple(row.values())
            for row in read_names(data)
            if row["rejected"] == RETRACTED or not (row["patient_name"] in patients or row["key"] in keys)
        ]

    def names(files: Sequence[bytes]) -> bytes:
        return names_csv(sorted({row for data in files for row in kept(data)}))

    def seen(files: Sequence[bytes]) -> bytes:
        table = np.unique(np.concatenate([read_seen(data) for data in files]))
        return table[~np.isin(table["key"], snapshot.retracted_keys)].tobytes()

    def names_are_due(data: bytes) -> bool:
        # Of a line that cannot be read nobody can tell whose it is.
        return len(kept(data)) < len(_lines(data))

    def seen_are_due(data: bytes) -> bool:
        return bool(np.isin(read_seen(data)["key"], snapshot.retracted_keys).any())

    if patients or keys:
        _fold_each(store.names, "csv", names, names_are_due)
        _fold_each(store.seen, "bin", seen, seen_are_due)
    _fold_small(store.names, "csv", names)
    _fold_small(store.seen, "bin", seen)


def read_names(data: bytes) -> list[dict[str, str]]:
    """Rows of one file of names; a damaged one gives all but the lines that are damaged beyond reading."""
    rows = (_cells(line) for line in _lines(data))
    return [
        {**dict(zip(NAMES, cells, strict=True)), "path": _in_lines(cells[1])}
        for cells in rows
        if len(cells) == len(NAMES) and KEY.fullmatch(cells[0])
    ]


def names_csv(rows: Iterable[tuple[str, ...]]) -> bytes:
    """A file of names, a line a row; line ends in paths are ``//n`` and ``//r`` there. rows: as in NAMES."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(NAMES)
    writer.writerows((key, _in_one_line(path), *others) for key, path, *others in rows)
    return text.getvalue().encode("utf-8", "surrogateescape")


def _lines(data: bytes) -> list[str]:
    """Lines of a file of names but for the first, or what is left of them."""
    lines = (line.removesuffix("\r") for line in data.decode("utf-8", "surrogateescape").split("\n"))
    return [line for line in lines if line not in ("", HEADER)]


def _cells(line: str) -> list[str]:
    """Cells of one line; a quote that damage has put into it is taken as it is."""
    if '"' in line:
        with contextlib.suppress(csv.Error):
            cells = next(csv.reader([line], strict=True))
            if len(cells) == len(NAMES):
                return cells
    return line.split(",")


def _in_one_line(path: str) -> str:
    for end, written in LINE_ENDS.items():
        path = path.replace(end, written)
    return path


def _in_lines(path: str) -> str:
    for end, written in LINE_ENDS.items():
        path = path.replace(written, end)
    return path


def read_seen(data: bytes) -> np.ndarray:
    """Rows of one file of what was seen, as in SEEN; of a damaged one what can be read of it."""
    return np.frombuffer(data[: len(data) // SEEN.itemsize * SEEN.itemsize], SEEN)


def _fold_each(
    folder: Path, suffix: str, joined: Callable[[Sequence[bytes]], bytes], is_due: Callable[[bytes], bool]
) -> None:
    """Publish those files anew that are due, each by itself: the others keep the names of their commits."""
    for path, data in _contents(_files(folder, suffix)):
        if is_due(data):
            _replace(folder, {path: data}, suffix, joined)


def _fold_small(folder: Path, suffix: str, joined: Callable[[Sequence[bytes]], bytes]) -> None:
    """Publish what the small files of a folder say together where they are many, then remove them."""
    small = _smallest(_files(folder, suffix))
    if len(small) > MOST_FILES:
        _replace(folder, dict(_contents(small)), suffix, joined)


def _files(folder: Path, suffix: str) -> list[Path]:
    return sorted(folder.glob(f"[!.]*.{suffix}"))


def _contents(files: Iterable[Path]) -> Iterator[tuple[Path, bytes]]:
    """Files and what they hold, but for those that somebody else folds, and has published, meanwhile."""
    for path in files:
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            continue
        yield path, data


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


def find_in_names(
    store: StoreDir, find: Callable[[list[dict[str, str]]], T], files: Iterable[Path] | None = None
) -> dict[Path, T]:
    """What `find` finds in each table of which source is which; two of them may hold the same row.

    files: the tables that are looked at, unless one of them is gone; None: all.
    """
    if files is not None:
        files = list(files)
        found = {path: find(read_names(data)) for path, data in _contents(files)}
        if len(found) == len(files):
            return found
    found, looked_at = {}, set[Path]()
    # A table that goes has been folded into another, which a later listing tells of.
    while new := set(_files(store.names, "csv")) - looked_at:
        found |= {path: find(read_names(data)) for path, data in _contents(sorted(new))}
        looked_at |= new
    return found


def sources_of(store: StoreDir, keys: Iterable[int], files: Iterable[Path] | None = None) -> dict[int, str]:
    """Paths of the sources of some images, by key, as far as the private folder names them to this user.

    files: the tables that are looked at, unless one of them is gone; None: all.
    """
    wanted = {f"{key:016x}" for key in keys}

    def paths(rows: list[dict[str, str]]) -> dict[int, str]:
        return {int(row["key"], 16): row["path"] for row in rows if row["key"] in wanted}

    try:
        found = find_in_names(store, paths, files).values()
    except PermissionError:
        return {}
    return {key: path for some in found for key, path in some.items()}


def _replace(
    folder: Path, found: Mapping[Path, bytes], suffix: str, joined: Callable[[Sequence[bytes]], bytes]
) -> None:
    """Publish what some files say together, then remove them. found: what they hold."""
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
