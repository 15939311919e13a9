"""Slices become patients."""

import numpy as np
import pytest

from mri_hpc.base.errors import UserError
from mri_hpc.results.statistics.patient_model import MeanOfImages
from mri_hpc.results.statistics.patients import image_outcomes, pool_patients
from mri_hpc.rundir.predictions import Prediction

CLASSES = ("glioma", "meningioma")


def row(patient, label, *probabilities, key="00"):
    return Prediction(key=key, patient=patient, split="test", label=label, probabilities=probabilities)


def test_a_patients_probabilities_are_the_mean_over_the_slices():
    rows = [row("P2", "glioma", 0.9, 0.1), row("P1", "glioma", 0.2, 0.8), row("P2", "glioma", 0.3, 0.7)]
    first, second = pool_patients(CLASSES, rows, MeanOfImages())
    assert (first.patient, second.patient) == ("P1", "P2")
    assert second.probabilities == pytest.approx((0.6, 0.4))
    assert (second.predicted, second.is_wrong, second.num_slices, second.num_wrong_slices) == (
        "glioma", False, 2, 1,
    )  # fmt: skip


def test_one_slice_that_is_sure_cannot_outvote_the_rest():
    rows = [row("P1", "glioma", 0.7, 0.3)] * 4 + [row("P1", "glioma", 1e-9, 1 - 1e-9)]
    assert pool_patients(CLASSES, rows, MeanOfImages())[0].predicted == "glioma"


def test_a_patient_of_several_classes_counts_as_that_of_most_slices_and_is_marked():
    rows = [row("P1", "meningioma", 0.5, 0.5)] * 2 + [row("P1", "glioma", 0.5, 0.5)]
    patient = pool_patients(CLASSES, rows, MeanOfImages())[0]
    assert (patient.label, patient.has_several_labels) == ("meningioma", True)


def test_images_without_a_patient_are_no_patient():
    assert pool_patients(CLASSES, [row("", "glioma", 1.0, 0.0)], MeanOfImages()) == []


def test_images_without_a_patient_are_independent_of_each_other():
    rows = [row("", "glioma", 1.0, 0.0, key="0a"), row("", "glioma", 1.0, 0.0, key="0b")]
    # A pseudonym that looks like a key is still another unit than the image of that key.
    rows += [row("0a", "glioma", 1.0, 0.0, key="0c")] * 2
    found = image_outcomes(CLASSES, rows)
    assert found.num_clusters == 3
    assert found.cluster[2] == found.cluster[3]
    assert len(set(found.cluster[:3])) == 3


def test_probabilities_that_are_not_numbers_are_refused():
    with pytest.raises(UserError, match="not numbers"):
        image_outcomes(CLASSES, [row("P1", "glioma", float("nan"), 1.0)])


def test_pooling_sorts_patients_and_counts_their_images():
    pooled = MeanOfImages().pool(["b", "a", "b"], np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]))
    assert pooled.patients == ("a", "b")
    assert pooled.num_images.tolist() == [1, 2]
    assert pooled.probabilities.tolist() == [[0.5, 0.5], [0.5, 0.5]]
