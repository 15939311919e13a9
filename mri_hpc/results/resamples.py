"""Estimates of figures in many resamples at once, as functions of how often each patient was drawn."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mri_hpc.results.patients import Outcomes


@dataclass(frozen=True, kw_only=True)
class Resamples:
    """Outcomes, drawn again r times."""

    outcomes: Outcomes
    counts: np.ndarray
    """Times that each cluster was drawn: float64, (clusters, r)."""

    @cached_property
    def confusion(self) -> np.ndarray:
        """Units by given class, predicted class and resample: float64, (k, k, r)."""
        outcomes, num_classes = self.outcomes, len(self.outcomes.classes)
        cells = np.zeros((outcomes.num_clusters, num_classes, num_classes))
        np.add.at(cells, (outcomes.cluster, outcomes.label, outcomes.predicted), 1)
        return np.einsum("ctp,cr->tpr", cells, self.counts, optimize=True)

    @cached_property
    def total(self) -> np.ndarray:
        """All units: (r,)."""
        return self.confusion.sum(axis=(0, 1))

    @cached_property
    def right(self) -> np.ndarray:
        """Units of each class that are answered so: (k, r)."""
        return np.einsum("jjr->jr", self.confusion)

    @cached_property
    def given(self) -> np.ndarray:
        """Units of each class: (k, r)."""
        return self.confusion.sum(axis=1)

    @cached_property
    def predicted(self) -> np.ndarray:
        """Units that are answered by each class: (k, r)."""
        return self.confusion.sum(axis=0)


def accuracy(drawn: Resamples) -> np.ndarray:
    """Estimate the fraction of units that are answered rightly: (r,)."""
    return drawn.right.sum(axis=0) / drawn.total


def sensitivity(drawn: Resamples) -> np.ndarray:
    """Estimate it of each class: (k, r), NaN where it is not drawn."""
    return ratio(drawn.right, drawn.given)


def specificity(drawn: Resamples) -> np.ndarray:
    """Estimate it of each class: (k, r), NaN where no other is drawn."""
    return ratio(drawn.total - drawn.given - drawn.predicted + drawn.right, drawn.total - drawn.given)


def precision(drawn: Resamples) -> np.ndarray:
    """Estimate it of each class: (k, r), NaN where it is never predicted."""
    return ratio(drawn.right, drawn.predicted)


def auroc(drawn: Resamples) -> np.ndarray:
    """Estimate the area under each class's ROC curve: (k, r), NaN where it or the others are not drawn."""
    return np.stack([_area(drawn, j) for j in range(len(drawn.outcomes.classes))])


def ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Divide, to NaN where `below` is 0."""
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)


def roc_curve(outcomes: Outcomes, class_index: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Trace false and true positive rates of a class against the others, from (0, 0) to (1, 1).

    float64, (m,) each, one point a distinct probability; None where the class or the others are absent.
    """
    is_class = outcomes.label == class_index
    if not is_class.any() or is_class.all():
        return None
    scores = outcomes.probabilities[:, class_index]
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    hits, alarms = np.cumsum(is_class[order])[ends], np.cumsum(~is_class[order])[ends]
    return np.append(0.0, alarms / alarms[-1]), np.append(0.0, hits / hits[-1])


def _area(drawn: Resamples, class_index: int) -> np.ndarray:
    """Compute the Mann-Whitney statistic of a class in each resample, (r,), ties counting half."""
    outcomes, counts = drawn.outcomes, drawn.counts
    is_class = outcomes.label == class_index
    scores = outcomes.probabilities[:, class_index]
    inside, outside = np.flatnonzero(is_class), np.flatnonzero(~is_class)
    outside = outside[np.argsort(scores[outside], kind="stable")]
    below = np.zeros((len(outside) + 1, counts.shape[1]))
    np.cumsum(counts[outcomes.cluster[outside]], axis=0, out=below[1:])
    weights = counts[outcomes.cluster[inside]]
    first = np.searchsorted(scores[outside], scores[inside], side="left")
    last = np.searchsorted(scores[outside], scores[inside], side="right")
    wins = np.einsum("pr,pr->r", weights, below[first] + below[last]) / 2
    return ratio(wins, weights.sum(axis=0) * below[-1])
