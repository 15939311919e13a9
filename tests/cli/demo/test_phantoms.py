"""Phantoms: the same ones again for a seed, every class, plane and patient, lesions where the class says."""

import csv
import hashlib
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mri_hpc.intake.labels.csv_labels import read_csv

ROOT = Path(__file__).parents[3]
PHANTOMS = ROOT / "tools" / "phantoms.py"
CLASSES = {"glioma", "healthy", "meningioma", "pituitary"}
PLANES = {"axial", "coronal", "sagittal"}
PATIENTS = 3
SIDE = 64


def make(out, *options):
    command = [sys.executable, str(PHANTOMS), str(out), *options]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("phantoms") / "set"
    done = make(out, "--patients", str(PATIENTS), "--size", str(SIDE), "--seed", "5")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("72 images of 3 patients of each of 4 classes")
    return out


def rows_of(folder):
    with (folder / "labels.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def pixels_of(folder, row):
    return np.asarray(Image.open(folder / row["path"]), dtype=float)


def digests(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_same_seed_makes_the_same_bytes_and_another_seed_others(folder, tmp_path):
    options = ("--patients", str(PATIENTS), "--size", str(SIDE))
    assert make(tmp_path / "again", *options, "--seed", "5").returncode == 0
    assert make(tmp_path / "other", *options, "--seed", "6").returncode == 0
    here, again, other = (digests(f) for f in (folder, tmp_path / "again", tmp_path / "other"))
    assert here == again
    assert here.keys() == other.keys()
    assert not set(here.values()) & set(other.values())


def test_each_patient_has_two_slices_in_each_plane(folder):
    rows = rows_of(folder)
    counts = Counter((row["label"], row["patient"], row["plane"]) for row in rows)
    assert set(counts.values()) == {2}
    assert len(counts) == len(CLASSES) * PATIENTS * len(PLANES)
    assert {row["label"] for row in rows} == CLASSES
    assert {row["plane"] for row in rows} == PLANES
    assert {row["path"] for row in rows} == {
        path.relative_to(folder).as_posix() for path in folder.rglob("*.jpg")
    }


def test_a_patient_is_in_one_split_and_each_class_in_all_of_them(folder):
    split = {(row["label"], row["patient"], row["split"]) for row in rows_of(folder)}
    assert len(split) == len(CLASSES) * PATIENTS
    assert Counter((label, name) for label, _, name in split) == Counter(
        {(label, name): 1 for label in CLASSES for name in ("train", "validation", "test")}
    )


def test_the_labels_are_those_that_preprocess_reads(folder):
    labels = read_csv(folder / "labels.csv", folder)
    assert labels.ignored == ()
    paths = [path.relative_to(folder).as_posix() for path in folder.rglob("*.jpg")]
    assert labels.without_file(paths) == []
    assert {labels.of(path).label for path in paths} == CLASSES
    assert all(labels.of(path).patient == path.split("/")[1] for path in paths)


def test_no_two_images_are_alike(folder):
    pictures = [name for name in digests(folder).items() if name[0].endswith(".jpg")]
    assert len({digest for _, digest in pictures}) == len(pictures)


def test_patients_differ_in_their_anatomy_and_not_only_in_noise(folder):
    first, second = (
        [pixels_of(folder, r) for r in rows_of(folder) if r["patient"] == f"healthy_00{n}"] for n in (1, 2)
    )
    # The receiver's noise has a deviation below 6 of 255 levels.
    assert min(np.abs(a - b).std() for a, b in zip(first, second, strict=True)) > 15


def test_the_head_is_bright_on_a_dark_background(folder):
    for row in rows_of(folder):
        pixels = pixels_of(folder, row)
        assert pixels.shape == (SIDE, SIDE)
        # Top corners: the neck leaves the image below, in two of the planes.
        corners = np.concatenate([pixels[:5, :5].ravel(), pixels[:5, -5:].ravel()])
        assert corners.mean() < 12, row["path"]
        assert 0.15 < (pixels > 40).mean() < 0.85, row["path"]
        assert pixels.max() > 130, row["path"]


def test_a_box_is_around_each_tumour_and_nothing_around_the_healthy(folder):
    for row in rows_of(folder):
        box = [row[name] for name in ("box_cx", "box_cy", "box_w", "box_h")]
        assert all(box) == any(box) == (row["label"] != "healthy"), row["path"]
        if any(box):
            x, y, width, height = map(float, box)
            assert 0.02 < width < 0.4 and 0.02 < height < 0.4, row["path"]
            assert 0.1 < x < 0.9 and 0.05 < y < 0.9, row["path"]


@pytest.fixture(scope="module")
def phantoms():
    import importlib.util

    spec = importlib.util.spec_from_file_location("phantoms", PHANTOMS)
    module = importlib.util.module_from_spec(spec)
    kept = list(sys.path)
    spec.loader.exec_module(module)
    yield module
    sys.path[:] = kept


def test_another_seed_makes_other_patients_and_not_only_other_noise(phantoms):
    field = phantoms.field_of(0)
    first, second = (next(phantoms.slices(field, "glioma", 1, seed=seed, side=SIDE)) for seed in (0, 1))
    assert np.abs(first.pixels.astype(float) - second.pixels).std() > 15


@pytest.mark.parametrize("kind", sorted(CLASSES - {"healthy"}))
def test_the_lesion_is_where_its_mask_is(phantoms, kind, monkeypatch):
    """Drawn with and without it, from the same random numbers, an image differs most inside the mask."""
    from phantom.lesions import Lesion

    field = phantoms.field_of(0)
    images = {}
    for is_drawn in (True, False):
        if not is_drawn:
            monkeypatch.setattr(Lesion, "draw", lambda _self, image, _scene, _brain: np.zeros_like(image))
        images[is_drawn] = list(phantoms.slices(field, kind, 1, seed=0, side=SIDE))
    for with_it, without in zip(images[True], images[False], strict=True):
        assert with_it.mask.sum() >= 6
        assert not without.mask.any()
        change = np.abs(with_it.pixels.astype(float) - without.pixels)
        assert change[with_it.mask].mean() > 15
        assert change[with_it.mask].mean() > 8 * change[~with_it.mask].mean()


def test_solid_tumours_are_bright_and_gliomas_have_a_dark_middle(phantoms):
    field = phantoms.field_of(0)
    inside = {
        kind: np.concatenate([
            image.pixels[image.mask]
            for number in range(1, 4)
            for image in phantoms.slices(field, kind, number, seed=0, side=SIDE)
        ])
        for kind in sorted(CLASSES - {"healthy"})
    }  # fmt: skip
    assert np.percentile(inside["meningioma"], 10) > 110
    assert np.percentile(inside["pituitary"], 10) > 100
    assert np.percentile(inside["glioma"], 15) < 75 < 115 < np.percentile(inside["glioma"], 85)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--patients", "2"), "--patients must be at least 3, got 2"),
        (("--size", "8"), "--size must be at least 32, got 8"),
        (("--seed", "-1"), "--seed must be at least 0, got -1"),
    ],
)
def test_impossible_numbers_are_refused_in_one_line(tmp_path, options, message):
    done = make(tmp_path / "set", *options)
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[-1]
    assert not (tmp_path / "set").exists()


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("kept")
    done = make(tmp_path)
    assert done.returncode == 2
    assert f"{tmp_path} is there already: choose a new folder" in done.stderr.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
