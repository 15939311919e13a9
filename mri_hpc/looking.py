"""A look at a source before anything is stored: all that preprocess would understand. It leaves nothing.

A sample first, which takes seconds however many files there are; then all that labels say; then every file is
read. Whoever interrupts it is told what has been found so far.
"""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from mri_hpc.base.atomic import publish_new_bytes
from mri_hpc.base.command import counted, print_json, progress
from mri_hpc.base.errors import UserError, Verdict
from mri_hpc.base.exit_status import AGAIN
from mri_hpc.choosing import refuse_beside_stored
from mri_hpc.intake.decoding.dicom.listing import Series, find_series
from mri_hpc.intake.decoding.masks import find_masks
from mri_hpc.intake.decoding.recipe import Recipe, Wishes, wanted_recipe
from mri_hpc.intake.decoding.sequence import NO_CHOICE, choice_in, choice_text
from mri_hpc.intake.files.sampling import sample_files
from mri_hpc.intake.files.sources import check_root, list_sources
from mri_hpc.intake.kinds import Kinds, KindTable, kinds_by_class, left_out_text
from mri_hpc.intake.labels.csv_labels import CsvLabels
from mri_hpc.intake.labels.doubts import Accepted, Doubt, refuse_open
from mri_hpc.intake.labels.folder_labels import FolderLabels
from mri_hpc.intake.labels.label import label_or_reason
from mri_hpc.intake.labels.labelled_files import (
    check_paths,
    doubts_of,
    find_labels,
    knowing,
    pattern_hint,
    without_table,
)
from mri_hpc.intake.labels.labels_template import hold_pictures, template_of, template_of_series
from mri_hpc.intake.labels.pseudonyms import key_path
from mri_hpc.intake.own_labels import OwnLabels
from mri_hpc.intake.understanding import LookedAt, Naming, Reading, naming_of
from mri_hpc.storage.store import Store

SAMPLE_FILES = 64
SAMPLE_S = 5.0
CLASSES_SHOWN = 20


@dataclass(frozen=True, kw_only=True)
class Question:
    """A source, and how it would be stored."""

    source: Path
    store: Path
    labels: Path | None
    label_column: str
    site: str
    patient_pattern: str
    wishes: Wishes
    accepted: Sequence[Accepted]
    is_skipping_empty: bool
    template: Path | None
    """File for a table of labels to be filled in; None: none is wanted."""
    command: str
    """Command line that would store it."""


@dataclass(kw_only=True)
class Answer:
    """All that was understood, so far."""

    are_labels_read: bool = False
    """False where they cannot be used: then nothing is said by them."""
    naming: Naming | None = None
    """None: files have not been listed yet."""
    kinds: KindTable | None = None
    """None: files have not been listed yet."""
    left_out_series: Mapping[str, int] = field(default_factory=dict)
    """Series that are not chosen, by kind."""
    reading: Reading = field(default_factory=Reading)
    doubts: list[Doubt] = field(default_factory=list)
    """Doubts of labels and folders."""
    refusals: list[str] = field(default_factory=list)
    """Reasons why preprocess would store nothing."""
    is_complete: bool = False
    """True where all files were listed and read."""

    def all_doubts(self) -> list[Doubt]:
        """Return doubts of labels, folders and pictures."""
        of_naming = self.naming.doubts() if self.naming and self.are_labels_read else ()
        return [*self.doubts, *of_naming, *self.reading.doubts()]


def look(question: Question, *, is_json: bool, is_stopping: Callable[[], bool]) -> int:
    """Print what would be understood of a source; 0, or 75 where a signal ended it early.

    Raises Verdict where preprocess would refuse the source, and UserError where there is none.
    """
    check_root(question.source)
    if question.template is not None and question.template.exists():
        raise UserError(f"{question.template} exists already: --write-labels takes the name of a new file")
    answer = Answer()
    recipe, labels = _prepare(question, answer)
    if not is_json:
        _print_sample(question, recipe, labels, answer, is_stopping)
    paths, series = _list(question, recipe, labels, answer, is_stopping)
    if not is_json and answer.naming:
        _print_naming(question.source, answer, answer.naming, is_all=not is_stopping())
        _print_kinds(answer)
    among = _looked_at(question, paths, recipe, labels, series)
    _read(among, paths, answer, is_stopping)
    _write_template(question, paths, labels, among)
    if is_json:
        print_json(_document(question, answer))
    else:
        _print_end(question, answer)
    if is_stopping():
        return AGAIN
    if answer.refusals:
        raise Verdict(f"preprocess would store nothing: {answer.refusals[0]}")
    return 0


