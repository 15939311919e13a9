"""Several runs as one study: folds of one scheme, seeds of one training, each patient tested once a seed."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mri_hpc.base.command import shown
from mri_hpc.base.errors import UserError
from mri_hpc.base.settings import identity_of
from mri_hpc.results.runs.evaluation import Evaluation, evaluate_split
from mri_hpc.results.statistics.figure_of_merit import brief
from mri_hpc.results.statistics.metrics import METRICS, Metric, Metrics, measure
from mri_hpc.results.statistics.patients import PatientResult, patient_outcomes
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.predictions import Prediction, read_predictions
from mri_hpc.rundir.settings import TrainingSettings, load_training

MAY_DIFFER = ("seed", "test_fold", "val_fold")
ENDS = ("epochs", "patience", "min_improvement")
"""Settings of how a run is operated that the model depends on, too."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One finished run among the joined."""

    run: RunDir
    training: TrainingSettings
    evaluation: Evaluation

    @property
    def seed(self) -> int:
        """Seed of its training."""
        return self.training.seed

    @property
    def fold(self) -> int | None:
        """Fold that it is tested on; None where it tests on a split."""
        return self.training.test_fold

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        named = {"run": str(self.run.path), "seed": self.seed, "test_fold": self.fold}
        return {**named, **self.evaluation.headline.to_dict()}


@dataclass(frozen=True, kw_only=True)
class Spread:
    """One metric over all runs. Standard deviations are None where there is one fold, or one seed."""

    metric: Metric
    mean: float | None
    """Over folds and seeds; None where a run has no value."""
    over_folds: float | None
    """Of the folds, each the mean of its seeds."""
    over_seeds: float | None
    """Of the seeds, each the mean of its folds."""

    def line(self, unit: str) -> str:
        """Write it for people."""
        scale = self.metric.scale
        if self.mean is None:
            return f"{self.metric.title} by {unit}: none, as a run has none"
        spreads = {"folds": self.over_folds, "seeds": self.over_seeds}
        deviations = [
            f"{scale.number(value)} over {name}" for name, value in spreads.items() if value is not None
        ]
        deviation = f" (standard deviation {', '.join(deviations)})" if deviations else ""
        mean = " ".join(filter(None, (scale.number(self.mean), scale.unit)))
        return f"{self.metric.title} by {unit}: mean {mean}{deviation}"

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return {"mean": self.mean, "sd_over_folds": self.over_folds, "sd_over_seeds": self.over_seeds}


@dataclass(frozen=True, kw_only=True)
class Joined:
    """All of it."""

    parts: tuple[Part, ...]
    """By seed, then by fold."""
    spreads: tuple[Spread, ...]
    pooled: Mapping[int, Metrics]
    """By seed: figures over the patients of all its folds; empty where no patients are judged."""

    @property
    def unit(self) -> str:
        """Unit that is counted: patient or slice."""
        return self.parts[0].evaluation.unit

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds, in order."""
        return tuple(sorted({part.seed for part in self.parts}))

    @property
    def folds(self) -> tuple[int, ...]:
        """Test folds, in order; empty where the runs test on a split."""
        return tuple(sorted({part.fold for part in self.parts if part.fold is not None}))

    def lines(self) -> list[str]:
        """Write mean and spread of each metric for people."""
        return [spread.line(self.unit) for spread in self.spreads]

    def pooled_lines(self) -> list[str]:
        """Write the figures of the patients of all folds together, by seed."""
        return [
            f"the {metrics.num} patients of all folds together, seed {seed}: "
            + ", ".join(f"{one.title} {brief(metrics.figures[one])}" for one in pooled_metrics())
            + "; 95 % intervals in brackets"
            for seed, metrics in self.pooled.items()
        ]

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON. Scores of several models have no AUROC together."""
        return {
            "unit": self.unit,
            "runs": [part.to_dict() for part in self.parts],
            "over_runs": {spread.metric.name: spread.to_dict() for spread in self.spreads},
            "pooled": {
                str(seed): {
                    "n": metrics.num,
                    **{metric.name: metrics.figures[metric].to_dict() for metric in pooled_metrics()},
                    "confusion": [list(row) for row in metrics.confusion],
                }
                for seed, metrics in self.pooled.items()
            },
        }


def pooled_metrics() -> tuple[Metric, ...]:
    """List the metrics that answers of several models have together: those that compare no scores."""
    return tuple(metric for metric in METRICS if metric.name != "auroc")


def join(runs: Sequence[RunDir]) -> Joined:
    """Join finished runs that differ in seed and folds alone. UserError for any others, in one line."""
    settings = refuse_unlike(runs)
    parts = [
        Part(run=run, training=training, evaluation=evaluate_split(run, "test")) for run, training in settings
    ]
    parts.sort(key=lambda part: (part.seed, -1 if part.fold is None else part.fold))
    _refuse_shared_patients(parts)
    _refuse_gaps(parts)
    if len({(part.evaluation.unit, part.evaluation.classes) for part in parts}) > 1:
        raise UserError(
            "some runs are judged by patient and others by slice, or by other classes: join alike ones"
        )
    return Joined(
        parts=tuple(parts), spreads=tuple(_spread(metric, parts) for metric in METRICS), pooled=_pool(parts)
    )


