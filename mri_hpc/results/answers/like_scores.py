"""Validation patients whose scores are like a new patient's: how many had what the score speaks of.

Where they chose the model, too, the limits hold for all models among which they chose at once (Bonferroni),
as those of a threshold do.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mri_hpc.base.command import counted
from mri_hpc.results.statistics.figure_of_merit import PERCENT
from mri_hpc.results.statistics.intervals import Limits, clopper_pearson
from mri_hpc.results.statistics.patients import ValidationPatients
from mri_hpc.results.statistics.sensitivity_bound import ERROR

REACH = 0.1
"""Scores that differ by no more are alike: fixed beforehand, so that the binomial limits hold."""
LEAST = 10
"""Patients of like scores for a share; of fewer, limits would be of no use."""


@dataclass(frozen=True, kw_only=True)
class LikeScores:
    """Validation patients on either side of one new patient's score."""

    classes: tuple[str, ...]
    """Those that the score adds up: the finding, else the most probable class."""
    score: float
    num: int
    """Validation patients of like scores."""
    num_had: int
    """Those of them that had one of these classes."""
    choices: int = 1
    """Models among which validation patients chose."""

    @property
    def share(self) -> Limits | None:
        """Estimate the share that had it, by exact limits for all these models at once; None of too few."""
        enough = self.num >= LEAST
        return clopper_pearson(self.num_had, self.num, ERROR / self.choices) if enough else None

    @property
    def words(self) -> str:
        """Say it in one sentence."""
        if not self.num:
            return "No patient of validation had a score like this one: how often it is right is not known"
        of = f"{counted(self.num, 'validation patient')} with a score within {REACH:.1f} of this one"
        share = self.share
        if share is None:
            return f"Too few to say how often it is right: {of}, {self.num_had} of whom had {self._name}"
        value, low, high = (PERCENT.number(end) for end in share)
        among = f", whichever of {self.choices} models they chose" if self.choices > 1 else ""
        return f"Of {of}, {self.num_had} had {self._name}: {value} % (95 % interval {low}–{high}{among})"

    @property
    def _name(self) -> str:
        return " or ".join(self.classes)

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        share = self.share
        return {
            "classes": list(self.classes),
            "score": self.score,
            "num": self.num,
            "num_had": self.num_had,
            "choices": self.choices,
            "share": share.value if share else None,
            "low": share.low if share else None,
            "high": share.high if share else None,
            "words": self.words,
        }


def like_scores(
    probabilities: np.ndarray,
    classes: Sequence[str],
    finding: Sequence[str],
    validation: ValidationPatients,
) -> LikeScores:
    """Look for validation patients of like scores.

    probabilities: float64, (classes,), of one patient. finding: classes to be found; where there are none,
    the score is that of the most probable class.
    """
    wanted = tuple(finding) or (classes[int(probabilities.argmax(axis=0))],)
    columns = [name in wanted for name in classes]
    score = float(probabilities[columns].sum())
    patients = validation.patients
    chances = np.array([one.probabilities for one in patients]).reshape(-1, len(classes))
    alike = np.abs(chances[:, columns].sum(1) - score) <= REACH
    had = np.array([one.label in wanted for one in patients], dtype=bool)
    return LikeScores(
        classes=wanted,
        score=score,
        num=int(alike.sum()),
        num_had=int(had[alike].sum()),
        choices=validation.choices,
    )
