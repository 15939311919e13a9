"""Rows on their way to a snapshot: a large base and what is new, put together column by column.

A column is made when it is asked for and not kept, so that ten million rows take the memory of one or two
columns. What has to be known of all rows at once is their keys, and which of them go.
"""

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mri_hpc.storage.disk.columns import COLUMNS, TEXTS, ChunkHeader, blocks, bytes_table, texts_in
from mri_hpc.storage.snapshot import relabels
from mri_hpc.storage.snapshot.table import CODES, CONTENT, Snapshot

INSERTED_BLOCK = 2**16
"""Rows that are copied where some come in between."""
NAMES = (*(column.name for column in COLUMNS), *TEXTS, "chunk", "row")


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """Rows of columns, with texts as codes into sorted tables of names."""

    key: np.ndarray
    """uint64, (n,)."""
    make: Callable[[str], np.ndarray]
    """Makes a column, by name."""
    tables: dict[str, np.ndarray]
    """Names of each column of texts: bytes, sorted."""
    make_blocks: Callable[[str], Iterator[np.ndarray]] | None = None
    """Makes a column in parts, where that takes less memory than the whole."""

    def __len__(self) -> int:
        return len(self.key)

    def column(self, name: str) -> np.ndarray:
        """Return one column, which is not kept."""
        return self.key if name == "key" else self.make(name)

    def blocks(self, name: str) -> Iterator[np.ndarray]:
        """Yield one column in parts."""
        return blocks(self.column(name)) if self.make_blocks is None else self.make_blocks(name)

    def chosen(self, which: np.ndarray) -> "Rows":
        """Return some of the rows. which: their indices, or bool, (n,)."""
        return Rows(key=self.key[which], make=lambda name: self.make(name)[which], tables=self.tables)

    def without(self, lost: np.ndarray) -> "Rows":
        """Return the rows but for those of some indices."""
        if not len(lost):
            return self
        stays = np.ones(len(self), bool)
        stays[lost] = False
        return self.chosen(stays)


def of_base(base: Snapshot, chunk_index: np.ndarray, which: np.ndarray | None = None) -> Rows:
    """Return the rows of a snapshot. chunk_index: int32, of each of its chunks among those of the new one.

    which: the rows that are wanted, int64; None: all.
    """
    tables = {name: base.names(name) for name in TEXTS}

    def recoded_chunks(name: str, column: np.ndarray) -> np.ndarray:
        return chunk_index[column] if name == "chunk" and len(base) else column

    def make(name: str) -> np.ndarray:
        return recoded_chunks(name, base.column(name))

    def make_blocks(name: str) -> Iterator[np.ndarray]:
        return (recoded_chunks(name, part) for part in base.parts(name))

    if which is None:
        return Rows(key=base.key, make=make, tables=tables, make_blocks=make_blocks)
    # Of a column that stays mapped, some rows are taken without reading the others into memory.
    chosen = functools.cache(lambda name: recoded_chunks(name, getattr(base, name)[which]))
    return Rows(key=base.key[which], make=chosen, tables=tables)


def of_headers(headers: Sequence[tuple[ChunkHeader, int]]) -> Rows:
    """Return the rows of chunks, each given with its index among those of the snapshot."""
    return concatenated([_of_header(header, chunk_index) for header, chunk_index in headers])


def _of_header(header: ChunkHeader, chunk_index: int) -> Rows:
    columns = {column.name: header.columns[column.name] for column in COLUMNS}
    columns["chunk"] = np.full(len(header), chunk_index, "<i4")
    columns["row"] = np.arange(len(header), dtype="<i4")
    tables = {}
    for name in TEXTS:
        tables[name], columns[name] = np.unique(texts_in(header.columns, name), return_inverse=True)
        if len(tables[name]) and tables[name][0] == b"":
            tables[name], columns[name] = tables[name][1:], columns[name] - 1
    return _held(columns, tables)


def none() -> Rows:
    """Return no rows."""
    columns = {c.name: np.empty((0, c.width) if c.width > 1 else 0, c.dtype) for c in COLUMNS}
    columns |= {name: np.empty(0, "<i4") for name in (*TEXTS, "chunk", "row")}
    return _held(columns, {name: np.empty(0, "S1") for name in TEXTS})


def _held(columns: dict[str, np.ndarray], tables: dict[str, np.ndarray]) -> Rows:
    return Rows(key=columns["key"], make=columns.__getitem__, tables=tables)


def concatenated(parts: Sequence[Rows]) -> Rows:
    """Return the rows of several parts, one after the other, in memory."""
    parts = [*parts, none()]
    tables = {name: bytes_table(n for part in parts for n in part.tables[name].tolist()) for name in TEXTS}
    columns = {name: np.concatenate([recoded(part, name, tables) for part in parts]) for name in NAMES}
    return _held(columns, tables)


