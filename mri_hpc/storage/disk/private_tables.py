"""The private tables: names (which file and patient is which) and seen (which files were read, as they were).

A table is the set of its lines, whichever files hold them, so a line that two files hold does no harm.
"""

import contextlib
import csv
import io
import re
from collections.abc import Callable, Container, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np

from mri_hpc.storage.disk.layout import StoreDir

NAMES = ("key", "path", "patient", "patient_name", "study", "study_name", "rejected")
NAMES_AND_IDS = ("patient", "patient_name", "study", "study_name")
SEEN = np.dtype([("key", "<u8"), ("size", "<i8"), ("mtime_ns", "<i8"), ("source_hash", "<u8")])
HEADER = ",".join(NAMES)
KEY_LETTERS = 16
KEY = re.compile("[0-9a-f]{16}")
# A path below a root never has two slashes side by side.
LINE_ENDS = {"\n": "//n", "\r": "//r"}

T = TypeVar("T")


def read_names(data: bytes, keys: Container[str] | None = None) -> list[dict[str, str]]:
    """Read rows of one file of names; a damaged one gives all but the lines damaged beyond reading.

    keys: those whose rows are wanted, as texts; None: all.
    """
    rows = (_cells(line) for line in lines_of(data) if keys is None or line[:KEY_LETTERS] in keys)
    return [
        {**dict(zip(NAMES, cells, strict=True)), "path": _inlines_of(cells[1])}
        for cells in rows
        if len(cells) == len(NAMES) and KEY.fullmatch(cells[0])
    ]


def names_csv(rows: Iterable[tuple[str, ...]]) -> bytes:
    """Return a file of names, a line a row; line ends in paths are ``//n`` and ``//r``. rows: as in NAMES."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(NAMES)
    writer.writerows((key, _in_one_line(path), *others) for key, path, *others in rows)
    return text.getvalue().encode("utf-8", "surrogateescape")


def lines_of(data: bytes) -> list[str]:
    """Return the lines of a file of names but for the first, or what is left of them."""
    lines = (line.removesuffix("\r") for line in data.decode("utf-8", "surrogateescape").split("\n"))
    return [line for line in lines if line not in ("", HEADER)]


def _cells(line: str) -> list[str]:
    """Return the cells of one line; a quote that damage has put into it is taken as it is."""
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


def _inlines_of(path: str) -> str:
    for end, written in LINE_ENDS.items():
        path = path.replace(written, end)
    return path


def read_seen(data: bytes) -> np.ndarray:
    """Read the rows of one file of what was seen, as in SEEN; of a damaged one what can be read of it."""
    return np.frombuffer(data[: len(data) // SEEN.itemsize * SEEN.itemsize], SEEN)


def table_files(folder: Path, suffix: str) -> list[Path]:
    """List the files of one table."""
    return sorted(folder.glob(f"[!.]*.{suffix}"))


def contents_of(files: Iterable[Path]) -> Iterator[tuple[Path, bytes]]:
    """Yield files and what they hold, but for those that another task has folded into a new one meanwhile."""
    for path in files:
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            continue
        yield path, data


def find_in_names(
    store: StoreDir,
    find: Callable[[list[dict[str, str]]], T],
    files: Iterable[Path] | None = None,
    keys: Container[str] | None = None,
) -> dict[Path, T]:
    """Return what `find` finds in each table of names; two of them may hold the same row.

    files: the tables that are looked at, unless one of them is gone; None: all. keys: as in read_names.
    """
    if files is not None:
        files = list(files)
        found = {path: find(read_names(data, keys)) for path, data in contents_of(files)}
        if len(found) == len(files):
            return found
    found, looked_at = {}, set[Path]()
    # A table that goes has been folded into another, which a later listing tells of.
    while new := set(table_files(store.names, "csv")) - looked_at:
        found |= {path: find(read_names(data, keys)) for path, data in contents_of(sorted(new))}
        looked_at |= new
    return found


def names_of_ids(store: StoreDir) -> dict[str, str]:
    """Return the name in the store of each id that labels gave, but for those of patients who were retracted.

    A line costs one to two microseconds: no more of it is looked at than is needed.
    """
    found: dict[str, str] = {}
    looked_at: set[Path] = set()
    while new := set(table_files(store.names, "csv")) - looked_at:
        looked_at |= new
        for _path, data in contents_of(sorted(new)):
            cells = (_cells(line) if '"' in line else line.split(",", 4) for line in lines_of(data))
            found.update({(one[2], one[3]) for one in cells if len(one) > 4})
    found.pop("", None)
    return found


def names_and_ids(store: StoreDir) -> set[str]:
    """Return what patients and studies are called, by the labels and in the store.

    PermissionError where the private folder is not this user's to read.
    """

    def of_rows(rows: list[dict[str, str]]) -> set[str]:
        return {row[column] for row in rows for column in NAMES_AND_IDS}

    # Listing would pass over a folder that cannot be read.
    next(store.names.iterdir(), None)
    found = set[str]().union(*find_in_names(store, of_rows).values())
    return found - {""}


def sources_of(store: StoreDir, keys: Iterable[int], files: Iterable[Path] | None = None) -> dict[int, str]:
    """Find paths of the sources of some images, by key, as far as the private folder tells them this user.

    files: the tables that are looked at, unless one of them is gone; None: all.
    """
    wanted = {f"{key:016x}" for key in keys}

    def paths(rows: list[dict[str, str]]) -> dict[int, str]:
        return {int(row["key"], 16): row["path"] for row in rows}

    try:
        found = find_in_names(store, paths, files, wanted).values()
    except PermissionError:
        return {}
    return {key: path for some in found for key, path in some.items()}
