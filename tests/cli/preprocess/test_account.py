"""The account with which preprocess ends: what is in the store, and what of it is doubtful."""

import json
import os
import shutil
import time

import pytest
from PIL import Image

from mri_hpc.storage.store import ArrayTask, Store, Tally
from mri_hpc.store import main
from tests.cli.preprocess.store_counts import SMALL
from tests.cli.preprocess.test_array_tasks import as_array_task
from tests.harness.powers import without_powers


@pytest.fixture
def account(raw, store, preprocess):
    """Preprocesses the source, and returns the account as JSON has it."""

    def run(*options, source=raw):
        return json.loads(preprocess(source, store, *SMALL, "--json", *options)[1])["account"]

    return run


def doubts(found):
    return {doubt["kind"]: doubt["count"] for doubt in found["doubts"]}


def test_the_store_is_summed_up_in_a_line(raw, store, preprocess):
    _status, out, err = preprocess(raw, store, *SMALL)
    assert "in the store: 40 images of 7 patients: glioma 20, meningioma 20\n" in err
    assert out.count("\n") == 1


def test_deleted_and_moved_files_are_told_with_the_command_that_takes_them_out(raw, store, preprocess):
    preprocess(raw, store, *SMALL)
    deleted, moved, renamed, given = sorted(raw.glob("glioma/*/*.jpg"))[:4]
    deleted.unlink()
    moved.rename(raw / "meningioma" / moved.parent.name / "moved.jpg")
    renamed.rename(renamed.with_stem("renamed"))
    (raw / "glioma" / "patient99").mkdir()
    given.rename(raw / "glioma" / "patient99" / given.name)
    _status, out, err = preprocess(raw, store)
    assert out.startswith("stored 3, already there 36, rejected 0 ")
    assert (
        f"4 stored images are no longer in {raw}, 3 of them moved, 1 to another class and 1 to another "
        f"patient; take them out: mri-hpc store retract {store} --missing {raw}\n"
    ) in err
    assert "was the source" not in err
    assert "1 time the same bytes are stored under several classes" in err


def test_a_store_from_which_they_were_taken_out_is_not_doubtful(raw, account):
    assert doubts(account()) == {"patients-of-several-classes": 7}
    sorted(raw.glob("glioma/*/*.jpg"))[0].unlink()
    assert doubts(account())["missing"] == 1
    assert main(["retract", str(raw.parent / "store"), "--missing", str(raw), "--yes"]) == 0
    assert "missing" not in doubts(account())


def test_files_that_only_came_later_than_a_listing_are_not_missing(
    raw, store, preprocess, monkeypatch, make_pictures
):
    """The tasks of an array have one listing; meanwhile others may have added what is new."""
    as_array_task(monkeypatch, 0, last=1)
    preprocess(raw, store, *SMALL)
    make_pictures(raw, 3, first=40)
    for name in ("JOB_ID", "TASK_ID"):
        monkeypatch.delenv(f"SLURM_ARRAY_{name}")
    preprocess(raw, store)
    as_array_task(monkeypatch, 1, last=1)
    found = json.loads(preprocess(raw, store, "--json")[1])["account"]
    assert (found["images"], "missing" in doubts(found)) == (43, False)


def test_images_of_other_sources_are_not_told_as_missing(raw, account, make_pictures, tmp_path):
    account()
    make_pictures(tmp_path / "more", 3, first=100)
    assert "missing" not in doubts(account(source=tmp_path / "more"))


def test_where_very_many_may_be_missing_only_that_is_told(raw, account, monkeypatch, make_pictures, tmp_path):
    monkeypatch.setattr("mri_hpc.account.MOST_LOOKED_FOR", 20)
    account()
    make_pictures(tmp_path / "more", 3, first=100)
    (doubt,) = [one for one in account(source=tmp_path / "more")["doubts"] if one["kind"] == "missing"]
    assert doubt["text"].startswith("more than 20 stored images are not in")


def test_of_a_large_store_nothing_is_folded_but_what_is_new(
    raw, account, monkeypatch, make_pictures, tmp_path
):
    account()
    monkeypatch.setattr("mri_hpc.account.MOST_LOOKED_FOR", 20)
    monkeypatch.setattr("mri_hpc.cohort.new_twins.MOST_IMAGES", 20)
    monkeypatch.setattr(Store, "current", lambda store: pytest.fail("all was folded"))
    make_pictures(tmp_path / "more", 3, first=100)
    found = account(source=tmp_path / "more")
    assert (found["images"], sum(found["classes"].values())) == (43, 43)


