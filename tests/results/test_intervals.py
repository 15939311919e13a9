"""Limits are by as many independent units as the data tell, and by no more than they can tell."""

import itertools
import math

import numpy as np
import pytest

from mri_hpc.results.statistics import intervals
from mri_hpc.results.statistics.intervals import (
    Z_95,
    agresti_coull,
    correlation_within,
    means,
    mover,
    newcombe,
    of_area,
    of_proportion,
)


def hits_of(*right, units=10):
    """Right answers of each cluster, of so many units."""
    hits = np.concatenate([np.arange(units) < count for count in right])
    return hits, np.repeat(np.arange(len(right)), units)


def limits(found):
    return found.low, found.high


def test_independent_units_count_each_and_by_student_s_quantile():
    hits = np.arange(20) < 12
    wanted = agresti_coull(0.6, 20, 2.09302)
    assert limits(of_proportion(hits, np.arange(20))) == pytest.approx(wanted, abs=1e-4)


def hits_and_limits(num):
    """Each number of right answers of so many patients, and the limits that go with it."""
    return [limits(of_proportion(np.arange(num) < count, np.arange(num))) for count in range(num + 1)]


def chance_of_each(num, truth):
    return np.array([math.comb(num, k) * truth**k * (1 - truth) ** (num - k) for k in range(num + 1)])


@pytest.mark.parametrize("num", [6, 7, 17, 50, 200])
def test_a_proportion_of_patients_is_held_in_94_of_100_draws_whatever_it_is(num):
    """Exactly, over all that can be drawn. With the normal quantile it were 90 for 6 patients."""
    low, high = np.transpose(hits_and_limits(num))
    held = [
        chance_of_each(num, truth)[(low <= truth) & (truth <= high)].sum()
        for truth in np.linspace(0.5, 0.995, 100)
    ]
    assert min(held) >= 0.94


@pytest.mark.parametrize(("nums", "most"), [((7, 7, 6), 1.0), ((17, 17, 16), 0.97)])
def test_the_mean_of_three_classes_is_held_in_93_of_100_draws_and_of_50_patients_in_97_on_the_mean(
    nums, most
):
    of_class = [hits_and_limits(num) for num in nums]
    draws = list(itertools.product(*(range(num + 1) for num in nums)))
    drawn = np.array(draws)
    low, high = np.transpose(
        [
            mover(np.array([(k / num, *of[k]) for k, num, of in zip(draw, nums, of_class, strict=True)]))
            for draw in draws
        ]
    )
    held = []
    for truths in itertools.combinations_with_replacement((0.6, 0.75, 0.86, 0.93, 0.96, 0.98), 3):
        chances = [chance_of_each(num, truth) for num, truth in zip(nums, truths, strict=True)]
        chance = np.prod([of[drawn[:, number]] for number, of in enumerate(chances)], axis=0)
        held.append(chance[(low <= np.mean(truths)) & (np.mean(truths) <= high)].sum())
    assert min(held) >= 0.93
    assert np.mean(held) <= most


@pytest.mark.parametrize("is_right_rare", [False, True])
def test_where_the_rarer_answer_is_of_fewer_than_five_patients_each_counts_once(is_right_rare):
    for wrong, is_few in ((49, True), (51, False)):
        # Spread so evenly that slices tell more than patients.
        hits, cluster = hits_of(*(9 if number < wrong - 30 else 10 for number in range(30)))
        hits = hits & np.concatenate([[False, *[True] * 9]] * 30)
        assert np.count_nonzero(~hits) == wrong
        value, low, high = of_proportion(~hits if is_right_rare else hits, cluster)
        once = agresti_coull(value, 30, 2.04523)
        assert ((low, high) == pytest.approx(once, abs=1e-4)) == is_few
        assert is_few or high - low < once[1] - once[0]


