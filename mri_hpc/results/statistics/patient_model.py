"""Patient models: they make one answer of what the network says about a patient's slices.

A model also says which class a patient has whose slices are of several: answer and truth are of one kind.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from mri_hpc.base.errors import UserError
from mri_hpc.base.settings import nearest
from mri_hpc.rundir.settings import SLICES_ONLY, positives_of


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
    """Makes patients' probabilities out of those of their images, and patients' classes out of theirs."""

    def pool(
        self, patients: Sequence[str], probabilities: np.ndarray, attention: np.ndarray | None = None
    ) -> Pooled:
        """Pool images by patient. patients: name of each image's, (n,); probabilities: float64, (n, k).

        attention: float64, (n, 1 + k), as a Prediction has it; None where the images have none.
        """

    def labels(self, votes: np.ndarray) -> np.ndarray:
        """Return the class of each patient: int64, (p,). votes: images of each class, int64, (p, k)."""

    def in_words(self, images: str) -> str:
        """Say what a patient's probabilities are. images: what these are called in the text around it."""

    def label_in_words(self) -> str:
        """Say which class a patient has whose slices are of several."""


class MeanOfImages:
    """The mean of the images' probabilities, and the class of most of them.

    Every slice counts the same, and no single one that is sure of itself can outvote the rest, as it could in
    a mean of logarithms.
    """

    def pool(
        self, patients: Sequence[str], probabilities: np.ndarray, attention: np.ndarray | None = None
    ) -> Pooled:
        """Average over the images of each patient."""
        names, number = np.unique(np.array(patients, dtype=object), return_inverse=True)
        num_images = np.bincount(number, minlength=len(names))
        sums = np.zeros((len(names), probabilities.shape[1]))
        np.add.at(sums, number, probabilities)
        return Pooled(patients=tuple(names), probabilities=sums / num_images[:, None], num_images=num_images)

    def labels(self, votes: np.ndarray) -> np.ndarray:
        """Take the class of most images, of equals the first."""
        return np.asarray(votes.argmax(axis=1))

    def in_words(self, images: str) -> str:
        """Say so."""
        return f"the mean over the {images}"

    def label_in_words(self) -> str:
        """Say so."""
        return "the class of most slices is taken as theirs"


class AttentionOverImages(MeanOfImages):
    """Answers of gated attention, learnt at the end of the run; the class of most images.

    Ilse, Tomczak and Welling 2018. Of answers of others, such as controls, it is the mean.
    """

    def pool(
        self, patients: Sequence[str], probabilities: np.ndarray, attention: np.ndarray | None = None
    ) -> Pooled:
        """Average the images' logits by their weights."""
        mean = super().pool(patients, probabilities)
        if attention is None:
            return mean
        _names, number = np.unique(np.array(patients, dtype=object), return_inverse=True)
        largest = np.full(len(mean.patients), -np.inf)
        np.maximum.at(largest, number, attention[:, 0])
        weights = np.exp(attention[:, 0] - largest[number])
        sums = np.zeros((len(mean.patients), attention.shape[1]))
        np.add.at(sums, number, weights[:, None] * np.column_stack([np.ones(len(number)), attention[:, 1:]]))
        logits = sums[:, 1:] / sums[:, :1]
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return replace(mean, probabilities=powers / powers.sum(axis=1, keepdims=True))

    def in_words(self, images: str) -> str:
        """Say so."""
        return f"made by gated attention over the {images}"


class AnyImage:
    """Positive as soon as one image is: the standard assumption of multiple-instance learning.

    Dietterich, Lathrop and Lozano-Pérez 1997; by the largest probability of all instances, as Campanella and
    others judge slides by their tiles (Nature Medicine 25, 2019). So the slices' answers make a patient's
    answer in the very way in which the slices' classes make the patient's class, and each slice that is
    wrongly called positive tells.
    """

    def __init__(self, positives: Sequence[str], classes: Sequence[str]) -> None:
        """positives: one class, or several; classes: of the run."""
        self._names = tuple(positives)
        self._is_positive = np.array([name in positives for name in classes])

    def pool(
        self, patients: Sequence[str], probabilities: np.ndarray, attention: np.ndarray | None = None
    ) -> Pooled:
        """Take the image that most speaks for the positive classes; share the rest as all images do."""
        # Slices with 0.1, 0.7 and 0.2 for the one positive class of three, whose other two share the rest
        # three to one on average, give a patient 0.7, 0.225 and 0.075.
        mean = MeanOfImages().pool(patients, probabilities)
        _names, number = np.unique(np.array(patients, dtype=object), return_inverse=True)
        mass = probabilities[:, self._is_positive].sum(axis=1)
        # The last image of each patient is the one of largest mass, of equals the first of those given.
        order = np.lexsort((-np.arange(len(mass)), mass, number))
        best = order[np.append(np.diff(number[order]) > 0, True)]
        others = mean.probabilities * ~self._is_positive
        total = others.sum(axis=1, keepdims=True)
        shares = np.divide(others, total, out=np.zeros_like(others), where=total > 0)
        pooled = np.where(self._is_positive, probabilities[best], (1 - mass[best])[:, None] * shares)
        return Pooled(patients=mean.patients, probabilities=pooled, num_images=mean.num_images)

    def labels(self, votes: np.ndarray) -> np.ndarray:
        """Take the positive class of most images where any has one, else the class of most images."""
        positive = votes * self._is_positive
        return np.asarray(np.where(positive.any(axis=1), positive.argmax(axis=1), votes.argmax(axis=1)))

    def in_words(self, images: str) -> str:
        """Say so."""
        image = images.removesuffix("s")
        return f"those of the {image} with the largest probability of {' or '.join(self._names)}"

    def label_in_words(self) -> str:
        """Say so."""
        return f"a patient is {' or '.join(self._names)} as soon as one slice is"


def patient_model(rule: str, classes: Sequence[str]) -> PatientModel | None:
    """Return the model of a run whose settings have this rule (patient_label); None: slices only.

    UserError where the rule names a class that the run has not.
    """
    if rule == SLICES_ONLY:
        return None
    positives = positives_of(rule)
    for name in positives:
        if name not in classes:
            raise UserError(
                f"--patient-label {rule}: there is no class {name!r}{nearest(name, classes)}; "
                f"classes: {', '.join(classes)}"
            )
    return AnyImage(positives, classes) if positives else MeanOfImages()
