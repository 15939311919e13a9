"""The table of metrics, each figure with its 95 % interval.

Terminal, JSON and page are made from it: a metric that is added to METRICS or CLASS_METRICS is in all three.

Measured on one Xeon core, 2026-11, 10,000 images of 3 classes, 1,000 resamples, once each: 0.7 s where they
are of 1,000 patients, 0.8 s where of 10,000.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mri_hpc.results import resamples
from mri_hpc.results.figure_of_merit import AREA, PERCENT, Figure, Scale, figure_of, mean_figure
from mri_hpc.results.intervals import means, mover, resample_counts
from mri_hpc.results.patients import Outcomes
from mri_hpc.results.resamples import Resamples

Estimate = Callable[[Resamples], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class ClassMetric:
    """A metric of one class against the others."""

    name: str
    """In JSON."""
    title: str
    """For people."""
    scale: Scale
    estimate: Estimate
    """Gives it for each class and resample: (k, r), NaN where there is none."""
    rests_on: Callable[[Outcomes, int], int]
    """Counts the patients that the value of a class rests on."""
    missing: str
    """Reason where there is none; {} stands for the class."""
    is_proportion: bool = True
    """Of units, so that Wilson's interval holds where these are independent."""

    def figures(self, sample: "Sample") -> list[Figure]:
        """Measure every class."""
        return [
            figure_of(
                value,
                resampled,
                self.rests_on(sample.outcomes, number),
                reason=self.missing.format(repr(label)),
                prefer_wilson=sample.is_independent and self.is_proportion,
                scale=self.scale,
            )
            for number, (label, value, resampled) in enumerate(
                zip(
                    sample.outcomes.classes,
                    sample.observed[self][:, 0],
                    sample.resampled[self],
                    strict=True,
                )
            )
        ]


@dataclass(frozen=True, kw_only=True)
class MeanOfClasses:
    """A metric that is the mean of one of each class."""

    name: str
    """In JSON."""
    title: str
    """For people."""
    of: ClassMetric
    limits: Callable[[np.ndarray], tuple[float, float]]
    """Gives the interval by those of the classes, (k, 3), where drawing patients cannot tell."""

    @property
    def scale(self) -> Scale:
        """That of the classes."""
        return self.of.scale

    def figure(self, sample: "Sample", of_classes: "OfClasses") -> Figure:
        """Average over the classes."""
        return mean_figure(of_classes[self.of], sample.resampled[self.of], self.limits)


@dataclass(frozen=True, kw_only=True)
class Proportion:
    """A metric that is a fraction of all units."""

    name: str
    """In JSON."""
    title: str
    """For people."""
    estimate: Estimate
    """Gives it for each resample: (r,)."""
    scale: Scale = PERCENT

    def figure(self, sample: "Sample", _of_classes: "OfClasses") -> Figure:
        """Measure it."""
        return figure_of(
            sample.observed[self][0],
            sample.resampled[self],
            sample.outcomes.num_clusters,
            reason="",
            prefer_wilson=sample.is_independent,
            scale=self.scale,
        )


Metric = MeanOfClasses | Proportion
OfClasses = Mapping[ClassMetric, list[Figure]]
"""Figures of the classes, in their order."""


def _patients(outcomes: Outcomes, chosen: np.ndarray) -> int:
    """Count those of some units."""
    return len(np.unique(outcomes.cluster[chosen]))