@pytest.mark.parametrize(("num", "quantile"), [(12, 2.20099), (40, 2.02269)])
def test_patients_who_are_all_right_or_all_wrong_count_once_less_one_with_student_s_quantile(num, quantile):
    hits, cluster = hits_of(*[10, 0] * (num // 2))
    wanted = agresti_coull(0.5, num - 1, quantile)
    assert limits(of_proportion(hits, cluster)) == pytest.approx(wanted, abs=1e-4)


def test_the_smaller_of_both_numbers_of_independent_units_counts():
    # A few patients with many slices, of whom all are right or all wrong: the variance between is larger
    # than slices of most, who have two, let expect.
    sizes, right = [2] * 40 + [60, 60], [1] * 40 + [60, 0]
    hits = np.concatenate([np.arange(size) < count for size, count in zip(sizes, right, strict=True)])
    cluster = np.repeat(np.arange(42), sizes)
    value, low, high = of_proportion(hits, cluster)
    between = 42 / 41 * np.sum((np.array(right) - np.array(sizes) * value) ** 2) / len(hits) ** 2
    assert (low, high) == pytest.approx(agresti_coull(value, value * (1 - value) / between, 2.0195), abs=1e-4)
    # The other way round: patients whose shares are as good as the same tell nothing by their variance.
    hits, cluster = hits_of(*[5] * 20)
    assert limits(of_proportion(hits, cluster)) == pytest.approx(agresti_coull(0.5, 200, 2.09302), abs=1e-4)


def of_odds(area, variance):
    centre, margin = math.log(area / (1 - area)), Z_95 * math.sqrt(variance) / (area * (1 - area))
    return 1 / (1 + math.exp(margin - centre)), 1 / (1 + math.exp(-margin - centre))


def variance_of(wins, area):
    return np.sum((wins - area) ** 2) / (len(wins) - 1) / len(wins)


def areas_by_hand(inside, outside):
    """The area, and its limits by DeLong on log odds and by Newcombe, of units that are all independent."""
    wins = np.array([np.mean(one > outside) for one in inside])
    losses = np.array([np.mean(inside > one) for one in outside])
    area = wins.mean()
    odds = of_odds(area, variance_of(wins, area) + variance_of(losses, area))
    return area, odds, newcombe(area, len(inside), len(outside))


def area_of(inside, outside, cluster=None):
    scores = np.concatenate([inside, outside])
    cluster = np.arange(len(scores)) if cluster is None else cluster
    return of_area(scores, np.arange(len(scores)) < len(inside), cluster)


def test_the_area_of_independent_units_has_the_limits_of_delong_on_log_odds():
    draw = np.random.default_rng(0)
    inside, outside = draw.normal(0.7, 1, 60), draw.normal(0, 1, 90)
    area, odds, _newcombe = areas_by_hand(inside, outside)
    found = area_of(inside, outside)
    assert (found.value, *limits(found)) == pytest.approx((area, *odds))


def test_where_nearly_all_is_ranked_rightly_the_wider_of_both_limits_hold():
    draw, wider = np.random.default_rng(1), set()
    for _ in range(40):
        inside, outside = draw.normal(2, 1, 12), draw.normal(0, 1, 14)
        if inside.min() < outside.max():
            _area, odds, by_newcombe = areas_by_hand(inside, outside)
            found = area_of(inside, outside)
            assert limits(found) == pytest.approx(
                (min(odds[0], by_newcombe[0]), max(odds[1], by_newcombe[1]))
            )
            wider.add(odds[0] < by_newcombe[0])
    assert wider == {True, False}


@pytest.mark.parametrize("are_shared", [False, True])
def test_an_area_by_slice_has_the_wider_of_limits_between_patients_and_of_independent_slices(are_shared):
    draw, wider = np.random.default_rng(2), set()
    cluster = np.concatenate(
        [np.repeat(np.arange(40), 5), np.repeat(np.arange(40) + 40 * (not are_shared), 5)]
    )
    is_class = np.arange(400) < 200
    for noise in (0.3, 0.5, 1.0, 3.0):
        scores = draw.normal(0, 1, 80)[cluster] + draw.normal(0, noise, 400) + 0.8 * is_class
        wins = np.array([np.mean(one > scores[200:]) for one in scores[:200]])
        losses = np.array([np.mean(scores[:200] > one) for one in scores[200:]])
        area = wins.mean()
        parts = np.bincount(cluster, np.concatenate([wins, losses]) - area) / 200
        odds = of_odds(area, 40 / 39 * np.sum(parts**2))
        place = scores.argsort().argsort() + 0.75
        within = correlation_within(np.log(place / (400.5 - place)), cluster, is_class)
        by_newcombe = newcombe(area, *[200 / (1 + 4 * within)] * 2)
        found = area_of(scores[:200], scores[200:], cluster)
        assert limits(found) == pytest.approx((min(odds[0], by_newcombe[0]), max(odds[1], by_newcombe[1])))
        wider.add(by_newcombe[0] < odds[0])
    assert True in wider


def test_areas_of_none_and_all_have_their_ends_and_no_more():
    is_class = np.arange(20) < 10
    scores = np.arange(20.0)
    worst, best = (of_area(way, is_class, np.arange(20)) for way in (scores, -scores))
    assert (worst.value, worst.low, best.value, best.high) == (0, 0, 1, 1)
    assert worst.high == pytest.approx(1 - best.low)
    assert 0.6 < best.low < 0.9


def test_limits_of_parts_may_lie_beyond_what_can_be_so_that_those_of_their_mean_are_whole():
    low, high = agresti_coull(1.0, 10)
    assert high > 1 and agresti_coull(0.0, 10) == pytest.approx((1 - high, 1 - low))
    parts = np.array([(1.0, low, high), (1.0, low, high)])
    assert mover(parts)[1] == pytest.approx(1 + (high - 1) / math.sqrt(2))
    assert mover(parts)[1] > 1
    assert means(parts) == pytest.approx((low, high))


def test_log_odds_of_scores_far_apart_do_not_overflow():
    assert intervals._by_odds(1e-12, 1.0) == pytest.approx((0.0, 1.0))


def test_scores_that_are_all_the_same_tell_nothing_and_their_area_is_not_sure():
    found = area_of(np.ones(30), np.ones(30))
    assert found.value == 0.5
    assert limits(found) == pytest.approx(newcombe(0.5, 30, 30))


def test_slices_of_one_patient_and_answers_that_do_not_vary_are_taken_for_alike():
    assert correlation_within(np.array([0.0, 1.0, 1.0]), np.zeros(3, int)) == 1.0
    assert correlation_within(np.ones(4), np.array([0, 0, 1, 1])) == 1.0


def test_patients_of_few_and_of_many_slices_are_weighed_as_in_an_analysis_of_variance():
    """Donner and Klar 2000: by the mean number of slices, less its variation."""
    values, cluster = np.array([0.0, 0, 1, 1, 1, 0, 1, 1]), np.array([0, 1, 1, 2, 2, 2, 2, 2])
    sizes, mean_of = np.array([1, 2, 5]), np.array([0, 0.5, 0.8])
    between = np.sum(sizes * (mean_of - 5 / 8) ** 2) / 2
    within = np.sum((values - mean_of[cluster]) ** 2) / 5
    size = (8 - np.sum(sizes**2) / 8) / 2
    of_patients = (between - within) / size
    assert correlation_within(values, cluster) == pytest.approx(of_patients / (of_patients + within))
    assert of_patients > 0
