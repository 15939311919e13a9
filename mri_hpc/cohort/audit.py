"""Audit: what in a snapshot would make results better than they are, and what is doubtful.

A leak is an image, or a patient, on both sides of a split; training would learn what it is tested on.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from mri_hpc.base.command import counted
from mri_hpc.cohort.same_pixels import equal_values
from mri_hpc.cohort.splits import FEW_PATIENTS
from mri_hpc.cohort.twins import SAME_PIXELS, TwinGroup
from mri_hpc.intake.labels.label import SPLITS
from mri_hpc.intake.labels.several_values import of_several
from mri_hpc.storage.store import Snapshot

EXAMPLES = 3


@dataclass(frozen=True, kw_only=True)
class Example:
    """Images that show what was found."""

    rows: tuple[int, ...]
    """Of the snapshot."""
    how: tuple[str, ...] = ()
    """By what they differ, where they are the same slice by their looks."""
    are_same: bool = True
    """False where they are images of one patient, and not the same."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One kind of leak or doubt."""

    kind: str
    """A word or two, for scripts."""
    is_leak: bool
    count: int
    """Of patients, of groups of images, or of images, as the text says."""
    text: str
    """One line for people; it names no image."""
    examples: tuple[Example, ...] = ()
    """A few of them."""


def audit(snapshot: Snapshot, same: list[np.ndarray], twins: Sequence[TwinGroup] = ()) -> list[Finding]:
    """Find leaks first, then doubts.

    same: rows of the same pixels. twins: of the same slice, those of the same pixels too.
    """
    found = [
        _patients_in_two(snapshot, "split"),
        _patients_in_two(snapshot, "fold"),
        _shared(snapshot, equal_values(np.asarray(snapshot.source_hash)), "same file"),
        _shared(snapshot, [rows for rows in same if not _is_one_file(snapshot, rows)], "same pixels"),
        *_by_looks(snapshot, twins),
        _in_two_classes(snapshot, same),
        _repeated(snapshot, same),
        _patients_of_two_classes(snapshot),
        *_small_classes(snapshot),
        _without(
            snapshot, "patient", "results will be by slice, and slices of one person may be on both sides"
        ),
        _without(snapshot, "label", "they are used for nothing"),
    ]
    return sorted((one for one in found if one.count), key=lambda one: not one.is_leak)


def _patients_in_two(snapshot: Snapshot, what: str) -> Finding:
    """Find patients to whom the data give two splits, or two folds; images that have none are in neither."""
    # Of patients who turned out to be one, split_of takes all images to one side.
    snapshot = snapshot.with_own_patients()
    patient, value = np.asarray(snapshot.patient), np.asarray(getattr(snapshot, what))
    torn = of_several(patient, value)
    of_each = {one: np.unique(value[(patient == one) & (value >= 0)]) for one in torn[:EXAMPLES].tolist()}
    named = (
        f"{_patient(snapshot, one)} in {' and '.join(_shown(v, what) for v in values)}"
        for one, values in of_each.items()
    )
    return Finding(
        kind=f"patient in two {what}s",
        is_leak=True,
        count=len(torn),
        text=f"{counted(len(torn), 'patient')} in more than one {what}: {', '.join(named)}",
        examples=_of_patients(snapshot, torn, what),
    )


def _shown(value: int, what: str) -> str:
    return SPLITS[value] if what == "split" else f"fold {value}"


def _shared(snapshot: Snapshot, groups: list[np.ndarray], what: str) -> Finding:
    """Find groups of images that are the same but of several patients, or in several splits or folds."""
    torn = [rows for rows in groups if is_torn(snapshot, rows)]
    return Finding(
        kind=f"{what}, other patient or split",
        is_leak=True,
        count=len(torn),
        text=f"{counted(len(torn), 'time')} the {what} {'are' if what.endswith('s') else 'is'} stored for "
        "several patients, splits or folds",
        examples=_examples(snapshot, torn),
    )


def _is_one_file(snapshot: Snapshot, rows: np.ndarray) -> bool:
    """Tell whether images are of the same bytes, which is said already."""
    return len(np.unique(snapshot.source_hash[rows])) == 1


def is_torn(snapshot: Snapshot, rows: np.ndarray) -> bool:
    """Tell whether rows may come on two sides of a split."""
    values = (getattr(snapshot, name)[rows] for name in ("patient", "split", "fold"))
    is_unnamed = bool((snapshot.patient[rows] < 0).any())
    return is_unnamed or any(len(np.unique(value[value >= 0])) > 1 for value in values)


def _in_two_classes(snapshot: Snapshot, groups: list[np.ndarray]) -> Finding:
    torn = [rows for rows in groups if len(np.unique(snapshot.label[rows])) > 1]
    return Finding(
        kind="same pixels, other class",
        is_leak=False,
        count=len(torn),
        text=f"{counted(len(torn), 'time')} the same pixels are stored for several classes",
        examples=_examples(snapshot, torn, by=["label"]),
    )