SENSITIVITY = ClassMetric(
    name="sensitivity",
    title="sensitivity",
    scale=PERCENT,
    estimate=resamples.sensitivity,
    rests_on=lambda outcomes, j: _patients(outcomes, outcomes.label == j),
    missing="class {} is absent from this split",
)
SPECIFICITY = ClassMetric(
    name="specificity",
    title="specificity",
    scale=PERCENT,
    estimate=resamples.specificity,
    rests_on=lambda outcomes, j: _patients(outcomes, outcomes.label != j),
    missing="class {} is alone in this split",
)
PRECISION = ClassMetric(
    name="precision",
    title="precision",
    scale=PERCENT,
    estimate=resamples.precision,
    rests_on=lambda outcomes, j: _patients(outcomes, outcomes.predicted == j),
    missing="class {} was never predicted",
)
AUROC = ClassMetric(
    name="auroc",
    title="AUROC",
    scale=AREA,
    estimate=resamples.auroc,
    # Of m patients with the class and n without, no more than min(m, n) pairs are independent.
    rests_on=lambda outcomes, j: min(
        _patients(outcomes, outcomes.label == j), _patients(outcomes, outcomes.label != j)
    ),
    missing="class {} is absent from this split or alone in it",
    is_proportion=False,
)
CLASS_METRICS = (SENSITIVITY, SPECIFICITY, PRECISION, AUROC)
METRICS: tuple[Metric, ...] = (
    MeanOfClasses(name="balanced_accuracy", title="balanced accuracy", of=SENSITIVITY, limits=mover),
    Proportion(name="accuracy", title="accuracy", estimate=resamples.accuracy),
    MeanOfClasses(name="auroc", title="AUROC, mean of classes", of=AUROC, limits=means),
)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Outcomes, with estimates of the metrics in them and in their resamples."""

    outcomes: Outcomes
    observed: Mapping[ClassMetric | Proportion, np.ndarray]
    """(k, 1), of a proportion (1,)."""
    resampled: Mapping[ClassMetric | Proportion, np.ndarray]
    """(k, r), of a proportion (r,)."""

    @property
    def is_independent(self) -> bool:
        """Tell whether no two units are of one patient."""
        return self.outcomes.num_clusters == len(self.outcomes)


@dataclass(frozen=True, kw_only=True)
class ClassMetrics:
    """One class against the others."""

    support: int
    """Units of this class."""
    figures: Mapping[ClassMetric, Figure]

    def __getitem__(self, name: str) -> Figure:
        return next(figure for metric, figure in self.figures.items() if metric.name == name)

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

    def reasons(self) -> list[str]:
        """List why some figures cannot be computed, each reason once."""
        figures = [*self.figures.values(), *(f for c in self.classes.values() for f in c.figures.values())]
        return list(dict.fromkeys(figure.reason for figure in figures if figure.value is None))

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
    sample = _sample(outcomes)
    of_classes = {metric: metric.figures(sample) for metric in CLASS_METRICS}
    support = np.bincount(outcomes.label, minlength=len(outcomes.classes)).tolist()
    return Metrics(
        num=len(outcomes),
        num_clusters=outcomes.num_clusters,
        figures={metric: metric.figure(sample, of_classes) for metric in METRICS},
        classes={
            label: ClassMetrics(
                support=support[number],
                figures={metric: figures[number] for metric, figures in of_classes.items()},
            )
            for number, label in enumerate(outcomes.classes)
        },
        confusion=_confusion(outcomes),
    )


def _sample(outcomes: Outcomes) -> Sample:
    """Estimate all metrics, a block of resamples at a time."""
    estimated: list[ClassMetric | Proportion] = [*CLASS_METRICS]
    estimated += [metric for metric in METRICS if isinstance(metric, Proportion)]

    def estimates(counts: np.ndarray) -> dict[ClassMetric | Proportion, np.ndarray]:
        drawn = Resamples(outcomes=outcomes, counts=counts)
        return {metric: metric.estimate(drawn) for metric in estimated}

    blocks = [estimates(counts) for counts in resample_counts(outcomes.num_clusters, len(outcomes))]
    return Sample(
        outcomes=outcomes,
        observed=estimates(np.ones((outcomes.num_clusters, 1))),
        resampled={
            metric: np.concatenate([block[metric] for block in blocks], axis=-1) for metric in estimated
        },
    )


def _by_name(figures: Mapping[Any, Figure]) -> dict[str, Any]:
    return {metric.name: figure.to_dict() for metric, figure in figures.items()}


def _confusion(outcomes: Outcomes) -> tuple[tuple[int, ...], ...]:
    num_classes = len(outcomes.classes)
    counts = np.zeros((num_classes, num_classes), dtype=np.int64)
    np.add.at(counts, (outcomes.label, outcomes.predicted), 1)
    return tuple(tuple(row) for row in counts.tolist())
