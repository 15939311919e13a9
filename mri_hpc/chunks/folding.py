"""Folding: the snapshot of a set of commits, a pure function of that set.

Of several stored versions of one image, the one replaced most often wins; of those, the one of least content.
That is the greatest element of a total order on what is stored, wherever it is stored, so that neither the
order in which commits arrived, nor when they were folded, nor how chunks are cut can matter.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mri_hpc.base.errors import UserError
from mri_hpc.chunks import relabels
from mri_hpc.chunks.chunk import ChunkHead
from mri_hpc.chunks.columns import COLUMNS, STRINGS, column_bytes
from mri_hpc.chunks.commits import Commit, Rejection
from mri_hpc.chunks.table import CHUNKS, CODES, COMPACTED, CONTENT, REJECTED, WITHHELD, Snapshot
from mri_hpc.intake.labels import MOST_CLASSES


@dataclass(frozen=True, kw_only=True, eq=False)
class _Rows:
    """Rows on their way to a snapshot: columns, with texts as codes into sorted tables of names."""

    columns: dict[str, np.ndarray]
    tables: dict[str, np.ndarray] = field(default_factory=dict)


def digest_of(commit_ids: Iterable[str]) -> str:
    """The digest of a set of commits."""
    return hashlib.sha256("\n".join(sorted(commit_ids)).encode()).hexdigest()[:32]


def fold(base: Snapshot | None, new: Sequence[Commit], head_of: Callable[[str], ChunkHead]) -> Snapshot:
    """The snapshot of the commits of `base` and of `new`.

    head_of: gives everything but the pixels of a chunk; asked for chunks that are new and hold content now.
    """
    compacted = _compacted(base, new)
    retracted_keys, retracted_patients = _retracted(base, new)
    corrected = relabels.merged(_facts(base, "relabels", "relabel_names", relabels.RELABELS), new)

    sizes = _sizes(base, new, compacted)
    kept = _kept_of(base, sizes)
    heads = {name: head_of(name) for name in sorted(sizes.keys() - kept)}
    chunks = _chunks(base, kept, heads, sizes)
    rows = _concatenate([*_rows_of_base(base, kept, chunks), *_rows_of_heads(heads, chunks)])
    rows = _winners(rows)
    rows, ingested = _corrected(rows, corrected)
    rows, withheld = _without_retracted(rows, chunks, retracted_keys, retracted_patients)
    rows, ingested = _without_unused_names(rows), relabels.only(ingested, rows.columns["key"])

    rejected, reasons = _fold_rejected(base, new)
    known = [] if base is None else base.commits.tolist()
    commits = sorted({*known, *(commit.id.encode() for commit in new)})
    # Which of them is which field is known by name alone.
    columns: dict[str, Any] = dict(rows.columns)
    return Snapshot(
        digest=digest_of(name.decode() for name in commits),
        content_digest=_content_digest(rows),
        image_shape=_only_shape({head.image_shape for head in heads.values()}, base if kept else None),
        classes=_classes(rows),
        patient_names=rows.tables["patient"],
        study_names=rows.tables["study"],
        commits=np.array(commits, "S32"),
        chunks=chunks,
        compacted=compacted,
        relabels=corrected.rows,
        relabel_names=corrected.names,
        ingested=ingested.rows,
        ingested_names=ingested.names,
        retracted_keys=retracted_keys,
        retracted_patients=retracted_patients,
        withheld=withheld,
        rejected=rejected,
        reasons=reasons,
        **columns,
    )


def live_chunks(base: Snapshot | None, new: Iterable[Commit]) -> set[str]:
    """Chunks that hold content, of those that commits name: no compaction has superseded them."""
    new = list(new)
    return set(_sizes(base, new, _compacted(base, new)))


def _compacted(base: Snapshot | None, new: Iterable[Commit]) -> np.ndarray:
    last: dict[bytes, tuple[int, bool]] = {}
    if base is not None:
        last = {name: (number, is_made) for name, number, is_made in base.compacted.tolist()}
    for commit in new:
        if not commit.number:
            continue
        mentions = [(name, False) for name in commit.superseded] + [(commit.chunk, True)] * bool(commit.chunk)
        for name, is_made in mentions:
            found = (commit.number, is_made)
            last[name.encode()] = max(last.get(name.encode(), found), found)
    return np.array([(name, *last[name]) for name in sorted(last)], COMPACTED)


def _retracted(base: Snapshot | None, new: Iterable[Commit]) -> tuple[np.ndarray, np.ndarray]:
    """Keys and patients that are withdrawn."""
    retractions = [commit for commit in new if commit.retracted_keys or commit.retracted_patients]
    keys = [np.array([int(key, 16) for key in commit.retracted_keys], "<u8") for commit in retractions]
    names = [name.encode() for commit in retractions for name in commit.retracted_patients]
    if base is not None:
        keys.append(np.asarray(base.retracted_keys))
        names += base.retracted_patients.tolist()
    return np.unique(np.concatenate([np.empty(0, "<u8"), *keys])), _bytes_table(names)


def _facts(base: Snapshot | None, rows: str, names: str, dtype: np.dtype) -> relabels.Facts:
    if base is None:
        return relabels.none(dtype)
    return relabels.Facts(rows=np.asarray(getattr(base, rows)), names=np.asarray(getattr(base, names)))


def _sizes(base: Snapshot | None, new: Iterable[Commit], compacted: np.ndarray) -> dict[str, int]:
    """Bytes of every chunk that holds content now, by name."""
    named = {} if base is None else {name.decode(): size for name, *_rest, size in base.chunks.tolist()}
    named |= {commit.chunk: commit.chunk_bytes for commit in new if commit.chunk}
    dead = {name.decode() for name in compacted["name"][~compacted["is_made"]].tolist()}
    return {name: size for name, size in named.items() if name not in dead}


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


def _rows_of_base(base: Snapshot | None, kept: set[str], chunks: np.ndarray) -> list[_Rows]:
    """Rows of the chunks that stay, with what was said of them when they were ingested."""
    if base is None:
        return []
    columns = {column.name: getattr(base, column.name) for column in COLUMNS}
    columns |= {name: getattr(base, name) for name in STRINGS}
    columns["row"] = base.row
    places = np.searchsorted(chunks["name"], base.chunks["name"]).astype("<i4")
    columns["chunk"] = places[base.chunk] if len(base) else base.chunk
    tables = {
        "label": _bytes_table(name.encode() for name in base.classes),
        "patient": base.patient_names,
        "study": base.study_names,
    }
    rows = _Rows(columns=columns, tables=tables)
    rows = _with_facts(rows, _facts(base, "ingested", "ingested_names", relabels.INGESTED))
    if len(kept) < len(base.chunks):
        stays = np.isin(base.chunks["name"], np.array(sorted(kept), "S32"))
        rows = _chosen(rows, stays[base.chunk])
    return [rows]


def _rows_of_heads(heads: dict[str, ChunkHead], chunks: np.ndarray) -> list[_Rows]:
    return [
        _rows_of_head(head, int(np.searchsorted(chunks["name"], name.encode())))
        for name, head in heads.items()
    ]


def _rows_of_head(head: ChunkHead, place: int) -> _Rows:
    columns = {column.name: head.columns[column.name] for column in COLUMNS}
    columns["chunk"] = np.full(len(head), place, "<i4")
    columns["row"] = np.arange(len(head), dtype="<i4")
    tables = {}
    for name in STRINGS:
        tables[name], columns[name] = np.unique(head.columns[name], return_inverse=True)
        if len(tables[name]) and tables[name][0] == b"":
            tables[name], columns[name] = tables[name][1:], columns[name] - 1
    return _Rows(columns=columns, tables=tables)


def _concatenate(parts: list[_Rows]) -> _Rows:
    parts = [*parts, _no_rows()]
    tables = {name: _bytes_table(n for part in parts for n in part.tables[name].tolist()) for name in STRINGS}
    columns = {}
    for name in parts[0].columns:
        pieces = [part.columns[name] for part in parts]
        if name in STRINGS:
            pieces = [
                _recode(piece, part.tables[name], tables[name])
                for piece, part in zip(pieces, parts, strict=True)
            ]
        columns[name] = np.concatenate(pieces)
    return _Rows(columns=columns, tables=tables)


def _no_rows() -> _Rows:
    columns = {c.name: np.empty((0, c.width) if c.width > 1 else 0, c.dtype) for c in COLUMNS}
    columns |= {name: np.empty(0, "<i4") for name in (*STRINGS, "chunk", "row")}
    return _Rows(columns=columns, tables={name: np.empty(0, "S1") for name in STRINGS})


def _winners(rows: _Rows) -> _Rows:
    """One row a key, ascending."""
    order = np.argsort(rows.columns["key"], kind="stable")
    key = rows.columns["key"][order]
    is_again = np.zeros(len(key), bool)
    is_again[1:] = key[1:] == key[:-1]
    if is_again.any():
        is_doubled = is_again.copy()
        is_doubled[:-1] |= is_again[1:]
        order[is_doubled] = _best_first(rows, order[is_doubled])
    return _chosen(rows, order[~is_again])


def _best_first(rows: _Rows, which: np.ndarray) -> np.ndarray:
    """Rows by key, and those of one key by what decides between them."""
    c = {name: values[which] for name, values in rows.columns.items()}
    content = [c[name] for name in (*CONTENT[1:-1], *STRINGS)] + list(c["box"].T)
    # The last is looked at first.
    return which[np.lexsort((c["row"], c["chunk"], *reversed(content), -c["generation"], c["key"]))]


def _corrected(rows: _Rows, corrected: relabels.Facts) -> tuple[_Rows, relabels.Facts]:
    """Rows with corrections laid over them, and what these rows said before."""
    key = rows.columns["key"]
    if not len(corrected.rows) or not len(key):
        return rows, relabels.none(relabels.INGESTED)
    at = np.minimum(np.searchsorted(key, corrected.rows["key"]), len(key) - 1)
    is_there = key[at] == corrected.rows["key"]
    at = at[is_there]
    before = np.zeros(len(at), relabels.INGESTED)
    for name in ("key", *relabels.NUMBERS):
        before[name] = rows.columns[name][at]
    texts = {
        name: np.append(rows.tables[name], np.bytes_(b""))[rows.columns[name][at]] for name in relabels.TEXTS
    }
    now = relabels.Facts(rows=corrected.rows[is_there], names=corrected.names)
    return _with_facts(rows, now), relabels.coded(before, texts)


def _with_facts(rows: _Rows, facts: relabels.Facts) -> _Rows:
    """Rows, ascending by key, that say what `facts` say, all of whose keys are among them."""
    if not len(facts.rows):
        return rows
    at = np.searchsorted(rows.columns["key"], facts.rows["key"])
    columns, tables = dict(rows.columns), dict(rows.tables)
    for name in relabels.NUMBERS:
        columns[name] = np.array(columns[name])
        columns[name][at] = facts.rows[name]
    for name in relabels.TEXTS:
        texts = facts.texts(name)
        tables[name] = _bytes_table([*rows.tables[name].tolist(), *(set(texts.tolist()) - {b""})])
        columns[name] = np.array(_recode(columns[name], rows.tables[name], tables[name]))
        columns[name][at] = np.where(texts == b"", -1, np.searchsorted(tables[name], texts))
    return _Rows(columns=columns, tables=tables)


def _without_retracted(
    rows: _Rows, chunks: np.ndarray, keys: np.ndarray, patients: np.ndarray
) -> tuple[_Rows, np.ndarray]:
    """Rows of nobody who is withdrawn, and the rows that only their patient's name keeps out."""
    nobody = np.empty(0, WITHHELD)
    if not len(keys) and not len(patients):
        return rows, nobody
    is_gone = np.isin(rows.columns["key"], keys)
    names = np.append(rows.tables["patient"], np.bytes_(b""))
    is_withheld = np.isin(names, patients)[rows.columns["patient"]] & ~is_gone
    withheld = np.zeros(int(is_withheld.sum()), WITHHELD)
    withheld["key"] = rows.columns["key"][is_withheld]
    withheld["chunk"] = chunks["name"][rows.columns["chunk"][is_withheld]]
    return _chosen(rows, ~(is_gone | is_withheld)), withheld


