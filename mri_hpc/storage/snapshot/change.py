"""Change: what commits since a snapshot make of the images that they touch, without folding the others."""

import functools
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np

from mri_hpc.storage.disk.columns import ChunkHeader, ascending, rows_among
from mri_hpc.storage.disk.commits import Commit
from mri_hpc.storage.snapshot.folding import fold, live_chunks, positions
from mri_hpc.storage.snapshot.persons import Persons, merged
from mri_hpc.storage.snapshot.table import Snapshot

MANY = 2**16
"""Changed images from which on, where they are a part of all that counts too, all are folded instead."""
PART = 16


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """Some rows, a value an image. Codes are those of the base; names that it has not follow them."""

    key: np.ndarray
    source_hash: np.ndarray
    slice_index: np.ndarray
    plane: np.ndarray
    label: np.ndarray
    patient: np.ndarray
    split: np.ndarray

    def __len__(self) -> int:
        return len(self.source_hash)

    def joined(self, other: "Rows") -> "Rows":
        """Return the rows of both."""
        return Rows(
            **{
                field.name: np.concatenate([getattr(self, field.name), getattr(other, field.name)])
                for field in fields(Rows)
            }
        )


class Both(NamedTuple):
    """Rows of some images as they were, and as they are."""

    before: Rows
    after: Rows


@dataclass(frozen=True, kw_only=True, eq=False)
class Change:
    """A snapshot, and what has become since of the images that are touched."""

    base: Snapshot
    keys: np.ndarray
    """uint64, ascending: images that may be new, other, or gone now; all others are as in `base`."""
    now: Snapshot
    """Of these alone, but for its chunks and commits, which are all there are."""

    def names(self, column: str) -> list[bytes]:
        """Return the names that the codes of label or patient point to."""
        known = self.base.names(column)
        return [*known.tolist(), *self._unknown(column).tolist()]

    @functools.cached_property
    def changed(self) -> Both:
        """The images that may have changed."""
        every = np.arange(len(self.now))
        return Both(self._before(positions(self.base.key, self.keys)[1]), self._now(every))

    def of_keys(self, keys: np.ndarray) -> Rows:
        """Return the rows that some images have now. keys: theirs, ascending."""
        _are_there, rows = positions(self.base.key, keys)
        return self._both(rows, positions(keys, self.now.key)[0]).after

    def of_patients(self, codes: np.ndarray) -> Both:
        """Return all rows of some patients. codes: theirs, ascending."""
        known = codes[codes < len(self.base.patient_names)]
        is_meant = np.zeros(len(self.base.patient_names) + 1, bool)
        is_meant[known] = True
        # A code of -1 means the last: no patient.
        parts = self.base.parts("patient") if len(known) else ()
        rows = _rows_where(is_meant[part] for part in parts)
        return self._both(rows, np.isin(self._codes("patient"), codes))

    def patients_of(self, names: Container[bytes]) -> set[bytes]:
        """Return the names of those patients among some who have images now."""
        every = self.names("patient")
        codes = np.array([code for code, name in enumerate(every) if name in names], np.int64)
        return {every[code] for code in ascending(self.of_patients(codes).after.patient).tolist()}

    def of_bytes(self, hashes: np.ndarray) -> Both:
        """Return all rows of some sources. hashes: of their bytes, ascending."""
        parts = self.base.parts("source_hash") if len(hashes) else ()
        return self._both(rows_among(parts, hashes), np.isin(self.now.source_hash, hashes))

    def _both(self, rows: np.ndarray, are_meant_now: np.ndarray) -> Both:
        """Return the base's rows of some indices, and what they have become with rows of `now`."""
        are_as_before = ~positions(self.keys, self.base.key[rows])[0]
        now = self._now(np.flatnonzero(are_meant_now))
        return Both(self._before(rows), self._before(rows[are_as_before]).joined(now))

    def _before(self, rows: np.ndarray) -> Rows:
        # A column that is not asked for is not read.
        return _rows_of(lambda name: getattr(self.base, name)[rows]) if len(rows) else _NO_ROWS

    def _now(self, rows: np.ndarray) -> Rows:
        named = {name: self._codes(name) for name in ("label", "patient")}
        return _rows_of(lambda name: (named[name] if name in named else self.now.column(name))[rows])

    def _codes(self, column: str) -> np.ndarray:
        """Return the codes of label or patient of `now` as the base has them."""
        known, unknown, names = self.base.names(column), self._unknown(column), self.now.names(column)
        is_known, at = positions(known, names)
        codes = np.full(len(names) + 1, -1, np.int64)
        codes[np.flatnonzero(is_known)] = at
        codes[np.flatnonzero(~is_known)] = len(known) + np.arange(len(unknown))
        # A code of -1 means the last: none.
        return codes[self.now.column(column)]

    def _unknown(self, column: str) -> np.ndarray:
        names = self.now.names(column)
        return names[~positions(self.base.names(column), names)[0]]