def refuse_unlike(
    runs: Sequence[RunDir], may_differ: Sequence[str] = MAY_DIFFER, words: str = "seed and folds"
) -> list[tuple[RunDir, TrainingSettings]]:
    """Return the settings of finished runs that can be joined by them; UserError for any others.

    may_differ: settings; words: for them, for people.
    """
    _refuse_twice(runs)
    settings = [(run, load_training(run)) for run in runs]
    _refuse_others(settings, may_differ, words)
    for run in runs:
        if not run.is_finished:
            raise UserError(
                f"{shown(run.path)} is not finished: wait for it, or leave it out; see mri-hpc status "
                f"{shown(run.path)}"
            )
    return settings


def _refuse_twice(runs: Sequence[RunDir]) -> None:
    places = [run.path.resolve() for run in runs]
    for run, place in zip(runs, places, strict=True):
        if places.count(place) > 1:
            raise UserError(f"{shown(run.path)} is given twice: each run counts once")


def _refuse_others(
    settings: Sequence[tuple[RunDir, TrainingSettings]], may_differ: Sequence[str], words: str
) -> None:
    """Raise UserError where runs differ in more than they may, or not even in that."""
    (first, wanted), *others = settings
    seen = {_place(wanted, may_differ): first}
    for run, training in others:
        names = _differing(wanted, training, may_differ)
        if "snapshot" in names:
            raise UserError(
                f"{shown(run.path)} is of another snapshot than {shown(first.path)}: runs on other data "
                "are not one study"
            )
        if names:
            raise UserError(
                f"{shown(run.path)} has another {', '.join(names)} than {shown(first.path)}: only {words} "
                "may differ"
            )
        place = _place(training, may_differ)
        if place in seen:
            raise UserError(
                f"{shown(run.path)} and {shown(seen[place].path)} are the same training: each counts once"
            )
        seen[place] = run


def _place(training: TrainingSettings, may_differ: Sequence[str]) -> tuple[Any, ...]:
    return tuple(getattr(training, name) for name in may_differ)


def _differing(one: TrainingSettings, other: TrainingSettings, may_differ: Sequence[str]) -> list[str]:
    """Name the settings, other than those that may, in which two trainings differ."""
    compared = [*(name for name in identity_of(one) if name not in may_differ), *ENDS]
    return [name for name in compared if getattr(one, name) != getattr(other, name)]


def _refuse_shared_patients(parts: Sequence[Part]) -> None:
    """Raise UserError where a patient, or an image, is tested twice with one seed."""
    tested: dict[tuple[int, str], RunDir] = {}
    for part in parts:
        patients = {row.patient or row.key for row in _tested(part.run)}
        for name in sorted(patients):
            before = tested.setdefault((part.seed, name), part.run)
            if before is not part.run:
                raise UserError(
                    f"{shown(part.run.path)} and {shown(before.path)} test the same patients with one "
                    f"seed, such as {name}: join folds of one scheme"
                )


def _refuse_gaps(parts: Sequence[Part]) -> None:
    """Raise UserError where seeds have other folds: means over them would not be of the same patients."""
    folds: dict[int, set[int | None]] = {}
    for part in parts:
        folds.setdefault(part.seed, set()).add(part.fold)
    (first, wanted), *others = folds.items()
    for seed, found in others:
        if found != wanted:
            raise UserError(
                f"seed {first} and seed {seed} have other folds: give the same folds of each seed, so that "
                "their means are of the same patients"
            )


def _tested(run: RunDir) -> list[Prediction]:
    return [row for row in read_predictions(run.predictions)[1] if row.split == "test"]


def _spread(metric: Metric, parts: Sequence[Part]) -> Spread:
    values = [(part, part.evaluation.headline.figures[metric].value) for part in parts]
    known = [(part, value) for part, value in values if value is not None]
    if len(known) < len(values):
        return Spread(metric=metric, mean=None, over_folds=None, over_seeds=None)
    by_fold = _means([(part.fold, value) for part, value in known])
    by_seed = _means([(part.seed, value) for part, value in known])
    return Spread(
        metric=metric,
        mean=statistics.fmean(value for _, value in known),
        over_folds=statistics.stdev(by_fold) if len(by_fold) > 1 else None,
        over_seeds=statistics.stdev(by_seed) if len(by_seed) > 1 else None,
    )


def _means(values: Sequence[tuple[int | None, float]]) -> list[float]:
    """Average the values of each group."""
    groups: dict[int | None, list[float]] = {}
    for name, value in values:
        groups.setdefault(name, []).append(value)
    return [statistics.fmean(group) for group in groups.values()]


def _pool(parts: Sequence[Part]) -> dict[int, Metrics]:
    """Measure, for each seed, the patients of all its folds together."""
    patients: dict[int, list[PatientResult]] = {}
    for part in parts:
        patients.setdefault(part.seed, []).extend(part.evaluation.patients)
    classes = parts[0].evaluation.classes
    return {seed: measure(patient_outcomes(classes, found)) for seed, found in patients.items() if found}
