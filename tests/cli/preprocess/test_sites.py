"""Folders of one name from several places: two sites, one that was moved, one that was exported again."""

import csv
import shutil

import numpy as np
import pytest
from PIL import Image

from mri_hpc.storage.disk.layout import StoreDir
from mri_hpc.storage.snapshot.catalogue import current, resolve
from mri_hpc.store import main as store_main
from tests.cli.preprocess.store_counts import SMALL, counts

PATHS = [
    f"{label}/P{number}/{part}.png" for label in ("glioma", "other") for number in (1, 2) for part in (0, 1)
]


def draw(folder, seed, paths=PATHS):
    """Pictures of noise below a folder, others for each seed."""
    for number, path in enumerate(paths):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng([seed, number]).integers(20, 200, (16, 16), np.uint8)
        Image.fromarray(pixels).save(folder / path)
    return folder


@pytest.fixture
def sites(tmp_path):
    """The folders ``raw`` of two hospitals, in which files and patients are called alike."""
    return [draw(tmp_path / site / "raw", seed) for seed, site in enumerate("ab")]


def patients(store):
    return len(current(StoreDir(store)).patient_names)


def hashes(store):
    """What is stored, by the bytes of the sources."""
    return set(current(StoreDir(store)).source_hash.tolist())


@pytest.mark.parametrize("options", [[], ["--replace"], ["--task", "1", "--tasks", "2"]])
def test_the_images_of_another_site_are_refused_before_any_is_stored(sites, store, preprocess, options):
    preprocess(sites[0], store, *SMALL)
    before = hashes(store)
    status, _out, err = preprocess(sites[1], store, *options)
    assert (status, err.count("\n")) == (2, 1)
    assert "8 of 8 images that were looked at are others than those stored under the same paths" in err
    assert "give --site NAME" in err
    assert "--replace if they are the same ones, exported again; if it is meant so: --accept sources" in err
    assert hashes(store) == before


def test_another_site_has_images_and_patients_of_its_own(sites, store, preprocess):
    preprocess(sites[0], store, *SMALL)
    assert counts(preprocess(sites[1], store, "--site", "B")[1]) == (8, 0, 0)
    assert (len(hashes(store)), patients(store)) == (16, 4)
    assert counts(preprocess(sites[1], store, "--site", "B")[1]) == (0, 8, 0)
    assert counts(preprocess(sites[0], store)[1]) == (0, 8, 0)


def test_without_a_site_keys_and_names_are_those_of_before(sites, store, preprocess):
    preprocess(sites[0], store, *SMALL, "--ids", "as-given")
    from mri_hpc.intake.files.sources import source_key

    assert set(current(StoreDir(store)).key.tolist()) == {source_key("raw", path) for path in PATHS}
    assert current(StoreDir(store)).patient_names.tolist() == [b"P1", b"P2"]


def test_a_site_that_is_forgotten_or_new_is_refused(sites, store, preprocess):
    preprocess(sites[0], store, *SMALL, "--site", "A")
    status, _out, err = preprocess(sites[0], store)
    assert (status, err.count("\n")) == (2, 1)
    assert "this folder was added with --site A before: give it as then" in err
    preprocess(sites[1], store)
    assert "this folder was added without --site before" in preprocess(sites[1], store, "--site", "B")[2]
    assert counts(preprocess(sites[1], store, "--site", "B", "--accept", "sources")[1]) == (8, 0, 0)


def test_a_column_site_keeps_two_sites_apart(sites, store, preprocess):
    for folder in sites:
        with (folder / "labels.csv").open("w", newline="") as file:
            rows = [["path", "label", "patient", "site"]]
            rows += [[path, *path.split("/")[:2], folder.parent.name] for path in PATHS]
            csv.writer(file).writerows(rows)
    for folder in sites:
        assert counts(preprocess(folder, store, *SMALL)[1]) == (8, 0, 0)
    assert (len(hashes(store)), patients(store)) == (16, 4)


def test_a_folder_that_was_moved_is_the_same_one(sites, store, preprocess, tmp_path):
    preprocess(sites[0], store, *SMALL)
    (tmp_path / "moved").mkdir()
    shutil.move(sites[0], tmp_path / "moved" / "raw")
    draw(tmp_path / "moved" / "raw", 7, ["Other_tumor/P3/0.png"])
    shutil.move(tmp_path / "moved" / "raw" / "other", tmp_path / "kept")
    assert "some look like one: 'Other_tumor' and 'other'" in preprocess(tmp_path / "moved" / "raw", store)[2]
    (tmp_path / "moved" / "raw" / "Other_tumor").rename(tmp_path / "moved" / "raw" / "third")
    shutil.move(tmp_path / "kept", tmp_path / "moved" / "raw" / "other")
    assert counts(preprocess(tmp_path / "moved" / "raw", store)[1]) == (1, 8, 0)


