"""Adding sources to a store: the one loop over sources. Whatever kills it costs at most one unit."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mri_hpc.base.errors import BadSource
from mri_hpc.intake.labels import NO_CLASS_FOLDER, NO_LABEL_IN_CSV, CsvLabels, FolderLabels, Label
from mri_hpc.intake.pseudonyms import Pseudonyms
from mri_hpc.intake.recipe import Recipe
from mri_hpc.intake.samples import CANNOT_OPEN, NOT_READ_YET, Content, decode, mtime_ns, read_content
from mri_hpc.intake.sources import Source, Sources
from mri_hpc.intake.units import cut
from mri_hpc.storage.adding.known import Known, KnownSources, Said
from mri_hpc.storage.adding.unit import Unit, seal
from mri_hpc.storage.disk.commits import Rejection
from mri_hpc.storage.disk.layout import StoreDir
from mri_hpc.storage.snapshot.table import CHANGED, RETRACTED

# The file need not change for these to go away: other labels, permissions or a newer version do it.
MAY_GO_AWAY = (NO_LABEL_IN_CSV, NO_CLASS_FOLDER, CANNOT_OPEN, NOT_READ_YET)
LOOKED_UP = 2**14
"""Sources at a time of which it is looked up what the store knows."""


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


def add_sources(
    store: StoreDir,
    intake: Intake,
    sources: Sources,
    known: Known,
    *,
    unit_size: int,
    end_retraction: Callable[[], object],
    is_stopping: Callable[[], bool] = lambda: False,
    progress: Callable[[Tally, int], None] = lambda tally, under_way: None,
) -> Tally:
    """Store what is new among `sources`, in units of at most `unit_size`; says what became of them.

    The unit under way when `is_stopping` turns true is given up: nothing of it is visible. `progress` is told
    what is settled, and how many sources of the unit under way have been read. `end_retraction` takes out of
    the chunks what is retracted: it is called where that happened while images of it were being published.
    """
    tally = Tally()
    new = _unsettled(sources, intake, known, tally)
    progress(tally, 0)
    for part in cut(new, unit_size):
        about = known.of(part.keys)
        unit = Unit()
        for done, source in enumerate(part):
            if is_stopping():
                return tally
            _take(source, intake, known, about, unit)
            progress(tally, done)
        _seal(store, intake, known, unit, end_retraction)
        _count(unit, tally)
        progress(tally, 0)
    return tally


def _seal(
    store: StoreDir, intake: Intake, known: Known, unit: Unit, end_retraction: Callable[[], object]
) -> None:
    """Publish a unit without the images of patients who were withdrawn while it was gathered."""
    if known.hear_of_retractions():
        _reject_withdrawn(unit, known, intake.pseudonyms)
    seal(store, intake.recipe, intake.pseudonyms, unit)
    if known.hear_of_retractions():
        # Whoever withdrew them may have looked for their images before these were there.
        end_retraction()


def _reject_withdrawn(unit: Unit, known: Known, pseudonyms: Pseudonyms) -> None:
    def is_withdrawn(key: int, patient: str) -> bool:
        return known.is_retracted([key], pseudonyms.patient(patient))

    files = {key: (size, time_ns, source_hash) for key, size, time_ns, source_hash in unit.seen}
    unit.samples = [row for row in unit.samples if not is_withdrawn(row[0], row[3].patient)]
    named = [(int(key, 16), path, patient) for key, path, patient, *_ in unit.names]
    gone = [(key, path) for key, path, patient in named if is_withdrawn(key, patient)]
    for key, path in gone:
        size, time_ns, source_hash = files[key]
        hex_hash = f"{source_hash:016x}"
        rejection = Rejection(
            key=f"{key:016x}", reason=RETRACTED, size=size, mtime_ns=time_ns, source_hash=hex_hash
        )
        unit.reject(rejection, path)
    keys = {key for key, _path in gone}
    unit.names = [row for row in unit.names if int(row[0], 16) not in keys]
    unit.seen = [row for row in unit.seen if row[0] not in keys]


def _unsettled(sources: Sources, intake: Intake, known: Known, tally: Tally) -> Sources:
    """The sources that have to be read, by key; looked at in the order of their folders, as disks like it."""
    rows = [np.empty(0, np.int64)]
    for number, part in enumerate(cut(sources, LOOKED_UP)):
        rows.append(number * LOOKED_UP + _rows_to_read(part, intake, known, tally))
    new = np.concatenate(rows)
    return sources.take(new[np.argsort(sources.keys[new])])


def _rows_to_read(part: Sources, intake: Intake, known: Known, tally: Tally) -> np.ndarray:
    """Sources of which only reading tells what becomes of them: int64; the others are counted."""
    sizes, times_ns = _sizes_and_times(part, intake.root)
    # Of those that are gone, or not to be looked at, it is known when their turn comes.
    is_there = sizes >= 0
    is_unchanged = known.are_unchanged(part.keys, sizes, times_ns)
    tally.already_there += int(np.count_nonzero(is_unchanged))
    tally.labels_differ += _num_said_otherwise(part.take(np.flatnonzero(is_there)), intake, known)
    is_to_read = ~is_unchanged
    others = np.flatnonzero(is_there & is_to_read)
    about = known.of(part.keys[others])
    for row, source in zip(others.tolist(), part.take(others), strict=True):
        reason = about.rejection(source.key, sizes[row], times_ns[row])
        if reason and _is_still_rejected(source, reason, intake, known):
            tally.reject(reason)
            is_to_read[row] = False
    return np.flatnonzero(is_to_read)


def _sizes_and_times(part: Sources, root: Path) -> tuple[np.ndarray, np.ndarray]:
    """Size and time of each file: int64, (n,) each; -1 for one that is gone, or not to be looked at."""
    found = []
    for path in part.paths:
        try:
            # By pathlib it takes several times as long as the system itself.
            status = os.stat(f"{root}/{path}")  # noqa: PTH116
        except OSError:
            found.append((-1, -1))
        else:
            found.append((status.st_size, mtime_ns(status)))
    sizes, times_ns = np.array(found, "<i8").reshape(-1, 2).T
    return sizes, times_ns


def _num_said_otherwise(part: Sources, intake: Intake, known: Known) -> int:
    """How many stored sources the labels speak of otherwise than the store."""
    said = zip(part.paths, known.said_of(part.keys), strict=True)
    return sum(kept is not None and _differ(_said(path, intake), kept) for path, kept in said)


def _is_still_rejected(source: Source, reason: str, intake: Intake, known: Known) -> bool:
    """Whether a source whose file is as it was when it was rejected would be again. reason: of then."""
    if reason == CHANGED and intake.is_replacing:
        return False
    label, problem = _label_or_problem(source.path, intake)
    if reason.startswith(MAY_GO_AWAY) and reason != problem:
        return False
    # It may have been called a withdrawn patient's by mistake, which was corrected since.
    return reason != RETRACTED or known.is_retracted([source.key], intake.pseudonyms.patient(label.patient))


def _label_or_problem(path: str, intake: Intake) -> tuple[Label, str]:
    try:
        return intake.labels.of(path), ""
    except BadSource as error:
        return Label(), str(error)


def _said(path: str, intake: Intake) -> Said:
    label, _problem = _label_or_problem(path, intake)
    return label.label, intake.pseudonyms.patient(label.patient), label.fold, label.split


def _differ(given: Said, kept: Said) -> bool:
    """Whether labels say something else than the store; what they leave open is no difference."""
    return given != kept and any(
        one not in ("", -1) and one != other for one, other in zip(given, kept, strict=True)
    )


def _take(source: Source, intake: Intake, known: Known, about: KnownSources, unit: Unit) -> None:
    """Read, label and decode one source into the unit: stored, found there already, or rejected."""
    stored = about.stored.get(source.key)
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
        key_of = intake.pseudonyms.source_key
        keys = [key_of(intake.root_name, source.path, sample.frame) for sample in samples]
        if known.is_retracted(keys, patient):
            raise BadSource(RETRACTED)
    except FileNotFoundError:
        unit.gone += 1
        return
    except BadSource as error:
        rejection = _rejection(source, str(error), content)
        if about.rejection(source.key, rejection.size, rejection.mtime_ns) == rejection.reason:
            unit.rejected_again.append(rejection.reason)
        else:
            unit.reject(rejection, source.path)
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


def _count(unit: Unit, tally: Tally) -> None:
    tally.stored += len(unit.names)
    tally.without_patient += sum(not patient for _key, _path, patient, *_names in unit.names)
    tally.twins += unit.twins
    tally.images += len(unit.samples)
    tally.already_there += unit.already_there
    tally.gone += unit.gone
    for reason in (*unit.rejected_again, *(rejection.reason for rejection in unit.rejected)):
        tally.reject(reason)
