"""The table of metrics, each figure with its 95 % interval.

Terminal, JSON and page are made from it: a metric that is added to METRICS or CLASS_METRICS is in all three.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np

from mri_hpc.results.statistics.figure_of_merit import AREA, PERCENT, SCORE, Figure, Scale, figure_of
from mri_hpc.results.statistics.intervals import Limits, means, mover, of_area, of_proportion
from mri_hpc.results.statistics.patients import Outcomes
from mri_hpc.results.statistics.score_intervals import of_average_precision, of_sensitivity_at
from mri_hpc.results.statistics.scores import BINS, brier, calibration_error, log_loss


@dataclass(frozen=True, kw_only=True)
class ClassMetric:
    """A metric of one class against the others."""

    name: str
    """In JSON."""
    title: str
    """For people."""
    scale: Scale
    estimate: Callable[[Outcomes, int], Limits | None]
    """Gives it for a class, by its number; None where there is none."""
    missing: str
    """Reason where there is none; {} stands for the class."""
    no_interval: str = ""
    """Reason where there is no interval."""
    is_of_scores: bool = False
    """It judges how the class's probability ranks units, over thresholds, and not the answer."""

    def estimates(self, outcomes: Outcomes) -> list[Limits | None]:
        """Estimate it for every class."""
        return [self.estimate(outcomes, number) for number in range(len(outcomes.classes))]

    def figure(self, found: Limits | None, label: str) -> Figure:
        """Write the estimate of a class as a figure."""
        return figure_of(
            found,
            reason=self.missing.format(repr(label)),
            scale=self.scale,
            no_interval=self.no_interval,
        )


@dataclass(frozen=True, kw_only=True)
class MeanOfClasses:
    """A metric that is the mean of one of each class."""

    name: str
    """In JSON."""
    title: str
    """For people."""
    of: ClassMetric
    limits: Callable[[np.ndarray], tuple[float, float]]
    """Gives the interval by those of the classes, (k, 3)."""

    @property
    def scale(self) -> Scale:
        """That of the classes."""
        return self.of.scale

    def figure(self, outcomes: Outcomes, of_classes: "OfClasses") -> Figure:
        """Average over the classes; none where one of them has none."""
        found = of_classes[self.of]
        for label, limits in zip(outcomes.classes, found, strict=True):
            if limits is None:
                return self.of.figure(None, label)
        parts = np.array(found)
        mean = Limits(float(parts[:, 0].mean()), *self.limits(parts))
        return figure_of(mean, reason="", scale=self.scale)


@dataclass(frozen=True, kw_only=True)
class Proportion:
    """A metric that is a fraction of all units."""

    name: str
    """In JSON."""
    title: str
    """For people."""
    estimate: Callable[[Outcomes], Limits]
    scale: Scale = PERCENT

    def figure(self, outcomes: Outcomes, _of_classes: "OfClasses") -> Figure:
        """Measure it."""
        return figure_of(self.estimate(outcomes), reason="", scale=self.scale)


@dataclass(frozen=True, kw_only=True)
class Score:
    """A metric of stated probabilities, over all units."""

    name: str
    """In JSON."""
    title: str
    """For people."""
    estimate: Callable[[Outcomes], float]
    without_limits: str
    """Reason why it has no interval."""
    scale: Scale = SCORE

    def figure(self, outcomes: Outcomes, _of_classes: "OfClasses") -> Figure:
        """Measure it."""
        return Figure(
            value=self.estimate(outcomes), low=None, high=None, reason=self.without_limits, scale=self.scale
        )


M = TypeVar("M")
Metric = MeanOfClasses | Proportion | Score
OfClasses = Mapping[ClassMetric, list[Limits | None]]
"""Estimates of the classes, in their order."""


def sensitivity(outcomes: Outcomes, number: int) -> Limits | None:
    """Estimate which part of a class is recognised; None where it is absent."""
    return _proportion(outcomes, outcomes.predicted == number, of=outcomes.label == number)


def specificity(outcomes: Outcomes, number: int) -> Limits | None:
    """Estimate which part of the others is not taken for a class; None where there are no others."""
    return _proportion(outcomes, outcomes.predicted != number, of=outcomes.label != number)


