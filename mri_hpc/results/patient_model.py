"""Patient models: they make one answer of what the network says about a patient's slices."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Pooled:
    """Answers by patient."""

    patients: tuple[str, ...]
    """Sorted."""
    probabilities: np.ndarray
    """float64, (p, k)."""
    num_images: np.ndarray
    """Images of each patient: int64, (p,)."""


class PatientModel(Protocol):
    """Makes patients' probabilities out of those of their images."""

    def pool(self, patients: Sequence[str], probabilities: np.ndarray) -> Pooled:
        """Pool images by patient. patients: name of each image's, (n,); probabilities: float64, (n, k)."""

    def in_words(self, images: str) -> str:
        """Say what a patient's probabilities are. images: what these are called in the text around it."""


class MeanOfImages:
    """The mean of the images' probabilities.

    Every slice counts the same, and no single one that is sure of itself can outvote the rest, as it could in
    a mean of logarithms.
    """

    def pool(self, patients: Sequence[str], probabilities: np.ndarray) -> Pooled:
        """Average over the images of each patient."""
        names, number = np.unique(np.array(patients, dtype=object), return_inverse=True)
        num_images = np.bincount(number, minlength=len(names))
        sums = np.zeros((len(names), probabilities.shape[1]))
        np.add.at(sums, number, probabilities)
        return Pooled(patients=tuple(names), probabilities=sums / num_images[:, None], num_images=num_images)

    def in_words(self, images: str) -> str:
        """Say so."""
        return f"the mean over the {images}"


PATIENT_MODEL: PatientModel = MeanOfImages()
"""That of every run: evaluate, report and predict pool by it."""
