"""Validation patients of like scores: counted by patient, with exact limits, or said to be too few."""

import numpy as np
import pytest

from mri_hpc.results.answers.like_scores import LEAST, like_scores
from mri_hpc.results.statistics.intervals import clopper_pearson
from mri_hpc.results.statistics.patients import PatientResult, ValidationPatients
from mri_hpc.results.statistics.sensitivity_bound import ERROR

CLASSES = ("glioma", "meningioma", "pituitary")


def patient(name, label, *probabilities):
    return PatientResult(
        patient=name, label=label, predicted=CLASSES[int(np.argmax(probabilities))],
        probabilities=probabilities, num_slices=3, num_wrong_slices=0, has_several_labels=False,
    )  # fmt: skip


def patients(num, num_had, score):
    rest = (1 - score) / 2
    return [
        patient(f"v{score}{n}", "glioma" if n < num_had else "pituitary", score, rest, rest)
        for n in range(num)
    ]


def validation_of(some, choices=1):
    return ValidationPatients(patients=tuple(some), choices=choices)


def test_the_share_is_of_patients_whose_scores_lie_within_a_tenth():
    validation = validation_of(patients(20, 15, 0.8) + patients(30, 0, 0.5))
    found = like_scores(np.array([0.75, 0.2, 0.05]), CLASSES, (), validation)
    assert (found.classes, found.num, found.num_had) == (("glioma",), 20, 15)
    assert found.share == clopper_pearson(15, 20)
    assert found.words == (
        "Of 20 validation patients with a score within 0.1 of this one, 15 had glioma: "
        "75.0 % (95 % interval 50.9–91.3)"
    )


def test_patients_who_chose_the_model_have_limits_for_all_models_among_which_they_chose():
    probabilities, some = np.array([0.75, 0.2, 0.05]), patients(20, 15, 0.8)
    chose = like_scores(probabilities, CLASSES, (), validation_of(some, choices=168))
    assert chose.share == clopper_pearson(15, 20, ERROR / 168)
    apart = like_scores(probabilities, CLASSES, (), validation_of(some))
    assert chose.share.low < apart.share.low < apart.share.high < chose.share.high
    assert chose.words.endswith("whichever of 168 models they chose)")
    assert chose.to_dict()["choices"] == 168


def test_where_a_finding_is_asked_for_the_score_is_that_of_all_its_classes_together():
    validation = validation_of([patient(f"v{n}", "meningioma", 0.45, 0.45, 0.1) for n in range(12)])
    found = like_scores(np.array([0.1, 0.8, 0.1]), CLASSES, ("glioma", "meningioma"), validation)
    assert (found.score, found.num, found.num_had) == (pytest.approx(0.9), 12, 12)


@pytest.mark.parametrize("num", [0, 1, LEAST - 1])
def test_of_too_few_patients_no_share_is_given_and_it_says_so(num):
    found = like_scores(np.array([0.8, 0.1, 0.1]), CLASSES, (), validation_of(patients(num, num, 0.8)))
    assert found.share is None
    assert (found.to_dict()["share"], found.to_dict()["low"]) == (None, None)
    assert ("No patient of validation" if not num else "Too few to say") in found.words
    assert "95 %" not in found.words
