"""A model beside the one that is current, on gate patients: those of validation who chose nothing in either.

They are the calibration split of both runs: not trained on, no epoch was chosen by them, and they are no test
patients, whom nothing here looks at. Each comparison on some of the same patients widens the interval
(Bonferroni): whoever tries often enough finds a model that passes by luck.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np

from mri_hpc.base.command import counted
from mri_hpc.results.answers.calibration import FEWEST, load_calibration
from mri_hpc.results.answers.pooling_choice import patient_model_of
from mri_hpc.results.answers.temperature import cross_fitted
from mri_hpc.results.answers.whole_predictions import read_whole
from mri_hpc.results.statistics.differences import differences
from mri_hpc.results.statistics.figure_of_merit import Figure
from mri_hpc.results.statistics.intervals import Z_95, quantile_of_t
from mri_hpc.results.statistics.metrics import ACCURACY, BALANCED_ACCURACY
from mri_hpc.results.statistics.patient_model import PatientModel
from mri_hpc.results.statistics.patients import Outcomes, image_outcomes, patient_outcomes, pool_patients
from mri_hpc.results.statistics.scores import log_loss_of
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.look import MOST_UNITS, hashes_of
from mri_hpc.rundir.predictions import Prediction
from mri_hpc.rundir.settings import load_training

GATE = "calibration"
"""Split whose patients are the gate."""
NO_GATE = "no validation patients were kept from choosing the epoch: launch with --calibration-share 0.5"
MOST_LOG_LOSS = 0.05
"""By which the log loss, cross-fitted, may be above that of the current model."""
LEVEL = 0.05


@dataclass(frozen=True, kw_only=True, eq=False)
class Pair:
    """Answers of two models about the same gate patients."""

    unit: str
    """patient or slice."""
    new: Outcomes
    current: Outcomes
    units: tuple[str, ...]
    """Hashes of the patients, the least ones."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Difference of a model from the current one, with limits that count the comparisons so far."""

    title: str
    """Of the figure."""
    value: float
    """Of a log loss: how much larger it is."""
    low: float
    high: float
    interval: str
    """In words: its level, and why."""


def gate_rows(run: RunDir) -> tuple[tuple[str, ...], list[Prediction]]:
    """Return the classes and the labelled rows of a run's gate patients. UserError: damaged."""
    classes, rows = read_whole(run)
    return classes, [row for row in rows if row.split == GATE and row.label]


def pair_of(new: RunDir, current: RunDir) -> Pair | str:
    """Pair what both say about the gate patients that they share; or the reason for which it cannot be."""
    (classes, mine), (other_classes, others) = gate_rows(new), gate_rows(current)
    if classes != other_classes:
        return f"the current model tells {', '.join(other_classes)} apart"
    if load_training(new).patient_label != load_training(current).patient_label:
        return "the current model has another --patient-label"
    theirs = {row.key: row for row in others}
    shared = sorted((row for row in mine if row.key in theirs), key=lambda row: row.key)
    if not shared:
        return "the current model has other gate patients" if mine and others else NO_GATE
    if any(theirs[row.key].label != row.label for row in shared):
        return "gate images have another class in the current model's data"
    # Who is a patient can have changed between the two: the new one's names stand for both.
    again = [replace(theirs[row.key], patient=row.patient) for row in shared]
    models = patient_model_of(new, classes), patient_model_of(current, classes)
    units = tuple(hashes_of(shared)[:MOST_UNITS])
    if models[0] and models[1] and any(row.patient for row in shared):
        pooled = [_pooled(classes, rows, model) for rows, model in zip((shared, again), models, strict=True)]
        return Pair(unit="patient", new=pooled[0], current=pooled[1], units=units)
    images = [image_outcomes(classes, rows) for rows in (shared, again)]
    return Pair(unit="slice", new=images[0], current=images[1], units=units)


def _pooled(classes: tuple[str, ...], rows: Sequence[Prediction], model: PatientModel | None) -> Outcomes:
    assert model
    return patient_outcomes(classes, pool_patients(classes, rows, model))


def better_by(pair: Pair, comparisons: int) -> Compared | str:
    """Compute by how much the balanced accuracy is larger; the reason where nothing tells.

    comparisons: so many were made on these patients, this one among them. Accuracy where a class is absent.
    """
    found = differences(pair.new, pair.current)
    metric = BALANCED_ACCURACY if found[BALANCED_ACCURACY].value is not None else ACCURACY
    figure = found[metric]
    if figure.value is None or figure.low is None or figure.high is None:
        return figure.reason or "no interval holds for it"
    low, high = widened(figure, comparisons, pair.new.num_clusters)
    return Compared(
        title=f"{metric.title} by {pair.unit}",
        value=figure.value,
        low=low,
        high=high,
        interval=interval_in_words(comparisons),
    )


def widened(figure: Figure, comparisons: int, num: int) -> tuple[float, float]:
    """Return the limits of a 95 % interval as they are after so many comparisons. num: independent units."""
    assert figure.low is not None and figure.high is not None
    freedom = max(num - 1, 1)
    factor = quantile_of_t(freedom, quantile(comparisons)) / quantile_of_t(freedom)
    centre, half = (figure.low + figure.high) / 2, (figure.high - figure.low) / 2
    return max(centre - factor * half, -1.0), min(centre + factor * half, 1.0)


def quantile(comparisons: int) -> float:
    """Return the normal quantile at which so many intervals hold together in 95 of 100 cases."""
    return NormalDist().inv_cdf(1 - LEVEL / 2 / comparisons) if comparisons > 1 else Z_95


def interval_in_words(comparisons: int) -> str:
    """Say at which level an interval stands, and why."""
    level = f"{100 * (1 - LEVEL / comparisons):.4g} %"
    return level if comparisons == 1 else f"{level}, {comparisons} comparisons on these patients"


def log_loss_above(pair: Pair, comparisons: int) -> Compared | str:
    """Compute by how much the log loss is larger, each unit at the temperature that the others give."""
    num = pair.new.num_clusters
    if num < FEWEST:
        return f"{counted(num, 'gate patient')} tell no temperature, {FEWEST} do"
    losses = [
        log_loss_of(replace(found, probabilities=cross_fitted(found))) for found in (pair.new, pair.current)
    ]
    change = np.bincount(pair.new.cluster, weights=losses[0] - losses[1]) / np.bincount(pair.new.cluster)
    value, spread = float(change.mean()), float(change.std(ddof=1))
    half = quantile_of_t(num - 1, quantile(comparisons)) * spread / math.sqrt(num)
    return Compared(
        title=f"log loss by {pair.unit}, cross-fitted",
        value=value,
        low=value - half,
        high=value + half,
        interval=interval_in_words(comparisons),
    )


def own_calibration(run: RunDir) -> tuple[bool | None, str]:
    """Tell whether a run's probabilities are calibrated by gate patients, and in words; None: not known."""
    found = load_calibration(run)
    unit = "patient" if found and found.patient else "slice"
    of_unit = found.of(unit) if found else None
    if not found or not of_unit or found.split != GATE:
        return None, NO_GATE
    if of_unit.cross_fitted is None:
        return None, of_unit.reason
    return True, found.in_words(unit).removesuffix(".")