def winners(rows: Rows) -> Rows:
    """Return one row a key, ascending: the best of each."""
    # Of keys 7, 5, 7: order 1, 0, 2 gives 5, 7, 7, of which the last two are doubled. Where row 2 is the
    # better 7, order becomes 1, 2, 0, and what is no repetition stays: rows 1 and 2. Others are not compared.
    order = np.argsort(rows.key, kind="stable")
    key = rows.key[order]
    is_again = np.zeros(len(key), bool)
    is_again[1:] = key[1:] == key[:-1]
    if is_again.any():
        is_doubled = is_again.copy()
        is_doubled[:-1] |= is_again[1:]
        order[is_doubled] = _best_first(rows, order[is_doubled])
    return rows.chosen(order[~is_again])


def _best_first(rows: Rows, which: np.ndarray) -> np.ndarray:
    """Sort rows by key, and those of one key so that the one that wins comes first."""
    c = {name: rows.column(name)[which] for name in NAMES}
    content = [c[name] for name in (*CONTENT[1:-1], *TEXTS)] + list(c["box"].T)
    # The last is looked at first.
    return which[np.lexsort((c["row"], c["chunk"], *reversed(content), -c["generation"], c["key"]))]


def merged(base: Rows, new: Rows) -> Rows:
    """Return the winners of two tables, each of one row a key, ascending."""
    # A base of keys 10, 20, 30 and new rows of 20 and 25: at is 1, 2, the rows of the base that they go
    # before, and is_in_both is yes, no. Where the new 20 wins, lost is 1, and both new rows stay. The base
    # without its row 1 is 10, 30, and both go in before 30: before is 1, 1, that is at less the lost rows
    # ahead of it. Where the base's 20 wins, lost is empty and only 25 stays: before is 2. Either way the
    # keys become 10, 20, 25, 30.
    if not len(new) or not len(base):
        return new if len(new) else base
    at = np.searchsorted(base.key, new.key)
    is_in_both = base.key[np.minimum(at, len(base) - 1)] == new.key
    from_new = _which_win(base.chosen(at[is_in_both]), new.chosen(is_in_both))
    lost = at[is_in_both][from_new]
    stays = ~is_in_both
    stays[is_in_both] = from_new
    before = at[stays] - np.searchsorted(lost, at[stays])
    base, new = base.without(lost), new.chosen(stays)
    tables = {name: _joined_tables(base.tables[name], new.tables[name]) for name in TEXTS}

    key = np.concatenate(list(_inserted(base.blocks("key"), before, new.key)))
    # Which names have moved is found once: a base may have many.
    recode = functools.cache(functools.partial(_recode, base, tables=tables))

    def make_blocks(name: str) -> Iterator[np.ndarray]:
        if name == "key":
            return blocks(key)
        return _inserted(map(recode(name), base.blocks(name)), before, recoded(new, name, tables))

    return Rows(
        key=key,
        make=lambda name: np.concatenate(list(make_blocks(name))),
        tables=tables,
        make_blocks=make_blocks,
    )


def _which_win(base: Rows, new: Rows) -> np.ndarray:
    """Find the keys of which the row of `new` wins: bool, (n,). Both have the same keys."""
    if not len(new):
        # The usual case: no column of the base need be looked at.
        return np.empty(0, bool)
    both = concatenated([base, new])
    first = _best_first(both, np.arange(len(both)))[::2]
    return first >= len(base)


def _inserted(
    blocks_of_base: Iterable[np.ndarray], before: np.ndarray, new: np.ndarray
) -> Iterator[np.ndarray]:
    """Yield what np.insert returns in parts, uncopied where nothing comes in. before: indices, ascending."""
    start = done = 0
    for block in blocks_of_base:
        for first in range(0, len(block), INSERTED_BLOCK):
            part = block[first : first + INSERTED_BLOCK]
            upto = int(np.searchsorted(before, start + len(part)))
            yield _insert(part, before[done:upto] - start, new[done:upto]) if upto > done else part
            start, done = start + len(part), upto
    if done < len(new):
        yield new[done:]


