"""Outcomes of images, as arrays, and of patients, pooled from those of their images."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mri_hpc.base.errors import UserError
from mri_hpc.results.statistics.patient_model import PatientModel
from mri_hpc.rundir.predictions import Prediction


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """Answers about n units, images or patients, whose class is known."""

    classes: tuple[str, ...]
    label: np.ndarray
    """int64, (n,), index into classes."""
    probabilities: np.ndarray
    """float64, (n, k), one column a class."""
    cluster: np.ndarray
    """int64, (n,), 0 to num_clusters - 1: units that are not independent of each other share theirs."""
    num_clusters: int

    def __len__(self) -> int:
        return len(self.label)

    @property
    def predicted(self) -> np.ndarray:
        """int64, (n,): the most probable class, of equals the first."""
        return self.probabilities.argmax(axis=1)

    def chosen(self, units: np.ndarray) -> "Outcomes":
        """Return those of some units. units: bool, (n,)."""
        names, cluster = np.unique(self.cluster[units], return_inverse=True)
        return replace(
            self,
            label=self.label[units],
            probabilities=self.probabilities[units],
            cluster=cluster,
            num_clusters=len(names),
        )


@dataclass(frozen=True, kw_only=True)
class PatientResult:
    """One patient: pooled probabilities beside the class that the data give."""

    patient: str
    """Pseudonym."""
    label: str
    """By the patient model, where the slices are of several classes."""
    predicted: str
    probabilities: tuple[float, ...]
    num_slices: int
    num_wrong_slices: int
    """Slices whose most probable class is not their own label."""
    has_several_labels: bool
    """The slices carry more than one class."""

    @property
    def is_wrong(self) -> bool:
        """Compare the pooled answer with the label."""
        return self.predicted != self.label


@dataclass(frozen=True, kw_only=True)
class ValidationPatients:
    """Patients of validation, with whom new ones are compared: where some were set apart, those."""

    patients: tuple[PatientResult, ...] = ()
    choices: int = 1
    """Models among which they chose the run's; 1 where they chose nothing."""

    def __len__(self) -> int:
        return len(self.patients)


def image_outcomes(classes: tuple[str, ...], rows: Sequence[Prediction]) -> Outcomes:
    """Take labelled images as units; those of one patient are one cluster, one without is its own."""
    index = {name: number for number, name in enumerate(classes)}
    # A key is 16 hex digits and a pseudonym may look alike, so the two are kept apart by their position.
    names = [(row.patient, "") if row.patient else ("", row.key) for row in rows]
    numbers = {name: number for number, name in enumerate(sorted(set(names)))}
    probabilities = np.array([row.probabilities for row in rows], dtype=np.float64)
    if not np.isfinite(probabilities).all():
        raise UserError("predictions.csv holds probabilities that are not numbers: the model is of no use")
    return Outcomes(
        classes=classes,
        label=np.array([index[row.label] for row in rows], dtype=np.int64),
        probabilities=probabilities.reshape(len(rows), len(classes)),
        cluster=np.array([numbers[name] for name in names], dtype=np.int64),
        num_clusters=len(numbers),
    )


def pool_patients(
    classes: tuple[str, ...], rows: Sequence[Prediction], model: PatientModel
) -> list[PatientResult]:
    """Make one result a patient, sorted by pseudonym; images without a patient are left out."""
    rows = [row for row in rows if row.patient]
    if not rows:
        return []
    images = image_outcomes(classes, rows)
    attention = np.array([row.attention for row in rows]) if all(row.attention for row in rows) else None
    pooled = model.pool([row.patient for row in rows], images.probabilities, attention)
    # image_outcomes numbers clusters by sorted name, too, so they line up with the names.
    votes = np.zeros((len(pooled.patients), len(classes)), dtype=np.int64)
    np.add.at(votes, (images.cluster, images.label), 1)
    labels = model.labels(votes).tolist()
    wrong = np.bincount(images.cluster, weights=images.predicted != images.label)
    return [
        PatientResult(
            patient=name,
            label=classes[labels[number]],
            predicted=classes[pooled.probabilities[number].argmax()],
            probabilities=tuple(pooled.probabilities[number].tolist()),
            num_slices=int(pooled.num_images[number]),
            num_wrong_slices=int(wrong[number]),
            has_several_labels=bool((votes[number] > 0).sum() > 1),
        )
        for number, name in enumerate(pooled.patients)
    ]


def patient_outcomes(classes: tuple[str, ...], patients: Sequence[PatientResult]) -> Outcomes:
    """Take patients as units, each independent of the others."""
    return Outcomes(
        classes=classes,
        label=np.array([classes.index(patient.label) for patient in patients], dtype=np.int64),
        probabilities=np.array([patient.probabilities for patient in patients], dtype=np.float64),
        cluster=np.arange(len(patients)),
        num_clusters=len(patients),
    )
