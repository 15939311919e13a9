"""Known sources: those of one task that the store holds, has rejected, or has read before."""

import contextlib
import functools
import itertools
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from mri_hpc.intake.decoding.window import Window
from mri_hpc.intake.files.fingerprint import Look
from mri_hpc.intake.labels.label import Label
from mri_hpc.storage.disk.columns import ChunkHeader, ascending, rows_among
from mri_hpc.storage.disk.commits import RETRACT, read_commits, read_kind
from mri_hpc.storage.disk.layout import StoreDir
from mri_hpc.storage.disk.private_tables import SEEN, read_seen, sources_of
from mri_hpc.storage.snapshot.catalogue import Standing, current, header_of, look, publish_snapshot
from mri_hpc.storage.snapshot.folding import fold, positions
from mri_hpc.storage.snapshot.frames import frames_of
from mri_hpc.storage.snapshot.retractions import of_commits
from mri_hpc.storage.snapshot.table import RETRACTED, RETRACTED_IMAGE, Snapshot
from mri_hpc.storage.snapshot.windows import (
    commits_in_conflict,
    fold_windows,
    images_in,
    outvoted,
    window_that_holds,
)

# A store that is only ever added to gets its commits folded now and then.
UNFOLDED_COMMITS = 64
# Folding writes some 71 bytes an image: shared out among the commits, 2 MB each, however large the store is.
FOLDED_IMAGES_A_COMMIT = 2**15


@dataclass(frozen=True, kw_only=True)
class Stored:
    """Bytes and generation of a stored source."""

    source_hash: int
    generation: int
    is_outvoted: bool = False
    """True where it was decoded in a window of its group that does not hold."""
    is_stack: bool = False
    """True where it gave several images."""


@dataclass(frozen=True, kw_only=True)
class StoredLabel:
    """Facts that the store has of a source beside its pixels; empty or -1 where unknown."""

    label: str
    patient: str
    """Name in the store."""
    fold: int
    split: int

    def differs_from(self, label: Label, patient: str) -> bool:
        """Tell whether labels say something else; what they leave open is no difference. patient: as here."""
        return (
            label.label not in ("", self.label)
            or patient not in ("", self.patient)
            or label.fold not in (-1, self.fold)
            or label.split not in (-1, self.split)
        )


@dataclass(frozen=True, kw_only=True)
class EarlierRejection:
    """Reason why a source was rejected, and its look at that time."""

    look: Look
    reason: str


@dataclass(frozen=True, kw_only=True)
class KnownSources:
    """Some sources that the store knows, by key."""

    stored: dict[int, Stored]
    rejected: dict[int, EarlierRejection]

    def rejection(self, key: int, look: Look) -> str:
        """Return why a source that looks so was rejected before; empty where it was not."""
        found = self.rejected.get(key)
        return found.reason if found and found.look == look else ""


def fold_when_due(store: StoreDir) -> None:
    """Publish a snapshot where commits that none has folded have become many: starting stays cheap."""
    if look(store, _is_fold_due):
        publish_snapshot(store, current(store))


