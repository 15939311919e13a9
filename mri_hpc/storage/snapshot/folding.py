"""Folding: the snapshot of a set of commits, a pure function of that set.

Of several stored versions of one image, the one replaced most often wins; of those, the one of least content.
That is the greatest element of a total order on what is stored, wherever it is stored, so that neither the
order in which commits arrived, nor when they were folded, nor how chunks are cut can matter.
"""

import functools
import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from mri_hpc.base.errors import StoreDamage, UserError
from mri_hpc.intake.labels.label import MOST_CLASSES
from mri_hpc.storage.disk.columns import OPTIONAL, STRINGS, ChunkHeader, ascending, column_bytes
from mri_hpc.storage.disk.commits import Commit, digest_of
from mri_hpc.storage.snapshot import relabels
from mri_hpc.storage.snapshot import rows as table_rows
from mri_hpc.storage.snapshot.persons import Persons
from mri_hpc.storage.snapshot.persons import merged as merged_persons
from mri_hpc.storage.snapshot.rejections import fold_rejected
from mri_hpc.storage.snapshot.retractions import Retractions, of_commits
from mri_hpc.storage.snapshot.rows import Rows
from mri_hpc.storage.snapshot.table import (
    CHUNKS,
    COMPACTED,
    CONTENT,
    WITHHELD,
    Snapshot,
    lazy_snapshot,
    names_of,
)
from mri_hpc.storage.snapshot.windows import fold_windows

FEW_ROWS = 2**18
"""Up to so many a column is made once, and not each time that it is asked for: all take 20 MB at most."""
MANY_ROWS = 2**20
"""From so many on, columns are summed up side by side: more threads would hold more columns in memory."""
DIGEST_THREADS = 2


# Key 7 is in two commits: in A with generation 0 and label "glioma", in B, by a --replace, with generation 1.
# The row of B wins, whether A or B was published, read or folded first; that of A is shadowed from then on.
# Were both of generation 0, as of two tasks that read different bytes, the row of smaller source_hash would
# win, and of equal hashes that of smaller crc, fold, split and so on. Of equal rows the chunk of smaller name
# decides. A relabel of key 7 is laid over the row that won, and the one name of its patient over that; what
# they cover goes to `ingested`.
def fold(
    base: Snapshot | None,
    new: Sequence[Commit],
    header_of: Callable[[str], ChunkHeader],
    *,
    only: np.ndarray | None = None,
) -> Snapshot:
    """Return the snapshot of the commits of `base` and of `new`.

    header_of: reads the header of a chunk; called for chunks that are new and hold content now.
    only: keys, ascending; then it tells of them alone, and its digest of content is of them alone.
    """
    compacted = mentions(base, new)
    retracted = _retracted(base, new)
    relabelled = relabels.merged(_facts(base, "relabels", "relabel_names", relabels.RELABELS), new)
    statements = merged_persons(() if base is None else base.same_patients, new)
    persons = Persons(statements)

    sizes = sizes_of_live(base, new, compacted)
    kept = _kept_of(base, sizes)
    headers = {name: header_of(name) for name in sorted(sizes.keys() - kept)}
    chunks = _chunks(base, kept, headers, sizes)
    rows = table_rows.merged(_rows_of_base(base, kept, chunks, only), _rows_of_headers(headers, chunks, only))
    rows, ingested = _relabelled(rows, relabelled, persons)
    rows, withheld = _without_retracted(rows, chunks, retracted.of_persons(persons))
    rows, ingested = table_rows.with_types(rows), relabels.only(ingested, rows.key)
    if len(rows) <= FEW_ROWS:
        rows = table_rows.held(rows)

    rejected, reasons = fold_rejected(base, new, only)
    small: dict[str, Any] = {
        **_commits(base, new),
        **_only_form(
            {(*header.image_shape, header.bits) for header in headers.values()}, base if kept else None
        ),
        **_of_images(rows, ingested),
        "same_patients": statements,
        "chunks": chunks,
        "compacted": compacted,
        "relabels": relabelled.rows,
        "relabel_names": relabelled.names,
        "retracted_keys": retracted.keys,
        "retracted_patients": retracted.patients,
        "withheld": withheld,
        "windows": fold_windows(base, new, retracted),
        "rejected": rejected,
        "reasons": reasons,
    }
    return lazy_snapshot(
        small, rows.column, parts=rows.blocks, sum_up=functools.partial(_content_digest, rows)
    )


