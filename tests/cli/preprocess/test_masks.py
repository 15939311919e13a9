"""Masks beside volumes through the command: they label slices, and are no images themselves."""

import json
import shutil
import zipfile

import nibabel as nib
import numpy as np
import pytest

from mri_hpc.intake.decoding.recipe import Recipe
from mri_hpc.storage.store import Store
from mri_hpc.store import main as store_main

SHAPE = (24, 28, 8)
AFFINE = np.diag([6.0, 6.0, 8.0, 1.0])
MASKS = ("--masks", "*_seg.nii.gz")
SMALL = ("--size", 32, "--ids", "as-given")


@pytest.fixture
def raw(tmp_path):
    """Two patients with a tumour and its mask, and one control without one."""
    root = tmp_path / "raw"
    axes = np.meshgrid(*(np.linspace(-1, 1, count) for count in SHAPE), indexing="ij")
    for number, folder in enumerate(("glioma/p0", "glioma/p1", "control/p2")):
        (root / folder).mkdir(parents=True)
        grain = np.random.default_rng(number).integers(0, 9, SHAPE)
        voxels = np.where(sum(axis**2 for axis in axes) < 0.8, 500 + 100 * axes[0], 0) + grain
        save(root / folder / "t1.nii.gz", voxels.astype(np.int16))
        if "glioma" in folder:
            save(root / folder / f"{folder[-2:]}_seg.nii.gz", lesion(3, 5))
    return root


def save(file, voxels):
    nib.save(nib.Nifti1Image(voxels, AFFINE), file)


def lesion(start, stop):
    mask = np.zeros(SHAPE, np.uint8)
    mask[4:8, 10:16, start:stop] = 2
    return mask


def counts(preprocess, *words):
    status, out, err = preprocess(*words, "--json")
    assert status == 0, err
    return json.loads(out), err


def test_each_slice_has_the_class_of_what_its_mask_shows(raw, store, tmp_path, preprocess):
    words = (*SMALL, *MASKS, "--without-lesion", "control")
    found, err = counts(preprocess, raw, store, *words)
    assert (found["stored"], found["rejected"], found["labels_differ"]) == (3, 0, 0), err
    snapshot = Store(store).current()
    labels = [snapshot.text("label", row) for row in range(len(snapshot))]
    assert labels.count("glioma") == 4
    has_box = np.isfinite(snapshot.box).all(axis=1)
    assert [labels[row] == "glioma" for row in range(len(snapshot))] == has_box.tolist()
    # 24 x 28 pixels of 6 mm lie in 27 x 32 of the image.
    box = (2 / 32 + (24 - 6) / 24 * 27 / 32, (28 - 13) / 28, 4 / 24 * 27 / 32, 6 / 28)
    assert snapshot.box[has_box] == pytest.approx(np.array([box] * 4), abs=1e-6)
    again, err = counts(preprocess, raw, store)
    assert (again["already_there"], again["labels_differ"]) == (3, 0)
    for task in range(2):
        preprocess(raw, tmp_path / "other", *words, "--task", task, "--tasks", 2)
    assert Store(tmp_path / "other").current().content_digest == snapshot.content_digest
    (store / "chunks" / next((store / "chunks").iterdir()).name).unlink()
    assert store_main(["verify", str(store), "--repair", "--source", str(raw)]) == 0
    assert Store(store).current().content_digest == snapshot.content_digest


@pytest.mark.parametrize("below", ["", "scans/"])
def test_masks_lie_beside_volumes_in_an_archive_as_in_a_folder(raw, store, preprocess, below):
    folder = raw / "glioma" / "p1"
    with zipfile.ZipFile(raw / "glioma" / "p9.zip", "w") as archive:
        for file in folder.iterdir():
            archive.write(file, f"{below}{file.name}")
    shutil.rmtree(folder)
    words = (*SMALL, *MASKS, "--without-lesion", "control", "--accept", "folders")
    found, err = counts(preprocess, raw, store, *words)
    assert (found["stored"], found["rejected"]) == (3, 0), err
    snapshot = Store(store).current()
    assert snapshot.text("label", np.arange(len(snapshot))).tolist().count(b"glioma") == 4


