"""Folding: the snapshot of a set of commits, a pure function of that set.

Of several stored versions of one image, the one replaced most often wins; of those, the one of least content.
That is the greatest element of a total order on what is stored, wherever it is stored, so that neither the
order in which commits arrived, nor when they were folded, nor how chunks are cut can matter.
"""

import functools
import hashlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from mri_hpc.base.errors import StoreDamage, UserError
from mri_hpc.intake.labels import MOST_CLASSES
from mri_hpc.storage.disk.columns import STRINGS, ChunkHead, column_bytes
from mri_hpc.storage.disk.commits import Commit
from mri_hpc.storage.snapshot import corrections as relabels
from mri_hpc.storage.snapshot import rows as table_rows
from mri_hpc.storage.snapshot.live import mentions, sizes_of_live
from mri_hpc.storage.snapshot.rejections import fold_rejected
from mri_hpc.storage.snapshot.retractions import Retractions, of_commits
from mri_hpc.storage.snapshot.rows import Rows
from mri_hpc.storage.snapshot.table import CHUNKS, CONTENT, WITHHELD, Snapshot, lazy_snapshot

MANY_ROWS = 2**20
"""From so many on, columns are summed up side by side: more threads would hold more columns in memory."""
DIGEST_THREADS = 2


def digest_of(commit_ids: Iterable[str]) -> str:
    """The digest of a set of commits."""
    return hashlib.sha256("\n".join(sorted(commit_ids)).encode()).hexdigest()[:32]


def fold(
    base: Snapshot | None,
    new: Sequence[Commit],
    head_of: Callable[[str], ChunkHead],
    *,
    only: np.ndarray | None = None,
) -> Snapshot:
    """The snapshot of the commits of `base` and of `new`.

    head_of: gives everything but the pixels of a chunk; asked for chunks that are new and hold content now.
    only: keys, ascending; then it tells of them alone, and its digest of content is of them alone.
    """
    compacted = mentions(base, new)
    retracted = _retracted(base, new)
    corrected = relabels.merged(_facts(base, "relabels", "relabel_names", relabels.RELABELS), new)

    sizes = sizes_of_live(base, new, compacted)
    kept = _kept_of(base, sizes)
    heads = {name: head_of(name) for name in sorted(sizes.keys() - kept)}
    chunks = _chunks(base, kept, heads, sizes)
    rows = table_rows.merged(_rows_of_base(base, kept, chunks, only), _rows_of_heads(heads, chunks, only))
    rows, ingested = _corrected(rows, corrected)
    rows, withheld = _without_retracted(rows, chunks, retracted)
    rows, ingested = table_rows.with_types(rows), relabels.only(ingested, rows.key)

    rejected, reasons = fold_rejected(base, new, only)
    known = [] if base is None else base.commits.tolist()
    commits = sorted({*known, *(commit.id.encode() for commit in new)})
    small: dict[str, Any] = {
        "digest": digest_of(name.decode() for name in commits),
        "image_shape": _only_shape({head.image_shape for head in heads.values()}, base if kept else None),
        "classes": _classes(rows),
        "patient_names": rows.tables["patient"],
        "study_names": rows.tables["study"],
        "commits": np.array(commits, "S32"),
        "chunks": chunks,
        "compacted": compacted,
        "relabels": corrected.rows,
        "relabel_names": corrected.names,
        "ingested": ingested.rows,
        "ingested_names": ingested.names,
        "retracted_keys": retracted.keys,
        "retracted_patients": retracted.patients,
        "withheld": withheld,
        "rejected": rejected,
        "reasons": reasons,
        "key": rows.key,
    }
    return lazy_snapshot(small, rows.column, sum_up=functools.partial(_content_digest, rows))


def _retracted(base: Snapshot | None, new: Iterable[Commit]) -> Retractions:
    found = of_commits(new)
    return found if base is None else found.joined(base.retractions)


def _facts(base: Snapshot | None, rows: str, names: str, dtype: np.dtype) -> relabels.Facts:
    if base is None:
        return relabels.none(dtype)
    return relabels.Facts(rows=np.asarray(getattr(base, rows)), names=np.asarray(getattr(base, names)))


def _kept_of(base: Snapshot | None, sizes: dict[str, int]) -> set[str]:
    """Chunks whose rows are taken from `base`; the others that hold content are read.

    Rows that are withheld are not in `base`, and a correction can bring them back. Nor are copies that lost
    against others: where a chunk has been superseded since, they may be what is left.
    """
    if base is None:
        return set()
    names = np.array([name.decode() for name in base.chunks["name"].tolist()], object)
    kept = sizes.keys() & set(names.tolist())
    kept -= {name.decode() for name in base.withheld["chunk"].tolist()}
    if len(sizes.keys() & set(names.tolist())) < len(names):
        used = np.bincount(base.chunk, minlength=len(names))
        kept -= set(names[used < base.chunks["images"]].tolist())
    return kept


