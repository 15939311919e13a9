"""A learning curve: runs on nested shares of the training patients, judged by the same validation patients.

No look at test patients is spent on it. The figure is fitted by a line over the logarithm of the number of
training patients. Its interval is over patients and over the luck of training: the scatter of the runs about
the line. In simulations 93 to 99 of 100 such intervals held the truth, of those over patients alone 47 to 96:
docs/measurements.md.

What more patients than there are would bring is foretold by inverse power laws (as Figueroa et al. 2012,
doi 10.1186/1472-6947-12-8), since curves flatten: few runs do not tell the exponent, so the interval holds
those of several, from the line, which is the law of exponent 0, to 1.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mri_hpc.base.errors import UserError
from mri_hpc.results.answers.whole_predictions import read_whole
from mri_hpc.results.runs.joining import refuse_unlike
from mri_hpc.results.statistics.differences import POINTS
from mri_hpc.results.statistics.figure_of_merit import PERCENT, Figure
from mri_hpc.results.statistics.intervals import quantile_of_t
from mri_hpc.results.statistics.patient_model import patient_model
from mri_hpc.results.statistics.patients import Outcomes, image_outcomes, patient_outcomes, pool_patients
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.predictions import Prediction, that_calibrate
from mri_hpc.rundir.provenance import read_provenance
from mri_hpc.rundir.settings import TrainingSettings

MAY_DIFFER = ("train_share",)
LEAST_RUNS = 4
"""Runs from which the luck of training can be told."""
LEAST_OF_CLASS = 4
"""Patients of each class."""
NOTHING = 1e-12
"""Variance below which it is of rounding alone."""
EXPONENTS = (0.0, 0.5, 1.0)
"""Of the laws by which a gain is foretold; its value is that of the middle one."""
MOST_MORE = 100
"""Patients for whom a gain is foretold; no more than there are, so that the line goes on by one doubling."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One run of the curve."""

    run: str
    """Name of its folder."""
    share: float
    num_patients: int
    """Patients, without any images, that it was trained on."""
    num_images: int
    figure: Figure
    """Balanced accuracy, without an interval: the points are of the same patients."""

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return {
            "run": self.run,
            "train_share": self.share,
            "train_patients": self.num_patients,
            "train_images": self.num_images,
            "balanced_accuracy": self.figure.value,
        }


@dataclass(frozen=True, kw_only=True)
class Curve:
    """All of it."""

    training: TrainingSettings
    """Of the run on most patients."""
    points: tuple[Point, ...]
    """By the number of training patients."""
    unit: str
    """patient or slice."""
    split: str
    """validation, or calibration: validation patients who chose no epoch."""
    num: int
    """Units by which all were judged."""
    per_doubling: Figure
    """Points of balanced accuracy that twice as many training patients brought, within these runs."""
    more: int
    """Patients more than the most, for whom the gain is given; up to MOST_MORE."""
    per_more: Figure

    @property
    def sentence(self) -> str:
        """The finding in plain words, without a full stop."""
        gain = f"{self.more} more patients: {_gain(self.per_more)} of balanced accuracy by {self.unit}"
        low, high = self.per_more.low, self.per_more.high
        if low is not None and high is not None and low <= 0 <= high:
            return f"{gain}: these runs do not tell whether more patients help"
        return gain

    def lines(self) -> list[str]:
        """Write it for people."""
        found = [
            f"{point.num_patients} training patients: {PERCENT.number(point.figure.value or 0.0)} % balanced "
            f"accuracy by {self.unit} ({self.num} {self.unit}s, {self.split})"
            for point in self.points
        ]
        twice = f"per doubling, within these runs: {_gain(self.per_doubling)}"
        why = [f"no interval: {self.per_doubling.reason}"] if self.per_doubling.reason else []
        return [*found, self.sentence, twice, *why]

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return {
            "sentence": self.sentence,
            "unit": self.unit,
            "split": self.split,
            "n": self.num,
            "points": [point.to_dict() for point in self.points],
            "per_doubling": self.per_doubling.to_dict(),
            "more_patients": self.more,
            "per_more": self.per_more.to_dict(),
        }


