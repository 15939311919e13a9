"""What preprocess makes of stacks, of masks beside their pictures, and of slices without a head."""

import json
from collections import Counter

import numpy as np
import pytest
import tifffile
from PIL import Image

from mri_hpc.intake.decoding.left_out import shows_head
from mri_hpc.intake.decoding.samples import Sample
from mri_hpc.storage.disk.layout import StoreDir
from mri_hpc.storage.disk.private_tables import sources_of
from mri_hpc.storage.reading.reader import Reader
from mri_hpc.storage.snapshot.catalogue import resolve
from tests.intake.decoding.mat_files import mat_file, slices

SMALL = ("--size", 32)


def head(number=0, white=200):
    """A slice of a head on black."""
    y, x = np.mgrid[-1:1:48j, -1:1:48j]
    tissue = 0.6 + 0.3 * np.sin(5 * x + number) * np.cos(4 * y)
    return np.where(np.hypot(x, y) < 0.8, tissue * white, 0).astype(np.uint8 if white < 256 else np.uint16)


def air(seed=0, loudness=2.0):
    """A slice above the head: noise alone."""
    noise = np.hypot(*np.random.default_rng(seed).normal(0, loudness, (2, 224, 224)))
    return np.clip(noise, 0, 255).astype(np.uint8)


def stack(path, slices):
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, slices, photometric="minisblack")


