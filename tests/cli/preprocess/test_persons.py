"""Who is one person is asked before anything is stored, and what was said holds for all that comes later."""

import csv
import hashlib
import shutil
import unicodedata

import numpy as np
import pytest

from mri_hpc.cohort.splits import TRAIN, split_of
from mri_hpc.intake.labels.pseudonyms import Pseudonyms, site_key
from mri_hpc.storage.disk.layout import StoreDir
from mri_hpc.storage.snapshot.catalogue import current
from mri_hpc.storage.store import Store

OTHER = {"007": "7", "7": "7.0", "ab": "AB", "P 1": "P1"}


@pytest.fixture
def table(tmp_path, make_pictures):
    """Writes labels of eight pictures: patients as given in turn, the rest from rest-0 on."""
    paths = sorted(
        path.relative_to(tmp_path / "raw").as_posix() for path in make_pictures(tmp_path / "raw", 8)
    )

    def write(*patients, count=8, name="labels.csv"):
        ids = [*patients, *(f"rest-{number}" for number in range(1, 9))]
        with (tmp_path / name).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["path", "label", "patient"])
            writer.writerows([path, "a", patient] for path, patient in zip(paths[:count], ids, strict=False))
        return tmp_path / name

    return write


@pytest.fixture
def add(tmp_path, preprocess):
    def run(labels, *options):
        common = ("--size", 16, "--labels", labels)
        return preprocess(tmp_path / "raw", tmp_path / "store", *common, *options)

    return run


def stored(tmp_path):
    return current(StoreDir(tmp_path / "store"))


def patients(tmp_path):
    return len(stored(tmp_path).patient_names)


@pytest.mark.parametrize("first", OTHER)
def test_two_ids_that_look_alike_in_a_table_are_refused_with_both_lines(first, table, add, tmp_path):
    status, _out, err = add(table(first, "x", OTHER[first]))
    assert status == 2
    assert "1 patient may have two ids: line 4 of labels.csv and line 2 of labels.csv (they differ in" in err
    assert "--accept same-ids; if it is meant so: --accept ids. Nothing is stored yet" in err
    assert not (tmp_path / "site.key").exists()
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(("word", "wanted"), [("ids", 8), ("same-ids", 7)])
def test_what_the_user_says_they_are_holds_for_all_later_commands(word, wanted, table, add, tmp_path):
    assert add(table("007", "7"), "--accept", word)[0] == 0
    assert patients(tmp_path) == wanted
    # Neither is asked again, nor counted as labelled otherwise.
    status, _out, err = add(table("007", "7"))
    assert (status, err.partition("in the store: ")[0], patients(tmp_path)) == (0, "", wanted)


def test_an_id_that_looks_like_one_of_the_store_is_refused_and_joined_to_it(
    table, add, tmp_path, make_pictures
):
    assert add(table("007", count=4))[0] == 0
    name = Pseudonyms(site_key(tmp_path / "site.key")).patient("007")
    later = table("a", "b", "c", "d", "7", "7", name="later.csv")
    status, _out, err = add(later)
    assert status == 2
    assert f"line 6 of later.csv and one stored as {name} (they differ in leading zeros)" in err
    assert len(stored(tmp_path)) == 4
    assert add(later, "--accept", "same-ids")[0] == 0
    assert int((stored(tmp_path).text("patient", slice(None)) == name.encode()).sum()) == 3


def test_folders_are_held_against_the_store_as_well(tmp_path, make_pictures, preprocess):
    (picture, other) = make_pictures(tmp_path / "raw", 2)
    add = (tmp_path / "raw", tmp_path / "store", "--size", 16)
    assert preprocess(*add)[0] == 0
    (tmp_path / "raw" / "glioma" / "Patient00").mkdir()
    shutil.copy(other, tmp_path / "raw" / "glioma" / "Patient00" / "1.jpg")
    status, _out, err = preprocess(*add)
    assert status == 2
    assert "a folder in glioma and one stored as P" in err
    assert picture.parent.name not in err


def test_a_spreadsheet_that_writes_all_ids_with_decimals_is_taken_as_it_is(table, add, tmp_path):
    assert add(table("1.0", "2.0", "1.0"))[0] == 0
    assert patients(tmp_path) == 7


def test_an_id_that_looks_like_two_of_the_store_is_not_joined_to_both(table, add, tmp_path):
    assert add(table("007", "7", count=2), "--accept", "ids")[0] == 0
    later = table("x", "y", "7.0", name="later.csv")
    status, _out, err = add(later, "--accept", "same-ids")
    assert status == 2
    assert "line 4 of later.csv looks like two patients of the store" in err
    assert len(stored(tmp_path)) == 2