def _chosen(rows: _Rows, which: np.ndarray) -> _Rows:
    return _Rows(columns={name: values[which] for name, values in rows.columns.items()}, tables=rows.tables)


def _without_unused_names(rows: _Rows) -> _Rows:
    columns, tables = dict(rows.columns), {}
    for name in STRINGS:
        used = np.unique(columns[name])
        tables[name] = _bytes_table(rows.tables[name][used[used >= 0]].tolist())
        columns[name] = _recode(columns[name], rows.tables[name], tables[name]).astype(CODES[name])
    columns["plane_inferred"] = columns["plane_inferred"].astype(bool)
    return _Rows(columns=columns, tables=tables)


def _recode(codes: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Codes into the table `before` as codes into `after`; -1 stays. Both tables are sorted."""
    if not len(before):
        return np.asarray(codes, dtype="<i4")
    places = np.append(np.searchsorted(after, before), -1).astype("<i4")
    return places[codes]


def _bytes_table(names: Iterable[bytes]) -> np.ndarray:
    return np.array(sorted(set(names)), dtype=np.bytes_)


def _classes(rows: _Rows) -> tuple[str, ...]:
    classes = tuple(name.decode() for name in rows.tables["label"].tolist())
    if len(classes) > MOST_CLASSES:
        raise UserError(f"{len(classes)} classes are more than {MOST_CLASSES}: are the labels one a file?")
    return classes


def _only_shape(shapes: set[tuple[int, int]], base: Snapshot | None) -> tuple[int, int]:
    if base is not None:
        shapes = shapes | {base.image_shape}
    if len(shapes) > 1:
        raise UserError(
            f"the store holds images of different shapes: {sorted(shapes)}; its recipe.json was changed"
        )
    return shapes.pop() if shapes else (0, 0)


def _content_digest(rows: _Rows) -> str:
    """Digest of what is stored, by key. The tables are sorted and without waste, so codes stand for names."""
    digest = hashlib.sha256()
    for values in (
        *(rows.columns[name] for name in (*CONTENT, *STRINGS)),
        *(rows.tables[name] for name in STRINGS),
    ):
        digest.update(hashlib.sha256(column_bytes(values)).digest())
    return digest.hexdigest()[:32]


def _fold_rejected(base: Snapshot | None, new: Sequence[Commit]) -> tuple[np.ndarray, tuple[str, ...]]:
    """The last try of each source: greatest time, then size, hash and reason, so that order cannot matter."""
    tries: dict[int, tuple[int, int, int, str]] = {}
    for rejection in (*_rejections(base), *(one for commit in new for one in commit.rejected)):
        key = int(rejection.key, 16)
        found = (rejection.mtime_ns, rejection.size, int(rejection.source_hash or "0", 16), rejection.reason)
        tries[key] = max(tries.get(key, found), found)
    reasons = tuple(sorted({reason for *_numbers, reason in tries.values()}))
    rows = [(key, *tries[key][:3], reasons.index(tries[key][3])) for key in sorted(tries)]
    return np.array(rows, REJECTED), reasons


def _rejections(base: Snapshot | None) -> Iterable[Rejection]:
    if base is None:
        return
    for key, mtime_ns, size, source_hash, reason in base.rejected.tolist():
        yield Rejection(
            key=f"{key:016x}",
            reason=base.reasons[reason],
            size=size,
            mtime_ns=mtime_ns,
            source_hash=f"{source_hash:016x}",
        )