def save_stack(path, slices):
    """A TIFF of pages or a GIF of frames, by the ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    first, *others = (Image.fromarray(one) for one in slices)
    first.save(path, save_all=True, append_images=others)


def pixels_of(store):
    snapshot = resolve(store)
    with Reader(store, snapshot) as reader:
        images = reader.read(np.arange(len(snapshot)))
    return {
        key: (number, image.tobytes())
        for key, number, image in zip(
            snapshot.key.tolist(), snapshot.slice_index.tolist(), images, strict=True
        )
    }


def picture(path, grey):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(grey).save(path)


@pytest.fixture
def raw(tmp_path):
    """Two classes of a picture each."""
    for name in ("glioma", "pituitary"):
        picture(tmp_path / "raw" / name / "P1" / "0.png", head())
    return tmp_path / "raw"


def counts(preprocess, *words):
    status, out, err = preprocess(*words, "--json")
    assert status == 0, err
    return json.loads(out), err


def test_slices_of_stacks_are_images_in_order_with_one_window_and_one_patient(raw, tmp_path, preprocess):
    volume = np.stack([head(number, 3000 + 200 * number) for number in range(5)])
    stack(raw / "glioma" / "P2" / "volume.tif", volume)
    stack(raw / "glioma" / "unnamed.tif", volume[:3])
    found, err = counts(preprocess, raw, tmp_path / "store", *SMALL)
    assert (found["stored"], found["images"], found["rejected"]) == (4, 10, 0)
    assert (found["without_patient"], found["unnamed_stacks"]) == (0, 1)
    assert "1 stack names no patient: each is taken for a patient of its own" in err
    snapshot = resolve(tmp_path / "store")
    slices = {
        patient: sorted(snapshot.slice_index[snapshot.patient == patient].tolist())
        for patient in set(snapshot.patient.tolist())
    }
    assert sorted(slices.values()) == [[-1], [-1], [0, 1, 2], [0, 1, 2, 3, 4]] or sorted(slices.values()) == [
        [-1, -1],
        [0, 1, 2],
        [0, 1, 2, 3, 4],
    ]
    again, _err = counts(preprocess, raw, tmp_path / "store")
    assert (again["stored"], again["already_there"], again["labels_differ"]) == (0, 4, 0)


def test_slices_of_one_stack_are_no_twins_and_those_of_its_copy_are(raw, tmp_path, preprocess):
    stack(raw / "glioma" / "P2" / "volume.tif", np.stack([head(number) for number in range(5)]))
    (raw / "pituitary" / "P1" / "0.png").unlink()
    counts(preprocess, raw, tmp_path / "store", *SMALL)
    snapshot = resolve(tmp_path / "store")
    assert (len(snapshot), snapshot.num_twins) == (6, 0)
    copy = raw / "glioma" / "P2" / "copy.tif"
    copy.write_bytes((raw / "glioma" / "P2" / "volume.tif").read_bytes())
    counts(preprocess, raw, tmp_path / "store", *SMALL)
    assert resolve(tmp_path / "store").num_twins == 5


def test_a_stack_is_not_replaced_by_another_of_which_it_would_keep_slices(raw, tmp_path, preprocess):
    volume, store = np.stack([head(number, 3000) for number in range(5)]), tmp_path / "store"
    stack(raw / "glioma" / "P2" / "volume.tif", volume)
    stack(raw / "glioma" / "P2" / "twin.tif", volume)
    preprocess(raw, store, *SMALL)
    before = resolve(store)
    stack(raw / "glioma" / "P2" / "volume.tif", volume[:3] + 9)
    assert (
        "rejected 1: changed: other bytes than those stored (--replace accepts)" in preprocess(raw, store)[2]
    )
    for _again in range(2):
        status, out, err = preprocess(raw, store, "--replace")
        assert (status, out.startswith("stored 0, already there 3, rejected 1")) == (0, True)
        assert "rejected 1: changed: some slices that are stored would stay beside its fewer ones" in err
    now = resolve(store)
    assert now.content_digest == before.content_digest
    assert int(now.is_rejected.sum()) == 1
    assert "--replace --accept shorter)" in err
    out = preprocess(raw, store, "--replace", "--accept", "shorter")[1]
    assert out.startswith("stored 1, already there 3, rejected 0")
    preprocess(raw, tmp_path / "fresh", *SMALL)
    assert pixels_of(store) == pixels_of(tmp_path / "fresh")


@pytest.mark.parametrize("kind", ["tif", "gif"])
def test_a_stack_is_replaced_by_one_of_as_many_slices_or_more_all_at_once(raw, tmp_path, preprocess, kind):
    volume, store = np.stack([head(number) for number in range(6)]), tmp_path / "store"
    file, twin = raw / "glioma" / "P2" / f"volume.{kind}", raw / "glioma" / "P3" / f"twin.{kind}"
    for path in (file, twin):
        save_stack(path, volume[:5])
    preprocess(raw, store, *SMALL)
    for changed in (255 - volume[:5], volume // 2):
        save_stack(file, changed)
        assert preprocess(raw, store)[1].startswith("stored 0, already there 3, rejected 1")
        status, out, err = preprocess(raw, store, "--replace")
        assert (status, out.startswith("stored 1, already there 3, rejected 0")) == (0, True), err
        assert preprocess(raw, store)[1].startswith("stored 0, already there 4, rejected 0")
    fresh = tmp_path / "fresh"
    preprocess(raw, fresh, *SMALL)
    assert pixels_of(store) == pixels_of(fresh)
    assert int(resolve(store).is_rejected.sum()) == 0


def test_a_stack_takes_the_place_of_a_picture_but_no_picture_that_of_a_stack(raw, tmp_path, preprocess):
    volume, store = np.stack([head(number) for number in range(3)]), tmp_path / "store"
    file = raw / "glioma" / "P2" / "volume.tif"
    stack(file, volume[:1])
    preprocess(raw, store, *SMALL)
    stack(file, volume)
    assert preprocess(raw, store, "--replace")[1].startswith("stored 1, already there 2, rejected 0")
    assert len(resolve(store)) == 5
    stack(file, volume[:1] // 2)
    assert preprocess(raw, store, "--replace")[1].startswith("stored 0, already there 2, rejected 1")
    out = preprocess(raw, store, "--replace", "--accept", "shorter")[1]
    assert out.startswith("stored 1, already there 2, rejected 0")
    assert resolve(store).slice_index.tolist() == [-1] * 3


def test_every_slice_of_a_stack_is_found_in_the_private_names(raw, tmp_path, preprocess):
    stack(raw / "glioma" / "P2" / "volume.tif", np.stack([head(number) for number in range(4)]))
    preprocess(raw, tmp_path / "store", *SMALL)
    keys = resolve(tmp_path / "store").key.tolist()
    paths = sources_of(StoreDir(tmp_path / "store"), keys)
    assert sorted(paths.values()).count("glioma/P2/volume.tif") == 4
    assert len(paths) == 6


def test_a_unit_of_stacks_is_sealed_before_it_fills_the_memory(raw, tmp_path, preprocess):
    for number in range(3):
        stack(raw / "glioma" / f"P{number + 2}" / "volume.tif", np.stack([head(n) for n in range(4)]))
    found, _err = counts(preprocess, raw, tmp_path / "store", *SMALL, "--chunk-images", 5)
    assert found["images"] == 14
    sizes = np.bincount(resolve(tmp_path / "store").chunk)
    assert sizes.max() <= 9


@pytest.mark.parametrize("name", ["0_mask.png", "0_seg.tif", "0-Label.png", "0_mask.jpg"])
def test_masks_beside_their_pictures_are_left_out_and_counted(name, raw, tmp_path, preprocess):
    mask = np.where(head() > 120, 255, 0).astype(np.uint8)
    picture(raw / "glioma" / "P1" / name, mask)
    picture(raw / "glioma" / "P1" / "1.png", head(1))
    picture(raw / "glioma" / "P1" / "1_mask.png", np.zeros_like(mask))
    found, err = counts(preprocess, raw, tmp_path / "store", *SMALL)
    assert (found["stored"], found["rejected"], found["masks"]) == (3, 0, 2)
    assert "2 masks left out" in err
    again, _err = counts(preprocess, raw, tmp_path / "store")
    assert (again["stored"], again["already_there"], again["masks"]) == (0, 3, 2)


def test_what_is_only_named_like_a_mask_or_only_has_two_values_is_stored(raw, tmp_path, preprocess):
    two_values = np.where(head() > 120, 255, 0).astype(np.uint8)
    picture(raw / "glioma" / "P1" / "0_mask.png", head(1))
    picture(raw / "glioma" / "P1" / "two.png", two_values)
    picture(raw / "glioma" / "P1" / "alone_mask.png", two_values)
    found, _err = counts(preprocess, raw, tmp_path / "store", *SMALL)
    assert (found["stored"], found["masks"]) == (5, 0)


def test_slices_without_a_head_are_counted_and_left_out_where_asked(raw, tmp_path, preprocess):
    for number in range(3):
        picture(raw / "glioma" / "P1" / f"air{number}.png", air(number))
    stack(raw / "glioma" / "P2" / "volume.tif", np.stack([air()[:48, :48], head(), head(1)]))
    found, err = counts(preprocess, raw, tmp_path / "all", *SMALL)
    assert (found["images"], found["no_head"], found["empty"]) == (8, 4, 0)
    assert "4 images show no head" in err
    found, err = counts(preprocess, raw, tmp_path / "heads", *SMALL, "--skip-empty")
    assert (found["images"], found["no_head"], found["empty"]) == (4, 0, 3)
    assert "3 files left out: no head in it" in err
    again, _err = counts(preprocess, raw, tmp_path / "heads", "--skip-empty")
    assert (again["stored"], again["already_there"], again["empty"]) == (0, 3, 3)


@pytest.mark.parametrize("loudness", [0.0, 2.0, 10.0, 40.0])
def test_noise_however_loud_is_no_head(loudness):
    assert not shows_head(Sample(pixels=air(1, loudness)))
    letterboxed = np.zeros((224, 224), np.uint8)
    letterboxed[56:168] = air(2, loudness)[:112]
    assert not shows_head(Sample(pixels=letterboxed, placed=(0.0, 0.25, 1.0, 0.5)))


def test_every_real_slice_shows_a_head_also_a_small_and_a_dim_one(real_data):
    slices = [np.asarray(Image.open(path)) for path in sorted((real_data / "cheng").glob("*/*.jpg"))[::60]]
    assert len(slices) >= 40
    for grey in slices:
        assert shows_head(Sample(pixels=grey))
        assert shows_head(Sample(pixels=grey // 3))
    small = air(3)
    small[100:140, 90:130] += 100
    assert shows_head(Sample(pixels=small))


def looked_at_and_stored(preprocess, raw, store, *words):
    """Documents of a look and of what was stored then, which say the same."""
    looked, _err = counts(preprocess, raw, store, *SMALL, *words, "--look")
    stored, _err = counts(preprocess, raw, store, *SMALL, *words)
    for name in ("images", "masks", "empty", "no_head", "unnamed_stacks", "own_labels_differ"):
        assert looked[name] == stored[name], name
    assert looked["rejected"] == stored["reasons"]
    return looked, stored


@pytest.mark.parametrize("skipping", [(), ("--skip-empty",)])
def test_a_look_counts_what_preprocess_then_counts(skipping, raw, tmp_path, preprocess):
    picture(raw / "glioma" / "P1" / "0_mask.png", np.where(head() > 120, 255, 0).astype(np.uint8))
    picture(raw / "glioma" / "P1" / "air.png", air())
    picture(raw / "glioma" / "nobody.png", head(3))
    stack(raw / "glioma" / "unnamed.tif", np.stack([head(n, 3000) for n in range(3)]))
    deep = np.concatenate([np.stack([head(n, 3000) for n in range(3)]), np.full((1, 48, 48), 5, np.uint16)])
    stack(raw / "pituitary" / "P2" / "volume.tif", deep)
    (raw / "pituitary" / "notes.jpg").write_text("hello")
    looked, stored = looked_at_and_stored(preprocess, raw, tmp_path / "store", *skipping)
    assert (stored["masks"], stored["unnamed_stacks"], stored["without_patient"]) == (1, 1, 1)
    assert (stored["empty"], stored["no_head"]) == ((1, 0) if skipping else (0, 2))
    doubts = {doubt["kind"]: doubt["count"] for doubt in looked["doubts"]}
    assert doubts["without-patient"] == stored["without_patient"]
    account = {doubt["kind"]: doubt["count"] for doubt in stored["account"]["doubts"]}
    assert doubts["patients-of-several-classes"] == account["patients-of-several-classes"] == 1


@pytest.fixture
def matlab(raw):
    """Slices of Cheng's set: in a folder of its parts, in class folders, of another class, and bad ones."""
    part, glioma = raw / "brainTumorDataPublic_1-766", raw / "glioma"
    files = {
        part / "1.mat": mat_file(1, "101"), part / "2.mat": mat_file(2, "102"),
        part / "3.mat": mat_file(3, "103"),
        part / "deeper.mat": mat_file(1, "101", image=slices(4) * 9), part / "cut.mat": mat_file(2)[:3000],
        glioma / "alike.mat": mat_file(2, "104"), glioma / "other.mat": mat_file(3, "105"),
        glioma / "no.mat": b"MATLAB 5.0 MAT-file".ljust(600),
    }  # fmt: skip
    for path, data in files.items():
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    return raw


