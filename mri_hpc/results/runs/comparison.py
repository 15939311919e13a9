"""Two runs on the test patients that they share: each figure of one less that of the other, in pairs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mri_hpc.base.errors import UserError
from mri_hpc.results.answers.pooling_choice import patient_model_of
from mri_hpc.results.answers.whole_predictions import read_whole
from mri_hpc.results.statistics.differences import differences
from mri_hpc.results.statistics.figure_of_merit import Figure
from mri_hpc.results.statistics.metrics import ACCURACY, BALANCED_ACCURACY, Metric, Metrics, measure
from mri_hpc.results.statistics.patient_model import PatientModel
from mri_hpc.results.statistics.patients import Outcomes, image_outcomes, patient_outcomes, pool_patients
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.predictions import Prediction
from mri_hpc.rundir.settings import load_training


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Both runs by units of one kind."""

    unit: str
    """patient or slice."""
    first: Metrics
    second: Metrics
    differences: Mapping[Metric, Figure]
    """Of the first less the second."""

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return {
            "n": self.first.num,
            "n_independent": self.first.num_clusters,
            **{
                metric.name: {
                    "first": self.first.figures[metric].to_dict(),
                    "second": self.second.figures[metric].to_dict(),
                    "difference": self.differences[metric].to_dict(),
                }
                for metric in self.differences
            },
        }


@dataclass(frozen=True, kw_only=True)
class Changed:
    """A unit about which one run is right and the other wrong."""

    name: str
    """Of the patient, or key of the image."""
    label: str
    first: str
    second: str
    """Answers of the runs."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Units:
    """Patients, or images, as both runs answer about them."""

    keys: tuple[tuple[str, ...], ...]
    """Of the images of each."""
    first: Outcomes
    second: Outcomes

    @property
    def is_right(self) -> tuple[np.ndarray, np.ndarray]:
        """Units about which either run is right: bool, (n,) each."""
        first, second = (found.predicted == found.label for found in (self.first, self.second))
        return first, second


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All of it."""

    names: tuple[str, str]
    levels: tuple[Compared, ...]
    """By patient first, where there are patients."""
    units: Units
    """Of the level to judge by."""
    changed: tuple[Changed, ...]
    """Of the level to judge by, those about which one run alone is right, by name."""
    notes: tuple[str, ...]
    """Sentences on what the comparison rests on."""

    @property
    def headline(self) -> Compared:
        """The level to judge by."""
        return self.levels[0]

    @property
    def sentence(self) -> str:
        """The finding in plain words."""
        found, unit = self.headline, self.headline.unit
        metric = BALANCED_ACCURACY if found.differences[BALANCED_ACCURACY].value is not None else ACCURACY
        by = found.differences[metric]
        assert by.value is not None and by.low is not None and by.high is not None
        low, high = by.scale.number(by.low), by.scale.number(by.high)
        points = f"{by.scale.number(abs(by.value))} points of {metric.title} by {unit}"
        interval = f"95 % interval of first less second {low} to {high}"
        if by.low > 0 or by.high < 0:
            better, worse = self.names if by.low > 0 else reversed(self.names)
            return f"{better} is better than {worse} by {points} ({interval})"
        return (
            f"These {found.first.num} {unit}s do not tell which run is better: they differ by {points} "
            f"({interval})"
        )

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        levels = {level.unit: level.to_dict() for level in self.levels}
        return {
            "sentence": self.sentence,
            "unit": self.headline.unit,
            "notes": list(self.notes),
            "slice": levels["slice"],
            "patient": levels.get("patient"),
        }


@dataclass(frozen=True, kw_only=True)
class _Judged:
    """The labelled test images of a run."""

    run: RunDir
    classes: tuple[str, ...]
    rows: Mapping[str, Prediction]
    """By key."""
    model: PatientModel | None
    rule: str


