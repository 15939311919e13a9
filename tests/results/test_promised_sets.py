"""Sets of classes are promised only of enough patients, hold on average, and say what is promised."""

import math
import time
from fractions import Fraction

import numpy as np
import pytest

from mri_hpc.results.answers.promised_sets import NoSets, PromisedSets, mean_size, promise_sets
from mri_hpc.results.statistics.intervals import binomial
from mri_hpc.results.statistics.patients import PatientResult, ValidationPatients
from mri_hpc.results.statistics.set_bound import least_patients, most_outside, part_outside

CLASSES = ("glioma", "meningioma", "pituitary")


def patient(label, *probabilities):
    return PatientResult(
        patient="P", label=label, predicted=CLASSES[int(np.argmax(probabilities))],
        probabilities=probabilities, num_slices=1, num_wrong_slices=0, has_several_labels=False,
    )  # fmt: skip


def validation(num, choices=1):
    """Gliomas whose own probability is spread evenly from 0.2 up."""
    own = 0.2 + 0.7 * np.arange(num) / num
    patients = tuple(patient("glioma", p, (1 - p) * 0.9, (1 - p) * 0.1) for p in own.tolist())
    return ValidationPatients(patients=patients, choices=choices)


def promised(num, choices=1):
    found = promise_sets(CLASSES, validation(num, choices))
    assert isinstance(found, PromisedSets)
    return found


def test_of_patients_who_chose_nothing_the_part_outside_is_that_of_split_conformal_prediction():
    for num, missed in ((9, 0), (19, 1), (50, 4), (200, 0)):
        exact = Fraction(missed + 1, num + 1)
        assert part_outside(num, missed) == pytest.approx(float(exact), abs=1e-9)
    assert [most_outside(num) for num in (8, 9, 18, 19, 29, 99)] == [None, 0, 0, 1, 2, 9]
    assert least_patients() == 9


@pytest.mark.parametrize(("num", "missed", "choices"), [(40, 0, 5), (80, 1, 30), (120, 3, 168)])
def test_of_the_worst_of_several_models_the_part_outside_is_no_larger_than_said(num, missed, choices):
    """Independent models, of which the worst is taken: the harshest choice that there is."""
    random, draws = np.random.default_rng(num), 4000
    worst = random.beta(missed + 1, num - missed, (draws, choices)).max(axis=1)
    bound = part_outside(num, missed, choices)
    assert worst.mean() < bound + 3 * worst.std() / math.sqrt(draws)
    assert bound < 1.25 * worst.mean()


def test_more_models_ask_for_more_patients():
    numbers = (1, 2, 30, 168, 396)
    needed = [least_patients(choices) for choices in numbers]
    assert needed == [9, 16, 42, 59, 67]
    assert [most_outside(num - 1, c) for num, c in zip(needed, numbers, strict=True)] == [None] * 5
    assert [most_outside(num, c) for num, c in zip(needed, numbers, strict=True)] == [0] * 5


def test_the_bound_of_very_many_patients_takes_no_time():
    began = time.process_time()
    assert most_outside(100_000, 396) == 9706
    assert time.process_time() - began < 2


def test_the_part_outside_is_that_of_the_sum_over_all_numbers_of_missed_patients():
    # Sums of binomial probabilities, each computed by itself.
    for num, missed, choices in ((40, 0, 5), (80, 1, 30), (120, 3, 168), (900, 60, 396), (5, 4, 3)):
        low = _where_the_bound_leaves_one(num, missed, choices)
        rest = sum(binomial(hits, num + 1, low) for hits in range(missed + 1))
        assert part_outside(num, missed, choices) == pytest.approx(low + choices * rest / (num + 1), abs=1e-9)


def _where_the_bound_leaves_one(num, missed, choices):
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if choices * binomial(missed, num, middle) >= 1 else (low, middle)
    return low


def test_too_few_patients_are_promised_nothing_and_are_told_how_many_it_takes():
    found = promise_sets(CLASSES, validation(28, choices=168))
    assert isinstance(found, NoSets)
    assert "needs 59 validation patients, there are 28 (9 would do if others had chosen" in found.words[0]
    assert "--calibration-share 0.5" in found.words[0]
    few = promise_sets(CLASSES, validation(8))
    assert isinstance(few, NoSets)
    assert few.words[0].endswith("needs 9 validation patients, there are 8")
    assert isinstance(promise_sets(CLASSES, ValidationPatients()), NoSets)


def test_a_set_holds_what_is_likely_enough_and_always_the_most_probable_class():
    found = promised(19)
    # One of 19 lies below the second smallest probability of an own class.
    assert found.threshold == pytest.approx(0.2 + 0.7 / 19, abs=3e-6)
    assert found.threshold < 0.2 + 0.7 / 19
    assert found.of(np.array([0.5, 0.3, 0.2])) == ("glioma", "meningioma")
    sure = promised(9)
    assert sure.of(np.array([0.1, 0.1, 0.8])) == ("pituitary",)
    high = PromisedSets(classes=CLASSES, num=9, choices=1, threshold=0.9)
    assert high.of(np.array([0.3, 0.4, 0.3])) == ("meningioma",)
    said = found.in_a_sentence(np.array([0.5, 0.3, 0.2]))
    assert said.endswith("on average; those who are given none count as if they had one")
    assert "holds all classes" in found.in_a_sentence(np.array([0.34, 0.33, 0.33]))


def test_the_promise_is_named_by_its_kind_and_for_whom_it_is_not():
    words = ". ".join(promised(59, choices=168).words)
    for said in (
        "on average, over patients and over draws of the 59 validation patients",
        "whichever of 168 models they choose",
        "at least 90.0 % of patients",
        "classes as frequent; those who are given no set, as they are not like the training data, count",
        "Nothing is promised of each class by itself, of the patient at hand",
        "not like the training data",
    ):
        assert said in words
    assert "whichever" not in ". ".join(promised(59).words)


def test_what_test_patients_show_is_counted_by_patient():
    found = PromisedSets(classes=CLASSES, num=9, choices=1, threshold=0.25)
    tested = [patient("glioma", 0.7, 0.2, 0.1)] * 12 + [patient("meningioma", 0.5, 0.3, 0.2)] * 6
    tested += [patient("glioma", 0.1, 0.8, 0.1)] * 2
    shown = found.judged_by(tested).shown
    assert (shown.num, shown.alone, shown.covered.value) == (20, 14, 0.9)
    assert shown.covered.low < 0.9 < shown.covered.high
    assert shown.size.value == pytest.approx((12 + 2 * 6 + 2) / 20)
    assert [(name, num, figure.value) for name, num, figure in shown.by_class] == [
        ("glioma", 14, pytest.approx(12 / 14)), ("meningioma", 6, 1.0), ("pituitary", 0, None),
    ]  # fmt: skip
    assert "In test 90.0 % (" in shown.in_words("test")
    assert "pituitary" not in shown.in_words("test")


def test_sets_of_one_size_have_no_interval():
    assert mean_size(np.ones(20, int), 3).low is None
    found = mean_size(np.array([1, 1, 3, 3]), 3)
    assert (found.low, found.value, found.high) == (1.0, 2.0, 3.0)