def precision(outcomes: Outcomes, number: int) -> Limits | None:
    """Estimate which part of what is taken for a class is of it; None where nothing is."""
    return _proportion(outcomes, outcomes.label == number, of=outcomes.predicted == number)


def auroc(outcomes: Outcomes, number: int) -> Limits | None:
    """Estimate the area under the ROC curve of a class against the others; None without both."""
    is_class = outcomes.label == number
    if not is_class.any() or is_class.all():
        return None
    return of_area(outcomes.probabilities[:, number], is_class, outcomes.cluster)


def average_precision(outcomes: Outcomes, number: int) -> Limits | None:
    """Estimate the average precision of a class over all thresholds; None without it and others."""
    is_class = outcomes.label == number
    if not is_class.any() or is_class.all():
        return None
    return of_average_precision(outcomes.probabilities[:, number], is_class, outcomes.cluster)


def sensitivity_at(outcomes: Outcomes, number: int, specificity: float) -> Limits | None:
    """Estimate the sensitivity for a class at the threshold that has this specificity; None without both."""
    is_class = outcomes.label == number
    if not is_class.any() or is_class.all():
        return None
    return of_sensitivity_at(outcomes.probabilities[:, number], is_class, outcomes.cluster, specificity)


def accuracy(outcomes: Outcomes) -> Limits:
    """Estimate which part of all units is answered rightly."""
    return of_proportion(outcomes.predicted == outcomes.label, outcomes.cluster)


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


def _proportion(outcomes: Outcomes, hits: np.ndarray, *, of: np.ndarray) -> Limits | None:
    return of_proportion(hits[of], outcomes.cluster[of]) if of.any() else None


SENSITIVITY = ClassMetric(
    name="sensitivity",
    title="sensitivity",
    scale=PERCENT,
    estimate=sensitivity,
    missing="class {} is absent from this split",
)
SPECIFICITY = ClassMetric(
    name="specificity",
    title="specificity",
    scale=PERCENT,
    estimate=specificity,
    missing="class {} is alone in this split",
)
PRECISION = ClassMetric(
    name="precision",
    title="precision",
    scale=PERCENT,
    estimate=precision,
    missing="class {} was never predicted",
)
AUROC = ClassMetric(
    name="auroc",
    title="AUROC",
    scale=AREA,
    estimate=auroc,
    missing="class {} is absent from this split or alone in it",
    is_of_scores=True,
)
AVERAGE_PRECISION = ClassMetric(
    name="average_precision",
    title="average precision",
    scale=AREA,
    estimate=average_precision,
    missing="class {} is absent from this split or alone in it",
    is_of_scores=True,
)


def _at_specificity(percent: int) -> ClassMetric:
    return ClassMetric(
        name=f"sensitivity_at_{percent}",
        title=f"sensitivity at {percent} % specificity",
        scale=PERCENT,
        estimate=partial(sensitivity_at, specificity=percent / 100),
        missing="class {} is absent from this split or alone in it",
        no_interval=f"too few of the other classes to tell a specificity of {percent} %",
        is_of_scores=True,
    )


CLASS_METRICS = (
    SENSITIVITY, SPECIFICITY, PRECISION, AUROC, AVERAGE_PRECISION, _at_specificity(90), _at_specificity(95)
)  # fmt: skip
BALANCED_ACCURACY = MeanOfClasses(
    name="balanced_accuracy", title="balanced accuracy", of=SENSITIVITY, limits=mover
)
ACCURACY = Proportion(name="accuracy", title="accuracy", estimate=accuracy)
MEAN_AUROC = MeanOfClasses(name="auroc", title="AUROC, mean of classes", of=AUROC, limits=means)
NONE_HOLDS = "Brier score and log loss have no interval: none was found that holds for all kinds of patients"
METRICS: tuple[Metric, ...] = (
    BALANCED_ACCURACY,
    ACCURACY,
    MEAN_AUROC,
    Score(name="brier", title="Brier score, 0 to 2", estimate=brier, without_limits=NONE_HOLDS),
    Score(name="log_loss", title="log loss", estimate=log_loss, without_limits=NONE_HOLDS),
    Score(
        name="ece",
        title="calibration error",
        estimate=calibration_error,
        without_limits=f"the calibration error (ECE, {BINS} bins) has none, as it is above 0 also of "
        "probabilities that are right",
    ),
)