def compare_runs(first: RunDir, second: RunDir) -> Comparison:
    """Compare two finished runs; UserError where they share no test image, or answer other questions."""
    one, other = _judged(first), _judged(second)
    _refuse_other_questions(one, other)
    shared = sorted(one.rows.keys() & other.rows.keys())
    if not shared:
        raise UserError(
            f"{first.path} and {second.path} share no test image: runs can be compared that test the same "
            "patients of the same store; to join folds of one data set, see: mri-hpc report --help"
        )
    _refuse_other_labels(one, other, shared)
    pair = [[found.rows[key] for key in shared] for found in (one, other)]
    # Who is a patient can have been corrected between the runs: the first one's names stand for both.
    pair[1] = [_of_patient(row, named.patient) for named, row in zip(*pair, strict=True)]
    by_slice = [image_outcomes(one.classes, rows) for rows in pair]
    levels = [_compared("slice", *by_slice)]
    names, units = shared, Units(keys=tuple((key,) for key in shared), first=by_slice[0], second=by_slice[1])
    if one.model and other.model:
        models = (one.model, other.model)
        patients = [pool_patients(one.classes, rows, model) for rows, model in zip(pair, models, strict=True)]
        if patients[0]:
            both = [patient_outcomes(one.classes, found) for found in patients]
            levels.insert(0, _compared("patient", *both))
            names = [patient.patient for patient in patients[0]]
            of_patient: dict[str, list[str]] = {name: [] for name in names}
            for row in pair[0]:
                if row.patient:
                    of_patient[row.patient].append(row.key)
            units = Units(keys=tuple(map(tuple, of_patient.values())), first=both[0], second=both[1])
    return Comparison(
        names=_names(first, second),
        levels=tuple(levels),
        units=units,
        changed=tuple(_changed(names, units)),
        notes=tuple(_notes(one, other, shared, levels[0])),
    )


def _names(first: RunDir, second: RunDir) -> tuple[str, str]:
    one, other = (run.path.resolve() for run in (first, second))
    return (one.name, other.name) if one.name != other.name else (str(first.path), str(second.path))


def _judged(run: RunDir) -> _Judged:
    classes, rows = read_whole(run)
    tested = {row.key: row for row in rows if row.split == "test" and row.label}
    if not tested:
        raise UserError(f"{run.predictions} has no labelled image of the test split")
    rule = load_training(run).patient_label
    return _Judged(run=run, classes=classes, rows=tested, model=patient_model_of(run, classes), rule=rule)


def _refuse_other_questions(one: _Judged, other: _Judged) -> None:
    if one.classes != other.classes:
        raise UserError(
            f"{one.run.path} tells {', '.join(one.classes)} apart, and {other.run.path} "
            f"{', '.join(other.classes)}: compare runs of the same classes"
        )
    if one.rule != other.rule:
        raise UserError(
            f"{one.run.path} has --patient-label {one.rule}, and {other.run.path} {other.rule}: what a "
            "patient's class is must be the same to be compared"
        )


def _refuse_other_labels(one: _Judged, other: _Judged, shared: Sequence[str]) -> None:
    changed = [key for key in shared if one.rows[key].label != other.rows[key].label]
    if changed:
        raise UserError(
            f"{len(changed)} shared test images have another class in {other.run.path} than in "
            f"{one.run.path}, such as {changed[0]}: train both on one snapshot of the store"
        )


def _of_patient(row: Prediction, patient: str) -> Prediction:
    return replace(row, patient=patient)


def _compared(unit: str, first: Outcomes, second: Outcomes) -> Compared:
    return Compared(
        unit=unit, first=measure(first), second=measure(second), differences=differences(first, second)
    )


def _changed(names: Sequence[str], units: Units) -> list[Changed]:
    """List the units about which one alone is right. names: of the units."""
    is_right, first, second = units.is_right, units.first, units.second
    return [
        Changed(
            name=names[unit],
            label=first.classes[first.label[unit]],
            first=first.classes[first.predicted[unit]],
            second=first.classes[second.predicted[unit]],
        )
        for unit in np.flatnonzero(is_right[0] != is_right[1]).tolist()
    ]


def _notes(one: _Judged, other: _Judged, shared: Sequence[str], headline: Compared) -> list[str]:
    """Say where the test sets differ, and what the figures do not tell."""
    notes = []
    for found in (one, other):
        missing = len(found.rows) - len(shared)
        if missing:
            named = {row.patient for key, row in found.rows.items() if row.patient and key not in set(shared)}
            notes.append(
                f"The test sets differ: {missing} test images of {found.run.path.resolve().name}, of "
                f"{len(named)} patients, are not in the other's and left out"
            )
    if headline.unit == "slice":
        notes.append("slice level: not a patient estimate")
    notes.append(
        "The interval is over patients: it does not tell how two trainings of the same settings differ by "
        "their seeds"
        if headline.unit == "patient"
        else "The interval does not tell how two trainings of the same settings differ by their seeds"
    )
    return notes
