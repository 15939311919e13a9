"""Adding sources to a store: the one loop over sources. Whatever kills it costs at most one unit."""

from collections.abc import Callable, Collection
from dataclasses import replace

import numpy as np

from mri_hpc.base.errors import BadSource
from mri_hpc.intake.decoding.burnt_in import BURNT_IN, KEPT_BACK
from mri_hpc.intake.decoding.dicom.listing import DUPLICATE
from mri_hpc.intake.decoding.foreign import NOT_A_PICTURE, NOT_READ_YET
from mri_hpc.intake.decoding.group_reader import Stopped
from mri_hpc.intake.decoding.left_out import is_mask, is_named_like_mask
from mri_hpc.intake.decoding.masks import NO_MASK
from mri_hpc.intake.decoding.pictures import DAMAGED_PICTURE, SEVERAL_FRAMES, WRAPPED
from mri_hpc.intake.decoding.recipe import Recipe
from mri_hpc.intake.files.content import CANNOT_OPEN, Content
from mri_hpc.intake.files.fingerprint import Fingerprint, Look, look_at
from mri_hpc.intake.files.sources import Source, Sources
from mri_hpc.intake.files.units import cut
from mri_hpc.intake.labels.folder_labels import NO_CLASS_FOLDER
from mri_hpc.intake.labels.label import NO_LABEL_IN_CSV, label_or_reason
from mri_hpc.storage.adding.intake import STACK, Intake
from mri_hpc.storage.adding.known import Known, KnownSources, Stored, StoredLabel
from mri_hpc.storage.adding.tally import Tally
from mri_hpc.storage.adding.unit import RejectedSource, SeenSource, TakenSource, Unit, seal
from mri_hpc.storage.adding.windowed import ReadSource, WindowedReader, by_group
from mri_hpc.storage.disk.commits import Rejection, publish_retraction
from mri_hpc.storage.disk.layout import StoreDir
from mri_hpc.storage.snapshot.table import (
    CHANGED,
    CHANGED_LABELS,
    CHANGED_SHORTER,
    CHANGED_UNTOLD,
    CHANGES,
    RETRACTED,
    RETRACTED_IMAGE,
)  # fmt: skip

# The file need not change for these to go away: other labels, permissions or a newer version do it.
MAY_GO_AWAY = (
    *(NO_LABEL_IN_CSV, NO_CLASS_FOLDER, CANNOT_OPEN, NOT_READ_YET, NO_MASK),
    *(NOT_A_PICTURE, DAMAGED_PICTURE, SEVERAL_FRAMES, WRAPPED, DUPLICATE),
)
SHORTENED = "slices that their file or series has no longer"
LOOKED_UP = 2**14
"""Sources at a time of which it is looked up what the store knows."""


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
    """Store what is new among `sources`, in units of at most `unit_size`; return what became of them.

    The unit under way when `is_stopping` turns true is given up: nothing of it is visible. `progress` is
    given the outcomes, and how many sources of the unit under way have been read. `end_retraction` takes out
    of the chunks what is retracted: it is called where that happened while images of it were being published.
    """
    tally = Tally()
    new = by_group(_sources_to_read(sources, intake, known, tally), intake)
    reader = WindowedReader(intake, known, sources.listing, is_stopping)
    found_here: set[str] = set()
    progress(tally, 0)
    for part in cut(new, unit_size):
        about = known.of(part.keys)
        unit = Unit()
        try:
            for done, source in enumerate(part):
                if is_stopping():
                    return tally
                _take(source, intake, reader, known, about, unit)
                progress(tally, done)
                if unit.is_full(unit_size):
                    _seal(store, intake.recipe, known, unit, end_retraction)
                    _count(unit, known, tally, found_here)
                    unit = Unit()
        except Stopped:
            return tally
        _seal(store, intake.recipe, known, unit, end_retraction)
        _count(unit, known, tally, found_here)
        progress(tally, 0)
    return tally


def sources_outvoted(sources: Sources, known: Known) -> Sources:
    """Pick the sources that are to be made again, since they are stored in a window that does not hold."""
    return sources.take(np.flatnonzero(np.isin(sources.keys, np.array([*known.outvoted], "<u8"))))


def _seal(
    store: StoreDir, recipe: Recipe, known: Known, unit: Unit, end_retraction: Callable[[], object]
) -> None:
    """Publish a unit without what was retracted while it was gathered."""
    if unit.surplus:
        # First: of who is killed behind it old slices are left, but no more of them than are to be replaced.
        publish_retraction(store, unit.surplus, (), SHORTENED)
    if known.hear_of_retractions():
        _reject_retracted(unit, known)
    seal(store, recipe, unit)
    if known.hear_of_retractions() or unit.surplus:
        # Whoever retracted them may have looked for their images before these were there.
        end_retraction()


