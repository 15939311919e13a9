"""Answers about DICOM: a series is judged as one, whichever of its files come first."""

import shutil

import nibabel as nib
import numpy as np
import pytest

from mri_hpc.intake.decoding.recipe import Recipe
from mri_hpc.intake.labels.images import find_images
from mri_hpc.results.answers.judging import Asked, judge
from mri_hpc.results.statistics.patient_model import MeanOfImages
from tests.harness import dicom_phantoms as phantoms

RECIPE = Recipe(size=32)


@pytest.fixture
def folder(tmp_path):
    """A patient's series of a ball in the dark, a file a slice, in an order that is not theirs."""
    shape = (40, 40, 5)
    where = np.moveaxis(np.indices(shape), 0, -1) - (np.array(shape) - 1) / 2
    ball = np.linalg.norm(where / (24, 24, 4), axis=-1) < 1
    voxels = (ball * (1000 + 100 * np.arange(5))).astype(np.uint16)
    patient = tmp_path / "images" / "P17"
    patient.mkdir(parents=True)
    for number, one in enumerate(phantoms.classic(voxels, np.diag([4.0, 4.0, 5.0, 1.0]))):
        (patient / f"{(7 * number) % 5}.dcm").write_bytes(phantoms.as_bytes(one))
    return patient


def judged(*paths, recipe=RECIPE, patient_from="folder"):
    asked = []

    def model(images):
        asked.append(images)
        return np.tile([0.25, 0.75], (len(images), 1))

    images = find_images(paths, patient_from).images
    (answer,) = judge(images, recipe, [Asked(classes=("a", "b"), model=model, patient_model=MeanOfImages())])
    return answer, np.concatenate(asked) if asked else None


def test_the_slices_of_a_series_are_judged_in_one_window_and_in_order(folder):
    answer, images = judged(folder.parent)
    assert not answer.rejected
    assert [image.name.partition("#")[2] for image in answer.images] == ["0", "1", "2", "3", "4"]
    assert [image.patient for image in answer.images] == ["P1"] * 5
    brightest = images.max(axis=(1, 2)).tolist()
    assert brightest == sorted(brightest)
    assert brightest[0] < brightest[-1]


def test_slices_that_are_named_as_pictures_are_refused(folder):
    for file in list(folder.iterdir())[1:]:
        file.rename(file.with_suffix(".png"))
    answer, images = judged(folder.parent)
    assert len(images) == 1
    assert [bad.reason.partition(":")[0] for bad in answer.rejected] == [
        "DICOM that is named as another format"
    ] * 4


def test_a_second_copy_of_a_file_is_not_judged_twice(folder):
    shutil.copy(folder / "0.dcm", folder / "copy.dcm")
    answer, images = judged(folder.parent)
    assert len(images) == 5
    assert [bad.reason.partition(":")[0] for bad in answer.rejected] == ["duplicate of an instance"]


def test_a_header_names_the_patient_before_a_folder_does(folder):
    """A study lies in a folder a series: the first folder is no patient."""
    assert {image.patient for image in judged(folder.parent)[0].images} == {"P1"}
    assert {image.patient for image in judged(folder.parent, patient_from="none")[0].images} == {""}
    by_file = {image.patient for image in judged(folder.parent, patient_from="file")[0].images}
    assert len(by_file) == 1
    assert by_file != {"P1"}


@pytest.mark.parametrize(("series", "kinds", "others"), [("t1", 5, {"t2": 1}), ("t2", 5, {"t1": 1})])
def test_series_that_the_run_has_not_learnt_from_are_left_out(folder, series, kinds, others):
    for number, one in enumerate(sorted(folder.iterdir())):
        made = phantoms.pydicom.dcmread(one)
        made.ScanningSequence, made.RepetitionTime, made.EchoTime = "SE", 500, 9
        one.write_bytes(phantoms.as_bytes(made))
        made.RepetitionTime, made.EchoTime = 5000, 99
        made.SeriesInstanceUID, made.SOPInstanceUID = phantoms.uid(2), phantoms.uid(2, number)
        (folder / f"{number}_of_t2.dcm").write_bytes(phantoms.as_bytes(made))
    answer, images = judged(folder.parent, recipe=Recipe(size=32, series=series))
    assert (len(images), dict(answer.left_out_series), answer.rejected) == (kinds, others, ())
    assert answer.to_dict()["left_out_series"] == others
    assert dict(judged(folder.parent)[0].left_out_series) == {}


def test_where_all_series_are_left_out_nothing_is_judged(folder):
    answer, images = judged(folder.parent, recipe=Recipe(size=32, series="adc"))
    assert images is None
    assert (answer.images, dict(answer.left_out_series)) == ((), {"unknown": 1})


def test_masks_are_no_images_and_those_of_brains_are_needed(tmp_path):
    folder = tmp_path / "images" / "P17"
    folder.mkdir(parents=True)
    voxels = np.tile(np.arange(40, dtype=np.int16)[:, None, None] * 20 + 9, (1, 40, 5))
    brain = np.zeros((40, 40, 5), np.uint8)
    brain[10:30, 10:30, 1:4] = 1
    for name, data in (("t1", voxels), ("brain/t1", brain), ("t1_seg", 0 * brain)):
        (folder / name).parent.mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(data, np.diag([5.0, 5.0, 6.0, 1.0])), folder / f"{name}.nii")
    recipe = Recipe(size=32, masks=("brain:*/brain/{name}", "lesion:{stem}_seg.nii"), without_lesion="none")
    answer, _images = judged(folder.parent, recipe=recipe)
    assert [image.name.partition("#")[2] for image in answer.images] == ["1", "2", "3"]
    assert not answer.rejected
    (folder / "brain" / "t1.nii").unlink()
    refused = []
    run = Asked(classes=("a", "b"), model=lambda images: images, patient_model=None)
    judge(find_images([folder]).images, recipe, [run], on_rejected=refused.append)
    assert [bad.reason for bad in refused] == ["no mask beside it (brain)"]
