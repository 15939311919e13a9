"""Adding sources to a store: the one loop over sources. Whatever kills it costs at most one unit."""

import functools
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mri_hpc.base.atomic import publish_new_bytes
from mri_hpc.base.errors import BadSource
from mri_hpc.chunks import chunk as chunk_file
from mri_hpc.chunks.columns import COLUMNS, STRINGS, chunk_id
from mri_hpc.chunks.commits import Rejection, commit_id, publish_commit
from mri_hpc.chunks.layout import StoreDir
from mri_hpc.chunks.private_tables import SEEN, names_csv, read_seen
from mri_hpc.chunks.snapshots import CHANGED, RETRACTED, Snapshot
from mri_hpc.intake.labels import NO_CLASS_FOLDER, NO_LABEL_IN_CSV, CsvLabels, FolderLabels, Label
from mri_hpc.intake.pictures import library_versions
from mri_hpc.intake.pseudonyms import Pseudonyms
from mri_hpc.intake.recipe import Recipe
from mri_hpc.intake.samples import CANNOT_OPEN, NOT_READ_YET, Content, Sample, decode, read_content
from mri_hpc.intake.sources import Source, source_key
from mri_hpc.intake.units import cut

# The file need not change for these to go away: other labels, permissions or a newer version do it.
MAY_GO_AWAY = (NO_LABEL_IN_CSV, NO_CLASS_FOLDER, CANNOT_OPEN, NOT_READ_YET)


@dataclass(frozen=True, kw_only=True)
class Intake:
    """Everything that decides what becomes of a source."""

    root: Path
    root_name: str
    labels: FolderLabels | CsvLabels
    pseudonyms: Pseudonyms
    recipe: Recipe
    is_replacing: bool = False
    """Whether a source with other bytes than those stored takes their place."""


@dataclass(kw_only=True)
class Tally:
    """What became of the sources so far."""

    stored: int = 0
    already_there: int = 0
    rejected: int = 0
    gone: int = 0
    """Sources that were listed and have disappeared since."""
    labels_differ: int = 0
    """Sources whose label, patient, fold or split is not the one stored, which stays."""
    without_patient: int = 0
    """Stored sources of which the labels name no patient."""
    twins: int = 0
    """Stored sources whose bytes the store held before, under another path."""
    images: int = 0
    """Images that the stored sources gave."""
    reasons: dict[str, int] = field(default_factory=dict)
    """Why sources were rejected, and how many each."""

    def reject(self, reason: str) -> None:
        """Count one rejected source."""
        self.rejected += 1
        self.reasons[reason] = self.reasons.get(reason, 0) + 1

    @property
    def done(self) -> int:
        """Sources that are settled."""
        return self.stored + self.already_there + self.rejected + self.gone


@dataclass(frozen=True, kw_only=True)
class Stored:
    """What the store holds of a source."""

    source_hash: int
    generation: int
    facts: tuple[str, str, int, int]
    """As from _facts."""


class Known:
    """What the store knows about the sources of one task, from its newest snapshot and the private folder."""

    def __init__(self, store: StoreDir, snapshot: Snapshot, keys: Iterable[int]) -> None:
        wanted = np.array(sorted(keys), "<u8")
        self.stored = _stored(snapshot, wanted)
        self._seen = _seen(store, wanted)
        self._rejected = _rejected(snapshot, wanted)
        self._snapshot = snapshot
        self._retracted = set(snapshot.retracted_keys.tolist())
        self._retracted_patients = {name.decode() for name in snapshot.retracted_patients.tolist()}

    def is_retracted(self, keys: Iterable[int], patient: str) -> bool:
        """Whether a source was taken out for good. patient: name in the store."""
        return patient in self._retracted_patients or not self._retracted.isdisjoint(keys)

    def has_bytes(self, source_hash: int) -> bool:
        """Whether the store held these bytes before, under whatever key."""
        at = np.searchsorted(self._hashes, np.uint64(source_hash))
        return bool(at < len(self._hashes) and self._hashes[at] == source_hash)

    @functools.cached_property
    def _hashes(self) -> np.ndarray:
        return np.sort(self._snapshot.source_hash)

    def is_unchanged(self, key: int, size: int, mtime_ns: int) -> bool:
        """Whether a stored source's file is, by size and time, the one that was stored."""
        stored = self.stored.get(key)
        return stored is not None and (size, mtime_ns, stored.source_hash) in self._seen.get(key, ())

    def rejection(self, key: int, size: int, mtime_ns: int) -> str:
        """Why this very file was rejected before; empty where it was not."""
        found = self._rejected.get(key)
        return found[2] if found and found[:2] == (size, mtime_ns) else ""