def _is_fold_due(standing: Standing) -> bool:
    """Tell whether commits are many: for the size of a snapshot too, all of which is written anew."""
    images = 0 if standing.base is None else len(standing.base)
    return len(standing.new) >= max(UNFOLDED_COMMITS, images // FOLDED_IMAGES_A_COMMIT)


class Known:
    """The store's knowledge when a task began, in columns: of a million sources, some tens of megabytes.

    Commits that no snapshot has folded yet are folded for the keys of the task alone.
    """

    def __init__(self, store: StoreDir, keys: np.ndarray) -> None:
        """Look up the task's sources. keys: theirs, uint64, (n,)."""
        wanted = np.sort(keys)
        self._base: Snapshot | None = None
        self._new_hashes: list[np.ndarray] = []
        self._new_keys: list[np.ndarray] = []
        self._snapshot = look(store, functools.partial(self._look, store, wanted))
        self._seen = _seen(store, wanted)
        self._retracted = self._snapshot.retractions
        self._store, self._heard_of = store, {name.decode() for name in self._snapshot.commits.tolist()}
        self._outvoted = self._find_outvoted()
        self._has_looked = False

    def _look(self, store: StoreDir, wanted: np.ndarray, standing: Standing) -> Snapshot:
        """Return a snapshot that tells of the wanted keys."""
        self._base, self._new_hashes, self._new_keys = standing.base, [], []

        def noted(name: str) -> ChunkHeader:
            header = header_of(store, name)
            self._new_hashes.append(header.columns["source_hash"])
            self._new_keys.append(header.columns["key"])
            return header

        if standing.base is not None and not standing.new:
            return standing.base
        # Any image of a source tells that it is to be made again, not only that by whose key a task knows it.
        windows = fold_windows(standing.base, standing.new, of_commits(standing.new))
        _losing, concerned = commits_in_conflict(windows)
        made = images_in(read_commits(store, sorted(concerned)))
        return fold(standing.base, standing.new, noted, only=ascending(np.concatenate([wanted, made])))

    def of(self, keys: np.ndarray) -> KnownSources:
        """Return what is known about some sources. keys: uint64, (n,)."""
        wanted = np.sort(keys)
        return KnownSources(
            stored=_stored(self._snapshot, wanted, self._outvoted),
            rejected=_rejected(self._snapshot, wanted),
        )

    @property
    def outvoted(self) -> set[int]:
        """Keys of stored images to be made again: of sources decoded in a window that does not hold."""
        return self._outvoted

    def window(self, group: str) -> Window | None:
        """Return the window that a group has in the store. group: its name there."""
        return window_that_holds(self._snapshot.windows, group)

    def _find_outvoted(self) -> set[int]:
        windows = np.asarray(self._snapshot.windows)
        losing, concerned = commits_in_conflict(windows)
        if not losing:
            return set()
        commits = read_commits(self._store, sorted(concerned))
        made = outvoted(windows, commits)
        rows = positions(self._snapshot.key, images_in(commits))[1]
        keys, hashes = self._snapshot.key[rows], self._snapshot.source_hash[rows]
        is_lost = [
            crc in made.get(key, ())
            for key, crc in zip(keys.tolist(), self._snapshot.crc[rows].tolist(), strict=True)
        ]
        # With all other images of the same source.
        return set(keys[np.isin(hashes, hashes[is_lost])].tolist())

    def are_unchanged(self, keys: np.ndarray, sizes: np.ndarray, mtimes_ns: np.ndarray) -> np.ndarray:
        """Find sources that are stored and, by size and time of their files, as they are now: bool, (n,)."""
        stored, rows = self._stored_rows(keys)
        if not len(stored):
            # No column need be read.
            return np.zeros(len(keys), bool)
        seen_rows, of_stored = _rows_of(self._seen["key"], keys[stored])
        seen, files = self._seen[seen_rows], stored[of_stored]
        fits = (seen["size"] == sizes[files]) & (seen["mtime_ns"] == mtimes_ns[files])
        fits &= seen["source_hash"] == self._snapshot.source_hash[rows][of_stored]
        unchanged = np.zeros(len(keys), bool)
        unchanged[files[fits]] = True
        if self._outvoted:
            unchanged &= ~np.isin(keys, np.array([*self._outvoted], "<u8"))
        return unchanged

    def labels_of(self, keys: np.ndarray) -> list[StoredLabel | None]:
        """Return what the store says of some sources; None for one not stored. keys: uint64, (n,)."""
        snapshot = self._snapshot
        found: list[StoredLabel | None] = [None] * len(keys)

        @functools.cache
        def label_of(label: int, patient: int, fold: int, split: int) -> StoredLabel:
            return StoredLabel(
                label=snapshot.classes[label] if label >= 0 else "",
                patient=snapshot.patient_names[patient].decode() if patient >= 0 else "",
                fold=fold,
                split=split,
            )

        stored, rows = self._stored_rows(keys)
        if not len(stored):
            return found
        columns = (getattr(snapshot, name)[rows].tolist() for name in ("label", "patient", "fold", "split"))
        for at, *codes in zip(stored.tolist(), *columns, strict=True):
            found[at] = label_of(*codes)
        return found

    def name_of(self, patient: str) -> str:
        """Return the one name of a patient who may have several. patient: one of them; empty for none."""
        return self._snapshot.persons.name(patient)

    def why_retracted(self, keys: Iterable[int], patient: str) -> str:
        """Return why a source is kept out; empty where it was not retracted. patient: name in the store."""
        if not self._retracted:
            return ""
        if self._retracted.covers((), patient):
            return RETRACTED
        return RETRACTED_IMAGE if self._retracted.covers(keys, "") else ""

    def hear_of_retractions(self) -> bool:
        """Take note of retractions since this was last called; tell whether there were any."""
        new = read_kind(self._store, RETRACT, besides=self._heard_of)
        self._heard_of |= {commit.id for commit in new}
        self._retracted = self._retracted.joined(of_commits(new)) if new else self._retracted
        return bool(new)

    def num_stored_before(self, source_hashes: list[int]) -> int:
        """Count the sources whose bytes the store held before, under whatever key: those of a unit."""
        wanted = np.array(source_hashes, "<u8")
        if not self._has_looked:
            # The only unit, as a rule. To sort all pays from the second one on.
            self._has_looked = True
            found = np.concatenate(list(self._hashes_among(ascending(wanted))))
            return int(np.count_nonzero(np.isin(wanted, found)))
        return int(np.count_nonzero(positions(self._hashes, wanted)[0]))

    def slices_of(self, source_hash: int) -> set[int]:
        """Return the keys of the stored slices of a stack that the task has, twins of it included."""
        return set(self._slices.key[self._slices.source_hash == source_hash].tolist())

    def of_stack(self, key: int, slices: Collection[int]) -> set[int] | None:
        """Pick those that are of the stack which the task knows by a key, not of its twins; None: not told.

        slices: keys of stored ones of the same bytes.
        """
        if not slices:
            return set()
        if len(sources_of(self._store, [key, *slices])) <= len(slices):
            return None
        return frames_of(self._store, self._slices, [key]).keys() & slices

    @functools.cached_property
    def _slices(self) -> Snapshot:
        """A snapshot that tells of all slices of the stacks by whose first ones the task knows them."""
        stacks = np.unique(self._snapshot.source_hash[self._snapshot.slice_index >= 0])
        parts = [(self._base.column("source_hash"), self._base.column("key"))] if self._base else []
        parts += zip(self._new_hashes, self._new_keys, strict=True)
        keys = np.unique(np.concatenate([keys[np.isin(hashes, stacks)] for hashes, keys in parts]))

        def find(standing: Standing) -> Snapshot:
            return fold(standing.base, standing.new, functools.partial(header_of, self._store), only=keys)

        return look(self._store, find)

    def _stored_rows(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find which sources are stored, by key, and in which row of the snapshot: int64, (s,) each."""
        order = np.argsort(keys)
        is_there, rows = positions(self._snapshot.key, keys[order])
        return order[is_there], rows

    def _hashes_among(self, wanted: np.ndarray) -> Iterator[np.ndarray]:
        """Yield those that are wanted of the hashes of all sources. wanted: ascending."""
        yield np.empty(0, "<u8")
        parts = self._base.parts("source_hash") if self._base and len(wanted) else ()
        for part in itertools.chain(parts, self._new_hashes):
            yield part[rows_among([part], wanted)]

    @functools.cached_property
    def _hashes(self) -> np.ndarray:
        """Of all sources, ascending: uint64."""
        base = [] if self._base is None else [self._base.column("source_hash")]
        return np.sort(np.concatenate([np.empty(0, "<u8"), *base, *self._new_hashes]))


def _stored(snapshot: Snapshot, wanted: np.ndarray, outvoted: set[int]) -> dict[int, Stored]:
    is_there, rows = positions(snapshot.key, wanted)
    if not len(rows):
        return {}
    columns = (
        getattr(snapshot, name)[rows].tolist() for name in ("source_hash", "generation", "slice_index")
    )
    return {
        key: Stored(
            source_hash=source_hash,
            generation=generation,
            is_outvoted=key in outvoted,
            is_stack=slice_index >= 0,
        )
        for key, source_hash, generation, slice_index in zip(wanted[is_there].tolist(), *columns, strict=True)
    }


def _rejected(snapshot: Snapshot, wanted: np.ndarray) -> dict[int, EarlierRejection]:
    rows = snapshot.rejected[_rows_of(snapshot.rejected["key"], wanted)[0]]
    return {
        key: EarlierRejection(look=Look(size=size, mtime_ns=mtime_ns), reason=snapshot.reasons[reason])
        for key, mtime_ns, size, _source_hash, reason in rows[snapshot.stands(rows)].tolist()
    }


def _seen(store: StoreDir, wanted: np.ndarray) -> np.ndarray:
    """Read what was read before of some sources: rows of SEEN, ascending by key. wanted: keys, ascending.

    An entry that is missing or damaged fits no file, and only costs reading one again.
    """
    found = [np.empty(0, SEEN)]
    for file in store.seen.glob("[!.]*.bin"):
        # Folded into another one at this moment.
        with contextlib.suppress(FileNotFoundError):
            table = read_seen(file.read_bytes())
            found.append(table[rows_among([table["key"]], wanted)])
    seen = np.concatenate(found)
    return seen[np.argsort(seen["key"], kind="stable")]


def _rows_of(keys: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find rows with a wanted key, and which key: int64. keys: ascending; wanted: ascending, unique."""
    starts, ends = np.searchsorted(keys, wanted, "left"), np.searchsorted(keys, wanted, "right")
    counts = ends - starts
    within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.repeat(starts, counts) + within, np.repeat(np.arange(len(wanted)), counts)
