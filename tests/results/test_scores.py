"""Scores of stated probabilities are those of scikit-learn."""

import numpy as np
import pytest
from sklearn import metrics as reference
from sklearn.calibration import calibration_curve

from mri_hpc.results.statistics.metrics import measure
from mri_hpc.results.statistics.scores import reliability
from tests.results.test_metrics import outcomes, people


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
    many = measure(people(200, 2))
    for name in ("brier", "log_loss", "ece"):
        assert many[name].low is many[name].high is None
        assert many[name].reason in many.reasons_without_interval()