def _chunks(
    base: Snapshot | None, kept: set[str], heads: dict[str, ChunkHead], sizes: dict[str, int]
) -> np.ndarray:
    known = [] if base is None else base.chunks.tolist()
    rows = [row for row in known if row[0].decode() in kept]
    rows += [(name.encode(), head.offset, len(head), sizes[name]) for name, head in heads.items()]
    return np.array(sorted(rows), CHUNKS)


def _rows_of_base(base: Snapshot | None, kept: set[str], chunks: np.ndarray, only: np.ndarray | None) -> Rows:
    """Rows of the chunks that stay, with what was said of them when they were ingested."""
    if base is None:
        return table_rows.none()
    rows = table_rows.of_base(base, np.searchsorted(chunks["name"], base.chunks["name"]).astype("<i4"))
    rows = table_rows.with_facts(rows, _facts(base, "ingested", "ingested_names", relabels.INGESTED))
    which = None if only is None else positions(rows.key, only)[1]
    if len(kept) < len(base.chunks):
        stays = np.isin(base.chunks["name"], np.array(sorted(kept), "S32"))
        which = np.flatnonzero(stays[base.chunk]) if which is None else which[stays[base.chunk[which]]]
    return rows if which is None else rows.chosen(which)


def _rows_of_heads(heads: dict[str, ChunkHead], chunks: np.ndarray, only: np.ndarray | None) -> Rows:
    places = {name: int(np.searchsorted(chunks["name"], name.encode())) for name in heads}
    rows = table_rows.of_heads([(head, places[name]) for name, head in heads.items()])
    if only is not None:
        rows = rows.chosen(np.isin(rows.key, only))
    return table_rows.winners(rows)


def positions(key: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which of the wanted keys are among others, and where: bool, (w,), and int64. Both ascending, unique."""
    if not len(key):
        return np.zeros(len(wanted), bool), np.empty(0, np.int64)
    at = np.minimum(np.searchsorted(key, wanted), len(key) - 1)
    is_there = key[at] == wanted
    return is_there, at[is_there]


def _corrected(rows: Rows, corrected: relabels.Facts) -> tuple[Rows, relabels.Facts]:
    """Rows with corrections laid over them, and what these rows said before."""
    is_there, at = positions(rows.key, corrected.rows["key"])
    if not len(at):
        return rows, relabels.none(relabels.INGESTED)
    before = np.zeros(len(at), relabels.INGESTED)
    for name in ("key", *relabels.NUMBERS):
        before[name] = rows.column(name)[at]
    texts = {
        name: np.append(rows.tables[name], np.bytes_(b""))[rows.column(name)[at]] for name in relabels.TEXTS
    }
    now = relabels.Facts(rows=corrected.rows[is_there], names=corrected.names)
    return table_rows.with_facts(rows, now), relabels.coded(before, texts)


def _without_retracted(rows: Rows, chunks: np.ndarray, retracted: Retractions) -> tuple[Rows, np.ndarray]:
    """Drop retracted rows; return also WITHHELD, of those that only their patient's name keeps out."""
    gone = positions(rows.key, retracted.keys)[1]
    is_meant = np.append(retracted.has_patients(rows.tables["patient"]), False)
    of_patients = np.empty(0, np.int64)
    if is_meant.any():
        of_patients = np.setdiff1d(np.flatnonzero(is_meant[rows.column("patient")]), gone)
    withheld = np.zeros(len(of_patients), WITHHELD)
    withheld["key"] = rows.key[of_patients]
    if len(of_patients):
        withheld["chunk"] = chunks["name"][rows.column("chunk")[of_patients]]
    return rows.without(np.concatenate([gone, of_patients])), withheld


def _classes(rows: Rows) -> tuple[str, ...]:
    classes = tuple(name.decode() for name in rows.tables["label"].tolist())
    if len(classes) > MOST_CLASSES:
        raise UserError(f"{len(classes)} classes are more than {MOST_CLASSES}: are the labels one a file?")
    return classes


def _only_shape(shapes: set[tuple[int, int]], base: Snapshot | None) -> tuple[int, int]:
    if base is not None:
        shapes = shapes | {base.image_shape}
    if len(shapes) > 1:
        raise StoreDamage(
            f"the store holds images of different shapes: {sorted(shapes)}; its recipe.json was changed"
        )
    return shapes.pop() if shapes else (0, 0)


def _content_digest(rows: Rows) -> str:
    """Sum up what is stored, by key. The tables are sorted and without waste, so codes stand for names."""
    digest, columns = hashlib.sha256(), (*CONTENT, *STRINGS)
    if len(rows) < MANY_ROWS:
        of_columns = [_column_digest(rows, name) for name in columns]
    else:
        with ThreadPoolExecutor(DIGEST_THREADS) as threads:
            of_columns = list(threads.map(functools.partial(_column_digest, rows), columns))
    for of_column in of_columns:
        digest.update(of_column)
    for name in STRINGS:
        digest.update(hashlib.sha256(column_bytes(rows.tables[name])).digest())
    return digest.hexdigest()[:32]


def _column_digest(rows: Rows, name: str) -> bytes:
    digest = hashlib.sha256()
    for part in rows.blocks(name):
        digest.update(column_bytes(part))
    return digest.digest()
