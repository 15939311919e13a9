"""Evaluation of a run on one split: by slice, by patient, with the notes that belong beside the figures."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from mri_hpc.base.errors import UserError
from mri_hpc.cohort.splits import few_units
from mri_hpc.results.answers.calibration import NOT_CALIBRATED, Calibration, load_calibration
from mri_hpc.results.answers.decision import Decision, NoDecision
from mri_hpc.results.answers.pooling_choice import patient_model_of
from mri_hpc.results.answers.promised_sets import NoSets, PromisedSets
from mri_hpc.results.answers.run_decision import decide_by_validation, sets_by_validation
from mri_hpc.results.answers.whole_predictions import read_whole
from mri_hpc.results.runs.control_run import NoControls
from mri_hpc.results.runs.controls import Controls, judge_controls
from mri_hpc.results.statistics.abstention import MostSure, most_sure
from mri_hpc.results.statistics.intervals import agresti_coull
from mri_hpc.results.statistics.metrics import Metrics, measure
from mri_hpc.results.statistics.patient_model import PatientModel
from mri_hpc.results.statistics.patients import (
    Outcomes,
    PatientResult,
    image_outcomes,
    patient_outcomes,
    pool_patients,
)
from mri_hpc.results.statistics.subgroups import Subgroup, subgroups
from mri_hpc.rundir.control_answers import ControlAnswers
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.look import KeptLook, read_look
from mri_hpc.rundir.pooling import Pooling, read_pooling
from mri_hpc.rundir.predictions import Prediction
from mri_hpc.rundir.provenance import read_provenance
from mri_hpc.rundir.question import Question, read_question
from mri_hpc.rundir.settings import SLICES_ONLY, load_training

CHOSE = "these patients chose the epoch, and no interval of their figures was shown to hold"
"""Reason for which figures of validation stand alone."""
NO_PATIENTS = "slice level: not a patient estimate"


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
    pooling: Pooling | None
    """Gated attention beside the mean, where it was tried."""
    has_patients: bool
    """Some image of the run's data names a patient, be it of another split."""
    decision: Decision | NoDecision
    """By validation patients, and shown by those of the split."""
    sets: PromisedSets | NoSets
    """Classes that can be promised of a patient, by the same patients, and shown alike."""
    most_sure: tuple[MostSure, ...]
    """Error among the units of the headline of which the model is most sure."""
    controls: Controls | NoControls
    """Models that have learnt nothing of disease, beside which the network is judged."""
    subgroups: tuple[Subgroup, ...]
    calibration: Calibration | None
    """By which probabilities were calibrated; None: as the network says."""
    look: KeptLook | None
    """Look at test patients that the figures are; None where it is not counted."""
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
        if self.split == "validation":
            return self._pooling(f"No interval: {CHOSE}.")
        intervals = (
            "95 % intervals: Agresti and Coull's for proportions, MOVER for their mean; of AUROC DeLong's on "
            "the scale of log odds, and Newcombe's where nearly all is ranked rightly."
        )
        if not self.counts.patients:
            return intervals
        return self._pooling(f"{intervals} Slices of one patient count as few as they are alike.")

    def _pooling(self, intervals: str) -> str:
        """Add what a patient's answer is."""
        if self.patient_model is None or not self.counts.patients:
            return intervals
        pooled = f"{intervals} A patient's probabilities are {self.patient_model.in_words('slices')}."
        return f"{pooled} {self.pooling.words}" if self.pooling else pooled

    @property
    def probabilities_mean(self) -> str:
        """Sentences on what the probabilities mean."""
        if self.calibration is None:
            return NOT_CALIBRATED
        words = self.calibration.in_words(self.unit)
        of_unit = self.calibration.of(self.unit)
        if self.split == self.calibration.split and of_unit and of_unit.is_fitted:
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
            **({"pooling": asdict(self.pooling)} if self.pooling else {}),
            "probabilities": self.probabilities_mean,
            "calibration": asdict(self.calibration) if self.calibration else None,
            "slice": self.slice_level.to_dict(),
            "patient": self.patient_level.to_dict() if self.patient_level else None,
            "decision": self.decision.to_dict(),
            "sets": self.sets.to_dict(),
            "most_sure": [part.to_dict() for part in self.most_sure],
            "controls": self.controls.to_dict(),
            "subgroups": [group.to_dict() for group in self.subgroups],
            **({"look": self.look.to_dict()} if self.look else {}),
        }