def test_images_that_are_exported_again_in_their_place_are_changed_or_replaced(sites, store, preprocess):
    preprocess(sites[0], store, *SMALL)
    draw(sites[0], 7)
    assert counts(preprocess(sites[0], store)[1]) == (0, 0, 8)
    assert counts(preprocess(sites[0], store, "--replace")[1]) == (8, 0, 0)


def test_images_that_are_exported_again_elsewhere_are_replaced_once_the_user_says_so(
    sites, store, preprocess
):
    preprocess(sites[0], store, *SMALL)
    assert counts(preprocess(sites[1], store, "--replace", "--accept", "sources")[1]) == (8, 0, 0)
    assert (len(hashes(store)), patients(store)) == (8, 2)
    assert counts(preprocess(sites[1], store)[1]) == (0, 8, 0)


def test_a_store_that_does_not_know_where_its_images_lay_is_as_careful(sites, store, preprocess):
    """As one of 0.1.0."""
    preprocess(sites[0], store, *SMALL)
    shutil.rmtree(store / "private" / "roots")
    draw(sites[0], 7, PATHS[:2])
    assert counts(preprocess(sites[0], store)[1]) == (0, 6, 2)
    shutil.rmtree(store / "private" / "roots")
    assert "give --site NAME" in preprocess(sites[1], store)[2]


def test_damaged_notes_of_where_images_lay_only_cost_looking_again(sites, store, preprocess):
    preprocess(sites[0], store, *SMALL)
    (note,) = (store / "private" / "roots").iterdir()
    for data in (b"", b"{", b'{"format": 1, "name": 7}'):
        note.write_bytes(data)
        assert counts(preprocess(sites[0], store)[1]) == (0, 8, 0)
    assert note.stat().st_mode & 0o777 == 0o600


def test_the_same_patients_in_other_files_of_a_folder_of_that_name_are_refused(store, preprocess, tmp_path):
    others = [path.replace(".png", "b.png") for path in PATHS]
    raw, other = draw(tmp_path / "a" / "raw", 0), draw(tmp_path / "b" / "raw", 1, others)
    preprocess(raw, store, *SMALL)
    status, _out, err = preprocess(other, store)
    assert (status, err.count("\n")) == (2, 1)
    assert (
        "2 of 2 patients are stored already, with images of other folders: if they are other persons" in err
    )
    assert "P1" not in err
    assert counts(preprocess(other, store, "--accept", "sources")[1]) == (8, 0, 0)
    assert (len(hashes(store)), patients(store)) == (16, 2)


def test_the_same_patients_in_a_folder_of_another_name_are_said(store, preprocess, tmp_path):
    preprocess(draw(tmp_path / "t1", 0), store, *SMALL)
    status, out, err = preprocess(draw(tmp_path / "t2", 1), store)
    assert (status, counts(out), patients(store)) == (0, (8, 0, 0), 2)
    assert (
        "2 of 2 patients are stored already, with images of other folders: they are taken for the same" in err
    )


def test_a_patient_of_a_site_is_relabelled_and_retracted_by_the_name_of_both(
    sites, store, preprocess, tmp_path
):
    for folder, options in zip(sites, ([], ["--site", "B"]), strict=True):
        preprocess(folder, store, *SMALL, *options)
    table = tmp_path / "new.csv"
    table.write_text("path,label,site\nglioma/P1/0.png,changed,B\n")
    assert store_main(["relabel", str(store), "--labels", str(table), "--source", str(sites[1])]) == 0
    snapshot = current(StoreDir(store))
    (row,) = np.flatnonzero(snapshot.label == snapshot.classes.index("changed"))
    assert store_main(["retract", str(store), "--patient", "B/P1", "--yes"]) == 0
    assert snapshot.patient_names[snapshot.patient[row]] not in current(StoreDir(store)).patient_names
    assert (len(hashes(store)), patients(store)) == (12, 3)


def test_a_store_of_a_site_is_repaired_from_its_source(sites, store, preprocess):
    preprocess(sites[1], store, *SMALL, "--site", "B")
    before = resolve(store).content_digest
    (chunk,) = (store / "chunks").iterdir()
    chunk.unlink()
    # So that keys alone say which file is which.
    for table in (store / "private" / "names").iterdir():
        table.unlink()
    words = ["verify", str(store), "--repair", "--source", str(sites[1])]
    assert store_main(words) == 2
    assert store_main([*words, "--site", "B"]) == 0
    assert resolve(store).content_digest == before


def test_classes_of_a_new_folder_that_look_like_stored_ones_are_refused(store, preprocess, tmp_path):
    preprocess(draw(tmp_path / "a", 0), store, *SMALL)
    renamed = draw(tmp_path / "b", 1, [path.replace("glioma/P", "Glioma_tumor/Q") for path in PATHS])
    status, _out, err = preprocess(renamed, store)
    assert (status, err.count("\n")) == (2, 1)
    assert "3 classes, of which some look like one: 'Glioma_tumor' and 'glioma'" in err
    assert counts(preprocess(renamed, store, "--accept", "classes")[1]) == (8, 0, 0)
