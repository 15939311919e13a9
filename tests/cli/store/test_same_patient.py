"""Two patients who turn out to be one are one from now on, wherever either of them was."""

import json
import shutil

import numpy as np
import pytest

from mri_hpc.cohort.splits import SPLITS, TEST, TRAIN, split_of
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.settings import JobSettings, TrainingSettings, save_settings
from mri_hpc.storage.disk.layout import open_store
from mri_hpc.storage.snapshot.catalogue import current, resolve
from mri_hpc.storage.upkeep.verify import verify
from mri_hpc.store import main


@pytest.fixture(scope="module")
def as_given(tmp_path_factory):
    return tmp_path_factory.mktemp("as_given")


@pytest.fixture
def store(copy_of_store):
    """60 images of 20 patients, named patient0 to patient19, without pseudonyms."""
    return copy_of_store(60, "--size", 16, "--chunk-images", 16, "--ids", "as-given")


@pytest.fixture
def make_pictures(make_pictures):
    return lambda root, count: make_pictures(root, count, patients=20)


def split_of_each(snapshot, **way):
    """Splits of each patient's images, by name."""
    code, names = split_of(snapshot, **way), snapshot.text("patient", slice(None)).tolist()
    found = {}
    for name, split in zip(names, code.tolist(), strict=True):
        found.setdefault(name.decode(), set()).add(SPLITS[split])
    return found


def one_in(snapshot, split, besides=()):
    return next(n for n, splits in split_of_each(snapshot).items() if splits == {split} and n not in besides)


def say(*words):
    return main(["same-patient", *map(str, words)])


@pytest.mark.parametrize("turned", [False, True])
def test_if_either_is_in_test_both_are_and_nobody_else_moves(store, turned):
    before = split_of_each(current(open_store(store)))
    tested, trained = one_in(resolve(store), "test"), one_in(resolve(store), "train")
    pair = (trained, tested) if turned else (tested, trained)
    assert say(store, *pair) == 0
    after = split_of_each(current(open_store(store)))
    one = min(pair)
    assert after.pop(one) == {"test"}
    assert after == {name: split for name, split in before.items() if name not in pair}


def test_an_older_snapshot_stays_as_it_was_and_an_undo_gives_it_back(store, capsys):
    before = resolve(store)
    tested, trained = one_in(before, "test"), one_in(before, "train")
    assert say(store, tested, trained) == 0
    assert resolve(store).content_digest != before.content_digest
    assert split_of_each(resolve(store, before.digest)) == split_of_each(before)
    assert say(store, tested, trained, "--undo") == 0
    assert resolve(store).content_digest == before.content_digest
    assert split_of_each(resolve(store)) == split_of_each(before)
    capsys.readouterr()
    assert say(store, tested, trained, "--undo") == 2
    assert "are two patients: there is nothing to undo" in capsys.readouterr().err


def test_images_that_come_later_under_the_other_name_are_of_the_one_patient(store, raw, preprocess):
    tested, trained = one_in(resolve(store), "test"), one_in(resolve(store), "train")
    assert say(store, tested, trained) == 0
    resolve(store)
    (raw / "glioma" / trained).mkdir(exist_ok=True)
    picture = next((raw / "glioma").rglob("*.jpg"))
    (raw / "glioma" / trained / "new.jpg").write_bytes(picture.read_bytes() + b"\0")
    status, _out, err = preprocess(raw, store)
    assert (status, "differ" in err) == (0, False)
    now = current(open_store(store))
    assert int(now.is_of(np.array([min(tested, trained).encode()])).sum()) == 7
    assert split_of_each(now)[min(tested, trained)] == {"test"}


def test_three_names_are_one_patient_by_way_of_the_second(store, capsys):
    assert say(store, "patient1", "patient2") == say(store, "patient3", "patient2") == 0
    assert current(open_store(store)).persons.names("patient3") == ("patient1", "patient2", "patient3")
    capsys.readouterr()
    assert say(store, "patient1", "patient3", "--undo") == 2
    assert "one patient by way of patient2: undo that in their place" in capsys.readouterr().err
    assert say(store, "patient2", "patient1", "--undo") == 0
    assert current(open_store(store)).persons.names("patient3") == ("patient2", "patient3")


def test_splits_that_the_data_name_follow_the_same_rule(store, tmp_path):
    rows = [
        f"{label}/patient{n}/{n:05d}.jpg,{n % 5}"
        for n in range(20)
        for label in [("glioma", "meningioma")[n % 2]]
    ]
    (tmp_path / "folds.csv").write_text("path,fold,label\n" + "".join(f"{row},\n" for row in rows))
    words = ["relabel", store, "--labels", tmp_path / "folds.csv", "--source", tmp_path / "raw"]
    assert main([str(word) for word in words]) == 0
    assert say(store, "patient1", "patient3") == 0
    of_each = split_of_each(current(open_store(store)), val_fold=1, test_fold=3)
    assert main(["audit", str(store)]) == 0
    # Of each patient two images have no fold.
    assert of_each["patient1"] == {"test", SPLITS[-1]}