@dataclass(frozen=True, kw_only=True)
class ClassMetrics:
    """One class against the others."""

    support: int
    """Units of this class."""
    figures: Mapping[ClassMetric, Figure]

    def __getitem__(self, name: str) -> Figure:
        return next(figure for metric, figure in self.figures.items() if metric.name == name)

    def figures_of(self, *, is_of_scores: bool) -> list[Figure]:
        """List the figures of the answers, or those of the scores."""
        return [figure for metric, figure in self.figures.items() if metric.is_of_scores == is_of_scores]

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return {"support": self.support, **_by_name(self.figures)}


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """All figures for units of one kind, images or patients."""

    num: int
    """Units."""
    num_clusters: int
    """Independent ones among them: patients, or images that name none."""
    figures: Mapping[Metric, Figure]
    """Over all classes."""
    classes: Mapping[str, ClassMetrics]
    confusion: tuple[tuple[int, ...], ...]
    """Units by given class (row) and predicted class (column)."""

    def __getitem__(self, name: str) -> Figure:
        return next(figure for metric, figure in self.figures.items() if metric.name == name)

    @property
    def class_metrics(self) -> tuple[ClassMetric, ...]:
        """List those that each class has."""
        return tuple(next(iter(self.classes.values())).figures)

    def without_intervals(self, reason: str) -> "Metrics":
        """Return the values alone, for this reason."""
        return replace(
            self,
            figures=_without_intervals(self.figures, reason),
            classes={
                name: replace(values, figures=_without_intervals(values.figures, reason))
                for name, values in self.classes.items()
            },
        )

    def reasons(self) -> list[str]:
        """List why some figures cannot be computed, each reason once."""
        return list(dict.fromkeys(figure.reason for figure in self._all_figures() if figure.value is None))

    def reasons_without_interval(self) -> list[str]:
        """List why some figures have no interval, each reason once."""
        alone = [figure for figure in self._all_figures() if figure.value is not None and figure.low is None]
        return list(dict.fromkeys(figure.reason for figure in alone))

    def _all_figures(self) -> list[Figure]:
        return [*self.figures.values(), *(f for c in self.classes.values() for f in c.figures.values())]

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return {
            "n": self.num,
            "n_independent": self.num_clusters,
            **_by_name(self.figures),
            "classes": {name: values.to_dict() for name, values in self.classes.items()},
            "confusion": [list(row) for row in self.confusion],
        }


def measure(outcomes: Outcomes) -> Metrics:
    """Compute all figures with their intervals; `outcomes` holds at least one unit."""
    of_classes = {metric: metric.estimates(outcomes) for metric in CLASS_METRICS}
    support = np.bincount(outcomes.label, minlength=len(outcomes.classes)).tolist()
    return Metrics(
        num=len(outcomes),
        num_clusters=outcomes.num_clusters,
        figures={metric: metric.figure(outcomes, of_classes) for metric in METRICS},
        classes={
            label: ClassMetrics(
                support=support[number],
                figures={metric: metric.figure(found[number], label) for metric, found in of_classes.items()},
            )
            for number, label in enumerate(outcomes.classes)
        },
        confusion=_confusion(outcomes),
    )


def _without_intervals(figures: Mapping[M, Figure], reason: str) -> dict[M, Figure]:
    return {metric: figure.without_interval(reason) for metric, figure in figures.items()}


def _by_name(figures: Mapping[Any, Figure]) -> dict[str, Any]:
    return {metric.name: figure.to_dict() for metric, figure in figures.items()}


def _confusion(outcomes: Outcomes) -> tuple[tuple[int, ...], ...]:
    num_classes = len(outcomes.classes)
    counts = np.zeros((num_classes, num_classes), dtype=np.int64)
    np.add.at(counts, (outcomes.label, outcomes.predicted), 1)
    return tuple(tuple(row) for row in counts.tolist())
