"""A threshold is given only where its sensitivity can be promised, and the promise is kept."""

import math
from fractions import Fraction

import numpy as np
import pytest

from mri_hpc.base.errors import UserError
from mri_hpc.results.answers.decision import (
    BELOW,
    INVESTIGATE,
    Decision,
    NoDecision,
    classes_to_find,
    decide,
    is_of_nothing_found,
)
from mri_hpc.results.statistics.abstention import most_sure
from mri_hpc.results.statistics.intervals import binomial, clopper_pearson
from mri_hpc.results.statistics.patients import Outcomes, PatientResult
from mri_hpc.results.statistics.sensitivity_bound import largest_sensitivity, least_patients, most_missed
from mri_hpc.rundir.question import Question
from tools.benchmarks.promises import share_kept

CLASSES = ("glioma", "pituitary", "notumor")


def patient(label, *probabilities):
    return PatientResult(
        patient="P",
        label=label,
        predicted=CLASSES[int(np.argmax(probabilities))],
        probabilities=probabilities,
        num_slices=1,
        num_wrong_slices=0,
        has_several_labels=False,
    )


def validation(num, *, without=50):
    """Patients with the finding, whose scores are evenly spread, and others below all but one of them."""
    found = [patient("glioma", 0.6 * s, 0.4 * s, 1 - s) for s in np.linspace(0.2, 0.9, num)]
    return [*found, *(patient("notumor", 0.1, 0.105, 0.795) for _ in range(without))]


def decided(num, *, choices=1, sensitivity=0.95):
    found = decide(Question(sensitivity=sensitivity), CLASSES, validation(num), choices=choices)
    assert isinstance(found, Decision)
    return found


def refused(num, *, choices=1, classes=CLASSES):
    found = decide(Question(), classes, validation(num), choices=choices)
    assert isinstance(found, NoDecision)
    return found.reason


@pytest.mark.parametrize(("hits", "num"), [(-1, 7), (0, 7), (3, 7), (6, 7), (7, 7), (4, 93), (0, 1)])
def test_the_binomial_is_exact(hits, num):
    chance = Fraction(1, 20)
    exact = sum(
        (math.comb(num, k) * chance**k * (1 - chance) ** (num - k) for k in range(hits + 1)), Fraction(0)
    )
    assert binomial(hits, num, 0.05) == pytest.approx(float(exact), abs=1e-12)


def test_limits_of_clopper_and_pearson_are_those_of_the_tables():
    assert clopper_pearson(0, 59) == pytest.approx((0, 0, 0.0606), abs=1e-4)
    assert clopper_pearson(7, 20) == pytest.approx((0.35, 0.1539, 0.5922), abs=1e-4)
    assert clopper_pearson(20, 20) == pytest.approx((1, 0.8316, 1), abs=1e-4)


@pytest.mark.parametrize("hits", [10, 15, 19, 20])
def test_an_error_below_the_last_digit_of_1_widens_both_limits(hits):
    """Exactly: as many hits, or more, are as likely as half the error at the lower limit."""

    def chance(nums, truth):
        return sum(math.comb(20, k) * truth**k * (1 - truth) ** (20 - k) for k in nums)

    found = clopper_pearson(hits, 20, 1e-20)
    assert float(chance(range(hits, 21), Fraction(found.low))) == pytest.approx(5e-21, rel=1e-6, abs=0)
    # That of 19 is nearer to 1 than a float can be.
    if hits < 19:
        assert float(chance(range(hits + 1), Fraction(found.high))) == pytest.approx(5e-21, rel=1e-2, abs=0)


def test_59_patients_none_missed_promise_95_percent_and_58_do_not():
    assert least_patients(0.95) == 59
    assert (most_missed(58, 0.95), most_missed(59, 0.95), most_missed(92, 0.95)) == (None, 0, 0)
    # of 93, one may be missed: the next step of the table of Wilks
    assert (most_missed(93, 0.95), most_missed(124, 0.95)) == (1, 2)


@pytest.mark.parametrize("num", [1, 23, 59, 400])
@pytest.mark.parametrize("choices", [1, 30])
def test_the_largest_sensitivity_is_just_what_the_smallest_score_promises(num, choices):
    largest = largest_sensitivity(num, choices)
    assert most_missed(num, largest - 1e-9, choices) is not None
    assert most_missed(num, largest + 1e-3, choices) is None
    assert least_patients(largest, choices) == num


@pytest.mark.parametrize(("num", "epochs", "alike"), [(200, 1, 0.0), (104, 10, 0.0), (200, 10, 0.8)])
def test_the_promise_is_kept_in_95_of_100_draws_whichever_epoch_the_same_patients_choose(num, epochs, alike):
    counted = {"num": num, "without": num, "epochs": epochs, "alike": alike, "draws": 800}
    assert share_kept(choices=epochs, **counted) >= 0.95


def test_not_to_count_the_choice_of_the_epoch_would_break_the_promise():
    assert share_kept(104, without=104, epochs=10, alike=0.0, choices=1, draws=800) < 0.93


def test_too_few_patients_are_told_how_many_it_takes_and_what_can_be_promised():
    assert refused(23) == (
        "a sensitivity of 95.0 % needs 59 validation patients with the finding and none missed, "
        "there are 23. They can promise 87.7 %: mri-hpc evaluate RUN --sensitivity 0.877"
    )
    assert decided(23, sensitivity=0.877).threshold == pytest.approx(0.2, abs=2.1e-6)
    assert "needs 125 " in refused(23, choices=30)
    assert "there are 23 (59 would do if others had chosen the epoch among 30 models)" in refused(
        23, choices=30
    )
    assert refused(0).endswith("there are 0")