def _insert(part: np.ndarray, before: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Return what np.insert returns, which takes ten times as long where a row has several values."""
    if part.ndim == 1:
        return np.insert(part, before, new)
    row = f"V{part.itemsize * math.prod(part.shape[1:])}"
    rows = [np.ascontiguousarray(one, part.dtype).view(row)[:, 0] for one in (part, new)]
    return np.insert(rows[0], before, rows[1]).view(part.dtype).reshape(-1, *part.shape[1:])


def _joined_tables(base: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Join two tables of names; return `base` itself where it has all of them, so that its codes stay."""
    if not len(base):
        return bytes_table(new.tolist())
    at = np.searchsorted(base, new)
    is_unknown = base[np.minimum(at, len(base) - 1)] != new
    if not is_unknown.any():
        return base
    unknown = bytes_table(new[is_unknown].tolist())
    # As wide as the longest name: what is wider is cut off on its way in.
    return np.insert(base.astype(np.promote_types(base.dtype, unknown.dtype)), at[is_unknown], unknown)


def with_facts(rows: Rows, facts: relabels.Facts) -> Rows:
    """Lay facts over rows, which are ascending by key, and have all keys of the facts."""
    if not len(facts.rows):
        return rows
    at = np.searchsorted(rows.key, facts.rows["key"])
    tables = dict(rows.tables)
    for name in relabels.TEXTS:
        names = np.array(sorted(set(facts.texts(name).tolist()) - {b""}), np.bytes_)
        tables[name] = _joined_tables(rows.tables[name], names)

    def make(name: str) -> np.ndarray:
        if name in relabels.TEXTS:
            texts = facts.texts(name)
            column = np.array(recoded(rows, name, tables))
            column[at] = np.where(texts == b"", -1, np.searchsorted(tables[name], texts))
            return column
        column = rows.column(name)
        if name in relabels.NUMBERS:
            column = np.array(column)
            column[at] = facts.rows[name]
        return column

    def make_blocks(name: str) -> Iterator[np.ndarray]:
        is_changed = name in relabels.TEXTS or name in relabels.NUMBERS
        return blocks(make(name)) if is_changed else rows.blocks(name)

    return Rows(key=rows.key, make=make, tables=tables, make_blocks=make_blocks)


def held(rows: Rows) -> Rows:
    """Return rows of which each column is made once, and kept from then on."""

    @functools.cache
    def make(name: str) -> np.ndarray:
        return rows.column(name)

    return Rows(key=rows.key, make=make, tables=rows.tables)


def with_types(rows: Rows) -> Rows:
    """Return rows with tables of the names that are used, and with columns of the types of a snapshot."""
    used = {name: _used_names(rows, name) for name in TEXTS}
    tables = {
        name: rows.tables[name] if used[name].all() else bytes_table(rows.tables[name][used[name]].tolist())
        for name in TEXTS
    }

    def make(name: str) -> np.ndarray:
        if name in TEXTS:
            return recoded(rows, name, tables).astype(CODES[name], copy=False)
        return typed(name, rows.column(name))

    def make_blocks(name: str) -> Iterator[np.ndarray]:
        if name in TEXTS:
            return (part.astype(CODES[name], copy=False) for part in recoded_blocks(rows, name, tables))
        return (typed(name, part) for part in rows.blocks(name))

    def typed(name: str, column: np.ndarray) -> np.ndarray:
        return column.astype(bool, copy=False) if name == "plane_inferred" else column

    return Rows(key=rows.key, make=make, tables=tables, make_blocks=make_blocks)


def _used_names(rows: Rows, name: str) -> np.ndarray:
    """Find the names of a table that are used: bool."""
    # A code of -1 means the last: empty.
    is_used = np.zeros(len(rows.tables[name]) + 1, bool)
    for codes in rows.blocks(name) if len(rows.tables[name]) else ():
        # As a rule before all rows were looked at.
        if is_used[:-1].all():
            break
        is_used[codes] = True
    return is_used[:-1]


def recoded(rows: Rows, name: str, tables: dict[str, np.ndarray]) -> np.ndarray:
    """Return a column, one of texts as codes into another table, which has all names that are used."""
    return _recode(rows, name, tables)(rows.column(name))


def recoded_blocks(rows: Rows, name: str, tables: dict[str, np.ndarray]) -> Iterator[np.ndarray]:
    """Yield what `recoded` returns in parts."""
    return map(_recode(rows, name, tables), rows.blocks(name))


def _recode(rows: Rows, name: str, tables: dict[str, np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """Return what recodes parts of a column."""
    if name not in TEXTS or tables[name] is rows.tables[name]:
        return lambda column: column
    before, after = rows.tables[name], tables[name]
    if not len(before):
        return lambda column: np.asarray(column, dtype="<i4")
    # From the table a, c to a, b, c: codes is 0, 2, -1, so that a column 1, -1, 0 becomes 2, -1, 0; -1 stays.
    codes = np.append(np.searchsorted(after, before), -1).astype("<i4")
    return lambda column: np.asarray(codes[column])
