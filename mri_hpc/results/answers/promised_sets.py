"""The set of classes that can be promised of a patient: it holds the class of 90 % of patients on average.

A set holds each class that the network gives at least a threshold, and always the most probable one.
Validation patients give the threshold: where some were set apart, those who chose nothing; set_bound counts
in where the same have chosen the epoch, or the pooling.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from mri_hpc.results.answers.decision import STEPS
from mri_hpc.results.answers.resemblance import NOT_LIKE
from mri_hpc.results.statistics.figure_of_merit import PERCENT, Figure, Scale, brief, figure_of
from mri_hpc.results.statistics.intervals import of_proportion, quantile_of_t
from mri_hpc.results.statistics.patients import PatientResult, ValidationPatients
from mri_hpc.results.statistics.set_bound import COVERAGE, least_patients, most_outside

CLASSES = Scale(factor=1, digits=2, unit="")
ALIKE = "all sets are of one size, so that nothing tells how it varies"
APART = "mri-hpc launch --calibration-share 0.5 sets some apart"


@dataclass(frozen=True, kw_only=True)
class Shown:
    """Sets of the patients of a split that had no part in the threshold."""

    num: int
    covered: Figure
    """Patients whose class is in their set."""
    size: Figure
    """Classes in a set, on average."""
    alone: int
    """Patients whose set holds one class."""
    by_class: tuple[tuple[str, int, Figure], ...]
    """Each class, its patients, and those of them whose set holds it: nothing is promised of these."""

    def in_words(self, split: str) -> str:
        """Say it in one sentence."""
        by_class = ", ".join(f"{name} {brief(figure)} of {num}" for name, num, figure in self.by_class if num)
        return (
            f"In {split} {brief(self.covered)} of {self.num} patients have their class in their set, "
            f"which holds {brief(self.size)} classes on average, and one alone in {self.alone}; "
            f"by class: {by_class}. 95 % intervals in brackets"
        )

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return {
            "n": self.num,
            "covered": self.covered.to_dict(),
            "mean_size": self.size.to_dict(),
            "of_one_class": self.alone,
            "covered_by_class": {name: {"n": num, **figure.to_dict()} for name, num, figure in self.by_class},
        }


@dataclass(frozen=True, kw_only=True)
class NoSets:
    """No set of classes is promised."""

    reason: str

    @property
    def words(self) -> tuple[str, ...]:
        """Say so, and why."""
        return (f"No set of classes is promised: {self.reason}",)

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return {"threshold": None, **asdict(self)}


@dataclass(frozen=True, kw_only=True)
class PromisedSets:
    """A threshold of probability, and the promise that goes with it."""

    classes: tuple[str, ...]
    """All that the model can answer."""
    num: int
    """Validation patients, where some were set apart those."""
    choices: int
    """Models among which they chose."""
    threshold: float
    """Least probability of a class in a set, as the network says it, 0 to 1."""
    shown: Shown | None = None
    """By the split that is judged; None where that is validation."""

    def of(self, probabilities: np.ndarray) -> tuple[str, ...]:
        """Return the set of one patient. probabilities: (classes,), as the network says."""
        is_in = is_in_set(probabilities[None], self.threshold)[0]
        return tuple(name for name, held in zip(self.classes, is_in, strict=True) if held)

    def in_a_sentence(self, probabilities: np.ndarray) -> str:
        """Say which classes the set of one patient holds. probabilities: as of `of`."""
        found = self.of(probabilities)
        promise = (
            f"at least {PERCENT.number(COVERAGE)} % of patients like those of validation have their class in "
            "such a set, on average; those who are given none count as if they had one"
        )
        if len(found) == len(self.classes):
            return f"The promised set holds all classes, and narrows nothing down: {promise}"
        return f"The promised set is {' or '.join(found)}: {promise}"

    def judged_by(self, patients: Sequence[PatientResult]) -> "PromisedSets":
        """Return the same sets with what patients who had no part in them show."""
        return replace(self, shown=_shown(patients, self.classes, self.threshold)) if patients else self

    @property
    def words(self) -> tuple[str, ...]:
        """Say what a set holds, what is promised of it, and what the judged patients show."""
        among = f", whichever of {self.choices} models they choose" if self.choices > 1 else ""
        return (
            f"The set of a patient holds each class to which the network gives at least "
            f"{100 * self.threshold:.4f} %, and always the most probable one",
            f"Promised on average, over patients and over draws of the {self.num} validation patients"
            f"{among}: at least {PERCENT.number(COVERAGE)} % of patients have their class in their set, "
            f"where patients are like those of validation and classes as frequent; those who are given no "
            f"set, as they are {NOT_LIKE}, count as if they had one. Nothing is promised of "
            f"each class by itself, of the patient at hand, or of a patient {NOT_LIKE}",
        )

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return {
            "threshold": self.threshold,
            "coverage": COVERAGE,
            "guarantee": "on average",
            "n": self.num,
            "choices": self.choices,
            "words": list(self.words),
            "shown": self.shown.to_dict() if self.shown else None,
        }


def promise_sets(classes: tuple[str, ...], validation: ValidationPatients) -> PromisedSets | NoSets:
    """Find the threshold, where enough patients are there for one."""
    num, choices = len(validation), validation.choices
    if not num:
        return NoSets(reason="it is for patients, and of validation no patient is judged")
    outside = most_outside(num, choices)
    if outside is None:
        return NoSets(reason=_too_few(num, choices))
    own = [one.probabilities[classes.index(one.label)] for one in validation.patients]
    # Lower by a step, so that the same patient, computed elsewhere, is on the same side.
    threshold = max(math.floor(STEPS * np.sort(own)[outside]) - 1, 0) / STEPS
    return PromisedSets(classes=classes, num=num, choices=choices, threshold=threshold)


def is_in_set(probabilities: np.ndarray, threshold: float) -> np.ndarray:
    """Tell which classes are in the set of each patient: bool, (p, classes), as are the probabilities."""
    is_in = probabilities >= threshold
    is_in[np.arange(len(probabilities)), probabilities.argmax(axis=1)] = True
    return is_in


def _shown(patients: Sequence[PatientResult], classes: tuple[str, ...], threshold: float) -> Shown:
    is_in = is_in_set(np.array([one.probabilities for one in patients]), threshold)
    label = np.array([classes.index(one.label) for one in patients])
    covered, size = is_in[np.arange(len(label)), label], is_in.sum(axis=1)
    of_class = [(name, covered[label == number]) for number, name in enumerate(classes)]
    return Shown(
        num=len(patients),
        covered=_proportion(covered),
        size=mean_size(size, len(classes)),
        alone=int((size == 1).sum()),
        by_class=tuple((name, len(hits), _proportion(hits)) for name, hits in of_class),
    )


def _proportion(hits: np.ndarray) -> Figure:
    found = of_proportion(hits, np.arange(len(hits))) if len(hits) else None
    return figure_of(found, reason="no patient of it", scale=PERCENT)


def mean_size(size: np.ndarray, most: int) -> Figure:
    """Estimate how many classes a set holds on average, by Student's t. size: int, (p,); most: classes."""
    value, deviation = float(size.mean()), float(size.std(ddof=1)) if len(size) > 1 else 0.0
    if deviation == 0:
        return Figure(value=value, low=None, high=None, reason=ALIKE, scale=CLASSES)
    margin = quantile_of_t(len(size) - 1) * deviation / math.sqrt(len(size))
    low, high = max(1.0, value - margin), min(float(most), value + margin)
    return Figure(value=value, low=low, high=high, scale=CLASSES)


def _too_few(num: int, choices: int) -> str:
    """Say how many patients a promise needs."""
    needs = (
        f"one that holds the class of {PERCENT.number(COVERAGE)} % of patients on average needs "
        f"{least_patients(choices)} validation patients, there are {num}"
    )
    if choices == 1:
        return needs
    others = f"{least_patients()} would do if others had chosen the epoch among {choices} models"
    return f"{needs} ({others}: {APART})"
