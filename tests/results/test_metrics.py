"""Figures of merit are right, and their intervals honest."""

import math
import time

import numpy as np
import pytest
from sklearn import metrics as reference

from mri_hpc.results.figure_of_merit import PERCENT, Figure
from mri_hpc.results.intervals import mover, percentiles, resample_counts, wilson
from mri_hpc.results.metrics import measure
from mri_hpc.results.patients import Outcomes
from mri_hpc.results.resamples import roc_curve

CLASSES = ("glioma", "meningioma", "pituitary")


def outcomes(labels, probabilities, clusters=None, classes=CLASSES):
    clusters = np.arange(len(labels)) if clusters is None else np.asarray(clusters)
    return Outcomes(
        classes=classes,
        label=np.asarray(labels),
        probabilities=np.asarray(probabilities, dtype=float),
        cluster=clusters,
        num_clusters=int(clusters.max()) + 1,
    )


def answers(*predicted, sure=0.8, num_classes=3):
    """Probabilities whose largest is that of the predicted class."""
    rest = (1 - sure) / (num_classes - 1)
    return [[sure if j == answer else rest for j in range(num_classes)] for answer in predicted]


def people(num_patients, num_slices, *, seed=0, spread=1.5, noise=0.5):
    """Slices of patients, whose slices resemble each other the more, the larger the spread."""
    draw = np.random.default_rng(seed)
    labels = np.arange(num_patients) % 3
    person = draw.normal(0, spread, (num_patients, 3)) + 2 * np.eye(3)[labels]
    scores = np.repeat(person, num_slices, axis=0) + draw.normal(0, noise, (num_patients * num_slices, 3))
    shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    clusters = np.repeat(np.arange(num_patients), num_slices)
    return outcomes(np.repeat(labels, num_slices), shares, clusters)


def width(figure):
    return figure.high - figure.low


def all_figures(found):
    yield from found.figures.values()
    for values in found.classes.values():
        yield from values.figures.values()


def test_figures_agree_with_a_count_by_hand():
    # given:      glioma 4         meningioma 2    pituitary 2
    # predicted:  g g g m          m p             p p
    found = measure(outcomes([0, 0, 0, 0, 1, 1, 2, 2], answers(0, 0, 0, 1, 1, 2, 2, 2)))
    assert found.confusion == ((3, 1, 0), (0, 1, 1), (0, 0, 2))
    assert found["accuracy"].value == 6 / 8
    assert found["balanced_accuracy"].value == pytest.approx((3 / 4 + 1 / 2 + 1) / 3)
    glioma, meningioma = found.classes["glioma"], found.classes["meningioma"]
    assert (glioma.support, glioma["sensitivity"].value, glioma["specificity"].value) == (4, 3 / 4, 1.0)
    assert meningioma["specificity"].value == pytest.approx(5 / 6)
    assert meningioma["precision"].value == 1 / 2


def test_figures_agree_with_scikit_learn_also_where_probabilities_are_equal():
    sample = people(40, 5)
    # Rounded, so that many are equal.
    sample = outcomes(sample.label, np.round(sample.probabilities, 1), sample.cluster)
    found, predicted = measure(sample), sample.predicted
    assert found["accuracy"].value == pytest.approx(reference.accuracy_score(sample.label, predicted))
    assert found["balanced_accuracy"].value == pytest.approx(
        reference.balanced_accuracy_score(sample.label, predicted)
    )
    assert np.array_equal(found.confusion, reference.confusion_matrix(sample.label, predicted))
    areas = []
    for j, name in enumerate(CLASSES):
        is_class, scores = sample.label == j, sample.probabilities[:, j]
        areas.append(reference.roc_auc_score(is_class, scores))
        assert found.classes[name]["auroc"].value == pytest.approx(areas[-1])
        assert found.classes[name]["precision"].value == pytest.approx(
            reference.precision_score(is_class, predicted == j)
        )
        alarms, hits = roc_curve(sample, j)
        assert np.trapezoid(hits, alarms) == pytest.approx(areas[-1])
    assert found["auroc"].value == pytest.approx(np.mean(areas))


def test_wilsons_interval_is_the_published_one():
    # Newcombe 1998, table I: 81 of 263, and 0 of 20.
    assert wilson(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0.0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)


def test_percentiles_are_those_of_the_middle_95_of_100():
    assert percentiles(np.arange(1001)) == pytest.approx((25, 975))


def test_resamples_that_lack_a_class_more_than_once_in_twenty_give_way_to_wilsons():
    def interval(num_patients):
        """Of the sensitivity for a class of 2 patients, one of them right in one of two slices."""
        clusters = np.repeat(np.arange(num_patients), 2)
        labels = np.where(clusters < 2, 0, 1)
        return (
            measure(outcomes(labels, answers(1, *labels[1:]), clusters))
            .classes["glioma"]["sensitivity"]
            .interval
        )

    # 2 of 3 patients are missing from 1 draw in 27, 2 of 4 from 1 in 16.
    assert (interval(3), interval(4)) == ("bootstrap", "wilson")


def test_a_perfect_area_rests_on_the_patients_of_the_smaller_side():
    labels = np.repeat([0, 1], (3, 30))
    found = measure(outcomes(labels, answers(*labels, num_classes=2), classes=CLASSES[:2]))
    assert (
        found.classes["glioma"]["auroc"].low == found.classes["meningioma"]["auroc"].low == wilson(1.0, 3)[0]
    )


def test_every_interval_holds_its_value():
    for sample in (people(4, 3), people(30, 6), people(7, 1), outcomes([0, 1, 2], answers(0, 1, 1))):
        for figure in all_figures(measure(sample)):
            if figure.value is not None:
                assert 0 <= figure.low <= figure.value <= figure.high <= 1


