"""preprocess --look says what would be understood of a source, and leaves nothing behind."""

import csv
import hashlib
import json
import os
import shlex
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from mri_hpc import preprocess as command
from mri_hpc.intake import understanding
from mri_hpc.intake.files import sampling
from mri_hpc.intake.files.sampling import sample_files
from tests.cli.preprocess.store_counts import counts, info


@pytest.fixture
def look(raw, store, preprocess, tmp_path, monkeypatch):
    """Looks at the source as somebody without a home and without a key, who may not write where they are."""
    for name in ("HOME", "XDG_CONFIG_HOME", "MRI_KEY_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "mri_hpc.intake.labels.pseudonyms.site_key", lambda path: pytest.fail("asked for the key")
    )

    def run(*options, source=raw):
        return preprocess(source, store, "--look", *options)

    return run


def found(look, *options, **more):
    status, out, _err = look("--json", *options, **more)
    return status, json.loads(out)


def tree(folder):
    """All that lies below a folder, with times and bytes."""
    return {
        str(path): (path.lstat().st_mtime_ns, path.is_file() and hashlib.sha256(path.read_bytes()).digest())
        for path in sorted(folder.rglob("*"))
    }


def test_a_look_leaves_nothing_behind_and_needs_neither_home_nor_key(raw, look, tmp_path):
    before = tree(tmp_path)
    status, out, err = look()
    assert (status, err) == (0, "")
    assert "a first look at 40 files" in out
    assert "class     glioma: 20 files of 7 patients" in out
    assert tree(tmp_path) == before


def test_a_look_at_what_is_stored_already_changes_nothing_either(raw, store, preprocess, tmp_path):
    preprocess(raw, store, "--size", 16)
    before = tree(tmp_path)
    assert preprocess(raw, store, "--look")[0] == 0
    assert tree(tmp_path) == before


def test_the_command_that_it_prints_stores_what_it_said(raw, store, look, preprocess, monkeypatch, tmp_path):
    (raw / "glioma" / "broken.jpg").write_bytes(b"<html>")
    status, out, _err = look("--size", 16, "--ids", "as-given")
    assert (status, out.count("rejected  1: ")) == (0, 2)
    python, module, name, *words = shlex.split(out.splitlines()[-1])
    assert (python, module, name) == ("python", "-m", "mri_hpc.preprocess")
    assert command.main(words) == 0
    stored = info(store)
    assert (stored["images"], stored["patients"], stored["rejected"]) == (40, 7, 1)
    assert "read      41 files: 40 images" in out


def test_classes_patients_twins_and_what_shows_nothing_are_counted(raw, look):
    first, second = sorted(raw.glob("glioma/*/*.jpg"))[:2]
    (raw / "meningioma" / "patient0" / "moved.jpg").write_bytes(first.read_bytes())
    (second.with_name("again.jpg")).write_bytes(second.read_bytes())
    (raw / "glioma" / "nobody.png").write_bytes(first.read_bytes())
    Image.new("L", (32, 32), 7).save(raw / "glioma" / "patient0" / "blank.png")
    mask = np.zeros((224, 224), np.uint8)
    mask[50:90, 40:80] = 255
    Image.fromarray(mask).save(raw / "glioma" / "patient0" / "mask.png")
    (raw / "notes.txt").write_text("hello")
    status, values = found(look)
    assert status == 0
    assert values["complete"]
    assert (values["files"], values["read"], values["images"]) == (46, 46, 45)
    assert values["classes"]["glioma"] == {"images": 24, "patients": 7}
    assert (values["patients"], values["most_of_one"]) == (7, 10)
    assert values["unlabelled"] == {"no label: not in a class folder": 1}
    doubts = {doubt["kind"]: doubt["count"] for doubt in values["doubts"]}
    assert doubts == {
        "patients-of-several-classes": 7,
        "without-patient": 1,
        "twins": 3,
        "twins-of-other-label": 1,
        "blank": 1,
        "two-valued": 1,
    }


