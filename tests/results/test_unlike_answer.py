"""Nothing is decided about a patient who is not like the training data, by one run or by several."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mri_hpc.base.errors import UserError
from mri_hpc.results.answers.answer import Answer, Judged
from mri_hpc.results.answers.answer_of_runs import NO_DECISION, join_answers
from mri_hpc.results.answers.decision import Decision, decide
from mri_hpc.results.answers.resemblance import NoResemblance, Resemblance, fit_space
from mri_hpc.results.pages.patient_page import make_page
from mri_hpc.results.statistics.patient_model import AttentionOverImages
from mri_hpc.results.statistics.patients import PatientResult, ValidationPatients
from mri_hpc.rundir.question import Question

CLASSES = ("glioma", "notumor")


def patient(name, label, chance):
    return PatientResult(
        patient=name, label=label, predicted="glioma", probabilities=(chance, 1 - chance),
        num_slices=1, num_wrong_slices=0, has_several_labels=False,
    )  # fmt: skip


VALIDATION = tuple(
    [patient(f"g{n}", "glioma", 0.6 + n / 500) for n in range(100)]
    + [patient(f"n{n}", "notumor", 0.2) for n in range(100)]
)


def resembling(*distances):
    """Validation patients who lie so far from the training images."""
    space = fit_space(np.random.default_rng(0).random((30, 163)))
    return Resemblance(
        model_digest="", num_images=30, space=space, validation=tuple((one,) for one in distances)
    )


def answer(distance, chance, resemblance):
    decision = decide(Question(), CLASSES, VALIDATION, choices=1)
    assert isinstance(decision, Decision)
    probabilities = np.array([chance, 1 - chance])
    image = Judged(name="a.png", patient="P", probabilities=probabilities, distance=distance)
    return Answer(
        classes=CLASSES, images=(image,), rejected=(), decision=decision,
        validation=ValidationPatients(patients=VALIDATION),
        resemblance=resemblance, model_digest="abc", snapshot="one",
    )  # fmt: skip


KNOWN = resembling(*range(20))


def said(found):
    (one,) = found.patients()
    return found.decide(one), found.decided_in_words(one), make_page(found, one, list(found.images))


@pytest.mark.parametrize("chance", [0.9, 0.1])
def test_a_decision_is_withheld_from_who_is_not_like_the_training_data(chance):
    decided, words, page = said(answer(99.0, chance, KNOWN))
    assert decided == ""
    assert words == (
        "No decision: nothing is promised for a patient who is not like the training data; "
        "judge this one without the model"
    )
    assert words in page
    assert "Investigate:" not in page and "elow the threshold" not in page
    decided, words, page = said(answer(5.0, chance, KNOWN))
    assert decided == ("investigate" if chance > 0.5 else "below the threshold")
    assert "No decision" not in page


def test_where_it_is_not_known_the_decision_says_so():
    decided, words, _page = said(answer(99.0, 0.9, NoResemblance(reason="r")))
    assert decided == "investigate"
    assert words.endswith(
        "No guarantee where the patient is not like the training data, which is not known here"
    )


def joined(*answers):
    return join_answers([Path(f"run{n}") for n in range(len(answers))], answers)


def test_of_several_runs_at_least_half_have_to_call_a_patient_unlike():
    unlike, like, unknown = answer(99.0, 0.9, KNOWN), answer(5.0, 0.5, KNOWN), answer(0.0, 0.1, resembling(1))
    cases = {
        (unlike, like): True,
        (unlike, like, like): False,
        (unlike, unlike, like): True,
        (unlike, unknown): True,
        (unknown, unknown): False,
    }
    for runs, wanted in cases.items():
        (one,) = joined(*runs).patients()
        assert one.verdict.is_unlike == wanted
    (one,) = joined(unlike, like, like).patients()
    assert "No sign that this is not like the training data" in one.verdict.words
    assert "1 of 3 runs call it so; each would do so by mistake for 1 in 10 patients" in one.verdict.words
    assert one.probabilities[0] == pytest.approx((0.9 + 0.5 + 0.5) / 3)
    assert one.spread[:, 0].tolist() == pytest.approx([0.5, 0.9])
    assert (
        joined(unknown, unknown)
        .patients()[0]
        .verdict.words.endswith("it needs 9 validation patients, and the run has 1")
    )


def test_where_prevalence_makes_another_class_of_it_like_scores_tell_nothing():
    found = replace(answer(5.0, 0.9, KNOWN), decision=NO_DECISION, prevalence={"glioma": 0.1, "notumor": 0.9})
    (one,) = answer(5.0, 0.9, KNOWN).patients()
    other = replace(one, probabilities=one.probabilities[::-1])
    assert found.is_compared(one) and not found.is_compared(other)
    assert found.like_in_words(other).endswith("--prevalence makes another one the most probable")
    assert replace(found, prevalence=None).is_compared(other)


def test_how_several_runs_pool_is_said_of_each_way():
    mean, other = answer(5.0, 0.9, KNOWN), answer(5.0, 0.8, KNOWN)
    assert joined(mean, other).pooling_in_words("slices") == "the mean over the slices"
    other = replace(other, patient_model=AttentionOverImages())
    wanted = "the mean over the slices or made by gated attention over the slices"
    assert joined(mean, other).pooling_in_words("slices") == wanted
    assert wanted in said(joined(mean, other))[2]


def test_several_runs_decide_nothing_together():
    both = joined(answer(5.0, 0.9, KNOWN), answer(5.0, 0.8, KNOWN))
    decided, words, _page = said(both)
    assert (decided, words.startswith("No threshold is given: it is one run's")) == ("", True)


def test_like_scores_of_several_runs_are_of_their_means_over_patients_whom_all_kept_out():
    first = answer(5.0, 0.9, KNOWN)
    fewer = tuple(replace(one, probabilities=(one.probabilities[0] + 0.1, 0.0)) for one in VALIDATION[50:120])
    who_chose = ValidationPatients(patients=fewer, choices=24)
    both = joined(first, replace(first, validation=who_chose), replace(first, validation=who_chose))
    assert both.validation.choices == 24 * 24
    both = joined(first, replace(first, validation=who_chose))
    assert [one.patient for one in both.validation.patients] == [one.patient for one in VALIDATION[50:120]]
    for found, own in zip(both.validation.patients, VALIDATION[50:120], strict=True):
        assert found.probabilities[0] == pytest.approx(own.probabilities[0] + 0.05)
    apart = joined(first, replace(first, snapshot="another"))
    assert not apart.validation
    assert apart.to_dict()["patients"][0]["like_scores"] is None
    assert "no patient was in the validation of all of them" in said(apart)[2]


def test_runs_that_take_other_images_are_refused():
    first = answer(5.0, 0.9, KNOWN)
    with pytest.raises(UserError, match="run1 other ones, 0: the recipes of their stores differ"):
        joined(first, replace(first, images=()))
    with pytest.raises(UserError, match="only one judges patients"):
        joined(first, replace(first, patient_model=None))