def test_runs_that_learnt_from_either_are_named(store, tmp_path, capsys):
    before = resolve(store)
    tested, trained = one_in(before, "test"), one_in(before, "train")
    for name in ("first", "second"):
        run = RunDir(tmp_path / "runs" / name)
        run.path.mkdir(parents=True)
        snapshot = before.digest if name == "first" else "0" * 32
        save_settings(run, TrainingSettings(store=str(store), snapshot=snapshot), JobSettings())
    assert say(store, tested, trained, "--runs", tmp_path / "runs") == 0
    out = capsys.readouterr().out
    assert f"{tested} and {trained} are one patient from now on" in out.replace(
        f"{trained} and {tested}", f"{tested} and {trained}"
    )
    assert f"run {tmp_path / 'runs' / 'first'} has learnt from them: " in out
    assert "3 images in train" in out and "3 images in test" in out
    assert "new runs have them in test" in out
    assert "second" not in out
    assert say(store, tested, trained, "--runs", tmp_path / "runs", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["was_one"], told["images"], told["patient"]) == (True, 6, min(tested, trained))
    assert main(["who-used", str(store), trained, "--runs", str(tmp_path / "runs"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["runs"][0]["images"] == {"train": 3, "test": 3}


def test_a_retraction_of_the_one_takes_both_for_good(store, raw, preprocess, capsys):
    assert say(store, "patient1", "patient2") == 0
    assert main(["retract", str(store), "--patient", "patient2", "--yes"]) == 0
    assert "6 images of patient1 are retracted" in capsys.readouterr().out
    assert len(current(open_store(store))) == 54
    for file in (store / "private").rglob("*.csv"):
        assert not {b"patient1", b"patient2"} & {*file.read_bytes().replace(b"/", b",").split(b",")}
    status, _out, err = preprocess(raw, store)
    assert status == 0
    assert "rejected 6: retracted" in err
    assert verify(open_store(store)).problems == []
    capsys.readouterr()
    assert say(store, "patient1", "patient3") == 2
    assert "patient1 was retracted" in capsys.readouterr().err


def test_a_label_that_is_corrected_leaves_the_name_of_each_image_for_an_undo(store, tmp_path):
    assert say(store, "patient1", "patient2") == 0
    rows = "glioma/patient2/00002.jpg,pituitary,patient1\nglioma/patient2/00022.jpg,pituitary,\n"
    (tmp_path / "new.csv").write_text(f"path,label,patient\n{rows}")
    words = ["relabel", store, "--labels", tmp_path / "new.csv", "--source", tmp_path / "raw"]
    assert main([str(word) for word in words]) == 0
    now = current(open_store(store))
    assert int(now.is_of(np.array([b"patient1"])).sum()) == 6
    assert say(store, "patient1", "patient2", "--undo") == 0
    now = current(open_store(store))
    assert int(now.is_of(np.array([b"patient2"])).sum()) == 3
    assert "pituitary" in now.classes


def test_a_copy_without_the_private_folder_shows_no_ids_and_is_joined_by_names(
    tmp_path, make_pictures, preprocess, capsys
):
    make_pictures(tmp_path / "other", 40)
    assert preprocess(tmp_path / "other", tmp_path / "shared", "--size", 16)[0] == 0
    shared = tmp_path / "shared"
    assert say(shared, "patient1", "patient2") == 0
    rows = "".join(file.read_text() for file in (shared / "private" / "persons").iterdir())
    assert "patient1" in rows and "patient2" in rows
    assert (shared / "private" / "persons").stat().st_mode & 0o777 == 0o700
    shutil.rmtree(shared / "private")
    for file in shared.rglob("*.json"):
        assert b"patient1" not in file.read_bytes()
    names = [name.decode() for name in current(open_store(shared)).patient_names.tolist()]
    assert say(shared, *names[:2]) == 0
    assert len(current(open_store(shared)).patient_names) == 18


def test_a_name_that_the_store_has_nothing_of_is_refused(store, capsys):
    assert say(store, "patient1", "patiemt2") == 2
    assert "has nothing of a patient 'patiemt2'" in capsys.readouterr().err
    assert say(store, "patient1", "patient1") == 2
    assert "have one name in the store" in capsys.readouterr().err
    assert not list((store / "commits").glob("same-*"))


def test_a_snapshot_with_such_patients_is_refused_by_versions_that_know_of_none(store):
    from mri_hpc.base.sealed_json import unseal

    assert say(store, "patient1", "patient2") == 0
    info = unseal((store / "snapshots" / resolve(store).digest / "snapshot.json").read_bytes())
    assert info["format"] == 3
    assert say(store, "patient1", "patient2", "--undo") == 0
    assert TRAIN < TEST