def is_curve(settings: Sequence[TrainingSettings]) -> bool:
    """Tell whether trainings are on several shares of the patients."""
    return len({training.train_share for training in settings}) > 1


def join_curve(runs: Sequence[RunDir]) -> Curve:
    """Join finished runs that differ in --train-share alone. UserError for any others, in one line."""
    settings = refuse_unlike(runs, MAY_DIFFER, "--train-share")
    if len(settings) < 2:
        raise UserError("a learning curve is of several runs: give those of other shares, too")
    rule = settings[0][1].patient_label
    judged = [_judged(run, rule) for run, _ in settings]
    first = judged[0]
    for one in judged[1:]:
        if one.names != first.names or not np.array_equal(one.outcomes.label, first.outcomes.label):
            raise UserError(
                f"{settings[0][0].path} is judged by other patients than others of the curve: launch "
                "--learning-curve anew, into another --run"
            )
    order = np.argsort([one.num_patients for one in judged], kind="stable").tolist()
    settings, judged = [settings[at] for at in order], [judged[at] for at in order]
    counts = np.array([one.num_patients for one in judged], np.float64)
    if counts[0] < 1 or counts[0] == counts[-1]:
        raise UserError("the runs of a learning curve are trained on as many patients each: nothing to fit")
    is_right, label = np.stack([one.is_right for one in judged]), first.outcomes.label
    slope = fit(counts, is_right, label)
    more = min(MOST_MORE, judged[-1].num_patients)
    gain = foretell(counts, is_right, label, more)
    if not first.is_apart:
        reason = (
            "the epoch was chosen by these patients (launch --learning-curve sets some apart who choose none)"
        )
        slope, gain = slope.without_interval(reason), gain.without_interval(reason)
    elif first.unit == "slice":
        reason = "the images name no patients"
        slope, gain = slope.without_interval(reason), gain.without_interval(reason)
    return Curve(
        training=settings[-1][1],
        points=tuple(
            _point(run, training, one) for (run, training), one in zip(settings, judged, strict=True)
        ),
        unit=first.unit,
        split=first.split,
        num=len(first.names),
        per_doubling=slope,
        more=more,
        per_more=gain,
    )


