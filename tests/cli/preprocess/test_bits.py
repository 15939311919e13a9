"""A store of 16 bits: finer levels of the same pictures, read by everything that reads a store."""

import json

import h5py
import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image

from mri_hpc.intake.decoding.recipe import load_recipe
from mri_hpc.intake.decoding.window import window_of
from mri_hpc.intake.labels.images import find_images
from mri_hpc.loading.dataset import Dataset
from mri_hpc.loading.loader import Loader
from mri_hpc.results.answers.judging import Asked, judge
from mri_hpc.results.statistics.patient_model import MeanOfImages
from mri_hpc.storage.disk.layout import StoreDir
from mri_hpc.storage.disk.private_tables import sources_of
from mri_hpc.storage.reading.reader import Reader
from mri_hpc.storage.snapshot.catalogue import resolve
from mri_hpc.store import main as store_main

SIDE = 32


def head(number, peak):
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    tissue = 0.6 + 0.3 * np.sin(5 * x + number) * np.cos(4 * y)
    return np.where(np.hypot(x, y) < 0.8, tissue * peak, 0)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A source of pictures of 12 and of 8 bits and a volume, its store of 16 bits, and a plain one of 8."""
    from mri_hpc.preprocess import main

    root = tmp_path_factory.mktemp("bits")
    for number in range(12):
        file = (
            root
            / "raw"
            / ("glioma", "none")[number % 2]
            / f"p{number // 2 % 4}{number % 2}"
            / f"{number}.png"
        )
        file.parent.mkdir(parents=True, exist_ok=True)
        grey = head(number, 4000).astype(np.uint16) if number < 8 else head(number, 250).astype(np.uint8)
        Image.fromarray(grey).save(file)
    ball = np.stack([head(40 + 3 * number, 900) for number in range(12)], axis=2)
    image = nib.Nifti1Image(ball.astype(np.int16), None)
    image.set_sform(np.diag([6, 6, 6, 1]), 1)
    nib.save(image, root / "raw" / "none" / "p11" / "t1.nii")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MRI_KEY_FILE", str(root / "site.key"))
        given = ("--source", str(root / "raw"), "--store", str(root / "store"))
        assert main([*given, "--bits", "16", "--size", str(SIDE)]) == 0
        # As the store is, without saying so again.
        assert main(given) == 0
        assert main([*given[:3], str(root / "plain"), "--size", str(SIDE)]) == 0
    return root


def images_of(root):
    """The stored images of pictures, by their name; and all of them."""
    snapshot = resolve(root / "store")
    with Reader(root / "store", snapshot) as reader:
        images = reader.read(np.arange(len(snapshot)))
    paths = sources_of(StoreDir(root / "store"), snapshot.key.tolist())
    return {paths[key]: image for key, image in zip(snapshot.key.tolist(), images, strict=True)}, images


def test_pictures_have_the_levels_of_their_window_in_16_bits(stored):
    by_path, images = images_of(stored)
    assert images.dtype == np.uint16
    for patient, numbers in ((f"glioma/p{number}0", (2 * number,)) for number in range(3)):
        files = [f"{patient}/{2 * n}.png" for n in range(6) if f"{patient}/{2 * n}.png" in by_path]
        greys = {file: np.asarray(Image.open(stored / "raw" / file)) for file in files}
        window = window_of(grey for grey in greys.values() if grey.dtype != np.uint8)
        for file, grey in greys.items():
            wanted = grey.astype(int) * 257 if grey.dtype == np.uint8 else window.levels(grey, 65535)
            assert np.array_equal(by_path[file], wanted), (file, numbers)
    assert len(np.unique(images)) > 1000


def test_slices_of_a_volume_are_those_of_8_bits_in_finer_steps(stored):
    plain = stored / "plain"
    deep, both = resolve(stored / "store"), resolve(plain)
    slices, others = (np.flatnonzero(np.isfinite(one.position)) for one in (deep, both))
    assert len(slices) == len(others) == 12
    fine = Reader(stored / "store", deep).read(slices).astype(int)
    coarse = Reader(plain, both).read(others).astype(int)
    order, back = np.argsort(deep.position[slices]), np.argsort(both.position[others])
    assert np.abs(fine[order] - 257 * coarse[back]).max() <= 257


def test_a_store_holds_one_depth(stored, preprocess):
    status, _out, err = preprocess(stored / "raw", stored / "store", "--bits", 8)
    assert status == 2 and "bits 16 there, 8 here; use another --store" in err
    status, _out, err = preprocess(stored / "raw", stored / "store", "--bits", 12)
    assert status == 2 and "--bits takes 8, 16, found '12'" in err


def test_its_chunks_are_as_the_layout_says(stored):
    by_path, _images = images_of(stored)
    (chunk,) = (stored / "store" / "chunks").glob("*.h5")
    with h5py.File(chunk) as file:
        assert (file.attrs["format"], file["images"].dtype) == (2, np.dtype("<u2"))
        offset, pixels = file["images"].id.get_chunk_info(0).byte_offset, file["images"][...]
    data = chunk.read_bytes()[offset : offset + pixels.nbytes]
    assert data == pixels.astype("<u2").tobytes()
    assert sum(pixels[0].tobytes() == image.tobytes() for image in by_path.values()) <= 1
    snapshot = json.loads((next((stored / "store" / "snapshots").iterdir()) / "snapshot.json").read_text())
    assert (snapshot["format"], snapshot["bits"]) == (4, 16)


def test_actions_of_the_store_read_it(stored, capsys, tmp_path):
    store, exported = str(stored / "store"), tmp_path / "whole.h5"
    assert store_main(["info", store]) == 0 and "letterbox, 16 bits" in capsys.readouterr().out
    sheets = []
    for name in ("store", "plain"):
        assert store_main(["sheet", str(stored / name), str(tmp_path / "sheet.png")]) == 0
        sheets.append(np.asarray(Image.open(tmp_path / "sheet.png")).astype(int))
    assert np.abs(sheets[0] - sheets[1]).max() <= 1
    assert store_main(["export", store, "--single", str(exported)]) == 0
    with h5py.File(exported) as file:
        assert np.array_equal(file["images"][...], images_of(stored)[1])
    assert store_main(["verify", store]) == 0


def test_an_audit_sees_what_it_sees_in_8_bits(stored, capsys):
    found = []
    for name in ("store", "plain"):
        store_main(["audit", str(stored / name)])
        found.append(capsys.readouterr().out.replace(f"/{name}/", "/"))
    assert found[0] == found[1] and "the same slice, by its looks" in found[0]


def test_loaders_give_16_bits(stored):
    _by_path, images = images_of(stored)
    dataset = Dataset(stored / "store", "all")
    assert torch.equal(dataset[3][0], torch.from_numpy(images[3:4]))
    batch, labels = next(iter(torch.utils.data.DataLoader(dataset, batch_size=5)))
    assert (batch.dtype, batch.shape, len(labels)) == (torch.uint16, (5, 1, SIDE, SIDE), 5)
    first = next(iter(Loader(dataset, batch_size=6).epoch(0)))
    assert first.images.dtype == torch.uint16
    rows = np.searchsorted(dataset.snapshot.key, first.keys)
    assert np.array_equal(first.images.numpy(), images[rows])


def test_predictions_are_of_what_the_store_would_hold(stored):
    by_path, _images = images_of(stored)
    shown, found = [], find_images([stored / "raw" / "glioma"], "folder").images

    def model(images):
        shown.extend(images)
        return np.ones((len(images), 2)) / 2

    run = Asked(classes=("a", "b"), model=model, patient_model=MeanOfImages())
    judge(found, load_recipe(stored / "store" / "recipe.json"), [run])
    for image, pixels in zip(found, shown, strict=True):
        assert pixels.dtype == np.uint16
        assert np.array_equal(pixels, by_path[image.path.relative_to(stored / "raw").as_posix()])
