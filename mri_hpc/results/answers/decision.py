"""A decision about a patient, to investigate or not, by a threshold whose sensitivity can be promised.

The score of a patient is the sum of the probabilities of the classes to be found: the finding. Validation
patients give the threshold, and the same have chosen the epoch: sensitivity_bound counts that in.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from mri_hpc.base.errors import UserError
from mri_hpc.base.settings import nearest
from mri_hpc.results.statistics.figure_of_merit import PERCENT, Figure, figure_of
from mri_hpc.results.statistics.intervals import Limits, clopper_pearson, of_proportion
from mri_hpc.results.statistics.patients import PatientResult
from mri_hpc.results.statistics.sensitivity_bound import (
    ERROR,
    largest_sensitivity,
    least_patients,
    most_missed,
)
from mri_hpc.rundir.question import Question

NOTHING_FOUND = re.compile(r"((normal|healthy)(control|brain)?|no(tumou?r|finding)|control)s?")
"""Names of classes, in small letters and digits, of patients in whom there is nothing to be found."""
STEPS = 1_000_000
"""Of a score; a threshold lies below it by one at least, so that the same patient, computed elsewhere, is on
the same side."""
INVESTIGATE, BELOW = "investigate", "below the threshold"
HOW = "mri-hpc evaluate RUN --investigate CLASS…"


@dataclass(frozen=True, kw_only=True)
class Tally:
    """Patients of one split on both sides of a threshold."""

    with_finding: int
    missed: int
    """With the finding, and below the threshold."""
    without_finding: int
    investigated: int
    """Without the finding, and not below the threshold."""
    sensitivity: Figure
    specificity: Figure

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        figures = {"sensitivity": self.sensitivity.to_dict(), "specificity": self.specificity.to_dict()}
        return {
            "with_finding": self.with_finding,
            "missed": self.missed,
            "without_finding": self.without_finding,
            "investigated": self.investigated,
            **figures,
        }


@dataclass(frozen=True, kw_only=True)
class NoDecision:
    """No threshold is given."""

    reason: str

    @property
    def words(self) -> tuple[str, ...]:
        """Say so, and why."""
        return (f"No threshold is given: {self.reason}",)

    def in_a_sentence(self, _probabilities: np.ndarray) -> str:
        """Say of one patient that nothing is decided, and why."""
        return self.words[0]

    def tallies(self, _split: str) -> list[tuple[str, Tally]]:
        """List none."""
        return []

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return {"threshold": None, **asdict(self)}


@dataclass(frozen=True, kw_only=True)
class Decision:
    """A threshold, and the promise that goes with it."""

    classes: tuple[str, ...]
    """All that the model can answer."""
    investigate: tuple[str, ...]
    """Those to be found: the finding."""
    sensitivity: float
    """That is promised."""
    choices: int
    """Models among which the validation patients chose."""
    threshold: float
    """Least score of a patient to be investigated, 0 to 1."""
    validation: Tally
    """Validation patients, where some were set apart those; by limits for all these models at once."""
    shown: Tally | None = None
    """By the split that is judged; None where that is validation."""

    def of(self, probabilities: np.ndarray) -> str:
        """Decide about one patient. probabilities: (classes,)."""
        is_above = score(probabilities[None], self.classes, self.investigate)[0] >= self.threshold
        return INVESTIGATE if is_above else BELOW

    def in_a_sentence(self, probabilities: np.ndarray) -> str:
        """Say what is decided about one patient. probabilities: (classes,)."""
        if self.of(probabilities) == INVESTIGATE:
            names = " or ".join(self.investigate)
            return f"Investigate: the probability of {names} is at or above the threshold"
        tally, missed = self.validation, _other(self.validation.sensitivity)
        return (
            f"Below the threshold; {tally.missed} of {tally.with_finding} such patients with the finding "
            f"were missed in validation ({missed} %)"
        )

    def judged_by(self, patients: Sequence[PatientResult]) -> "Decision":
        """Return the same decision with what patients who had no part in it show of it."""
        scores, has_finding = _scores(patients, self.classes, self.investigate)
        tally = _tally(scores >= self.threshold, has_finding, _independent)
        return replace(self, shown=tally)

    def tallies(self, split: str) -> list[tuple[str, Tally]]:
        """List what splits show, by name, validation first. split: the one that is judged."""
        return [("validation", self.validation), *([(split, self.shown)] if self.shown else [])]

    @property
    def words(self) -> tuple[str, ...]:
        """Say what is investigated, what is promised, and what is known of patients below."""
        together = " together" if len(self.investigate) > 1 else ""
        among = f", whichever of {self.choices} models they choose" if self.choices > 1 else ""
        of_validation, missed = self.validation, _other(self.validation.sensitivity)
        return (
            f"Investigate: patients whose probability of {' or '.join(self.investigate)}{together}, as the "
            f"network says it, is at least {100 * self.threshold:.4f} %",
            f"Promised: at least {PERCENT.number(self.sensitivity)} % of patients with this finding are "
            f"investigated, where patients are like those of validation. This holds in at least 95 of 100 "
            f"draws of validation patients{among}. No guarantee for a patient not like the training data",
            f"Below the threshold: {of_validation.missed} of {of_validation.with_finding} patients with the "
            f"finding were missed so in validation ({missed} %)",
            f"The model can only answer {', '.join(self.classes)}: anything else is given one of these names",
        )

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return {
            "threshold": self.threshold,
            "investigate": list(self.investigate),
            "sensitivity": self.sensitivity,
            "confidence": 1 - ERROR,
            "choices": self.choices,
            "words": list(self.words),
            "validation": self.validation.to_dict(),
            "shown": self.shown.to_dict() if self.shown else None,
        }


def decide(
    question: Question, classes: tuple[str, ...], validation: Sequence[PatientResult], *, choices: int
) -> Decision | NoDecision:
    """Find the threshold, where one can be promised. UserError where the question names no class of the run.

    validation: patients of that split. choices: models among which they chose that of the run.
    """
    investigate = classes_to_find(question, classes)
    if not investigate:
        return NoDecision(reason=f"nothing says which classes are to be found; {HOW} does")
    if not validation:
        return NoDecision(reason="it is for patients, and of validation no patient is judged")
    scores, has_finding = _scores(validation, classes, investigate)
    num = int(has_finding.sum())
    missed = most_missed(num, question.sensitivity, choices)
    if missed is None:
        return NoDecision(reason=_too_few(num, question.sensitivity, choices))
    threshold = max(math.floor(STEPS * np.sort(scores[has_finding])[missed]) - 1, 0) / STEPS
    return Decision(
        classes=classes,
        investigate=investigate,
        sensitivity=question.sensitivity,
        choices=choices,
        threshold=threshold,
        validation=_tally(
            scores >= threshold,
            has_finding,
            lambda hits: clopper_pearson(int(hits.sum()), len(hits), ERROR / choices),
        ),
    )


def classes_to_find(question: Question, classes: Sequence[str]) -> tuple[str, ...]:
    """Return the classes to be found; none where nothing says which. UserError where one is unknown."""
    for name in question.investigate:
        if name not in classes:
            known = ", ".join(classes)
            raise UserError(
                f"--investigate: there is no class {name!r}{nearest(name, classes)}; classes: {known}"
            )
    if set(question.investigate) == set(classes):
        raise UserError("--investigate names all classes, so that no patient could be below: leave some out")
    others = tuple(name for name in classes if not is_of_nothing_found(name))
    if question.investigate or len(others) == len(classes):
        return tuple(name for name in classes if name in question.investigate)
    return others


def is_of_nothing_found(name: str) -> bool:
    """Tell whether a class is named like one of patients in whom there is nothing to be found."""
    return bool(NOTHING_FOUND.fullmatch(re.sub(r"[\W_]", "", name.casefold())))


def score(probabilities: np.ndarray, classes: Sequence[str], investigate: Sequence[str]) -> np.ndarray:
    """Add up the probabilities of the classes to be found: float64, (p,). probabilities: (p, classes)."""
    return np.asarray(probabilities[:, [name in investigate for name in classes]].sum(axis=1))


def _scores(
    patients: Sequence[PatientResult], classes: Sequence[str], investigate: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the score of each patient, and whether the finding is there: float64 and bool, (p,)."""
    probabilities = np.array([one.probabilities for one in patients]).reshape(-1, len(classes))
    has_finding = np.array([one.label in investigate for one in patients], dtype=bool)
    return score(probabilities, classes, investigate), has_finding