def _repeated(snapshot: Snapshot, groups: list[np.ndarray]) -> Finding:
    again = [rows for rows in groups if not is_torn(snapshot, rows)]
    extra = sum(len(rows) - 1 for rows in again)
    return Finding(
        kind="repeated image",
        is_leak=False,
        count=extra,
        text=f"{counted(extra, 'image')} of the same pixels as another one of the patient",
        examples=_examples(snapshot, again),
    )


def _patients_of_two_classes(snapshot: Snapshot) -> Finding:
    several = of_several(np.asarray(snapshot.patient), np.asarray(snapshot.label))
    return Finding(
        kind="patient of two classes",
        is_leak=False,
        count=len(several),
        text=f"{counted(len(several), 'patient')} with images of several classes",
        examples=_of_patients(snapshot, several, "label"),
    )


def _small_classes(snapshot: Snapshot) -> Iterator[Finding]:
    patient, label = np.asarray(snapshot.patient), np.asarray(snapshot.label)
    for code, name in enumerate(snapshot.classes):
        count = len(np.unique(patient[(label == code) & (patient >= 0)]))
        if 0 < count < FEW_PATIENTS:
            yield Finding(
                kind="class of few patients",
                is_leak=False,
                count=count,
                text=f"class {name!r} has {count} patients: too few to tell how well it is recognised",
            )


def _without(snapshot: Snapshot, what: str, so: str) -> Finding:
    count = int((np.asarray(getattr(snapshot, what)) < 0).sum())
    return Finding(kind=f"no {what}", is_leak=False, count=count, text=f"{count} images name no {what}: {so}")


def _by_looks(snapshot: Snapshot, twins: Sequence[TwinGroup]) -> list[Finding]:
    """Find twins that other checks pass over: of other pixels than each other."""
    groups = {one.rows: tuple(word for word in one.how if word != SAME_PIXELS) for one in twins}
    groups = {rows: how for rows, how in groups.items() if how}
    rows_of = [np.array(rows) for rows in groups]
    torn = [rows for rows in rows_of if is_torn(snapshot, rows)]
    other_class = [rows for rows in rows_of if len(np.unique(snapshot.label[rows])) > 1]
    again = [rows for rows in rows_of if not is_torn(snapshot, rows)]
    extra = sum(len(rows) - 1 for rows in again)
    what = "the same slice, by its looks, is stored for several"
    return [
        Finding(
            kind="same slice, other patient or split",
            is_leak=True,
            count=len(torn),
            text=f"{counted(len(torn), 'time')} {what} patients, splits or folds",
            examples=_examples(snapshot, torn, how=groups),
        ),
        Finding(
            kind="same slice, other class",
            is_leak=False,
            count=len(other_class),
            text=f"{counted(len(other_class), 'time')} {what} classes: one of the labels is wrong",
            examples=_examples(snapshot, other_class, by=["label"], how=groups),
        ),
        Finding(
            kind="repeated slice",
            is_leak=False,
            count=extra,
            text=f"{counted(extra, 'image')} of the same slice, by its looks, as another one of the patient",
            examples=_examples(snapshot, again, how=groups),
        ),
    ]


def _examples(
    snapshot: Snapshot,
    groups: list[np.ndarray],
    by: Sequence[str] = ("patient", "split", "fold"),
    how: Mapping[tuple[int, ...], tuple[str, ...]] = MappingProxyType({}),
) -> tuple[Example, ...]:
    """Take two images each of some groups, that differ in one of the columns `by` if any do.

    how: by what the images of a group differ.
    """
    return tuple(
        Example(rows=telling_pair(snapshot, rows, by), how=how.get(tuple(rows.tolist()), ()))
        for rows in groups[:EXAMPLES]
    )


def _of_patients(snapshot: Snapshot, patients: np.ndarray, by: str) -> tuple[Example, ...]:
    """Take two images each of some patients, that differ in a column. patients: their codes."""
    groups = [np.flatnonzero(np.asarray(snapshot.patient) == one) for one in patients[:EXAMPLES].tolist()]
    known = [rows[np.asarray(getattr(snapshot, by))[rows] >= 0] for rows in groups]
    return tuple(replace(one, are_same=False) for one in _examples(snapshot, known, by=[by]))


def telling_pair(snapshot: Snapshot, rows: np.ndarray, by: Sequence[str]) -> tuple[int, int]:
    """Return two of some rows, that differ in one of the columns `by` if any do."""
    first, *others = rows.tolist()
    facts = {row: [int(getattr(snapshot, name)[row]) for name in by] for row in (first, *others)}
    return first, next((row for row in others if facts[row] != facts[first]), others[0])


def _patient(snapshot: Snapshot, code: int) -> str:
    return str(snapshot.patient_names[code].decode())
