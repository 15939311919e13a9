import base64
import csv
import dataclasses
import io
import json
import re
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from mri_hpc.cohort.audit import audit, is_torn, telling_pair
from mri_hpc.cohort.kept_twins import kept_twins, twins_of
from mri_hpc.cohort.same_pixels import same_pixels
from mri_hpc.storage.reading.reader import Reader
from mri_hpc.storage.snapshot.catalogue import resolve
from mri_hpc.storage.store import Store
from mri_hpc.store import main
from tests.cohort.heads import brighter, cropped, head, saved_again

SMALL = ("--size", 16)


@pytest.fixture
def picture():
    """Saves a picture of blobs; the same number gives the same picture."""

    def save(path, number, *, brighter=0):
        path.parent.mkdir(parents=True, exist_ok=True)
        random = np.random.default_rng(number)
        small = Image.fromarray(random.integers(20, 200, (4, 4), dtype=np.uint8)).resize((32, 32))
        Image.fromarray(np.asarray(small) + np.uint8(brighter)).save(path)

    return save


@pytest.fixture
def found(tmp_path, preprocess):
    """Findings of the store made of tmp_path/raw, by kind."""

    def look(*options, size=SMALL):
        assert preprocess(tmp_path / "raw", tmp_path / "store", *size, "--ids", "as-given", *options)[0] == 0
        snapshot = resolve(tmp_path / "store")
        with Reader(tmp_path / "store", snapshot) as reader:
            twins = twins_of(Store(tmp_path / "store"), snapshot, reader, same_pixels(snapshot, reader))
            return {one.kind: one for one in audit(snapshot, same_pixels(snapshot, reader), twins)}

    return look


def fill(tmp_path, picture, *, patients=12):
    for number in range(patients):
        for label in ("a", "b"):
            picture(
                tmp_path / "raw" / label / f"{label}{number}" / "1.png",
                zlib.crc32(f"{label}{number}".encode()),
            )


def test_sound_data_have_no_findings(tmp_path, picture, found):
    fill(tmp_path, picture)
    assert found() == {}


def test_the_same_file_of_two_patients_is_a_leak(tmp_path, picture, found, capsys):
    fill(tmp_path, picture)
    picture(tmp_path / "raw" / "a" / "a0" / "twin.png", 7)
    picture(tmp_path / "raw" / "a" / "a1" / "twin.png", 7)
    leak = found()["same file, other patient or split"]
    assert (leak.is_leak, leak.count) == (True, 1)
    capsys.readouterr()
    assert main(["audit", str(tmp_path / "store")]) == 2
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1
    assert "leaks (1 × same file, other patient or split): take one of the images out" in printed.err
    # Once, and by the paths that the user knows.
    said, example = printed.out.splitlines()[:2]
    assert said == "LEAK: 1 time the same file is stored for several patients, splits or folds"
    assert sorted(example.strip().split(" = ")) == ["a/a0/twin.png", "a/a1/twin.png"]
    assert "same pixels" not in printed.out
    assert main(["audit", str(tmp_path / "store"), "--report-only"]) == 0
    assert "LEAK: 1 time the same file" in capsys.readouterr().out
    # Leaks may be accepted, an audit that could not look for them not.
    assert main(["audit", str(tmp_path / "none"), "--report-only"]) == 2


def test_the_same_pixels_in_another_file_are_a_leak_and_in_another_class_a_doubt(tmp_path, picture, found):
    fill(tmp_path, picture)
    picture(tmp_path / "raw" / "a" / "a0" / "twin.png", 7)
    with Image.open(tmp_path / "raw" / "a" / "a0" / "twin.png") as image:
        image.save(tmp_path / "raw" / "b" / "b0" / "twin.bmp")
    findings = found()
    assert "same file, other patient or split" not in findings
    assert findings["same pixels, other patient or split"].count == 1
    assert findings["same pixels, other class"].is_leak is False


def test_the_same_picture_in_a_patients_folder_and_loose_is_a_leak(tmp_path, picture, found):
    fill(tmp_path, picture)
    picture(tmp_path / "raw" / "a" / "a0" / "twin.png", 7)
    picture(tmp_path / "raw" / "a" / "loose.png", 7)
    findings = found()
    assert {kind: (one.is_leak, one.count) for kind, one in findings.items()} == {
        "same file, other patient or split": (True, 1),
        "no patient": (False, 1),
    }


def test_images_that_show_nothing_and_repeats_of_one_patient_are_no_leak(tmp_path, picture, found):
    fill(tmp_path, picture)
    for patient in ("a0", "a1"):
        Image.new("L", (32, 32)).save(tmp_path / "raw" / "a" / patient / f"black{patient}.png")
    picture(tmp_path / "raw" / "a" / "a2" / "once.png", 7)
    picture(tmp_path / "raw" / "a" / "a2" / "again.png", 7)
    findings = found()
    assert findings["same file, other patient or split"].count == 1
    assert "same pixels, other patient or split" not in findings
    assert findings["repeated image"].count == 1


