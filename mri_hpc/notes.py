"""The notes that preprocess prints beside its counts: what a task met, and what the labels leave open."""

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mri_hpc.account import Account
from mri_hpc.base.command import counted
from mri_hpc.intake.kinds import left_out_text
from mri_hpc.intake.labels.folder_labels import FolderLabels
from mri_hpc.intake.labels.labelled_files import pattern_hint
from mri_hpc.intake.labels.several_values import num_of_several
from mri_hpc.storage.store import Store, Tally

if TYPE_CHECKING:
    from mri_hpc.intake.labels.csv_labels import CsvLabels


def print_notes(tally: Tally, *, store: Store, root_name: str, account: Account | None) -> None:
    """Print what a task met. account: which follows, and says the rest; None where there is none."""
    notes = [
        *_of_rejected(tally, store),
        *_of_labels(tally),
        *_of_left_out(tally),
        *_of_windows(tally),
    ]
    # Of files that were moved the account says what to do.
    if not (account and any(doubt.kind == "missing" for doubt in account.doubts)):
        notes += _of_twins(tally, root_name)
    if tally.without_patient and not account:
        what = f"{_verb(tally.without_patient, 'name')} no patient: results will be by slice, not by patient"
        notes.append(f"{counted(tally.without_patient, 'image')} {what} (see: Your images, in README.md)")
    for note in notes:
        print(note, file=sys.stderr)


def print_notes_of_source(
    labels: "FolderLabels | CsvLabels", paths: Sequence[str], *, without_lesion: str, has_account: bool
) -> None:
    """Print what is to be known of a source whoever adds it.

    paths: of all files below the root; without_lesion: as in Recipe.
    """
    for note in _of_source(labels, paths, without_lesion=without_lesion, has_account=has_account):
        print(note, file=sys.stderr)


def _of_source(
    labels: "FolderLabels | CsvLabels", paths: Sequence[str], *, without_lesion: str, has_account: bool
) -> Iterator[str]:
    if not isinstance(labels, FolderLabels) and (lines := labels.without_file(paths)):
        yield _without_file(labels, lines)
    if pattern := pattern_hint(labels, paths):
        yield f"{pattern.text}, in a new store"
    if isinstance(labels, FolderLabels) and (hint := labels.hint(paths, without_lesion)):
        yield hint
    pairs = () if has_account else ((one.patient, one.label) for one in labels.mentions(paths))
    mixed = num_of_several(pairs)
    if mixed:
        what = "with images of several classes: launch --patient-label says which class is theirs"
        yield f"{counted(mixed, 'patient')} {what}"


def _without_file(labels: "CsvLabels", lines: Sequence[int]) -> str:
    """Tell of rows that are of no file. lines: on which they stand."""
    rows, verb = counted(len(lines), "row"), "is" if len(lines) == 1 else "are"
    what = f"{_verb(len(lines), 'name')} files that are"
    if labels.table.patients:
        what = f"{verb} of patients whose files are"
    elif labels.table.ids:
        what = f"{verb} of series or studies that are"
    return f"{rows} of the CSV {what} not in the source (the first: line {lines[0]} of {labels.file.name})"


def _of_rejected(tally: Tally, store: Store) -> Iterator[str]:
    for reason, count in sorted(tally.reasons.items()):
        yield f"rejected {count}: {reason}"
    if tally.reasons:
        yield f"which files: {store.names}/*.csv, column rejected"
    if tally.gone:
        yield f"{counted(tally.gone, 'listed file')} disappeared meanwhile"


def _of_labels(tally: Tally) -> Iterator[str]:
    if tally.labels_differ:
        yield f"{tally.labels_differ} labels, patients, folds or splits differ from those stored, which stay"
    if tally.own_labels_differ:
        verb = _verb(tally.own_labels_differ, "say")
        what = f"{verb} another class or patient of themselves than the folders or the CSV, which hold"
        yield f"{counted(tally.own_labels_differ, 'file')} {what}"


def _of_left_out(tally: Tally) -> Iterator[str]:
    """Tell of pictures of no head, and of stacks without a patient."""
    if tally.masks:
        yield f"{counted(tally.masks, 'mask')} left out: named like a picture beside it, and of two values"
    if tally.empty:
        yield f"{counted(tally.empty, 'file')} left out: no head in it"
    if tally.no_head:
        what = f"{_verb(tally.no_head, 'show')} no head (--skip-empty leaves such out of a new store)"
        yield f"{counted(tally.no_head, 'image')} {what}"
    if tally.slices_left_out:
        yield f"{counted(tally.slices_left_out, 'slice')} of volumes left out: no head in it"
    if tally.slices_retracted:
        of = "of files or series that have become shorter: runs that have seen these slices cannot go on"
        yield f"{counted(tally.slices_retracted, 'slice')} retracted, {of}"
    if tally.left_out_series:
        yield left_out_text(tally.left_out_series)
    for note, count in sorted(tally.notes.items()):
        yield f"{counted(count, 'volume')}: {note}"
    if tally.unnamed_stacks:
        what = f"{_verb(tally.unnamed_stacks, 'name')} no patient: each is taken for a patient of its own"
        yield f"{counted(tally.unnamed_stacks, 'stack')} {what}"


def _of_windows(tally: Tally) -> Iterator[str]:
    if tally.outside_window:
        what = "more than 1 % of the pixels lie outside the window of grey values that the first images"
        yield (
            f"{counted(tally.outside_window, 'new image')}: {what} of the patient (or folder) gave, and are "
            "black or white"
        )


def _of_twins(tally: Tally, root_name: str) -> Iterator[str]:
    if tally.twins > tally.stored / 2:
        yield (
            f"{tally.twins} of {tally.stored} new images have the same bytes as ones stored before under "
            f"another path: was the source (now {root_name!r}) or a folder in it renamed? They are stored "
            "twice now: make a new store"
        )


def _verb(count: int, verb: str) -> str:
    return f"{verb}s" if count == 1 else verb