def _prepare(question: Question, answer: Answer) -> tuple[Recipe, FolderLabels | CsvLabels]:
    """Find out how files would be decoded and what labels them; what cannot be used is a refusal."""
    recipe = Recipe()
    labels: FolderLabels | CsvLabels = FolderLabels()
    with _noting(answer):
        store = Store.would_be(question.store, question.source)
        recipe = wanted_recipe(store.recipe, question.wishes)
    with _noting(answer):
        labels = find_labels(
            question.source, question.labels,
            site=question.site, patient_pattern=question.patient_pattern, label_column=question.label_column,
        )  # fmt: skip
        answer.are_labels_read = True
    return recipe, labels


@contextlib.contextmanager
def _noting(answer: Answer) -> Iterator[None]:
    """Note what preprocess would refuse, in place of refusing it."""
    try:
        yield
    except UserError as error:
        answer.refusals.append(str(error))


def _print_sample(
    question: Question,
    recipe: Recipe,
    labels: FolderLabels | CsvLabels,
    answer: Answer,
    is_stopping: Callable[[], bool],
) -> None:
    """Print what a few files from all over the source turn out to be."""
    started_s = time.monotonic()
    source = question.source
    paths = without_table(source, labels, sample_files(source, SAMPLE_FILES))
    series = find_series(source, paths, kept=None)
    masks = find_masks(source, paths, recipe.masks)
    labels = knowing(labels, series.named)
    reading, among = Reading(), _looked_at(question, paths, recipe, labels, series.apart().beside(masks))
    for path in paths:
        if is_stopping() or time.monotonic() - started_s > SAMPLE_S:
            break
        reading.add(path, among)
    print(f"a first look at {counted(reading.files, 'file')} of {source}")
    if answer.are_labels_read:
        named = (path for path in paths if not masks.is_mask(path))
        for name, text in _naming_lines(naming_of(named, among.labels)):
            _print_line(name, text)
    for name, text in _reading_lines(reading):
        _print_line(name, text)
    sys.stdout.flush()


def _list(
    question: Question,
    recipe: Recipe,
    labels: FolderLabels | CsvLabels,
    answer: Answer,
    is_stopping: Callable[[], bool],
) -> tuple[Sequence[str], Series]:
    """List the files, as far as that is not stopped, and sum up what labels and headers say of them."""
    found = []
    for path in list_sources(question.source):
        if is_stopping():
            break
        found.append(path)
    paths = without_table(question.source, labels, found)
    series = find_series(question.source, paths, kept=None)
    series = series.beside(find_masks(question.source, paths, recipe.masks))
    own_labels = OwnLabels(labels, question.source, series)
    answer.naming = naming_of((path for path in paths if not series.masks.is_mask(path)), own_labels)
    if not paths and not is_stopping():
        answer.refusals.append(f"{question.source} holds no files")
    with _noting(answer):
        check_paths(labels, paths, ids=recipe.ids)
        ids = Store(question.store).doubts_of_ids(own_labels.mentions(paths), question.accepted)
        answer.doubts = [*doubts_of(labels, paths), *ids]
        refuse_open(answer.doubts, question.accepted)
        if not answer.refusals:
            answer.doubts += _doubts_of_store(question, recipe, own_labels, series, paths)
            refuse_open(answer.doubts, question.accepted)
    if hint := pattern_hint(labels, paths):
        answer.doubts.append(hint)
    return _chosen(question, recipe, own_labels, answer, paths, series), series


