"""Evaluation of a run on one split: by slice, by patient, with the notes that belong beside the figures."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from mri_hpc.base.errors import UserError
from mri_hpc.cohort.splits import few_units
from mri_hpc.results.calibration import NOT_CALIBRATED, Calibration, load_calibration
from mri_hpc.results.intervals import agresti_coull
from mri_hpc.results.metrics import Metrics, measure
from mri_hpc.results.patient_model import PatientModel, patient_model
from mri_hpc.results.patients import (
    Outcomes,
    PatientResult,
    image_outcomes,
    patient_outcomes,
    pool_patients,
)
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.predictions import Prediction, read_predictions
from mri_hpc.rundir.provenance import read_provenance
from mri_hpc.rundir.settings import SLICES_ONLY, load_training

NO_PATIENTS = "slice level: not a patient estimate"
LARGEST_ERROR = 1e-6
"""Of the sum of written probabilities."""


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Images and patients that the figures rest on, and those that had to be left out."""

    images: int
    """Labelled images of the split."""
    patients: int
    """Patients that they name."""
    images_without_patient: int
    images_without_patient_in_run: int
    """In all splits together."""
    patients_of_several_classes: int
    """Patients whose slices carry more than one class."""


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """Figures that need no learning."""

    chance: float
    """Balanced accuracy of guessing, and of always naming one class."""
    majority_class: str
    """The most frequent class of the split: a favour to this baseline, which could not know it."""
    majority_accuracy: float
    """Accuracy of always naming it: by patient where there are patients, else by slice."""
    majority_low: float
    majority_high: float


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """All of it, for one split."""

    split: str
    classes: tuple[str, ...]
    images: Outcomes
    slice_level: Metrics
    patients: tuple[PatientResult, ...]
    """Sorted by pseudonym; empty where the data name no patients."""
    patient_level: Metrics | None
    counts: Counts
    baseline: Baseline
    patient_model: PatientModel | None
    """By which patients were judged; None where they are not to be."""
    has_patients: bool
    """Some image of the run's data names a patient, be it of another split."""
    calibration: Calibration | None
    """By which probabilities were calibrated; None: as the network says."""
    notes: tuple[str, ...]
    """Sentences that belong beside every figure."""

    @property
    def headline(self) -> Metrics:
        """The figures to judge by: by patient where there are patients."""
        return self.patient_level or self.slice_level

    @property
    def unit(self) -> str:
        """Unit that the headline counts: patient or slice."""
        return "slice" if self.patient_level is None else "patient"

    @property
    def method(self) -> str:
        """Sentences on how the intervals are made, and what a patient's answer is."""
        intervals = (
            "95 % intervals: Agresti and Coull's for proportions, MOVER for their mean; of AUROC DeLong's on "
            "the scale of log odds, and Newcombe's where nearly all is ranked rightly; of scores Hall's."
        )
        levels = [level for level in (self.patient_level, self.slice_level) if level]
        none = dict.fromkeys(reason for level in levels for reason in level.reasons_without_limits())
        if none:
            alone = "; ".join(none)
            intervals += f" {alone[0].upper()}{alone[1:]}."
        if not self.counts.patients:
            return intervals
        intervals += " Slices of one patient count as few as they are alike."
        if self.patient_model is None:
            return intervals
        return f"{intervals} A patient's probabilities are {self.patient_model.in_words('slices')}."

    @property
    def probabilities_mean(self) -> str:
        """Sentences on what the probabilities mean."""
        if self.calibration is None:
            return NOT_CALIBRATED
        words = self.calibration.in_words(self.unit)
        of_unit = self.calibration.of(self.unit)
        if self.split == "validation" and of_unit and of_unit.is_fitted:
            return f"{words} Here each {self.unit} has the temperature that the other patients give."
        return words

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return {
            "split": self.split,
            "unit": self.unit,
            "notes": list(self.notes),
            "counts": asdict(self.counts),
            "baseline": asdict(self.baseline),
            "method": self.method,
            "probabilities": self.probabilities_mean,
            "calibration": asdict(self.calibration) if self.calibration else None,
            "slice": self.slice_level.to_dict(),
            "patient": self.patient_level.to_dict() if self.patient_level else None,
        }


def evaluate_split(run: RunDir, split: str) -> Evaluation:
    """Judge the predictions of one split; UserError where there are none that could be judged."""
    classes, rows = read_predictions(run.predictions)
    provenance = read_provenance(run)
    _refuse_foreign(run, classes, provenance.get("classes") or classes)
    _refuse_damaged(run, classes, rows, provenance.get("split_counts") or {})
    of_split = [row for row in rows if row.split == split]
    labelled = [row for row in of_split if row.label]
    if not labelled:
        found = Counter(row.split for row in rows if row.label)
        raise UserError(
            f"{run.predictions} has no labelled image of the {split} split; "
            f"found: {', '.join(f'{name} {num}' for name, num in sorted(found.items())) or 'none at all'}"
        )
    model = patient_model(load_training(run).patient_label, classes)
    calibration = load_calibration(run)
    patients = pool_patients(classes, labelled, model) if model else []
    images = image_outcomes(classes, labelled)
    if calibration:
        images = calibration.judged("slice", images, split)
        patients = _judged_patients(calibration, classes, patients, split)
    slice_level = measure(images)
    patient_level = measure(patient_outcomes(classes, patients)) if patients else None
    counts = _count(labelled, provenance)
    has_patients = bool(provenance.get("has_patients", counts.patients))
    return Evaluation(
        split=split,
        classes=classes,
        images=images,
        slice_level=slice_level,
        patients=tuple(patients),
        patient_level=patient_level,
        counts=counts,
        baseline=_baseline(patient_level or slice_level),
        patient_model=model,
        has_patients=has_patients,
        calibration=calibration,
        notes=(
            *_notes_on_choice(split),
            *_notes_on_patients(counts, has_patients=has_patients),
            *_notes_on_classes_of_patients(counts, model),
            *_notes_on_unused(provenance),
            *_notes_on_leaks(split, provenance),
            *provenance.get("commoner_in_a_class", ()),
            *_notes_on_few(patient_level or slice_level, "patients" if patient_level else "images"),
        ),
    )