def test_the_threshold_is_one_of_the_scores_and_misses_as_many_as_the_promise_allows():
    found = decided(100)
    assert (found.validation.missed, found.validation.with_finding) == (1, 100)
    assert found.threshold == pytest.approx(np.linspace(0.2, 0.9, 100)[1], abs=2.1e-6)
    # the scores of the others lie between the two smallest
    assert (found.validation.investigated, found.validation.specificity.value) == (0, 1.0)
    low, high = found.validation.sensitivity.low, found.validation.sensitivity.high
    assert (low, high) == pytest.approx(clopper_pearson(99, 100)[1:])


def test_a_patient_of_validation_is_on_the_same_side_when_computed_elsewhere():
    found = decided(60)
    same = np.array([0.12, 0.08, 0.8]) - [1e-8, 0, -1e-8]
    assert found.of(same) == INVESTIGATE
    assert found.of(np.array([0.12, 0.07, 0.81])) == BELOW


def test_limits_of_validation_are_wider_where_it_also_chose_the_epoch():
    alone, among = (decided(300, choices=choices).validation for choices in (1, 30))
    assert among.sensitivity.high - among.sensitivity.low > alone.sensitivity.high - alone.sensitivity.low
    assert among.specificity.low < alone.specificity.low


def test_other_patients_show_sensitivity_and_specificity_at_the_same_threshold():
    found = decided(60).judged_by([*validation(10, without=5), patient("pituitary", 0.1, 0.05, 0.85)])
    shown = found.shown
    assert (shown.with_finding, shown.missed, shown.without_finding, shown.investigated) == (11, 1, 5, 5)
    assert shown.sensitivity.low < shown.sensitivity.value == pytest.approx(10 / 11)
    alone = decided(60).judged_by([patient("glioma", 0.9, 0.05, 0.05)]).shown
    assert (alone.specificity.value, alone.specificity.reason) == (None, "no patient without the finding")


def test_nothing_is_to_be_found_unless_someone_says_it_or_a_class_is_named_so():
    assert classes_to_find(Question(), ("glioma", "pituitary")) == ()
    assert classes_to_find(Question(), CLASSES) == ("glioma", "pituitary")
    assert classes_to_find(Question(investigate=("pituitary",)), CLASSES) == ("pituitary",)
    assert classes_to_find(Question(investigate=("notumor", "glioma")), CLASSES) == ("glioma", "notumor")
    assert "nothing says which classes" in refused(500, classes=("glioma", "pituitary", "meningioma"))
    with pytest.raises(
        UserError, match=r"no class 'gliom'.*did you mean.*classes: glioma, pituitary, notumor"
    ):
        classes_to_find(Question(investigate=("gliom",)), CLASSES)
    with pytest.raises(UserError, match="names all classes"):
        classes_to_find(Question(investigate=CLASSES), CLASSES)


@pytest.mark.parametrize(
    "name", ["normal", "Healthy", "no_tumor", "No Tumour", "notumor", "control", "Controls"]
)
def test_names_of_classes_in_whom_there_is_nothing_to_find_are_known(name):
    assert is_of_nothing_found(name)


@pytest.mark.parametrize("name", ["abnormal", "glioma", "tumor", "unhealthy", "uncontrolled", "no"])
def test_other_names_are_not_taken_for_them(name):
    assert not is_of_nothing_found(name)


def test_without_patients_there_is_no_decision():
    assert "for patients" in decide(Question(), CLASSES, [], choices=1).reason


@pytest.mark.parametrize("sensitivity", [0.0, 1.0, -1.0, math.nan])
def test_a_sensitivity_that_none_can_have_is_refused(sensitivity):
    with pytest.raises(UserError, match="--sensitivity must be above 0 and below 1"):
        Question(sensitivity=sensitivity)


def test_one_sentence_says_what_is_decided_about_a_patient_and_below_how_many_were_missed():
    found = decided(93)
    assert found.in_a_sentence(np.array([0.5, 0.45, 0.05])) == (
        "Investigate: the probability of glioma or pituitary is at or above the threshold"
    )
    assert found.in_a_sentence(np.array([0.1, 0.05, 0.85])) == (
        "Below the threshold; 1 of 93 such patients with the finding were missed in validation (0.0–5.8 %)"
    )


def test_a_decision_never_says_that_there_is_nothing():
    said = " ".join([*decided(60).words, refused(10)]).replace("notumor", "").lower()
    assert [word for word in ("normal", "healthy", "no tumor", "no tumour", "no need") if word in said] == []


def test_the_error_of_the_most_sure_is_that_of_their_own():
    sure = np.linspace(0.4, 1.0, 20)
    outcomes = Outcomes(
        classes=("a", "b"),
        label=(np.arange(20) < 4).astype(int),
        probabilities=np.stack([np.maximum(sure, 0.51 + sure / 100), 0.5 - sure / 2], axis=1),
        cluster=np.arange(20),
        num_clusters=20,
    )
    parts = most_sure(outcomes)
    assert [part.num for part in parts] == [20, 18, 15, 10]
    assert [part.error.value for part in parts] == pytest.approx([4 / 20, 2 / 18, 0, 0])
    assert parts[-1].error.high > 0.1


def test_parts_that_ties_make_the_same_are_given_once():
    outcomes = Outcomes(
        classes=("a", "b"),
        label=np.zeros(8, int),
        probabilities=np.tile([0.8, 0.2], (8, 1)),
        cluster=np.arange(8),
        num_clusters=8,
    )
    assert [(part.num, part.share) for part in most_sure(outcomes)] == [(8, 1.0)]