def _tally(is_above: np.ndarray, has_finding: np.ndarray, estimate: Callable[[np.ndarray], Limits]) -> Tally:
    found, spared = is_above[has_finding], ~is_above[~has_finding]
    figures = [
        figure_of(
            estimate(hits) if len(hits) else None, reason=f"no patient {kind} the finding", scale=PERCENT
        )
        for kind, hits in (("with", found), ("without", spared))
    ]
    return Tally(
        with_finding=len(found),
        missed=int((~found).sum()),
        without_finding=len(spared),
        investigated=int((~spared).sum()),
        sensitivity=figures[0],
        specificity=figures[1],
    )


def _independent(hits: np.ndarray) -> Limits:
    return of_proportion(hits, np.arange(len(hits)))


def _other(figure: Figure) -> str:
    """Write the interval of all but a proportion, in per cent."""
    low, high = (1 - (end or 0.0) for end in (figure.high, figure.low))
    return f"{PERCENT.number(low)}–{PERCENT.number(high)}"


def _too_few(num: int, sensitivity: float, choices: int) -> str:
    """Say what a promise needs, and what can be promised instead."""
    percent = PERCENT.number(sensitivity)
    needs = (
        f"a sensitivity of {percent} % needs {least_patients(sensitivity, choices)} validation patients with "
        f"the finding and none missed, there are {num}"
    )
    if choices > 1:
        needs += (
            f" ({least_patients(sensitivity)} would do if others had chosen the epoch among {choices} models)"
        )
    # rounded down: what is typed must be what can be promised
    largest = math.floor(1000 * largest_sensitivity(num, choices)) / 1000
    if not largest:
        return needs
    ask = f"mri-hpc evaluate RUN --sensitivity {largest:.3f}"
    return f"{needs}. They can promise {PERCENT.number(largest)} %: {ask}"