def evaluate_split(run: RunDir, split: str, question: Question | None = None) -> Evaluation:
    """Judge the predictions of one split; UserError where there are none that could be judged.

    question: by default the one that the run was asked last.
    """
    classes, rows = read_whole(run)
    provenance = read_provenance(run)
    of_split = [row for row in rows if row.split == split]
    labelled = [row for row in of_split if row.label]
    if not labelled:
        found = Counter(row.split for row in rows if row.label)
        raise UserError(
            f"{run.predictions} has no labelled image of the {split} split; "
            f"found: {', '.join(f'{name} {num}' for name, num in sorted(found.items())) or 'none at all'}"
        )
    model = patient_model_of(run, classes)
    pooling = read_pooling(run)
    decision = decide_by_validation(run, classes, rows, question or read_question(run))
    sets = sets_by_validation(run, classes, rows)
    calibration = load_calibration(run)
    patients = as_network = pool_patients(classes, labelled, model) if model else []
    images = image_outcomes(classes, labelled)
    if calibration:
        images = calibration.judged("slice", images, split)
        patients = _judged_patients(calibration, classes, patients, split)
    slice_level = measure(images)
    of_patients = patient_outcomes(classes, patients) if patients else None
    patient_level = measure(of_patients) if of_patients else None
    if split == "test" and isinstance(decision, Decision):
        decision = decision.judged_by(as_network)
    if split == "test" and isinstance(sets, PromisedSets):
        sets = sets.judged_by(as_network)
    counts = _count(labelled, provenance)
    has_patients = bool(provenance.get("has_patients", counts.patients))
    look = read_look(run) if split == "test" else None
    controls, beside = judge_controls(run, classes, rows, labelled, model)
    evaluation = Evaluation(
        split=split,
        classes=classes,
        images=images,
        slice_level=slice_level,
        patients=tuple(patients),
        patient_level=patient_level,
        counts=counts,
        baseline=_baseline(patient_level or slice_level),
        patient_model=model,
        pooling=pooling,
        has_patients=has_patients,
        decision=decision,
        sets=sets,
        most_sure=most_sure(of_patients or images),
        controls=controls,
        subgroups=subgroups(classes, labelled, _columns(rows, beside), model),
        calibration=calibration,
        look=look,
        notes=(
            *_notes_on_choice(split, pooling),
            *([look.sentence] if look and look.before else []),
            *_notes_on_patients(counts, has_patients=has_patients),
            *_notes_on_classes_of_patients(counts, model),
            *(_notes_on_patients_behind_slices(labelled, counts) if model is None else ()),
            *_notes_on_unused(provenance, load_training(run).train_share),
            *_notes_on_leaks(split, provenance),
            *provenance.get("commoner_in_a_class", ()),
            *_notes_on_few(patient_level or slice_level, "patients" if patient_level else "images"),
        ),
    )
    return _without_intervals(evaluation) if split == "validation" else evaluation


def _without_intervals(found: Evaluation) -> Evaluation:
    """Return the figures alone; the decision keeps its limits, which count in that its patients chose."""
    controls = found.controls
    return replace(
        found,
        slice_level=found.slice_level.without_intervals(CHOSE),
        patient_level=found.patient_level.without_intervals(CHOSE) if found.patient_level else None,
        most_sure=tuple(replace(part, error=part.error.without_interval(CHOSE)) for part in found.most_sure),
        controls=controls.without_intervals(CHOSE) if isinstance(controls, Controls) else controls,
        subgroups=tuple(
            replace(group, figures=tuple(figure.without_interval(CHOSE) for figure in group.figures))
            for group in found.subgroups
        ),
    )


def _columns(rows: Sequence[Prediction], beside: ControlAnswers | None) -> dict[str, dict[str, str]]:
    """Return by column the value by key of the image. rows: of predictions.csv."""
    if beside is None:
        return {}
    keys = [row.key for row in rows]
    return {name: dict(zip(keys, values, strict=True)) for name, values in beside.columns.items()}


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


def _notes_on_choice(split: str, pooling: Pooling | None) -> Iterator[str]:
    if split == "validation":
        chosen = "the epoch of the model was"
        if pooling and pooling.was_chosen:
            chosen = "the epoch of the model and the pooling of slices were"
        yield f"{chosen} chosen on these very images, so their figures are too good"
    if split == "calibration":
        yield "these patients chose no epoch, but give the temperature and the threshold"


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


def _notes_on_patients_behind_slices(labelled: Sequence[Prediction], counts: Counts) -> Iterator[str]:
    """Say how little many slices of few patients tell, which no count of slices shows."""
    of_class: dict[str, set[str]] = {}
    for row in labelled:
        if row.patient:
            of_class.setdefault(row.label, set()).add(row.patient)
    found = {name: len(patients) for name, patients in sorted(of_class.items())}
    if few_units(found, "patients"):
        shown = ", ".join(f"{name} {count}" for name, count in found.items())
        yield f"the slices are of few patients ({shown}): the figures mean nothing for any others"
    if counts.patients_of_several_classes:
        yield (
            f"{counts.patients_of_several_classes} of {counts.patients} patients have slices of several "
            "classes: how scans of one person differ is told apart, be it by the scanner"
        )


def _notes_on_unused(provenance: Mapping[str, Any], train_share: float) -> Iterator[str]:
    unused = provenance.get("images_in_no_split", 0)
    if train_share < 1:
        yield (
            f"it was trained on {100 * train_share:g} % of the training patients (--train-share): {unused} "
            "images of the snapshot are in no split"
        )
    elif unused:
        yield f"{unused} images of the snapshot are in no split, as no class or fold of theirs is known"


def _notes_on_leaks(split: str, provenance: Mapping[str, Any]) -> Iterator[str]:
    leaks = provenance.get("test_images_trained_on")
    if leaks and split == "test":
        yield f"{leaks} images of the test set are slices that it was trained on: the figures are too good"


def _notes_on_few(metrics: Metrics, units: str) -> Iterator[str]:
    note = few_units({name: values.support for name, values in metrics.classes.items()}, units)
    if note:
        yield note