def _chosen(
    question: Question,
    recipe: Recipe,
    labels: OwnLabels,
    answer: Answer,
    paths: Sequence[str],
    series: Series,
) -> Sequence[str]:
    """Return the files of the series that would be taken, and sum kinds up; several of one are a refusal."""
    kinds = Kinds(question.source, series)
    answer.kinds = kinds_by_class(paths, kinds, labels)
    with _noting(answer):
        choice = choice_text(question.wishes.series) if question.wishes.series else recipe.series
        if choice == NO_CHOICE and (refusal := answer.kinds.refusal()):
            raise UserError(refusal)
        chosen = kinds.chosen(paths, choice_in(choice))
        answer.left_out_series = chosen.left_out
        return chosen.paths
    return paths


def _doubts_of_store(
    question: Question, recipe: Recipe, labels: OwnLabels, series: Series, paths: Sequence[str]
) -> list[Doubt]:
    """Return what looks other than it was meant beside what is stored; UserError where that does not fit."""
    store = Store(question.store)
    if not store.recipe.exists():
        return []
    intake = store.intake_that_would_be(question.source, labels, recipe, key_path(os.environ))
    intake = replace(intake, series=series)
    if recipe.series == NO_CHOICE and not question.wishes.series:
        table = kinds_by_class(paths, Kinds(question.source, series), labels)
        refuse_beside_stored(table, store, intake.pseudonyms)
    return store.doubts(intake, intake.sources(paths))


def _read(among: LookedAt, paths: Sequence[str], answer: Answer, is_stopping: Callable[[], bool]) -> None:
    for path in progress(paths, what="reading", total=len(paths)):
        if is_stopping():
            return
        answer.reading.add(path, among)
    answer.is_complete = not is_stopping()


def _looked_at(
    question: Question,
    paths: Sequence[str],
    recipe: Recipe,
    labels: FolderLabels | CsvLabels,
    series: Series,
) -> LookedAt:
    return LookedAt(
        question.source,
        labels,
        recipe,
        paths,
        is_skipping_empty=question.is_skipping_empty,
        is_accepting_text="burnt-in" in question.accepted,
        series=series,
    )


def _write_template(
    question: Question, paths: Sequence[str], labels: FolderLabels | CsvLabels, among: LookedAt
) -> None:
    if question.template is None or not paths:
        return
    are_patients = False
    if isinstance(labels, FolderLabels):
        try:
            labels.refuse_patients(paths)
        except UserError:
            are_patients = True
    series = among.series
    others = [path for path in paths if not series.named(path).series]
    if len(series) and not hold_pictures(others):
        firsts = [path for path in paths if series.name_of(path)]
        text = template_of_series(
            [(series.named(path), label_or_reason(among.labels, path)[0]) for path in firsts],
            are_known=not isinstance(labels, FolderLabels),
        )
    else:
        firsts = [path for path in paths if series.files_of(path)]
        text = template_of(firsts, among.labels, are_patients=are_patients)
    publish_new_bytes(question.template, text.encode("utf-8", "surrogateescape"), is_private=True)


def _print_naming(source: Path, answer: Answer, naming: Naming, *, is_all: bool) -> None:
    print(f"{source}: {counted(naming.files, 'file')}{'' if is_all else ', not all were listed'}")
    for name, text in _naming_lines(naming) if answer.are_labels_read else ():
        _print_line(name, text)
    sys.stdout.flush()


def _print_kinds(answer: Answer) -> None:
    """Print which kinds of series there are, where there are several."""
    if answer.kinds and len(answer.kinds.counts) > 1:
        for line in answer.kinds.lines():
            _print_line("series", line)
    if answer.left_out_series:
        _print_line("series", left_out_text(answer.left_out_series))
    sys.stdout.flush()


