"""Predictions of pictures of more than 8 bits: in the window of the files that were given of a patient."""

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from mri_hpc.intake.decoding.recipe import FIRST_DECODER, Recipe
from mri_hpc.intake.decoding.window import window_of
from mri_hpc.intake.labels.images import find_images
from mri_hpc.results.answers.judging import Asked, judge
from mri_hpc.results.statistics.patient_model import MeanOfImages

SIDE = 16
RECIPE = Recipe(size=SIDE)


def slice_of(peak):
    return (np.arange(SIDE * SIDE).reshape(SIDE, SIDE) * (peak / SIDE**2)).astype(np.uint16)


def asked(model):
    """A run whose network is this."""
    return Asked(classes=("a", "b"), model=model, patient_model=MeanOfImages())


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

    (answer,) = judge(found, recipe, [asked(model)])
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


def test_a_volume_given_alone_is_a_patient_and_its_slices_come_in_order(tmp_path):
    axes = np.meshgrid(*(np.linspace(-1, 1, count) for count in (30, 34, 20)), indexing="ij")
    head = np.where(sum(axis**2 for axis in axes) < 0.7, 500 + 200 * axes[2], 3).astype(np.int16)
    image = nib.Nifti1Image(head[..., ::-1], None)
    image.set_sform(np.array([[5, 0, 0, 0], [0, 5, 0, 0], [0, 0, -6, 114], [0, 0, 0, 1.0]]), 1)
    nib.save(image, tmp_path / "scan.nii.gz")

    def model(images):
        assert (np.diff(images[:, SIDE // 2, SIDE // 2].astype(int)) > 0).all()
        return np.ones((len(images), 2)) / 2

    found = find_images([tmp_path / "scan.nii.gz"]).images
    (answer,) = judge(found, RECIPE, [asked(model)])
    numbers = [int(image.name.partition("#")[2]) for image in answer.images]
    assert numbers == sorted(numbers) and len(numbers) > 14
    (patient,) = answer.patients()
    assert patient.patient == str(tmp_path / "scan.nii.gz") and patient.num_images == len(numbers)
    found = find_images([tmp_path / "scan.nii.gz"], "none").images
    assert not judge(found, RECIPE, [asked(model)])[0].patients()