def two_splits(raw):
    for split in ("train", "test"):
        folder = raw / split / "glioma" / "P1"
        folder.mkdir(parents=True)
        Image.new("L", (32, 32), 9).save(folder / "1.png")


def a_folder_too_deep(raw):
    for number in range(30):
        folder = raw / f"P{number:02d}"
        folder.mkdir(parents=True)
        Image.new("L", (32, 32), number).save(folder / "1.png")


def a_bad_table(raw):
    (raw / "glioma").mkdir(parents=True)
    Image.new("L", (32, 32), 9).save(raw / "glioma" / "1.png")
    (raw / "labels.csv").write_text("path,diagnosos\n1.png,x\n")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (two_splits, "a patient is in split test (below test/glioma)"),
        (a_folder_too_deep, "30 classes named like patients"),
        (a_bad_table, "has no column 'label'"),
    ],
)
def test_a_refusal_is_part_of_what_is_said(look, tmp_path, make, says):
    make(tmp_path / "odd")
    status, out, err = look(source=tmp_path / "odd")
    assert status == 2
    assert f"  refused   {says}" in out or f"{says}" in out.partition("  refused   ")[2]
    assert "  read      " in out
    assert ("  class     " in out) == (make is not a_bad_table)
    assert "python -m mri_hpc.preprocess" not in out
    assert err.count("\n") == 1
    assert err.startswith("mri-hpc preprocess: preprocess would store nothing: ")
    status, values = found(look, source=tmp_path / "odd")
    assert (status, len(values["refusals"])) == (2, 1)


def test_a_store_that_preprocess_would_refuse_is_said_to_be(raw, look, preprocess):
    status, values = found(lambda *words, **_more: preprocess(raw, raw / "store", "--look", *words))
    assert status == 2
    assert "lies within --source" in values["refusals"][0]
    assert values["images"] == 40
    assert not (raw / "store").exists()


def test_an_interrupted_look_says_what_it_has(raw, look, monkeypatch):
    real, read = understanding.read_content, []

    def read_and_signal(root, files):
        read.append(files)
        if len(read) == 50:
            os.kill(os.getpid(), signal.SIGINT)
        return real(root, files)

    monkeypatch.setattr(understanding, "read_content", read_and_signal)
    # Of these, 40 for the sample.
    status, out, _err = look()
    assert status == 75
    assert "class     glioma: 20 files" in out
    assert "stopped after 10 of 40 files: nothing was stored" in out


def test_a_table_is_written_with_a_row_a_patient_and_labels_where_they_are_known(raw, look, tmp_path):
    for path in raw.glob("meningioma/patient1/*.jpg"):
        path.rename(raw / "glioma" / "patient1" / path.name)
    table = tmp_path / "fill in.csv"
    _status, out, _err = look("--write-labels", table)
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [row["patient"] for row in rows] == [f"patient{number}" for number in range(7)]
    assert [row["label"] for row in rows] == ["", "glioma", "", "", "", "", ""]
    assert table.stat().st_mode & 0o777 == 0o600
    assert out.splitlines()[-2:] == [
        f"fill in {table}, then:",
        f"python -m mri_hpc.preprocess --source {raw} --store {raw.parent / 'store'} --labels '{table}'",
    ]
    status, _out, err = look("--write-labels", table)
    assert (status, err.count("\n")) == (2, 1)
    assert "exists already: --write-labels takes the name of a new file" in err


def test_folders_of_patients_without_classes_become_rows_without_labels(look, tmp_path):
    a_folder_too_deep(tmp_path / "odd")
    look("--write-labels", tmp_path / "new.csv", source=tmp_path / "odd")
    rows = list(csv.DictReader((tmp_path / "new.csv").read_text().splitlines()))
    assert [row["patient"] for row in rows] == [f"P{number:02d}" for number in range(30)]
    assert {row["label"] for row in rows} == {""}