def test_repeating_the_slices_of_patients_does_not_narrow_an_interval():
    once = people(30, 2)
    tenfold = outcomes(
        np.tile(once.label, 10), np.tile(once.probabilities, (10, 1)), np.tile(once.cluster, 10)
    )
    for few, many in zip(all_figures(measure(once)), all_figures(measure(tenfold)), strict=True):
        assert (few.value, few.low, few.high) == pytest.approx((many.value, many.low, many.high))


def test_slices_of_one_patient_do_not_count_as_independent():
    by_patient = people(30, 20)
    as_if_independent = outcomes(by_patient.label, by_patient.probabilities)
    for name in ("balanced_accuracy", "accuracy", "auroc"):
        honest = measure(by_patient)[name]
        assert width(honest) > 2 * width(measure(as_if_independent)[name]), name


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    truth = measure(people(6000, 4, seed=1))["balanced_accuracy"].value
    found = [measure(people(45, 4, seed=seed))["balanced_accuracy"] for seed in range(60, 120)]
    held = np.mean([figure.low <= truth <= figure.high for figure in found])
    # Of 60 intervals at 95 %, 50 to 60 hold it but once in 10,000.
    assert held >= 50 / 60


def test_classes_that_are_judged_perfectly_do_not_narrow_the_interval_of_the_mean():
    """No draw of patients varies them, though five of five may well be nine of ten in truth."""
    labels, predicted = np.repeat([0, 1, 2], 5), np.repeat([0, 1, 2, 0], (5, 5, 3, 2))
    found = measure(outcomes(labels, answers(*predicted)))
    of_classes = [(5, 5), (5, 5), (3, 5)]
    down = np.hypot.reduce([right / all_ - wilson(right / all_, all_)[0] for right, all_ in of_classes]) / 3
    assert found["balanced_accuracy"].low == pytest.approx(13 / 15 - down)
    assert found["auroc"].low < 0.75


def test_the_mean_of_independent_figures_has_the_published_limits():
    """Of two, MOVER gives the limits for their sum: Zou and Donner 2008, equation 3."""
    low, high = mover(np.array([(0.9, 0.8, 0.95), (0.6, 0.3, 0.8)]))
    assert (low, high) == pytest.approx((0.75 - 0.5 * np.hypot(0.1, 0.3), 0.75 + 0.5 * np.hypot(0.05, 0.2)))


def test_a_perfect_result_on_few_patients_has_a_wide_interval():
    labels = [0, 0, 1, 1, 2, 2]
    found = measure(outcomes(np.repeat(labels, 50), answers(*np.repeat(labels, 50)), np.arange(300) // 50))
    for figure in all_figures(found):
        assert (figure.value, figure.high, figure.interval) == (1.0, 1.0, "wilson")
        assert figure.low < 0.7


def test_figures_of_a_class_that_is_absent_are_none_with_the_reason():
    found = measure(outcomes([0, 0, 1, 1], answers(0, 0, 1, 0)))
    absent = found.classes["pituitary"]
    assert absent["sensitivity"] == Figure(
        value=None,
        low=None,
        high=None,
        interval="",
        reason="class 'pituitary' is absent from this split",
        scale=PERCENT,
    )
    assert absent["auroc"].value is None
    assert absent["precision"].reason == "class 'pituitary' was never predicted"
    assert found["balanced_accuracy"].value is None
    assert "pituitary" in found["balanced_accuracy"].reason
    assert found["auroc"].value is None
    assert found["accuracy"].value == 3 / 4
    assert absent["specificity"].value == 1.0


def test_a_split_of_one_class_has_no_specificity():
    found = measure(outcomes([0, 0], answers(0, 1)))
    assert found.classes["glioma"]["specificity"].reason == "class 'glioma' is alone in this split"


def test_a_class_of_one_patient_has_an_interval_that_says_so():
    labels, clusters = [0] * 5 + [1] * 40, [0] * 5 + list(range(1, 41))
    found = measure(outcomes(labels, answers(*([0] * 5 + [1] * 39 + [0])), clusters))
    assert found.classes["glioma"]["sensitivity"].interval == "wilson"
    assert width(found.classes["glioma"]["sensitivity"]) > 0.5


def test_the_same_predictions_give_the_same_intervals_however_memory_is_cut(monkeypatch):
    sample = people(20, 3)
    first = measure(sample)
    assert measure(sample) == first
    monkeypatch.setattr("mri_hpc.results.intervals.WEIGHTS_AT_ONCE", 700)
    assert measure(sample)["balanced_accuracy"] == first["balanced_accuracy"]


def test_resamples_draw_as_many_patients_as_there_are():
    counts = np.concatenate(list(resample_counts(17, 100)), axis=1)
    assert counts.shape == (17, 1000)
    assert set(counts.sum(axis=0)) == {17}
    assert counts.mean() == pytest.approx(1)
    # A patient is drawn with the spread of sampling with replacement.
    assert counts.var() == pytest.approx(1 - 1 / 17, rel=0.05)


def test_ten_thousand_images_take_about_a_second():
    sample = people(1000, 10)
    began = time.process_time()
    measure(sample)
    # Twice what it takes on the slowest machine tried.
    assert time.process_time() - began < 3


def test_no_roc_curve_without_both_sides():
    assert roc_curve(outcomes([0, 0], answers(0, 1)), 0) is None
    alarms, hits = roc_curve(outcomes([0, 1], answers(0, 1)), 0)
    assert (alarms[0], hits[0], alarms[-1], hits[-1]) == (0, 0, 1, 1)
    assert not math.isnan(hits.sum())