def test_a_crc_that_agrees_by_chance_is_no_leak(tmp_path, picture, found):
    fill(tmp_path, picture)
    found()
    snapshot = resolve(tmp_path / "store")
    with Reader(tmp_path / "store", snapshot) as reader:
        reader._check = lambda *_arguments: None
        by_chance = dataclasses.replace(snapshot, crc=np.zeros(len(snapshot), np.uint32))
        assert same_pixels(by_chance, reader) == []


def test_patients_of_two_classes_small_classes_and_unknowns_are_doubts(tmp_path, picture, found, capsys):
    fill(tmp_path, picture)
    picture(tmp_path / "raw" / "rare" / "a0" / "1.png", 1)
    picture(tmp_path / "raw" / "rare" / "loose.png", 2)
    findings = found()
    assert {kind: one.count for kind, one in findings.items()} == {
        "patient of two classes": 1,
        "class of few patients": 1,
        "no patient": 1,
    }
    assert not any(one.is_leak for one in findings.values())
    capsys.readouterr()
    assert main(["audit", str(tmp_path / "store"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["leaks"], len(said["remarks"]), said["images"]) == ([], 3, 26)


def test_a_patient_in_two_splits_or_folds_is_a_leak(tmp_path, picture, found, preprocess, capsys):
    """Two runs of preprocess can say what one CSV may not."""
    fill(tmp_path, picture)
    table = tmp_path / "labels.csv"
    for part, said in (("a/a0/1.png", "train,0"), ("a/a1/1.png", "test,1")):
        table.write_text(f"path,label,patient,split,fold\n{part},a,somebody,{said}\n")
        findings = found("--labels", table)
    assert findings["patient in two splits"].count == 1
    assert "somebody in train and test" in findings["patient in two splits"].text
    assert "somebody in fold 0 and fold 1" in findings["patient in two folds"].text
    assert findings["patient in two folds"].is_leak
    capsys.readouterr()
    assert main(["audit", str(tmp_path / "store"), "--quick"]) == 2
    first, second = capsys.readouterr().out.splitlines()[1].strip().split(" and ")
    assert {first, second} == {"a/a0/1.png (train, fold 0)", "a/a1/1.png (test, fold 1)"}


def test_images_of_one_patient_are_torn_where_they_are_in_two_splits_or_folds():
    def of(**columns):
        known = {"patient": [0, 0], "split": [0, 0], "fold": [1, 1], **columns}
        return SimpleNamespace(**{name: np.array(values) for name, values in known.items()})

    both = np.array([0, 1])
    assert not is_torn(of(), both)
    assert not is_torn(of(split=[-1, 2], fold=[-1, 2]), both)
    for columns in ({"split": [0, 2]}, {"fold": [1, 2]}, {"patient": [0, 1]}, {"patient": [0, -1]}):
        assert is_torn(of(**columns), both)


def test_the_two_images_that_are_named_of_a_group_show_why_it_is_one():
    snapshot = SimpleNamespace(patient=np.array([5, 5, 5, 6]), label=np.array([0, 0, 1, 0]))
    rows = np.arange(4)
    assert telling_pair(snapshot, rows, ["patient"]) == (0, 3)
    assert telling_pair(snapshot, rows, ["label"]) == (0, 2)
    assert telling_pair(snapshot, rows[:2], ["patient", "label"]) == (0, 1)


LARGE = ("--size", 224)


@pytest.fixture
def heads(tmp_path):
    """Twelve patients of a class, a head each; one of another class has a mirrored, cropped copy."""

    def save(path, image):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ascontiguousarray(image)).save(path)

    for number in range(12):
        for label in ("a", "b"):
            image = head(100 * (label == "b") + number)
            save(tmp_path / "raw" / label / f"{label}{number}" / "1.png", image)
    save(tmp_path / "raw" / "b" / "b7" / "copy.png", cropped(head(3)[:, ::-1]))
    return save


def test_the_same_slice_of_two_patients_and_classes_is_a_leak_and_a_doubt(tmp_path, heads, found, capsys):
    findings = found(size=LARGE)
    assert {kind: (one.is_leak, one.count) for kind, one in findings.items()} == {
        "same slice, other patient or split": (True, 1),
        "same slice, other class": (False, 1),
    }
    capsys.readouterr()
    assert main(["audit", str(tmp_path / "store"), "--json"]) == 2
    said = json.loads(capsys.readouterr().out)
    (group,) = said["twins"]
    (example,) = said["leaks"][0]["examples"]
    assert sorted(example["images"]) == ["a/a3/1.png", "b/b7/copy.png"]
    assert sorted(group["images"]) == ["a/a3/1.png", "b/b7/copy.png"]
    assert (group["patients"], group["classes"]) == (["a3", "b7"], ["a", "b"])
    assert (group["how"], group["is_leak"]) == (["cropped", "mirrored"], True)


def test_all_twins_of_another_class_are_found_however_they_were_changed(tmp_path, heads, found, capsys):
    changes = (lambda one: one[::-1], lambda one: 255 - one, np.rot90, cropped, brighter, saved_again)
    for number, change in enumerate(changes):
        heads(tmp_path / "raw" / "b" / f"b{number}" / "copy.png", change(head(number + 4)))
    heads(tmp_path / "raw" / "b" / "b10" / "copy.bmp", head(11))
    findings = found(size=LARGE)
    assert findings["same slice, other class"].count == len(changes) + 1
    assert findings["same pixels, other class"].count == 1
    capsys.readouterr()
    main(["audit", str(tmp_path / "store"), "--json"])
    twins = json.loads(capsys.readouterr().out)["twins"]
    assert [group["classes"] for group in twins] == [["a", "b"]] * (len(changes) + 2)


def test_twins_are_listed_and_shown_to_the_owner_alone(tmp_path, heads, found, capsys):
    found(size=("--size", 256))
    capsys.readouterr()
    assert main(["audit", str(tmp_path / "store"), "--report-only"]) == 0
    assert f"{tmp_path / 'store' / 'private' / 'twins.html'} shows them" in capsys.readouterr().out
    table, page = (tmp_path / "store" / "private" / f"twins.{end}" for end in ("csv", "html"))
    assert {path.stat().st_mode & 0o777 for path in (table, page)} == {0o600}
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [row["group"] for row in rows] == ["1", "1"]
    assert {row["image"] for row in rows} == {"a/a3/1.png", "b/b7/copy.png"}
    assert [row["how"] for row in rows] == ["", "mirrored, cropped"]
    pictures = re.findall(r'<img src="data:image/png;base64,([^"]*)"', page.read_text())
    assert [Image.open(io.BytesIO(base64.b64decode(one))).size for one in pictures] == [(224, 224)] * 2
    assert "a/a3/1.png" in page.read_text()


def test_a_repeated_slice_of_one_patient_is_no_leak_and_a_quick_audit_looks_at_none(
    tmp_path, heads, found, capsys
):
    (tmp_path / "raw" / "b" / "b7" / "copy.png").unlink()
    heads(tmp_path / "raw" / "a" / "a5" / "again.png", 255 - head(5))
    assert {kind: one.is_leak for kind, one in found(size=LARGE).items()} == {"repeated slice": False}
    (tmp_path / "store" / "twins" / f"{resolve(tmp_path / 'store').digest}.json").unlink()
    capsys.readouterr()
    assert main(["audit", str(tmp_path / "store"), "--quick"]) == 0
    assert capsys.readouterr().out == "no leaks among 25 images\n"
    assert not list((tmp_path / "store" / "twins").glob("*.json"))


def test_twins_are_kept_by_snapshot_and_found_again_where_the_file_says_too_little(tmp_path, heads, found):
    found(size=LARGE)
    store = Store(tmp_path / "store")
    snapshot = store.resolve()
    kept = kept_twins(store, snapshot)
    assert [len(group.rows) for group in kept] == [2]
    path = store.twins / f"{snapshot.digest}.json"
    said = json.loads(path.read_text())
    assert (said["format"], said["snapshot"], said["images"]) == (1, snapshot.digest, 25)
    for harm in (
        {"rule": 0},
        {"images": 24},
        {"snapshot": "0" * 32},
        {"twins": [{**said["twins"][0], "first": "0" * 16}]},
        {"twins": [{**said["twins"][0], "first": "f" * 16}]},
        {"twins": [{**said["twins"][0], "first": "none"}]},
        {"twins": [{**said["twins"][0], "first": "f" * 17}]},
        {"format": 9},
    ):
        path.write_text(json.dumps({**said, **harm}))
        assert kept_twins(store, snapshot) is None
    path.write_text("{")
    assert kept_twins(store, snapshot) is None
    assert main(["audit", str(store.path), "--report-only"]) == 0
    assert json.loads(path.read_text()) == said
    path.unlink()
    heads(tmp_path / "raw" / "a" / "a0" / "new.png", head(77))
    found(size=LARGE)
    assert kept_twins(store, snapshot) is None
    assert len(kept_twins(store, store.resolve())) == 1