@dataclass(kw_only=True)
class _Unit:
    """What one unit has gathered before it is sealed."""

    samples: list[tuple[int, int, int, Label, Sample]] = field(default_factory=list)
    """(key, source hash, generation, label, sample)"""
    rejected: list[Rejection] = field(default_factory=list)
    seen: list[tuple[int, int, int, int]] = field(default_factory=list)
    """As in SEEN."""
    names: list[tuple[str, ...]] = field(default_factory=list)
    """(key, path, patient id, its pseudonym, study id, its pseudonym)"""
    rejected_paths: list[tuple[str, str, str]] = field(default_factory=list)
    """(key, path, reason)"""
    rejected_again: list[str] = field(default_factory=list)
    """Reasons of rejections that an earlier commit lists already."""
    already_there: int = 0
    gone: int = 0
    twins: int = 0


def add_sources(
    store: StoreDir,
    intake: Intake,
    sources: Sequence[Source],
    known: Known,
    *,
    unit_size: int,
    is_stopping: Callable[[], bool] = lambda: False,
    progress: Callable[[Tally, int], None] = lambda tally, under_way: None,
) -> Tally:
    """Store what is new among `sources`, in units of at most `unit_size`; says what became of them.

    The unit under way when `is_stopping` turns true is given up: nothing of it is visible. `progress` is told
    what is settled, and how many sources of the unit under way have been read.
    """
    tally = Tally()
    new = [source for source in sorted(sources) if not _is_settled(source, intake, known, tally)]
    progress(tally, 0)
    for part in cut(new, unit_size):
        unit = _Unit()
        for done, source in enumerate(part):
            if is_stopping():
                return tally
            _take(source, intake, known, unit)
            progress(tally, done)
        _seal(store, intake, unit)
        _count(unit, tally)
        progress(tally, 0)
    return tally


def _is_settled(source: Source, intake: Intake, known: Known, tally: Tally) -> bool:
    """Whether nothing needs to be read to know what becomes of a source; then it is counted."""
    try:
        status = (intake.root / source.path).stat()
    except OSError:
        # Gone, or not to be looked at: known when the source's turn comes.
        return False
    label, problem = _label_or_problem(source, intake)
    stored = known.stored.get(source.key)
    if stored and any(
        given not in ("", -1) and given != kept
        for given, kept in zip(_facts(label, intake.pseudonyms), stored.facts, strict=True)
    ):
        tally.labels_differ += 1
    if known.is_unchanged(source.key, status.st_size, status.st_mtime_ns):
        tally.already_there += 1
        return True
    reason = known.rejection(source.key, status.st_size, status.st_mtime_ns)
    if reason == CHANGED and intake.is_replacing:
        return False
    if not reason or (reason.startswith(MAY_GO_AWAY) and reason != problem):
        return False
    tally.reject(reason)
    return True


def _label_or_problem(source: Source, intake: Intake) -> tuple[Label, str]:
    try:
        return intake.labels.of(source.path), ""
    except BadSource as error:
        return Label(), str(error)


def _facts(label: Label, pseudonyms: Pseudonyms) -> tuple[str, str, int, int]:
    """Class, name of the patient, fold and split; empty or -1 where unknown."""
    return label.label, pseudonyms.patient(label.patient), label.fold, label.split