def test_without_a_class_for_them_slices_without_a_lesion_are_left_out_and_so_are_volumes_without_a_mask(
    raw, store, preprocess
):
    looked, _err = counts(preprocess, raw, store, *SMALL, *MASKS, "--look")
    found, err = counts(preprocess, raw, store, *SMALL, *MASKS)
    reasons = {"no mask beside it (lesion)": 1}
    assert (found["stored"], found["images"], found["reasons"]) == (2, 4, reasons)
    assert (looked["images"], looked["rejected"], looked["files"]) == (4, reasons, 3)
    assert "--masks '*_seg.nii.gz'" in looked["command"]
    assert (
        "2 volumes: slices without a lesion are left out (a new store keeps them by --without-lesion" in err
    )
    save(raw / "control" / "p2" / "p2_seg.nii.gz", lesion(2, 3))
    found, _err = counts(preprocess, raw, store)
    assert (found["stored"], found["already_there"], found["rejected"]) == (1, 2, 0)


def test_slices_without_a_lesion_are_a_class_that_needs_no_folder(raw, store, preprocess):
    shutil.rmtree(raw / "control")
    found, err = counts(preprocess, raw, store, *SMALL, *MASKS, "--without-lesion", "control")
    assert found["stored"] == 2 and "all labels are" not in err
    assert "2 patients with images of several classes" in err
    _found, err = counts(preprocess, raw, store.with_name("other"), *SMALL, *MASKS)
    assert "all labels are 'glioma'" in err


def test_a_mask_that_changes_changes_its_volume(raw, store, preprocess):
    counts(preprocess, raw, store, *SMALL, *MASKS)
    save(raw / "glioma" / "p0" / "p0_seg.nii.gz", lesion(3, 6))
    found, err = counts(preprocess, raw, store)
    assert (found["already_there"], found["rejected"]) == (1, 2)
    assert "changed: other bytes than those stored" in err
    found, _err = counts(preprocess, raw, store, "--replace")
    assert (found["stored"], found["images"]) == (1, 3)


def test_masks_belong_to_the_recipe_which_without_them_is_as_before(raw, store, preprocess):
    for words, says in (
        (
            ("--masks", "{stem}_mask.nii.gz"),
            "are these of brains or of lesions? Type brain:{stem}_mask.nii.gz",
        ),
        (
            ("--without-lesion", "control"),
            "--without-lesion goes with masks of lesions: --masks lesion:PATTERN",
        ),
    ):
        status, _out, err = preprocess(raw, store, *SMALL, *words)
        assert status == 2 and says in err and not list(store.glob("chunks/*"))
    counts(preprocess, raw, store, *SMALL, *MASKS)
    status, _out, err = preprocess(raw, store, "--masks", "brain:*_seg.nii.gz")
    seam = "was made with another recipe: masks lesion:*_seg.nii.gz there, brain:*_seg.nii.gz here; use"
    assert status == 2 and seam in err
    assert Recipe().digest() == Recipe(masks=(), without_lesion="").digest()
    assert not {"masks", "without_lesion"} & Recipe().parameters().keys()


def test_a_volume_without_a_mask_is_taken_once_its_label_says_that_it_needs_none(raw, store, preprocess):
    words = (*SMALL, *MASKS, "--without-lesion", "control", "--accept", "folders")
    for label, outcome in (("glioma", (2, 1)), ("control", (1, 0))):
        (raw / "labels.csv").write_text(f"patient,label\np0,glioma\np1,glioma\np2,{label}\n")
        found, _err = counts(preprocess, raw, store, *words)
        assert (found["stored"], found["rejected"]) == outcome