def test_files_of_nobody_become_rows_by_path_which_preprocess_takes(raw, look, preprocess, store, tmp_path):
    for path in raw.glob("*/*/*.jpg"):
        path.rename(path.parents[1] / path.name)
    for folder in raw.glob("*/patient*"):
        folder.rmdir()
    look("--write-labels", tmp_path / "new.csv")
    text = (tmp_path / "new.csv").read_text()
    assert text.startswith("path,patient,label\nglioma/00000.jpg,,glioma\n")
    (tmp_path / "new.csv").write_text(text.replace(",,", ",somebody,"))
    words = ("--labels", tmp_path / "new.csv", "--size", 16, "--ids", "as-given")
    assert counts(preprocess(raw, store, *words)[1]) == (40, 0, 0)
    assert info(store)["patients"] == 1


def test_a_table_is_not_written_without_a_look(raw, store, preprocess):
    status, _out, err = preprocess(raw, store, "--write-labels", "new.csv")
    assert (status, store.exists()) == (2, False)
    assert "--write-labels goes with --look" in err


def test_a_sample_is_spread_over_the_folders_and_lists_few_of_them(tmp_path, monkeypatch):
    for number in range(600):
        folder = tmp_path / f"class{number % 3}" / f"patient{number:03d}"
        folder.mkdir(parents=True)
        (folder / "1.png").touch()
    listed = []
    real = os.scandir
    monkeypatch.setattr(sampling.os, "scandir", lambda path: listed.append(path) or real(path))
    paths = sample_files(tmp_path, 30)
    assert len(paths) == 30
    assert {path.split("/")[0] for path in paths} == {"class0", "class1", "class2"}
    assert len({path.split("/")[1] for path in paths}) == 30
    assert len(listed) == 34


def test_a_sample_of_one_large_folder_takes_some_names_only(tmp_path, monkeypatch):
    for number in range(50):
        (tmp_path / f"{number}.png").touch()
    (tmp_path / "__MACOSX").mkdir()
    monkeypatch.setattr(sampling, "MOST_NAMES", 20)
    assert len(sample_files(tmp_path, 8)) == 8
    assert sample_files(tmp_path / "none", 8) == []
    assert Path(tmp_path, sample_files(tmp_path, 1)[0]).is_file()


def test_a_table_of_patients_that_was_filled_in_labels_all_their_images(
    look, preprocess, store, tmp_path, make_pictures
):
    a_folder_too_deep(tmp_path / "odd")
    look("--write-labels", tmp_path / "new.csv", source=tmp_path / "odd")
    text = (tmp_path / "new.csv").read_text().replace(",\n", ",sound\n")
    (tmp_path / "new.csv").write_text(text)
    words = ("--labels", tmp_path / "new.csv", "--size", 16, "--ids", "as-given")
    assert counts(preprocess(tmp_path / "odd", store, *words)[1]) == (30, 0, 0)
    assert (info(store)["patients"], info(store)["classes"]) == (30, {"sound": 30})


def test_sites_and_patterns_are_part_of_the_command_and_the_table(look, tmp_path):
    (tmp_path / "flat" / "tumour").mkdir(parents=True)
    for number in range(4):
        Image.new("L", (32, 32), 40 + number).save(tmp_path / "flat" / "tumour" / f"P{number}_1.png")
    words = ("--site", "B", "--patient-pattern", "(?P<patient>P[0-9]+)_")
    _status, out, _err = look(*words, "--write-labels", tmp_path / "new.csv", source=tmp_path / "flat")
    rows = list(csv.DictReader((tmp_path / "new.csv").read_text().splitlines()))
    assert rows[0] == {"patient": "P0", "site": "B", "label": "tumour"}
    assert shlex.join(words) in out.splitlines()[-1]