def _commits(base: Snapshot | None, new: Iterable[Commit]) -> dict[str, Any]:
    known = [] if base is None else base.commits.tolist()
    commits = sorted({*known, *(commit.id.encode() for commit in new)})
    return {"digest": digest_of(name.decode() for name in commits), "commits": np.array(commits, "S32")}


def _of_images(rows: Rows, ingested: relabels.Facts) -> dict[str, Any]:
    """Return what tells of images, but for the columns that are made when they are asked for."""
    return {
        "key": rows.key,
        "classes": _classes(rows),
        "patient_names": rows.tables["patient"],
        "study_names": rows.tables["study"],
        **{names_of(name): rows.tables[name] for name in OPTIONAL},
        "ingested": ingested.rows,
        "ingested_names": ingested.names,
    }


def _retracted(base: Snapshot | None, new: Iterable[Commit]) -> Retractions:
    found = of_commits(new)
    if base is None:
        return found
    # By the names that were given: who is one person may change.
    keys, patients = np.asarray(base.retracted_keys), np.asarray(base.retracted_patients)
    return found.joined(Retractions(keys=keys, patients=patients))


def _facts(base: Snapshot | None, rows: str, names: str, dtype: np.dtype) -> relabels.Facts:
    if base is None:
        return relabels.none(dtype)
    return relabels.Facts(rows=np.asarray(getattr(base, rows)), names=np.asarray(getattr(base, names)))


def _kept_of(base: Snapshot | None, sizes: dict[str, int]) -> set[str]:
    """Return the chunks whose rows are taken from `base`; the others that hold content are read.

    Rows that are withheld are not in `base`, and a relabel can bring them back. Nor are copies that lost
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
    base: Snapshot | None, kept: set[str], headers: dict[str, ChunkHeader], sizes: dict[str, int]
) -> np.ndarray:
    known = [] if base is None else base.chunks.tolist()
    rows = [row for row in known if row[0].decode() in kept]
    rows += [(name.encode(), header.offset, len(header), sizes[name]) for name, header in headers.items()]
    return np.array(sorted(rows), CHUNKS)


def _rows_of_base(base: Snapshot | None, kept: set[str], chunks: np.ndarray, only: np.ndarray | None) -> Rows:
    """Return the rows of the chunks that stay, with the facts that were ingested."""
    if base is None:
        return table_rows.none()
    which = None if only is None else positions(base.key, only)[1]
    rows = table_rows.of_base(base, np.searchsorted(chunks["name"], base.chunks["name"]).astype("<i4"), which)
    facts = _facts(base, "ingested", "ingested_names", relabels.INGESTED)
    rows = table_rows.with_facts(rows, facts if which is None else relabels.only(facts, rows.key))
    if len(kept) < len(base.chunks):
        stays = np.isin(base.chunks["name"], np.array(sorted(kept), "S32"))
        chunk = base.chunk if which is None else base.chunk[which]
        rows = rows.chosen(np.flatnonzero(stays[chunk]))
    return rows


def _rows_of_headers(headers: dict[str, ChunkHeader], chunks: np.ndarray, only: np.ndarray | None) -> Rows:
    index = {name: int(np.searchsorted(chunks["name"], name.encode())) for name in headers}
    rows = table_rows.of_headers([(header, index[name]) for name, header in headers.items()])
    if only is not None:
        rows = rows.chosen(positions(only, rows.key)[0])
    return table_rows.winners(rows)


def positions(key: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find wanted keys among others, which are ascending, unique; and their rows: bool, (w,), and int64."""
    if not len(key):
        return np.zeros(len(wanted), bool), np.empty(0, np.int64)
    at = np.minimum(np.searchsorted(key, wanted), len(key) - 1)
    is_there = key[at] == wanted
    return is_there, at[is_there]


def _relabelled(rows: Rows, relabelled: relabels.Facts, persons: Persons) -> tuple[Rows, relabels.Facts]:
    """Lay relabels over ingested rows, then the one name of each person; return also what they cover."""
    is_there, at = positions(rows.key, relabelled.rows["key"])
    now = rows
    if len(at):
        facts = relabels.Facts(rows=relabelled.rows[is_there], names=relabelled.names)
        now = table_rows.with_facts(rows, facts)
    of_persons = _rows_of_other_names(now, persons)
    if len(of_persons):
        own, texts = _facts_of(now, of_persons)
        names = (persons.name(name.decode()).encode() for name in texts["patient"].tolist())
        texts["patient"] = np.array(list(names), np.bytes_)
        now = table_rows.with_facts(now, relabels.coded(own, texts))
    covered = ascending(np.concatenate([at, of_persons]))
    return now, relabels.coded(*_facts_of(rows, covered)) if len(covered) else relabels.none(
        relabels.INGESTED
    )