def _take(source: Source, intake: Intake, known: Known, unit: _Unit) -> None:
    """Read, label and decode one source into the unit: stored, found there already, or rejected."""
    stored = known.stored.get(source.key)
    content = None
    try:
        content = read_content(intake.root / source.path)
        source_hash = content.digest()
        if stored and stored.source_hash == source_hash:
            unit.already_there += 1
            unit.seen.append((source.key, content.size, content.mtime_ns, source_hash))
            return
        if stored and not intake.is_replacing:
            raise BadSource(CHANGED)
        label = intake.labels.of(source.path)
        patient = intake.pseudonyms.patient(label.patient)
        if known.is_retracted([source.key], patient):
            raise BadSource(RETRACTED)
        samples = decode(content.data, intake.recipe)
        keys = [source_key(intake.root_name, source.path, sample.frame) for sample in samples]
        if known.is_retracted(keys, patient):
            raise BadSource(RETRACTED)
    except FileNotFoundError:
        unit.gone += 1
        return
    except BadSource as error:
        rejection = _rejection(source, str(error), content)
        if known.rejection(source.key, rejection.size, rejection.mtime_ns) == rejection.reason:
            unit.rejected_again.append(rejection.reason)
        else:
            unit.rejected.append(rejection)
            unit.rejected_paths.append((rejection.key, source.path, rejection.reason))
        return
    unit.twins += known.has_bytes(source_hash)
    generation = stored.generation + 1 if stored else 0
    for key, sample in zip(keys, samples, strict=True):
        unit.samples.append((key, source_hash, generation, label, sample))
    unit.seen.append((source.key, content.size, content.mtime_ns, source_hash))
    study = intake.pseudonyms.study(label.study)
    unit.names.append((f"{source.key:016x}", source.path, label.patient, patient, label.study, study))


def _rejection(source: Source, reason: str, content: Content | None) -> Rejection:
    return Rejection(
        key=f"{source.key:016x}",
        reason=reason,
        size=content.size if content else -1,
        mtime_ns=content.mtime_ns if content else -1,
        source_hash=f"{content.digest():016x}" if content else "",
    )


def _seal(store: StoreDir, intake: Intake, unit: _Unit) -> None:
    """Publish a unit: the private mapping, then the chunk, then the commit that makes it visible."""
    columns = _columns(unit, intake.pseudonyms) if unit.samples else {}
    name = chunk_id(columns, intake.recipe.digest()) if columns else ""
    commit = commit_id(name, unit.rejected)
    _publish_seen(store, commit, unit)
    if not unit.samples and not unit.rejected:
        return
    publish_new_bytes(store.names / f"{commit}.csv", names_csv(_names(unit)), is_private=True)
    if unit.samples:
        images = np.stack([sample.pixels for *_rest, sample in unit.samples])
        attributes = {"recipe_digest": intake.recipe.digest(), "chunk_id": name}
        attributes |= {f"version_{library}": version for library, version in _versions().items()}
        chunk_file.publish_chunk(store.chunk(name), images, columns, attributes)
    publish_commit(store, chunk=name, images=len(unit.samples), rejected=unit.rejected, versions=_versions())
    if unit.samples and not store.chunk(name).exists():
        # A copy of it that had been left without a commit was removed at the same moment (see removal.py).
        chunk_file.publish_chunk(store.chunk(name), images, columns, attributes)


def _count(unit: _Unit, tally: Tally) -> None:
    tally.stored += len(unit.names)
    tally.without_patient += sum(not patient for _key, _path, patient, *_names in unit.names)
    tally.twins += unit.twins
    tally.images += len(unit.samples)
    tally.already_there += unit.already_there
    tally.gone += unit.gone
    for reason in (*unit.rejected_again, *(rejection.reason for rejection in unit.rejected)):
        tally.reject(reason)