def test_doubts_that_need_a_decision_are_refusals_until_they_are_accepted(raw, look):
    (raw / "glioma_tumor" / "patient9").mkdir(parents=True)
    Image.new("L", (32, 32), 40).save(raw / "glioma_tumor" / "patient9" / "1.png")
    status, values = found(look)
    assert (status, len(values["refusals"])) == (2, 1)
    assert "--accept classes" in values["refusals"][0]
    status, values = found(look, "--accept", "classes")
    assert (status, values["refusals"]) == (0, [])
    assert values["command"].endswith("--accept classes")


def test_ids_that_look_like_one_person_are_refused_as_preprocess_would(look, preprocess, store, tmp_path):
    for number, patient in enumerate(("007", "7", "8")):
        folder = tmp_path / "odd" / "tumour" / patient
        folder.mkdir(parents=True)
        Image.new("L", (32, 32), 40 + number).save(folder / "1.png")
    status, values = found(look, source=tmp_path / "odd")
    assert status == 2
    assert values["refusals"] == [preprocess(tmp_path / "odd", store)[2].partition(": ")[2].strip()]
    assert look("--accept", "same-ids", source=tmp_path / "odd")[0] == 0


def test_a_store_that_is_there_is_held_against_the_source_as_preprocess_would(
    look, preprocess, raw, store, tmp_path, monkeypatch
):
    preprocess(raw, store, "--size", 16)
    before = tree(tmp_path)

    def refusal(*words, source=raw):
        real = preprocess(source, store, *words)
        said = preprocess(source, store, "--look", "--json", *words)
        values = json.loads(said[1])
        assert (real[0], said[0], len(values["refusals"])) == (2, 2, 1)
        assert values["refusals"] == [real[2].partition(": ")[2].strip()]
        assert values["images"] == 40
        return values["refusals"][0]

    assert "was made with another recipe: size 16 there, 32 here" in refusal("--size", 32)
    assert "was added without --site before" in refusal("--site", "B")
    monkeypatch.setenv("MRI_KEY_FILE", str(tmp_path / "other.key"))
    assert preprocess(raw, store, "--look")[0] == 2
    assert not (tmp_path / "other.key").exists()
    assert tree(tmp_path) == before
    assert "was made with another site key" in refusal()


def test_a_folder_of_another_site_is_a_refusal_of_a_look_too(preprocess, raw, store, tmp_path, make_pictures):
    preprocess(raw, store, "--size", 16)
    for path in make_pictures(tmp_path / "b" / "raw", 40):
        Image.new("L", (32, 32), int(path.stem)).save(path)
    status, out, err = preprocess(tmp_path / "b" / "raw", store, "--look")
    assert (status, "--accept sources" in err, "--site NAME" in out) == (2, True, True)


def test_a_look_counts_pictures_with_burnt_in_text_which_preprocess_stores(raw, look):
    for number, path in enumerate(sorted(raw.rglob("*.jpg"))[:3]):
        picture = np.array(Image.open(path).convert("L").resize((256, 256))) // 2
        cv2.putText(picture, f"ID 4711{number}", (8, 30), cv2.FONT_HERSHEY_SIMPLEX, 0.7, 255, 1)
        Image.fromarray(picture).save(path, quality=90)
    _status, found_here = found(look)
    assert found_here["shows_text"] == 3 and not found_here["rejected"]
    doubt = next(one for one in found_here["doubts"] if one["kind"] == "burnt-in")
    assert doubt["count"] == 3 and doubt["text"].startswith("3 pictures with what looks like burnt-in text")


def test_text_in_a_jpeg_is_looked_for_at_its_full_size(raw, preprocess, store):
    for path in sorted(raw.rglob("*.jpg"))[:2]:
        picture = np.array(Image.open(path).convert("L").resize((1024, 1024))) // 2
        cv2.putText(picture, "MUSTERMANN 1948", (16, 40), cv2.FONT_HERSHEY_SIMPLEX, 0.6, 255, 1)
        Image.fromarray(picture).save(path, quality=95)
    counts = [
        json.loads(preprocess(raw, store, "--look", "--json", "--size", size)[1])["shows_text"]
        for size in (64, 224, 1024)
    ]
    assert counts == [2, 2, 2]
