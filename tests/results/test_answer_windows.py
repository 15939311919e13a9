"""Predictions of pictures of more than 8 bits: in the window of the files that were given of a patient."""

import numpy as np
import pytest
from PIL import Image

from mri_hpc.intake.decoding.recipe import FIRST_DECODER, Recipe
from mri_hpc.intake.decoding.window import window_of
from mri_hpc.intake.labels.images import find_images
from mri_hpc.results.answer import judge
from mri_hpc.results.patient_model import MeanOfImages

SIDE = 16
RECIPE = Recipe(size=SIDE)


def slice_of(peak):
    return (np.arange(SIDE * SIDE).reshape(SIDE, SIDE) * (peak / SIDE**2)).astype(np.uint16)


@pytest.fixture
def scans(tmp_path):
    """Slices of two patients, of different ranges."""
    for patient, scale in (("anna", 1), ("bela", 9)):
        folder = tmp_path / "scans" / patient
        folder.mkdir(parents=True)
        for number, peak in enumerate((4000, 2100, 700)):
            Image.fromarray(slice_of(peak * scale)).save(folder / f"{number}.png")
    return tmp_path / "scans"


def judged(paths, recipe=RECIPE, patient_from="folder"):
    """What a model is shown of each image, by its path."""
    found, shown = find_images(paths, patient_from).images, []

    def model(images):
        shown.extend(images)
        return np.ones((len(images), 2)) / 2

    answer = judge(found, recipe, ("a", "b"), model, patient_model=MeanOfImages())
    assert [image.name for image in answer.images] == [str(image.path) for image in found]
    return dict(zip((image.path for image in found), shown, strict=True))


def test_slices_of_a_patient_have_the_window_of_all_that_were_given(scans):
    found = judged([scans])
    for patient, scale in (("anna", 1), ("bela", 9)):
        greys = [slice_of(peak * scale) for peak in (4000, 2100, 700)]
        window = window_of(greys)
        for number, grey in enumerate(greys):
            assert np.array_equal(found[scans / patient / f"{number}.png"], window.levels(grey))


def test_a_picture_given_alone_is_a_group_of_one(scans):
    path = scans / "anna" / "2.png"
    alone = window_of([slice_of(700)]).levels(slice_of(700))
    assert np.array_equal(judged([path])[path], alone)
    assert np.array_equal(judged([scans], patient_from="file")[path], alone)


def test_a_run_of_0_1_0_keeps_its_rule(scans):
    path = scans / "anna" / "2.png"
    expected = (slice_of(700).astype(int) * 255 + 511) // 1023
    assert np.array_equal(judged([scans], Recipe(size=SIDE, decoder=FIRST_DECODER))[path], expected)