def _print_end(question: Question, answer: Answer) -> None:
    for name, text in _reading_lines(answer.reading):
        _print_line(name, text)
    for doubt in answer.all_doubts():
        _print_line("doubtful", doubt.text)
    for refusal in answer.refusals:
        _print_line("refused", refusal)
    if not answer.is_complete:
        files = answer.naming.files if answer.naming else 0
        print(f"stopped after {answer.reading.files:,} of {files:,} files: nothing was stored")
    if question.template is not None:
        print(f"fill in {question.template}, then:")
    if question.template is not None or not answer.refusals:
        print(question.command)


def _naming_lines(naming: Naming) -> Iterator[tuple[str, str]]:
    shown = list(naming.classes.items())[:CLASSES_SHOWN]
    for name, count in shown:
        patients = f" of {counted(count.patients, 'patient')}" if count.patients else ""
        yield "class", f"{name or '(none)'}: {counted(count.images, 'file')}{patients}"
    if len(naming.classes) > len(shown):
        yield "class", f"and {len(naming.classes) - len(shown):,} more"
    if naming.patients:
        yield "patients", f"{naming.patients:,}, at most {counted(naming.most_of_one, 'file')} of one"
    if naming.splits:
        yield "splits", ", ".join(f"{name} {count:,}" for name, count in naming.splits.items())
    for reason, number in sorted(naming.unlabelled.items()):
        yield "no label", f"{counted(number, 'file')}: {reason}"


def _reading_lines(reading: Reading) -> Iterator[tuple[str, str]]:
    depths = ", ".join(
        f"{count:,} of {depth}" for depth, count in sorted(reading.depths.items(), reverse=True)
    )
    yield "read", f"{counted(reading.files, 'file')}: {counted(reading.images, 'image')}, {depths or 'none'}"
    if reading.lowest <= reading.highest:
        ends = f"{reading.lowest:g} to {reading.highest:g}"
        yield "values", f"{ends}, of more than 8 bits; each patient's are scaled alike (see: Grey values)"
    for note, count in sorted(reading.notes.items()):
        yield "volumes", f"{count:,}: {note}"
    if reading.slices_left_out:
        yield "left out", f"{counted(reading.slices_left_out, 'slice')} of volumes: no head in it"
    if reading.masks:
        yield "left out", f"{counted(reading.masks, 'mask')}, beside the picture"
    if reading.empty:
        yield "left out", f"{counted(reading.empty, 'file')}: no head in it"
    if reading.no_head:
        yield "no head", f"{counted(reading.no_head, 'image')}: stored, unless --skip-empty is given"
    if reading.unnamed_stacks:
        yield "stacks", f"{reading.unnamed_stacks:,} without a patient: each is taken for one of its own"
    if reading.own_labels_differ:
        what = "other classes or patients in files than the folders or the CSV say, which hold"
        yield "labels", f"{reading.own_labels_differ:,} {what}"
    for reason, count in sorted(reading.rejected.items()):
        yield "rejected", f"{count:,}: {reason}"


def _print_line(name: str, text: str) -> None:
    print(f"  {name:<10}{text}")


def _document_of_kinds(answer: Answer) -> dict[str, Any]:
    counts = answer.kinds.counts if answer.kinds else {}
    return {kind: {name: asdict(one) for name, one in row.items()} for kind, row in counts.items()}


def _document(question: Question, answer: Answer) -> dict[str, Any]:
    reading = answer.reading
    return {
        "source": str(question.source),
        "complete": answer.is_complete,
        **(asdict(answer.naming) if answer.naming else {}),
        "kinds": _document_of_kinds(answer),
        "left_out_series": dict(answer.left_out_series),
        "read": reading.files,
        "images": reading.images,
        "masks": reading.masks,
        "empty": reading.empty,
        "no_head": reading.no_head,
        "slices_left_out": reading.slices_left_out,
        "notes": dict(sorted(reading.notes.items())),
        "shows_text": reading.shows_text,
        "unnamed_stacks": reading.unnamed_stacks,
        "own_labels_differ": reading.own_labels_differ,
        "depths": dict(sorted(reading.depths.items())),
        "rejected": dict(sorted(reading.rejected.items())),
        "doubts": [asdict(doubt) for doubt in answer.all_doubts()],
        "refusals": answer.refusals,
        "command": question.command,
    }