def _rows_of_other_names(rows: Rows, persons: Persons) -> np.ndarray:
    """Find rows whose patient goes by another name of the same person: int64."""
    # The usual case: nothing need be looked at.
    if not persons:
        return np.empty(0, np.int64)
    is_other = np.append(np.isin(rows.tables["patient"], persons.other_names), False)
    return np.flatnonzero(is_other[rows.column("patient")]) if is_other.any() else np.empty(0, np.int64)


def _facts_of(rows: Rows, at: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return facts of some rows: INGESTED without its codes, and texts by name of column."""
    found = np.zeros(len(at), relabels.INGESTED)
    for name in ("key", *relabels.NUMBERS):
        found[name] = rows.column(name)[at]
    texts = {
        name: np.append(rows.tables[name], np.bytes_(b""))[rows.column(name)[at]] for name in relabels.TEXTS
    }
    return found, texts


def _without_retracted(rows: Rows, chunks: np.ndarray, retracted: Retractions) -> tuple[Rows, np.ndarray]:
    """Drop retracted rows; return also WITHHELD, of those that only their patient's name keeps out."""
    if not retracted:
        return rows, np.zeros(0, WITHHELD)
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


def _only_form(forms: set[tuple[int, int, int]], base: Snapshot | None) -> dict[str, Any]:
    """Return the shape and the bits of all images. forms: height, width, bits."""
    if base is not None:
        forms = forms | {(*base.image_shape, base.bits)}
    shapes, depths = {form[:2] for form in forms}, {form[2] for form in forms}
    if len(forms) > 1:
        what, there = ("shapes", sorted(shapes)) if len(shapes) > 1 else ("bits", sorted(depths))
        raise StoreDamage(f"the store holds images of different {what}: {there}; its recipe.json was changed")
    return {"image_shape": shapes.pop(), "bits": depths.pop()} if forms else {"image_shape": (0, 0)}


def _content_digest(rows: Rows) -> str:
    """Sum up what is stored, by key. The tables are sorted and without waste, so codes stand for names."""
    # Those that hold nothing speak for nothing: as before there were such.
    texts = (*STRINGS, *(name for name in OPTIONAL if len(rows.tables[name])))
    digest, columns = hashlib.sha256(), (*CONTENT, *texts)
    if len(rows) < MANY_ROWS:
        of_columns = [_column_digest(rows, name) for name in columns]
    else:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(DIGEST_THREADS) as threads:
            of_columns = list(threads.map(functools.partial(_column_digest, rows), columns))
    for of_column in of_columns:
        digest.update(of_column)
    for name in texts:
        if name in OPTIONAL:
            digest.update(name.encode())
        digest.update(hashlib.sha256(column_bytes(rows.tables[name])).digest())
    return digest.hexdigest()[:32]


def _column_digest(rows: Rows, name: str) -> bytes:
    digest = hashlib.sha256()
    for part in rows.blocks(name):
        digest.update(column_bytes(part))
    return digest.digest()


def live_chunks(base: Snapshot | None, new: Iterable[Commit]) -> set[str]:
    """Return the chunks that hold content: those that commits name, and no compaction has superseded."""
    new = list(new)
    return set(sizes_of_live(base, new, mentions(base, new)))


def mentions(base: Snapshot | None, new: Iterable[Commit]) -> np.ndarray:
    """Return the last mention of each chunk by a compaction, as in COMPACTED; the later one counts."""
    last: dict[bytes, tuple[int, bool]] = {}
    if base is not None:
        last = {name: (number, is_made) for name, number, is_made in base.compacted.tolist()}
    for commit in new:
        if not commit.number:
            continue
        named = [(name, False) for name in commit.superseded] + [(commit.chunk, True)] * bool(commit.chunk)
        for name, is_made in named:
            found = (commit.number, is_made)
            last[name.encode()] = max(last.get(name.encode(), found), found)
    return np.array([(name, *last[name]) for name in sorted(last)], COMPACTED)


def sizes_of_live(base: Snapshot | None, new: Iterable[Commit], compacted: np.ndarray) -> dict[str, int]:
    """Return the bytes of every chunk that holds content now, by name."""
    named = {} if base is None else {name.decode(): size for name, *_rest, size in base.chunks.tolist()}
    named |= {commit.chunk: commit.chunk_bytes for commit in new if commit.chunk}
    dead = {name.decode() for name in compacted["name"][~compacted["is_made"]].tolist()}
    return {name: size for name, size in named.items() if name not in dead}
