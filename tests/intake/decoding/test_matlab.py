"""Slices of Cheng's set as published: MATLAB 7.3 files that name class, patient and tumour themselves."""

import io

import h5py
import numpy as np
import pytest

from mri_hpc.base.errors import BadSource
from mri_hpc.intake.decoding.decoders import decode, decode_natively
from mri_hpc.intake.decoding.matlab import CLASSES, label_in
from mri_hpc.intake.decoding.recipe import Recipe
from mri_hpc.intake.files.content import in_memory
from mri_hpc.intake.labels.folder_labels import NO_CLASS_FOLDER, FolderLabels
from mri_hpc.intake.labels.label import Label
from mri_hpc.intake.own_labels import OwnLabels
from mri_hpc.storage.snapshot.catalogue import resolve
from tests.intake.decoding.mat_files import USER_BLOCK, mat_file, slices, tumour


def grey_in(data):
    (image,) = decode_natively(in_memory(data), Recipe(size=32))
    return image.grey


def test_the_slice_is_as_matlab_shows_it():
    assert np.array_equal(grey_in(mat_file()), slices(2))


@pytest.mark.parametrize("number", CLASSES)
def test_class_patient_and_box_are_the_published_ones(number, tmp_path):
    path = tmp_path / "1.mat"
    path.write_bytes(mat_file(number, "MR017260B", mask=tumour()))
    assert label_in(path) == Label(
        label=CLASSES[number], patient="MR017260B", box=(35 / 56, 15 / 40, 14 / 56, 10 / 40)
    )


def test_an_empty_array_says_nothing(tmp_path):
    path = tmp_path / "1.mat"
    path.write_bytes(mat_file())
    assert np.isnan(label_in(path).box).all()
    path.write_bytes(mat_file(4, ""))
    assert (label_in(path).label, label_in(path).patient) == ("", "")


def test_a_file_without_a_slice_is_rejected_with_the_reason():
    file = io.BytesIO()
    with h5py.File(file, "w", userblock_size=512) as hdf5:
        hdf5["cvind"] = np.arange(5.0)
    with pytest.raises(BadSource, match="MATLAB file without a slice in 'cjdata'"):
        grey_in(USER_BLOCK.ljust(512) + file.getvalue()[512:])


def test_nothing_outside_the_file_is_read(tmp_path):
    with h5py.File(tmp_path / "secret.h5", "w") as hdf5:
        hdf5["image"] = slices()
    file = io.BytesIO()
    with h5py.File(file, "w", userblock_size=512) as hdf5:
        hdf5.create_group("cjdata")["image"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "image")
    with pytest.raises(BadSource, match="without a slice"):
        grey_in(USER_BLOCK.ljust(512) + file.getvalue()[512:])


def test_an_image_that_would_fill_the_memory_is_rejected_before_it_is_read():
    file = io.BytesIO()
    with h5py.File(file, "w", userblock_size=512) as hdf5:
        hdf5.create_dataset(
            "cjdata/image", shape=(100_000, 100_000), dtype="i2", chunks=True, compression="gzip"
        )
    with pytest.raises(BadSource, match="larger than 40 million pixels"):
        grey_in(USER_BLOCK.ljust(512) + file.getvalue()[512:])


def test_damaged_bytes_are_a_bad_source():
    good = mat_file(compression="gzip")
    for part in (0.1, 0.3, 0.6, 0.9):
        with pytest.raises(BadSource, match="damaged picture"):
            grey_in(good[: int(len(good) * part)])
    random = np.random.default_rng(3)
    for _ in range(60):
        data = bytearray(good)
        for place in random.integers(512, len(data), 6):
            data[place] = random.integers(256)
        try:
            (sample,) = decode(in_memory(bytes(data)), Recipe(size=32))
        except BadSource as error:
            assert str(error)
        else:
            assert sample.pixels.shape == (32, 32)


def test_folders_hold_where_they_name_a_class_and_the_parts_of_the_set_do_not(tmp_path):
    labels = OwnLabels(FolderLabels(), tmp_path)
    for name, label in (("1.mat", 1), ("glioma/P1/2.mat", 1), ("brainTumorDataPublic_1-766/3.mat", 3)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(mat_file(label, "77"))
    assert labels.of("1.mat") == Label(label="meningioma", patient="77")
    assert labels.of("brainTumorDataPublic_1-766/3.mat") == Label(label="pituitary", patient="77")
    assert labels.num_differing == 0
    assert labels.of("glioma/P1/2.mat") == Label(label="glioma", patient="P1")
    assert labels.num_differing == 1
    (tmp_path / "4.mat").write_bytes(mat_file(9))
    with pytest.raises(BadSource, match=NO_CLASS_FOLDER):
        labels.of("4.mat")


def test_the_set_as_published_is_stored_with_its_classes_and_patients(tmp_path, preprocess):
    part = tmp_path / "raw" / "brainTumorDataPublic_1-766"
    part.mkdir(parents=True)
    for number in range(6):
        patient = f"1000{number // 2}"
        (part / f"{number + 1}.mat").write_bytes(mat_file(1 + number // 2, patient, mask=tumour()))
    store = tmp_path / "store"
    status, out, err = preprocess(tmp_path / "raw", store, "--size", 32, "--ids", "as-given")
    assert (status, out.partition(" (")[0]) == (0, "stored 6, already there 0, rejected 0")
    assert "of themselves" not in err
    snapshot = resolve(store)
    assert sorted(snapshot.classes) == ["glioma", "meningioma", "pituitary"]
    assert {name.decode() for name in snapshot.patient_names.tolist()} == {"10000", "10001", "10002"}
    assert preprocess(tmp_path / "raw", store)[1].startswith("stored 0, already there 6, rejected 0")