def foretell(counts: np.ndarray, is_right: np.ndarray, label: np.ndarray, more: int) -> Figure:
    """Return the gain of so many training patients beyond the most, with an interval that holds all laws'.

    counts, is_right, label: as of `fit`.
    """
    most = counts.max()
    gains = [
        _scaled(
            fit(counts, is_right, label, exponent),
            float(np.diff(_along(np.array([most, most + more]), exponent))[0]),
        )
        for exponent in EXPONENTS
    ]
    middle = gains[len(gains) // 2]
    limits = [(one.low, one.high) for one in gains if one.low is not None and one.high is not None]
    if len(limits) < len(gains):
        reason = next(one.reason for one in gains if one.reason)
        return replace(middle, low=None, high=None, reason=reason)
    return replace(middle, low=min(low for low, _high in limits), high=max(high for _low, high in limits))


def _along(counts: np.ndarray, exponent: float) -> np.ndarray:
    """Return that over which the law of an exponent is a line: log2 where it is 0."""
    return np.log2(counts) if not exponent else -(counts**-exponent)


def fit(counts: np.ndarray, is_right: np.ndarray, label: np.ndarray, exponent: float = 0.0) -> Figure:
    """Fit balanced accuracy by a line over log2 of the training patients; return its slope with an interval.

    counts: of training patients, float64, (runs,); is_right: bool, (runs, n); label: int, (n,). The variance
    is that over patients within each class plus that of the scatter about the line, its degrees of freedom by
    Satterthwaite. exponent: not 0 for an inverse power law, whose slope is that over -counts^-exponent.
    """
    along = _along(counts, exponent)
    centred = along - along.mean()
    square = float((centred**2).sum())
    # The slope is a mean over patients of what each of them says of it.
    of_patient = (centred / square) @ is_right
    classes, sizes = np.unique(label, return_counts=True)
    parts = [of_patient[label == number] for number in classes]
    slope = float(np.mean([part.mean() for part in parts]))
    figure = Figure(value=slope, low=None, high=None, scale=POINTS)
    if len(counts) < LEAST_RUNS:
        return replace(figure, reason=f"fewer than {LEAST_RUNS} runs do not tell the luck of training")
    if sizes.min() < LEAST_OF_CLASS:
        return replace(figure, reason=f"a class has fewer than {LEAST_OF_CLASS} such patients")
    of_classes = np.array([part.var(ddof=1) / len(part) for part in parts]) / len(parts) ** 2
    over_patients = float(of_classes.sum())
    if over_patients < NOTHING:
        return replace(figure, reason="each of these patients says the same of the runs")
    heights = np.mean([is_right[:, label == number].mean(axis=1) for number in classes], axis=0)
    rest = heights - heights.mean() - slope * centred
    of_luck = float((rest**2).sum()) / (len(counts) - 2) / square
    variance = over_patients + of_luck
    freedom = variance**2 / (float((of_classes**2 / (sizes - 1)).sum()) + of_luck**2 / (len(counts) - 2))
    margin = quantile_of_t(max(int(freedom), 1)) * math.sqrt(variance)
    return replace(figure, low=slope - margin, high=slope + margin)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Judged:
    """Validation patients as one run answers about them."""

    unit: str
    split: str
    is_apart: bool
    """They chose nothing."""
    names: tuple[str, ...]
    outcomes: Outcomes
    num_patients: int
    num_images: int

    @property
    def is_right(self) -> np.ndarray:
        """Units that are answered rightly: bool, (n,)."""
        return self.outcomes.predicted == self.outcomes.label


def _judged(run: RunDir, rule: str) -> _Judged:
    classes, all_rows = read_whole(run)
    split, rows = that_calibrate(all_rows)
    if not rows:
        raise UserError(f"{run.predictions} has no labelled image of the validation split")
    rows = sorted(rows, key=lambda row: row.key)
    model = patient_model(rule, classes)
    patients = pool_patients(classes, rows, model) if model else []
    trained = read_provenance(run).get("split_counts", {}).get("train", {})
    outcomes = patient_outcomes(classes, patients) if patients else image_outcomes(classes, rows)
    return _Judged(
        unit="patient" if patients else "slice",
        split=split,
        is_apart=split != "validation",
        names=tuple(one.patient for one in patients) if patients else _keys(rows),
        outcomes=outcomes,
        num_patients=int(trained.get("patients") or trained.get("images", 0)),
        num_images=int(trained.get("images", 0)),
    )


def _keys(rows: Sequence[Prediction]) -> tuple[str, ...]:
    return tuple(row.key for row in rows)


def _point(run: RunDir, training: TrainingSettings, judged: _Judged) -> Point:
    label, is_right = judged.outcomes.label, judged.is_right
    height = float(np.mean([is_right[label == number].mean() for number in np.unique(label)]))
    return Point(
        run=run.path.resolve().name,
        share=training.train_share,
        num_patients=judged.num_patients,
        num_images=judged.num_images,
        figure=Figure(value=height, low=None, high=None, scale=PERCENT),
    )


def _scaled(figure: Figure, factor: float) -> Figure:
    assert figure.value is not None
    limits = [None if limit is None else limit * factor for limit in (figure.low, figure.high)]
    return replace(figure, value=figure.value * factor, low=limits[0], high=limits[1])


def _gain(figure: Figure) -> str:
    """Write a gain with its sign: +1.8 points (0.4 to 3.1)."""
    assert figure.value is not None
    value = f"{100 * figure.value:+.1f} points"
    if figure.low is None or figure.high is None:
        return f"{value} (no interval)"
    return f"{value} ({figure.scale.number(figure.low)} to {figure.scale.number(figure.high)})"