def test_a_look_at_matlab_files_understands_what_preprocess_then_stores(matlab, tmp_path, preprocess):
    looked, stored = looked_at_and_stored(preprocess, matlab, tmp_path / "store")
    assert (stored["stored"], stored["own_labels_differ"], sum(looked["rejected"].values())) == (8, 1, 2)
    snapshot = resolve(tmp_path / "store")
    images = Counter(np.array(snapshot.classes)[snapshot.label].tolist())
    # Bad files are known by their folders alone.
    bad = Counter({"glioma": 1, "brainTumorDataPublic_1-766": 1})
    assert Counter({name: one["images"] for name, one in looked["classes"].items()}) - bad == images
    assert looked["patients"] == len(snapshot.patient_names)


def test_a_matlab_file_with_other_bytes_is_replaced_where_asked(matlab, tmp_path, preprocess):
    store, file = tmp_path / "store", matlab / "brainTumorDataPublic_1-766" / "1.mat"
    preprocess(matlab, store, *SMALL)
    before = pixels_of(store)
    file.write_bytes(mat_file(1, "101", image=slices(7)))
    assert "rejected 1: changed: other bytes than those stored" in preprocess(matlab, store)[2]
    assert preprocess(matlab, store, "--replace")[1].startswith("stored 1, already there 7, rejected 2")
    assert sum(image != before[key] for key, image in pixels_of(store).items()) == 1
