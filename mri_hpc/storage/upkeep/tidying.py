"""Tidying of the private tables: many small files become few, and lines of retracted patients go."""

import contextlib
import csv
import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from mri_hpc.base.access import publish_private, replace_private
from mri_hpc.base.atomic import sync_folder
from mri_hpc.storage.disk.evidence import evidence_csv, read_evidence
from mri_hpc.storage.disk.layout import StoreDir
from mri_hpc.storage.disk.private_tables import (
    KEY,
    contents_of,
    lines_of,
    names_csv,
    read_names,
    read_seen,
    table_files,
)
from mri_hpc.storage.snapshot.retractions import Retractions
from mri_hpc.storage.snapshot.table import RETRACTED, RETRACTED_IMAGE

MOST_FILES = 64
MOST_BYTES = 16 * 2**20
FOLDED = "folded-"


def tidy(store: StoreDir, retracted: Retractions) -> None:
    """Fold small files where there are many; take out what is retracted."""

    def stays(row: dict[str, str]) -> bool:
        # A file that is still in the source is listed as rejected: the user has to find it.
        key, patient = int(row["key"], 16), row["patient_name"]
        return row["rejected"] in (RETRACTED, RETRACTED_IMAGE) or not retracted.covers([key], patient)

    def kept(data: bytes) -> list[tuple[str, ...]]:
        return [tuple(row.values()) for row in read_names(data) if stays(row)]

    def names(files: Sequence[bytes]) -> bytes:
        return names_csv(sorted({row for data in files for row in kept(data)}))

    def seen(files: Sequence[bytes]) -> bytes:
        table = np.unique(np.concatenate([read_seen(data) for data in files]))
        return table[~retracted.has_keys(table["key"])].tobytes()

    def names_are_due(data: bytes) -> bool:
        # A line that cannot be read may be anybody's.
        return len(kept(data)) < len(lines_of(data))

    def seen_are_due(data: bytes) -> bool:
        return bool(retracted.has_keys(read_seen(data)["key"]).any())

    def evidence(files: Sequence[bytes]) -> bytes:
        rows = (row for data in files for row in read_evidence(data))
        return evidence_csv(row for row in rows if not retracted.covers((), row.patient_name))

    def evidence_is_due(data: bytes) -> bool:
        # A line that cannot be read may be anybody's.
        return evidence([data]) != data

    if retracted:
        _fold_each(store.persons, "csv", evidence, evidence_is_due)
        _fold_each(store.names, "csv", names, names_are_due)
        _fold_each(store.seen, "bin", seen, seen_are_due)
        _tidy_deliveries(store, retracted)
    _fold_small(store.names, "csv", names)
    _fold_small(store.seen, "bin", seen)


def _tidy_deliveries(store: StoreDir, retracted: Retractions) -> None:
    """Take what is retracted out of the tables of images to which chains object; an empty one goes."""

    def stays(row: dict[str, str]) -> bool:
        # A line that cannot be read may be anybody's.
        key = row.get("key") or ""
        return bool(KEY.fullmatch(key)) and not retracted.covers([int(key, 16)], row.get("patient") or "")

    for path in store.delivery_tables():
        # Another task may tidy at the same time.
        with contextlib.suppress(FileNotFoundError):
            text = path.read_bytes().decode("utf-8", "surrogateescape")
            table = csv.DictReader(io.StringIO(text, newline=""))
            rows = list(table)
            kept = [row for row in rows if stays(row)]
            if not kept:
                path.unlink()
            elif len(kept) < len(rows):
                replace_private(path, _as_csv(table.fieldnames or (), kept))


def _as_csv(columns: Sequence[str], rows: Sequence[dict[str, str]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode("utf-8", "surrogateescape")


def _fold_each(
    folder: Path, suffix: str, joined: Callable[[Sequence[bytes]], bytes], is_due: Callable[[bytes], bool]
) -> None:
    """Publish those files anew that are due, each by itself: the others keep the names of their commits."""
    for path, data in contents_of(table_files(folder, suffix)):
        if is_due(data):
            _replace(folder, {path: data}, suffix, joined)


def _fold_small(folder: Path, suffix: str, joined: Callable[[Sequence[bytes]], bytes]) -> None:
    """Publish one file of what the small files of a folder hold where they are many, then remove them."""
    small = _smallest(table_files(folder, suffix))
    if len(small) > MOST_FILES:
        _replace(folder, dict(contents_of(small)), suffix, joined)


def _smallest(files: Sequence[Path]) -> list[Path]:
    """Choose the smallest files, as many as fit into MOST_BYTES together."""
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


def _replace(
    folder: Path, found: Mapping[Path, bytes], suffix: str, joined: Callable[[Sequence[bytes]], bytes]
) -> None:
    """Publish one file of what some files hold together, then remove them. found: what they hold."""
    if not found:
        return
    data = joined(list(found.values()))
    if set(found.values()) == {data}:
        return
    target = folder / f"{FOLDED}{hashlib.sha256(data).hexdigest()[:24]}.{suffix}"
    publish_private(target, data)
    for path in found:
        if path != target:
            path.unlink(missing_ok=True)
    sync_folder(folder)
