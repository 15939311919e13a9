"""Scores of stated probabilities are those of scikit-learn."""

import numpy as np
import pytest
from sklearn import metrics as reference
from sklearn.calibration import calibration_curve

from mri_hpc.results.intervals import FEWEST_FOR_MEAN, Limits, of_mean
from mri_hpc.results.metrics import measure
from mri_hpc.results.scores import reliability
from tests.results.test_metrics import answers, outcomes, people


def test_brier_score_and_log_loss_are_those_of_scikit_learn():
    for sample in (
        people(60, 5),
        people(7, 1),
        outcomes([0, 1, 0], [[1.0, 0.0], [1.0, 0.0], [0.3, 0.7]], classes=("a", "b")),
    ):
        found = measure(sample)
        labels = list(range(len(sample.classes)))
        assert found["log_loss"].value == pytest.approx(
            reference.log_loss(sample.label, sample.probabilities, labels=labels), abs=1e-6
        )
        assert found["brier"].value == pytest.approx(
            reference.brier_score_loss(
                sample.label, sample.probabilities, labels=labels, scale_by_half=False
            ),
            abs=1e-6,
        )


def test_the_calibration_error_is_that_of_the_bins_of_scikit_learn():
    sample = people(80, 4)
    sure, right = sample.probabilities.max(1), sample.predicted == sample.label
    fractions, stated = calibration_curve(right, sure, n_bins=10)
    bins = reliability(sample)
    assert [part.right.value for part in bins] == pytest.approx(fractions)
    assert [part.stated for part in bins] == pytest.approx(stated)
    weights = np.array([part.num for part in bins]) / len(sample)
    assert measure(sample)["ece"].value == pytest.approx(np.sum(weights * np.abs(fractions - stated)))


def test_no_interval_is_printed_where_none_holds_and_the_reason_is_said():
    few, many = measure(people(FEWEST_FOR_MEAN - 1, 2)), measure(people(FEWEST_FOR_MEAN, 2))
    for name in ("brier", "log_loss"):
        assert few[name].low is few[name].high is None
        assert many[name].low < many[name].value < many[name].high
    assert many["ece"].low is None
    assert any("below 50 patients" in reason for reason in few.reasons_without_limits())
    assert [reason[:21] for reason in many.reasons_without_limits()] == ["the calibration error"]
    same = measure(outcomes(np.arange(60) % 3, answers(*(np.arange(60) % 3))))
    assert same["brier"].low is None


def test_limits_of_a_mean_hold_a_skewed_truth():
    draw, held = np.random.default_rng(0), 0
    cluster = np.repeat(np.arange(60), 3)
    for _ in range(400):
        values = np.repeat(draw.exponential(size=60) ** 1.5, 3)
        found = of_mean(values, cluster)
        assert isinstance(found, Limits)
        held += found.low <= 1.3293404 <= found.high
    assert 0.92 <= held / 400 <= 0.98


def test_slices_of_one_patient_count_as_few_as_they_are_alike():
    values = np.random.default_rng(1).exponential(size=60)
    once = of_mean(values, np.arange(60))
    thrice = of_mean(np.repeat(values, 3), np.repeat(np.arange(60), 3))
    assert thrice == pytest.approx(once)