def _columns(unit: _Unit, pseudonyms: Pseudonyms) -> dict[str, np.ndarray]:
    rows = unit.samples
    values: Mapping[str, list[object]] = {
        "key": [key for key, *_ in rows],
        "source_hash": [source_hash for _, source_hash, *_ in rows],
        "generation": [generation for _, _, generation, *_ in rows],
        "crc": [zlib.crc32(sample.pixels.data) for *_, sample in rows],
        "fold": [label.fold for *_, label, _ in rows],
        "split": [label.split for *_, label, _ in rows],
        "slice_index": [sample.slice_index for *_, sample in rows],
        "position": [sample.position for *_, sample in rows],
        "plane": [_plane(label, sample)[0] for *_, label, sample in rows],
        "plane_inferred": [_plane(label, sample)[1] for *_, label, sample in rows],
        "box": [_placed_box(label, sample) for *_, label, sample in rows],
    }
    columns = {
        c.name: np.array(values[c.name], c.dtype).reshape((-1, c.width) if c.width > 1 else -1)
        for c in COLUMNS
    }
    names = {
        "label": [label.label for *_, label, _ in rows],
        "patient": [pseudonyms.patient(label.patient) for *_, label, _ in rows],
        "study": [pseudonyms.study(label.study) for *_, label, _ in rows],
    }
    return columns | {name: np.array([text.encode() for text in names[name]], np.bytes_) for name in STRINGS}


def _plane(label: Label, sample: Sample) -> tuple[int, bool]:
    """What the scanner wrote goes before what somebody wrote into a table."""
    return (label.plane, label.plane_inferred) if sample.plane < 0 else (sample.plane, sample.plane_inferred)


def _placed_box(label: Label, sample: Sample) -> tuple[float, float, float, float]:
    """A box in fractions of the source picture as fractions of the stored image."""
    cx, cy, w, h = label.box
    left, top, width, height = sample.placed
    return left + cx * width, top + cy * height, w * width, h * height


@functools.cache
def _versions() -> dict[str, str]:
    return {**chunk_file.versions(), **library_versions()}


def _names(unit: _Unit) -> Iterator[tuple[str, ...]]:
    yield from ((*row, "") for row in unit.names)
    yield from ((key, path, "", "", "", "", reason) for key, path, reason in unit.rejected_paths)


def _publish_seen(store: StoreDir, commit: str, unit: _Unit) -> None:
    if not unit.seen:
        return
    table = np.array(sorted(unit.seen), SEEN).tobytes()
    # Files that were only read again have no commit; their name still follows from what they say.
    name = commit if unit.samples or unit.rejected else f"again-{zlib.crc32(table):08x}"
    publish_new_bytes(store.seen / f"{name}.bin", table, is_private=True)


def _stored(snapshot: Snapshot, wanted: np.ndarray) -> dict[int, Stored]:
    _keys, rows, _wanted = np.intersect1d(snapshot.key, wanted, assume_unique=True, return_indices=True)
    classes = (*snapshot.classes, "")
    patients = (*(name.decode() for name in snapshot.patient_names.tolist()), "")
    names = ("key", "source_hash", "generation", "label", "patient", "fold", "split")
    columns = (getattr(snapshot, name)[rows].tolist() for name in names)
    return {
        key: Stored(
            source_hash=source_hash,
            generation=generation,
            # A code of -1 means the last: empty.
            facts=(classes[label], patients[patient], fold, split),
        )
        for key, source_hash, generation, label, patient, fold, split in zip(*columns, strict=True)
    }


def _rejected(snapshot: Snapshot, wanted: np.ndarray) -> dict[int, tuple[int, int, str]]:
    rows = snapshot.rejected[snapshot.is_rejected & np.isin(snapshot.rejected["key"], wanted)]
    return {
        key: (size, mtime_ns, snapshot.reasons[reason])
        for key, mtime_ns, size, _source_hash, reason in rows.tolist()
    }


def _seen(store: StoreDir, wanted: np.ndarray) -> dict[int, set[tuple[int, int, int]]]:
    """Size, time and hash of files that were read before, by key.

    An entry that is missing or damaged fits no file, and only costs reading one again.
    """
    seen: dict[int, set[tuple[int, int, int]]] = {}
    for file in store.seen.glob("[!.]*.bin"):
        table = read_seen(file.read_bytes())
        for key, size, mtime_ns, source_hash in table[np.isin(table["key"], wanted)].tolist():
            seen.setdefault(key, set()).add((size, mtime_ns, source_hash))
    return seen