def test_both_words_at_once_are_refused(table, add):
    assert "contradict each other" in add(table(), "--accept", "ids", "same-ids")[2]


def test_names_as_a_mac_writes_them_are_those_of_the_table(tmp_path, make_pictures, preprocess):
    letters = [
        unicodedata.normalize(form, "Jos\N{LATIN SMALL LETTER E WITH ACUTE}") for form in ("NFC", "NFD")
    ]
    for number, path in enumerate(make_pictures(tmp_path / "pictures", 2)):
        folder = tmp_path / "raw" / "glioma" / letters[number]
        folder.mkdir(parents=True)
        path.rename(folder / f"{number}.jpg")
    assert preprocess(tmp_path / "raw", tmp_path / "store", "--size", 16)[0] == 0
    assert patients(tmp_path) == 1
    assert not list((tmp_path / "store" / "commits").glob("same-*"))


def test_an_id_that_an_older_version_stored_as_a_mac_writes_it_stays_the_same_patient(
    table, add, tmp_path, monkeypatch
):
    from mri_hpc.intake.labels import label as labels

    old = unicodedata.normalize("NFD", "Jos\N{LATIN SMALL LETTER E WITH ACUTE}")
    new = unicodedata.normalize("NFC", old)
    with monkeypatch.context() as older:
        older.setattr(labels, "nfc", lambda text: text)
        assert add(table(old, old, count=4))[0] == 0
    keys = stored(tmp_path).key.tolist()
    status, _out, err = add(table(new, old, new, new))
    assert (status, err.partition("in the store: ")[0]) == (
        0,
        "2 labels, patients, folds or splits differ from those stored, which stay\n",
    )
    pseudonyms = Pseudonyms(site_key(tmp_path / "site.key"))
    now = stored(tmp_path)
    assert set(keys) < set(now.key.tolist())
    assert now.persons.names(pseudonyms.patient(old)) == now.persons.names(pseudonyms.patient(new))
    for typed in (old, new):
        name = Store(tmp_path / "store").name_of(typed, tmp_path / "site.key")
        assert Store(tmp_path / "store").look_for(name, given=typed).images == 2


def test_tasks_at_once_say_the_same(table, add, tmp_path):
    labels = table("007", "7", "07", "7.0")
    for task in (1, 0, 2):
        assert add(labels, "--accept", "same-ids", "--task", task, "--tasks", 3)[0] == 0
    assert len(list((tmp_path / "store" / "commits").glob("same-*"))) == 1
    assert patients(tmp_path) == 5


def test_relabelling_asks_as_well(table, add, tmp_path, capsys):
    from mri_hpc.store import main

    assert add(table("007"))[0] == 0
    new = table("007", "7", name="new.csv")
    words = ["relabel", str(tmp_path / "store"), "--labels", str(new), "--source", str(tmp_path / "raw")]
    assert main(words) == 2
    assert "line 3 of new.csv and one stored as" in capsys.readouterr().err
    assert main([*words, "--accept", "same-ids"]) == 0
    assert patients(tmp_path) == 7


def test_another_way_to_write_an_id_moves_its_patient_into_no_other_split(table, add, tmp_path):
    def fraction(name):
        return int.from_bytes(hashlib.sha256(f"patient:{name}".encode()).digest()[:6], "big") / 2**48

    known, other = next(
        (f"0{number}", f"{number}")
        for number in range(1, 999)
        if fraction(f"0{number}") > 0.3 > 0.15 > fraction(number)
    )
    rest = [f"x{number}" for number in range(60) if fraction(f"x{number}") < 0.3]
    assert add(table(known, *rest[:7]), "--ids", "as-given")[0] == 0
    later = table(known, *rest[:7], name="later.csv")
    (tmp_path / "raw" / "glioma" / "more").mkdir()
    (tmp_path / "raw" / "glioma" / "more" / "1.jpg").write_bytes(
        next((tmp_path / "raw").rglob("*.jpg")).read_bytes() + b"0"
    )
    with later.open("a") as file:
        file.write(f"glioma/more/1.jpg,a,{other}\r\n")
    assert add(later, "--accept", "same-ids")[0] == 0
    now = stored(tmp_path)
    assert now.persons.names(known) == (known, other)
    assert {*split_of(now)[now.is_of(np.array([known.encode()]))].tolist()} == {TRAIN}
