"""Scores of stated probabilities: Brier's, log loss, and how far they lie from what is right."""

from dataclasses import dataclass

import numpy as np

from mri_hpc.results.statistics.intervals import Limits, of_proportion
from mri_hpc.results.statistics.patients import Outcomes

BINS = 10
"""Of equal width, as in the figures that others publish (Guo and others 2017)."""


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Units whose answer was stated with about the same probability."""

    stated: float
    """Mean probability of the answer."""
    right: Limits
    """Fraction of the units whose answer is right, with limits by cluster."""
    num: int
    """Units."""


def brier(outcomes: Outcomes) -> float:
    """Compute Brier's score: the mean of squared distances summed over all classes, 0 to 2."""
    truth = np.eye(len(outcomes.classes))[outcomes.label]
    return float(np.sum((outcomes.probabilities - truth) ** 2, axis=1).mean())


def log_loss(outcomes: Outcomes) -> float:
    """Compute the mean of -log of what was stated of the right class, as scikit-learn has it."""
    return float(log_loss_of(outcomes).mean())


def log_loss_of(outcomes: Outcomes) -> np.ndarray:
    """Compute the log loss of each unit: float64, (n,)."""
    stated = outcomes.probabilities[np.arange(len(outcomes)), outcomes.label]
    return np.asarray(-np.log(np.maximum(stated, np.finfo(np.float64).eps)))


def calibration_error(outcomes: Outcomes) -> float:
    """Compute the expected calibration error (ECE) of the answers.

    It is above 0 also of probabilities that are right, the more the fewer units there are, so that no
    interval by drawing them again holds.
    """
    bins = reliability(outcomes)
    return sum(part.num * abs(part.stated - part.right.value) for part in bins) / len(outcomes)


def reliability(outcomes: Outcomes) -> list[Bin]:
    """Put the answers into bins by their probability, lowest first; empty ones are left out."""
    sure = outcomes.probabilities.max(axis=1)
    right = outcomes.predicted == outcomes.label
    number = np.minimum((sure * BINS).astype(np.int64), BINS - 1)
    return [
        Bin(
            stated=float(sure[inside].mean()),
            right=of_proportion(right[inside], outcomes.cluster[inside]),
            num=int(inside.sum()),
        )
        for inside in (number == bin_number for bin_number in range(BINS))
        if inside.any()
    ]
