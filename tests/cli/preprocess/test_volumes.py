"""Volumes through the commands: stored once by any tasks, looked at, and drawn with their sides."""

import json
import shutil
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from mri_hpc.intake.decoding.recipe import Recipe, load_recipe
from mri_hpc.storage.snapshot.catalogue import resolve
from mri_hpc.store import main as store_main

AFFINE = np.diag([-5.0, -5.0, 6.0, 1.0])


def head(seed):
    axes = np.meshgrid(*(np.linspace(-1, 1, count) for count in (32, 36, 20)), indexing="ij")
    ball = sum(axis**2 for axis in axes) < 0.7
    grain = np.random.default_rng(seed).integers(0, 9, ball.shape)
    return (np.where(ball, 400 + 150 * axes[0] + 100 * axes[2], 3 + axes[1]) + grain).astype(np.int16)


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Two classes of three patients each, a volume a patient; of one the side is not told."""
    root = tmp_path_factory.mktemp("scans") / "raw"
    for number in range(6):
        file = (
            root / ("glioma", "none")[number % 2] / f"p{number}" / ("t1.nii.gz" if number < 4 else "t1.nii")
        )
        file.parent.mkdir(parents=True)
        image = nib.Nifti1Image(head(number), None)
        image.set_sform(AFFINE, int(number > 0))
        image.set_qform(AFFINE, int(number > 0))
        nib.save(image, file)
    return root


def test_a_store_of_volumes_does_not_depend_on_tasks(scans, store, tmp_path, preprocess):
    status, out, err = preprocess(scans, store, "--size", 32)
    assert (status, out.partition(" (")[0]) == (0, "stored 6, already there 0, rejected 0")
    assert f"({len(resolve(store)):,} images in " in out
    assert "\nnext: python -m mri_hpc.store sheet " in err
    assert "keep a copy of it" in err and "not compared with the test images" not in err
    assert "slices of volumes left out: no head in it" in err
    assert "1 volume: side unknown: the file does not tell left from right" in err
    for task in range(3):
        preprocess(scans, tmp_path / "other", "--size", 32, "--task", task, "--tasks", 3)
    assert resolve(store).content_digest == resolve(tmp_path / "other").content_digest
    snapshot = resolve(store)
    assert len(np.unique(snapshot.key)) == len(snapshot) > 6 * 14
    assert set(snapshot.plane.tolist()) == {0}
    assert np.isfinite(snapshot.position).all()
    status, out, _err = preprocess(scans, store)
    assert (status, out.partition(" (")[0]) == (0, "stored 0, already there 6, rejected 0")


def test_a_store_keeps_its_plane_and_slices(scans, store, preprocess):
    chosen = ("--plane", "coronal", "--slices", "middle:4")
    status, _out, err = preprocess(scans, store, "--size", 32, *chosen)
    assert status == 0, err
    assert len(resolve(store)) == 6 * 4
    assert preprocess(scans, store)[0] == 0
    status, _out, err = preprocess(scans, store, "--slices", "all")
    assert status == 2 and "slices middle:4 there, all here" in err
    status, _out, err = preprocess(scans, store, "--slices", "some")
    assert status == 2 and "--slices is all, middle:N or every:N" in err


def test_a_store_in_which_nothing_could_be_stored_says_that_it_may_go(scans, store, tmp_path, preprocess):
    raw = tmp_path / "raw"
    for name in ("glioma/p0", "none/p5"):
        (raw / name).mkdir(parents=True)
        (raw / name / "t1.nii.gz").write_bytes((scans / "glioma" / "p0" / "t1.nii.gz").read_bytes())
    status, _out, err = preprocess(raw, store, "--size", 32, "--plane", "sagittal")
    assert (status, "none of the 2 files in" in err) == (2, True)
    status, _out, err = preprocess(raw, store, "--plane", "axial")
    assert status == 2
    assert "use another --store, or remove this one: no image is stored in it" in err
    shutil.rmtree(store)
    assert preprocess(raw, store, "--size", 32, "--plane", "axial")[0] == 0
    assert "remove this one" not in preprocess(raw, store, "--plane", "sagittal")[2]


def test_a_recipe_without_a_plane_is_as_it_was_before_there_were_any(scans, store, preprocess):
    preprocess(scans, store, "--size", 32)
    assert not {"plane", "slices"} & json.loads((store / "recipe.json").read_bytes()).keys()
    assert load_recipe(store / "recipe.json").plane == "acquired"
    assert (
        Recipe().digest() == Recipe(plane="acquired", slices="all").digest() != Recipe(plane="axial").digest()
    )


def test_libraries_of_volumes_are_loaded_by_a_volume_alone():
    code = "import sys, mri_hpc.preprocess; print({'nibabel', 'isal'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_look_says_what_it_sees_of_volumes(scans, store, preprocess):
    status, out, _err = preprocess(scans, store, "--look")
    assert status == 0
    assert "volumes   1: side unknown" in out
    assert "slices of volumes: no head in it" in out
    status, out, _err = preprocess(scans, store, "--look", "--slices", "middle:4", "--json")
    found = json.loads(out)
    assert found["images"] == 24 and found["slices_left_out"] > 0
    assert "--slices middle:4" in found["command"]


def test_a_sheet_shows_letters_where_the_side_is_known(scans, store, preprocess, tmp_path, capsys):
    preprocess(scans, store, "--size", 128, "--ids", "as-given", "--slices", "middle:1")
    drawn = {}
    for patient in ("p0", "p1"):
        file = tmp_path / f"{patient}.png"
        assert store_main(["sheet", str(store), str(file), "--patient", patient]) == 0
        drawn[patient] = np.asarray(Image.open(file))[2:-2, 2:-2]
    capsys.readouterr()
    # A head is narrower than a square: what is bright at the left edge is a letter.
    assert drawn["p0"][50:78, :5].max() < 100 < drawn["p1"][50:78, :5].max()