def _reject_retracted(unit: Unit, known: Known) -> None:
    staying: list[TakenSource] = []
    for source in unit.taken:
        if reason := known.why_retracted([source.key, *source.image_keys], source.patient):
            rejection = _rejection(source.key, reason, source.fingerprint)
            unit.rejected.append(RejectedSource(rejection=rejection, path=source.path))
        else:
            staying.append(source)
    unit.taken = staying


def _sources_to_read(sources: Sources, intake: Intake, known: Known, tally: Tally) -> Sources:
    """Return the sources to be read, by key; looked at in the order of their folders, as disks like it."""
    rows = [np.empty(0, np.int64)]
    for number, part in enumerate(cut(sources, LOOKED_UP)):
        rows.append(number * LOOKED_UP + _rows_to_read(part, intake, known, tally))
    new = np.concatenate(rows)
    return sources.take(new[np.argsort(sources.keys[new])])


def _rows_to_read(part: Sources, intake: Intake, known: Known, tally: Tally) -> np.ndarray:
    """Find sources of which only reading tells what becomes of them: int64; count the others."""
    sizes, times_ns = look_at(part, intake.root)
    # Of those that are gone, or not to be looked at, it is known when their turn comes.
    is_there = sizes >= 0
    is_unchanged = known.are_unchanged(part.keys, sizes, times_ns)
    tally.already_there += int(np.count_nonzero(is_unchanged))
    tally.labels_differ += _num_labelled_otherwise(part.take(np.flatnonzero(is_there)), intake, known)
    is_to_read = ~is_unchanged
    others = np.flatnonzero(is_there & is_to_read)
    about = known.of(part.keys[others])
    for row, source in zip(others.tolist(), part.take(others), strict=True):
        look = Look(size=int(sizes[row]), mtime_ns=int(times_ns[row]))
        reason = about.rejection(source.key, look)
        if reason and _is_still_rejected(source, reason, intake, known):
            tally.reject(reason)
            is_to_read[row] = False
    return np.flatnonzero(is_to_read)


def _num_labelled_otherwise(part: Sources, intake: Intake, known: Known) -> int:
    """Count the stored sources of which the labels speak otherwise than the store."""
    stored = zip(part.paths, known.labels_of(part.keys), strict=True)
    return sum(kept is not None and _differ(path, kept, intake, known) for path, kept in stored)


def _is_still_rejected(source: Source, reason: str, intake: Intake, known: Known) -> bool:
    """Tell whether a source, its file as when it was rejected, would be rejected again. reason: of then."""
    if reason.startswith(CHANGES) and intake.is_replacing:
        return False
    if reason == KEPT_BACK and intake.is_accepting_text:
        return False
    label, problem = label_or_reason(intake.labels, source.path)
    if reason.startswith(MAY_GO_AWAY) and reason != problem:
        return False
    # The labels may have called it a retracted patient's by mistake, and name another one now.
    if reason not in (RETRACTED, RETRACTED_IMAGE):
        return True
    return bool(known.why_retracted([source.key], intake.pseudonyms.patient(label.patient)))


def _differ(path: str, kept: StoredLabel, intake: Intake, known: Known) -> bool:
    label, _problem = label_or_reason(intake.labels, path)
    if kept.label and kept.label == intake.recipe.without_lesion:
        # A mask says so of the first slice, whatever the class of the volume is.
        label = replace(label, label="")
    return kept.differs_from(label, known.name_of(intake.pseudonyms.patient(label.patient)))


def _take(
    source: Source, intake: Intake, reader: WindowedReader, known: Known, about: KnownSources, unit: Unit
) -> None:
    """Read, label and decode one source into the unit: taken, found in the store already, or rejected."""
    stored = about.stored.get(source.key)
    content = None
    try:
        read = reader.read(source)
        content = read.content
        is_same = stored is not None and stored.source_hash == content.fingerprint.source_hash
        if stored and is_same and not stored.is_outvoted:
            unit.already_there.append(SeenSource(key=source.key, fingerprint=content.fingerprint))
            return
        if stored and not is_same and not intake.is_replacing:
            raise BadSource(CHANGED)
        generation = stored.generation + 1 if stored else 0
        taken = _taken(read, reader, unit, generation)
        if taken is None:
            return
        surplus = _surplus(taken, stored, intake, known) if stored and not is_same else ()
    except FileNotFoundError:
        unit.gone += 1
    except BadSource as error:
        _reject(source, str(error), content, about, unit)
    else:
        if not is_same:
            unit.new_bytes.append(content.fingerprint.source_hash)
        unit.surplus.update(surplus)
        unit.take(taken)