def test_images_below_a_folder_that_is_closed_now_are_not_missing(raw, store, preprocess):
    preprocess(raw, store, *SMALL)
    sorted(raw.glob("meningioma/*/*.jpg"))[0].unlink()
    (raw / "glioma" / "patient0").chmod(0)
    with without_powers():
        err = preprocess(raw, store)[2]
    (raw / "glioma" / "patient0").chmod(0o700)
    assert "1 stored image is no longer in" in err
    assert "some folders in" in err


def test_a_user_who_may_not_see_the_private_folder_or_a_copy_without_it_is_told_nothing_of_it(raw, account):
    account()
    sorted(raw.glob("glioma/*/*.jpg"))[0].unlink()
    shutil.rmtree(raw.parent / "store" / "private")
    assert "missing" not in doubts(account())


def test_twins_of_other_class_or_patient_and_images_without_label_are_counted(raw, account, tmp_path):
    names = sorted(path.relative_to(raw).as_posix() for path in raw.glob("*/*/*.jpg"))
    shutil.copy(raw / names[0], raw / "again.jpg")
    shutil.copy(raw / names[1], raw / "same.jpg")
    Image.new("L", (32, 32), 3).save(raw / "unknown.png")
    rows = [f"{name},a,P{number}" for number, name in enumerate(names)]
    rows += ["again.jpg,b,P0", "same.jpg,a,P7", "unknown.png,,"]
    (raw / "labels.csv").write_text("\n".join(["path,label,patient", *rows, ""]))
    found = account()
    assert doubts(found) == {
        "patients-of-several-classes": 1,
        "same-bytes-of-several-classes": 1,
        "same-bytes-of-several-patients": 1,
        "without-label": 1,
        "without-patient": 1,
    }
    assert found["classes"] == {"a": 41, "b": 1}


@pytest.mark.parametrize(("first", "last", "step"), [(0, 3, 1), (10, 16, 2)])
def test_the_last_task_of_an_array_tells_of_all_of_them(
    raw, store, preprocess, monkeypatch, first, last, step
):
    (raw / "glioma" / "broken.jpg").write_bytes(b"<html>")
    told = []
    for index in range(first, last + 1, step):
        as_array_task(monkeypatch, index, first=first, last=last, step=step)
        told.append(json.loads(preprocess(raw, store, *SMALL, "--json")[1])["account"])
    assert told[:-1] == [None] * 3
    assert (told[-1]["images"], told[-1]["tally"]["stored"], told[-1]["tally"]["rejected"]) == (40, 40, 1)
    assert sum(told[-1]["tally"]["reasons"].values()) == 1


def test_the_tasks_of_an_array_with_holes_end_with_one_account(raw, store, preprocess, monkeypatch):
    told = []
    for index in (1, 3, 7):
        as_array_task(monkeypatch, index, first=1, last=7, count=3)
        told.append(json.loads(preprocess(raw, store, *SMALL, "--json")[1])["account"])
    assert [one is None for one in told] == [True, True, False]


def test_two_sources_of_one_array_have_an_account_each(
    raw, store, preprocess, monkeypatch, make_pictures, tmp_path
):
    make_pictures(tmp_path / "more", 5, first=100)
    told = []
    for index in (0, 1):
        as_array_task(monkeypatch, index, last=1)
        for source in (raw, tmp_path / "more"):
            told.append(json.loads(preprocess(source, store, *SMALL, "--json")[1])["account"])
    assert [one is None for one in told] == [True, True, False, False]


def test_tasks_that_are_started_by_hand_cannot_know_who_is_the_last(account):
    assert account("--task", 0, "--tasks", 2) is None
    assert account("--task", 1, "--tasks", 2) is None
    assert account("--task", 0, "--tasks", 1)["images"] == 40


def test_of_tasks_that_find_all_done_at_the_same_moment_one_tells_and_tells_again(store, raw, preprocess):
    preprocess(raw, store, *SMALL)
    tasks = [ArrayTask(job="5", number=number, count=2) for number in (3, 4)]
    found = [
        Store(store).tell_last(raw, tasks[number], Tally(stored=1, reasons={str(number): 1}))
        for number in (0, 1, 0, 1)
    ]
    assert (found[0], found[2]) == (None, None)
    assert found[1] == found[3] == Tally(stored=2, reasons={"0": 1, "1": 1})
    assert Store(store).tell_last(raw, ArrayTask(job="6", number=4, count=2), Tally()) is None


def test_words_of_tasks_that_are_done_outlast_the_listing(store, raw, preprocess):
    preprocess(raw, store, *SMALL)
    listings = store / "private" / "listings"
    for name, days in {"5.ab": 2, "5.ab.done-3": 2, "5.ab.teller": 2, "4.ab.done-3": 90}.items():
        (listings / name).touch()
        os.utime(listings / name, (time.time() - days * 86400,) * 2)
    preprocess(raw, store)
    assert {path.name for path in listings.iterdir()} == {"5.ab.done-3", "5.ab.teller"}