def _judged_patients(
    calibration: Calibration, classes: tuple[str, ...], patients: Sequence[PatientResult], split: str
) -> list[PatientResult]:
    if not patients:
        return []
    judged = calibration.judged("patient", patient_outcomes(classes, patients), split)
    return [
        replace(patient, probabilities=tuple(chances))
        for patient, chances in zip(patients, judged.probabilities.tolist(), strict=True)
    ]


def _refuse_foreign(run: RunDir, classes: Sequence[str], stated: Sequence[str]) -> None:
    """Raise UserError where the table is one of another run."""
    if tuple(classes) != tuple(stated):
        raise UserError(
            f"{run.predictions} is of the classes {', '.join(classes)}, and the run of {', '.join(stated)}: "
            "restore it from a backup"
        )


def _refuse_damaged(
    run: RunDir, classes: tuple[str, ...], rows: list[Prediction], split_counts: Mapping[str, Any]
) -> None:
    """Raise UserError where the table is not whole: figures of a part of it would look like any others."""
    for row in rows:
        is_whole = len(row.probabilities) == len(classes) and row.label in ("", *classes)
        # Probabilities that are no numbers have a reason of their own.
        if not is_whole or abs(sum(row.probabilities) - 1) > LARGEST_ERROR:
            raise UserError(
                f"{run.predictions} is damaged at image {row.key}: its class or probabilities are not those "
                "that were written; restore it from a backup"
            )
    found = Counter(row.split for row in rows)
    for split, stated in split_counts.items():
        if split in found and stated.get("images", found[split]) != found[split]:
            raise UserError(
                f"{run.predictions} is damaged: it has {found[split]} images of the {split} split, and the "
                f"run wrote {stated['images']}; restore it from a backup"
            )


def _count(labelled: list[Prediction], provenance: Mapping[str, Any]) -> Counts:
    without_patient = sum(not row.patient for row in labelled)
    classes: dict[str, set[str]] = {}
    for row in labelled:
        if row.patient:
            classes.setdefault(row.patient, set()).add(row.label)
    return Counts(
        images=len(labelled),
        patients=len(classes),
        images_without_patient=without_patient,
        images_without_patient_in_run=provenance.get("images_without_patient", without_patient),
        patients_of_several_classes=sum(len(found) > 1 for found in classes.values()),
    )


def _baseline(metrics: Metrics) -> Baseline:
    support = {name: values.support for name, values in metrics.classes.items()}
    majority = max(support, key=support.__getitem__)
    accuracy = support[majority] / metrics.num
    low, high = agresti_coull(accuracy, metrics.num)
    return Baseline(
        chance=1 / len(support),
        majority_class=majority,
        majority_accuracy=accuracy,
        majority_low=low,
        majority_high=high,
    )


def _notes_on_choice(split: str) -> Iterator[str]:
    if split == "validation":
        yield "the epoch of the model was chosen on these very images, so their figures are too good"


def _notes_on_patients(counts: Counts, *, has_patients: bool) -> Iterator[str]:
    if not counts.patients:
        nameless = "No image of this split names a patient" if has_patients else "The data name no patients"
        yield (
            f"{NO_PATIENTS}. {nameless}, so slices of one person may stand on both sides of "
            "the split, and the intervals, which take every slice as independent, are too narrow"
        )
    elif counts.images_without_patient_in_run:
        yield (
            f"{counts.images_without_patient_in_run} images name no patient, {counts.images_without_patient} "
            "of them in this split: they count by slice only, and may be of a person of another split"
        )


def _notes_on_classes_of_patients(counts: Counts, model: PatientModel | None) -> Iterator[str]:
    if model is None and counts.patients:
        yield f"{NO_PATIENTS}, as --patient-label {SLICES_ONLY} of the run says"
    elif model and counts.patients_of_several_classes:
        yield (
            f"{counts.patients_of_several_classes} patients have slices of several classes: "
            f"{model.label_in_words()}"
        )


def _notes_on_unused(provenance: Mapping[str, Any]) -> Iterator[str]:
    unused = provenance.get("images_in_no_split", 0)
    if unused:
        yield f"{unused} images of the snapshot are in no split, as no class or fold of theirs is known"


def _notes_on_leaks(split: str, provenance: Mapping[str, Any]) -> Iterator[str]:
    leaks = provenance.get("test_images_trained_on")
    if leaks and split == "test":
        yield f"{leaks} images of the test set are slices that it was trained on: the figures are too good"


def _notes_on_few(metrics: Metrics, units: str) -> Iterator[str]:
    note = few_units({name: values.support for name, values in metrics.classes.items()}, units)
    if note:
        yield note