def _taken(read: ReadSource, reader: WindowedReader, unit: Unit, generation: int) -> TakenSource | None:
    """Make of the images in a source what enters the store; None, and counted, where they are left out."""
    source, intake, known = read.source, reader.intake, reader.known
    if is_named_like_mask(intake.root, source.path) and all(is_mask(image.grey) for image in read.images()):
        unit.masks += 1
        return None
    intake.series.check_is_source(source.path, read.content)
    label = intake.labels.of(source.path)
    intake.series.masks.check(source.path, label.label, intake.recipe.without_lesion)
    patient = intake.pseudonyms.patient(label.patient)
    if reason := known.why_retracted([source.key], patient):
        raise BadSource(reason)
    samples, window = reader.decode(read, label)
    if not intake.is_accepting_text and any(BURNT_IN in sample.notes for sample in samples):
        raise BadSource(KEPT_BACK)
    samples = unit.with_head(samples, is_skipping=intake.is_skipping_empty)
    if not samples:
        unit.empty += 1
        return None
    taken = intake.taken(source, read.content, label, samples, window=window, generation=generation)
    if reason := known.why_retracted(taken.image_keys, taken.patient):
        raise BadSource(reason)
    return taken


def _surplus(taken: TakenSource, stored: Stored, intake: Intake, known: Known) -> Collection[int]:
    """Find the stored slices of a stack that what replaces it has no longer.

    BadSource where it is not asked for that they go, or new ones would have other labels.
    """
    if not stored.is_stack:
        return ()
    slices = known.slices_of(stored.source_hash)
    surplus = known.of_stack(taken.key, slices - set(taken.image_keys))
    if surplus is None:
        raise BadSource(CHANGED_UNTOLD)
    if surplus and not intake.is_shortening:
        raise BadSource(CHANGED_SHORTER)
    (kept,) = known.labels_of(np.array([taken.key], "<u8"))
    if not slices >= set(taken.image_keys) and kept and _differ(taken.path, kept, intake, known):
        raise BadSource(CHANGED_LABELS)
    return surplus


def _reject(source: Source, reason: str, content: Content | None, about: KnownSources, unit: Unit) -> None:
    """Note why a source is rejected. content: what was read of it."""
    rejection = _rejection(source.key, reason, content.fingerprint if content else None)
    if about.rejection(source.key, Look(size=rejection.size, mtime_ns=rejection.mtime_ns)) == reason:
        unit.rejected_again.append(reason)
    else:
        unit.rejected.append(RejectedSource(rejection=rejection, path=source.path))


def _rejection(key: int, reason: str, found: Fingerprint | None) -> Rejection:
    """Make the record of a rejection. found: None where the source was not read."""
    return Rejection(
        key=f"{key:016x}",
        reason=reason,
        size=found.size if found else -1,
        mtime_ns=found.mtime_ns if found else -1,
        source_hash=f"{found.source_hash:016x}" if found else "",
    )


def _count(unit: Unit, known: Known, tally: Tally, found_here: set[str]) -> None:
    """Add the outcomes of a unit. found_here: groups whose windows this task has found, which it adds to."""
    tally.stored += len(unit.taken)
    tally.without_patient += sum(not source.label.patient for source in unit.taken)
    tally.twins += known.num_stored_before(unit.new_bytes)
    tally.images += unit.num_images
    windows = [source.window for source in unit.taken if source.window]
    tally.outside_window += sum(window.outside for window in windows)
    found_here.update(window.group for window in windows if not window.is_recorded)
    tally.windows = len(found_here)
    tally.already_there += len(unit.already_there)
    tally.gone += unit.gone
    tally.masks += unit.masks
    tally.empty += unit.empty
    tally.no_head += unit.no_head
    tally.slices_retracted += len(unit.surplus)
    for sample in unit.samples:
        tally.slices_left_out += sample.slices_left_out
        for note in sample.notes:
            tally.note(note)
    tally.unnamed_stacks += sum(source.label.patient.startswith(STACK) for source in unit.taken)
    for reason in (*unit.rejected_again, *(source.rejection.reason for source in unit.rejected)):
        tally.reject(reason)