def change_since(
    base: Snapshot, new: Sequence[Commit], header_of: Callable[[str], ChunkHeader]
) -> Change | None:
    """Return what commits beside those of `base` change; None where all is to be folded.

    That is where so much has changed that it saves nothing, or a compaction may have brought back copies.
    header_of: reads the header of a chunk.
    """
    if any(commit.number for commit in new):
        return None
    header_of = functools.cache(header_of)
    keys = ascending(np.concatenate([*_changed_keys(base, new, header_of)]))
    if len(keys) > max(MANY, len(base) // PART):
        return None
    return Change(base=base, keys=keys, now=fold(base, new, header_of, only=keys))


def no_change(snapshot: Snapshot) -> Change:
    """Return that nothing has changed since a snapshot of this moment."""
    return Change(base=snapshot, keys=np.empty(0, "<u8"), now=fold(None, (), _no_header))


def _no_header(chunk: str) -> ChunkHeader:
    raise KeyError(chunk)


def _changed_keys(
    base: Snapshot, new: Sequence[Commit], header_of: Callable[[str], ChunkHeader]
) -> Iterator[np.ndarray]:
    """Yield the keys of images that commits may change."""
    known = {name.decode() for name in base.chunks["name"].tolist()}
    for name in sorted(live_chunks(base, new) - known):
        yield header_of(name).columns["key"]
    # What was kept out may come back.
    yield base.withheld["key"]
    named = [key for commit in new for key in commit.retracted_keys]
    named += [one.key for commit in new for one in commit.relabels]
    named += [one.key for commit in new for one in commit.rejected]
    yield np.array([int(key, 16) for key in named], "<u8")
    if patients := _changed_patients(base, new):
        yield base.key[base.is_of(np.array(sorted(patients), np.bytes_))]


def _changed_patients(base: Snapshot, new: Sequence[Commit]) -> set[bytes]:
    """Return the names, in `base`, of patients who are retracted, or may have another name now."""
    named = {name for commit in new for name in commit.retracted_patients}
    named |= {name for commit in new for one in commit.same_patients for name in (one.first, one.second)}
    if not named:
        return set()
    now = Persons(merged(base.same_patients, new))
    every = {one for name in named for persons in (base.persons, now) for one in persons.names(name)}
    return {base.persons.name(name).encode() for name in every}


def _rows_of(column: Callable[[str], np.ndarray]) -> Rows:
    types = {field.name: "<u8" if field.name in ("key", "source_hash") else "<i8" for field in fields(Rows)}
    return Rows(**{name: column(name).astype(dtype) for name, dtype in types.items()})


_NO_ROWS = _rows_of(lambda name: np.empty(0))


def _rows_where(parts: Iterable[np.ndarray]) -> np.ndarray:
    """Find the rows of a column of bools, given in parts, that are true: int64."""
    found, start = [np.empty(0, np.int64)], 0
    for part in parts:
        found.append(start + np.flatnonzero(part))
        start += len(part)
    return np.concatenate(found)
