"""Figures equal scikit-learn's; an interval is given where one holds, and to groups of few none is."""

import itertools
import math

import numpy as np
import pytest
from sklearn import metrics as reference

from mri_hpc.results.statistics.differences import mean_of_paired_hits, of_paired_areas, of_paired_hits
from mri_hpc.results.statistics.metrics import measure
from mri_hpc.results.statistics.patients import Outcomes
from mri_hpc.results.statistics.score_intervals import of_sensitivity_at
from mri_hpc.results.statistics.subgroups import subgroups
from mri_hpc.rundir.predictions import Prediction

CLASSES = ("a", "b", "c")


def outcomes(num, seed=0, apart=1.0, digits=9):
    draw = np.random.default_rng(seed)
    label = np.arange(num) % 3
    scores = draw.normal(size=(num, 3)) + apart * np.eye(3)[label]
    powers = np.exp(scores)
    return Outcomes(
        classes=CLASSES,
        label=label,
        probabilities=np.round(powers / powers.sum(1, keepdims=True), digits),
        cluster=np.arange(num),
        num_clusters=num,
    )


@pytest.mark.parametrize("digits", [1, 9])
def test_figures_equal_those_of_scikit_learn(digits):
    for seed in range(20):
        given = outcomes(30 + 7 * seed, seed, digits=digits)
        found = measure(given)
        label, predicted = given.label, given.predicted
        close = {"abs": 1e-6}
        balanced = reference.balanced_accuracy_score(label, predicted)
        assert found["balanced_accuracy"].value == pytest.approx(balanced, **close)
        accuracy = reference.accuracy_score(label, predicted)
        assert found["accuracy"].value == pytest.approx(accuracy, **close)
        for number, name in enumerate(CLASSES):
            values, is_class = found.classes[name], label == number
            scores = given.probabilities[:, number]
            wrong, right, _thresholds = reference.roc_curve(is_class, scores, drop_intermediate=False)
            wanted = {
                "auroc": reference.roc_auc_score(is_class, scores),
                "average_precision": reference.average_precision_score(is_class, scores),
                "precision": reference.precision_score(is_class, predicted == number, zero_division=np.nan),
                "sensitivity_at_90": right[wrong <= 0.1 + 1e-12].max(),
                "sensitivity_at_95": right[wrong <= 0.05 + 1e-12].max(),
            }
            for metric, value in wanted.items():
                assert values[metric].value == pytest.approx(value, **close, nan_ok=True), metric


def test_a_specificity_that_few_others_cannot_tell_gives_no_interval_and_says_so():
    few, many = (measure(outcomes(num)).classes["a"]["sensitivity_at_95"] for num in (30, 300))
    assert (few.low, few.reason) == (None, "too few of the other classes to tell a specificity of 95 %")
    assert many.low is not None and many.low < many.value < many.high
    assert few.to_dict()["value"] is not None


def test_many_slices_of_few_patients_tell_no_specificity_that_these_could_not():
    """Of 19 others, none is one in twenty, whatever their slices say; of 20, one is."""
    random = np.random.default_rng(0)
    for others, has_interval in ((19, False), (20, True)):
        cluster = np.repeat(np.arange(30 + others), 20)
        is_class = cluster < 30
        scores = random.normal(size=len(cluster)) + is_class
        found = of_sensitivity_at(scores, is_class, cluster, 0.95)
        assert np.isfinite(found.low) == has_interval


def test_pairs_that_agree_differ_by_nothing_and_less_than_alone():
    hits = np.arange(100) % 10 > 0
    same = of_paired_hits(hits, hits, np.arange(100))
    assert same.value == 0 and -0.05 < same.low < 0 < same.high < 0.05
    better = of_paired_hits(np.ones(100, bool), np.arange(100) < 70, np.arange(100))
    assert better.value == pytest.approx(0.3)
    # Bonett and Price 2012, by hand: (31 - 1) / 102 and its deviation.
    centre, variance = 30 / 102, (32 / 102 - (30 / 102) ** 2) / 102
    assert better.low == pytest.approx(centre - 1.959964 * variance**0.5)
    in_clusters = of_paired_hits(np.ones(100, bool), np.arange(100) < 70, np.arange(100) // 10)
    assert in_clusters.high - in_clusters.low > better.high - better.low


def test_the_mean_difference_of_classes_is_held_in_95_of_100_draws_and_not_in_nearly_all():
    """Exactly, over all that can be drawn of two classes of 12 patients; gained and lost by class."""
    num = 12
    counts = [(gained, lost) for gained in range(num + 1) for lost in range(num + 1 - gained)]
    first, second = np.arange(num) < np.array(counts)[:, :1], np.arange(num)[::-1] < np.array(counts)[:, 1:]
    of_class = [of_paired_hits(a, b, np.arange(num), more=1 / 2) for a, b in zip(first, second, strict=True)]
    draws = list(itertools.product(range(len(counts)), repeat=2))
    low, high = np.transpose([mean_of_paired_hits(np.array([of_class[a], of_class[b]])) for a, b in draws])
    pairs, held = np.array(draws), []
    for shares in itertools.combinations([(0.02, 0.02), (0.1, 0.02), (0.2, 0.05), (0.15, 0.15)], 2):
        chances = [[multinomial(num, *count, *share) for count in counts] for share in shares]
        chance = np.take(chances[0], pairs[:, 0]) * np.take(chances[1], pairs[:, 1])
        truth = np.mean([gained - lost for gained, lost in shares])
        held.append(chance[(low <= truth) & (truth <= high)].sum())
    assert min(held) >= 0.95
    assert np.mean(held) <= 0.98


def multinomial(num, gained, lost, share_gained, share_lost):
    ways = math.comb(num, gained) * math.comb(num - gained, lost)
    rest = (1 - share_gained - share_lost) ** (num - gained - lost)
    return ways * share_gained**gained * share_lost**lost * rest


def test_areas_of_the_same_scores_differ_by_nothing():
    given = outcomes(90)
    scores, is_class = given.probabilities[:, 0], given.label == 0
    same = of_paired_areas(scores, scores, is_class, given.cluster)
    assert same.value == 0 and same.low <= 0 <= same.high
    worse = of_paired_areas(scores, np.random.default_rng(1).random(90), is_class, given.cluster)
    assert worse.low > 0


def test_groups_of_few_patients_have_no_interval_and_one_value_is_no_group():
    rows = [
        Prediction(
            key=f"{n:016x}", patient="", split="test", label=CLASSES[n % 3],
            probabilities=tuple(0.6 if j == n % 3 else 0.2 for j in range(3)),
        )
        for n in range(36)
    ]  # fmt: skip
    site = {row.key: "here" if n < 30 else "there" for n, row in enumerate(rows)}
    found = subgroups(CLASSES, rows, {"site": site, "plane": dict.fromkeys(site, "axial")}, None)
    assert [(g.column, g.value, g.num) for g in found] == [("site", "here", 30), ("site", "there", 6)]
    assert found[0].figures[1].low is not None
    assert (found[1].figures[1].value, found[1].figures[1].low) == (1, None)
    assert found[1].figures[1].reason == "fewer than 10 images: no interval"
