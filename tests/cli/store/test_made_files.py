"""Files that show patients are written down when they are made; a retraction removes or lists them."""

import errno
import json
import os
from pathlib import Path

import pytest

from mri_hpc.intake.labels.pseudonyms import Pseudonyms, site_key
from mri_hpc.storage.store import Store, own_lines
from mri_hpc.storage.upkeep import made_files
from mri_hpc.store import main


@pytest.fixture
def store(copy_of_store):
    """21 images of 7 patients."""
    return copy_of_store(21, "--size", 16)


@pytest.fixture
def name(tmp_path, store):
    return Pseudonyms(site_key(tmp_path / "site.key")).patient("patient3")


def call(*words, capsys):
    capsys.readouterr()
    status = main([str(word) for word in words])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def states(store, capsys, *words):
    document = json.loads(call(*words, "--json", capsys=capsys)[1])
    return {Path(one["file"]).name: one["state"] for one in document["files"]}


def lines_of(store):
    return [
        json.loads(line)
        for path in (store / "private" / "made").iterdir()
        for line in path.read_text().splitlines()
    ]


def test_a_sheet_and_an_export_are_written_down_with_what_they_show_and_no_name(
    store, name, tmp_path, capsys
):
    assert call("sheet", store, tmp_path / "of one.png", "--patient", name, capsys=capsys)[0] == 0
    assert call("export", store, "--single", tmp_path / "all.h5", capsys=capsys)[0] == 0
    sheet, whole = lines_of(store)
    assert (sheet["path"], sheet["command"], len(sheet["keys"])) == (
        str(tmp_path / "of one.png"), "store sheet", 3,
    )  # fmt: skip
    assert (whole["shows_all"], whole["keys"], whole["snapshot"]) == (True, [], sheet["snapshot"])
    assert len(sheet["sha256"]) == 64 and sheet["made"].endswith("UTC") and sheet["who"]
    (path,) = (store / "private" / "made").iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    assert "patient3" not in path.read_text() and name not in path.read_text()


def test_a_retraction_removes_what_shows_the_patient_and_lists_what_it_cannot_reach(
    store, name, tmp_path, capsys
):
    out = {kind: tmp_path / f"{kind}.png" for kind in ("there", "changed", "moved", "linked", "other")}
    other = next(one.decode() for one in Store.open(store).resolve().patient_names if one.decode() != name)
    for kind, path in out.items():
        call("sheet", store, path, "--patient", other if kind == "other" else name, capsys=capsys)
    call("export", store, "--single", tmp_path / "all.h5", capsys=capsys)
    out["changed"].write_bytes(out["changed"].read_bytes() + b"x")
    out["moved"].rename(tmp_path / "elsewhere.png")
    out["linked"].rename(tmp_path / "aside.png")
    out["linked"].symlink_to(tmp_path / "aside.png")
    os.link(out["there"], tmp_path / "second name.png")
    expected = {
        "there.png": "there", "changed.png": "changed", "moved.png": "gone", "linked.png": "changed",
        "all.h5": "there",
    }  # fmt: skip
    assert states(store, capsys, "who-used", store, name, "--runs", tmp_path) == expected
    assert (
        f"file {out['there']}: there; by store sheet, "
        in call("who-used", store, name, "--runs", tmp_path, capsys=capsys)[1]
    )
    err = call("retract", store, "--patient", "patient3", capsys=capsys)[2]
    assert "to be removed from the disk for good, and 5 files made of them: add --yes" in err
    done = call("retract", store, "--patient", "patient3", "--yes", capsys=capsys)[1]
    assert f"showed them: {out['there']}: removed (another name of it is left); by store sheet" in done
    assert f"showed them: {out['linked']}: changed (a link by now); by store sheet" in done
    assert [path.exists() for path in out.values()] == [False, True, False, True, True]
    assert not (tmp_path / "all.h5").exists()
    # One that was killed on the way is ended by doing it again, and says what is left.
    out["there"].write_bytes(b"of another hand")
    again = call("retract", store, "--patient", "patient3", "--yes", capsys=capsys)[1]
    assert f"showed them: {out['there']}: changed; by store sheet" in again


def test_a_retraction_of_one_image_reaches_the_files_that_show_it(store, name, tmp_path, capsys):
    call("sheet", store, tmp_path / "a.png", "--patient", name, capsys=capsys)
    call("sheet", store, tmp_path / "b.png", capsys=capsys)
    (key, *_), _all = (line["keys"] for line in lines_of(store))
    assert states(store, capsys, "who-used", store, "--image", key, "--runs", tmp_path) == {
        "a.png": "there", "b.png": "there",
    }  # fmt: skip
    assert set(states(store, capsys, "retract", store, "--image", key, "--yes").values()) == {"removed"}


def test_a_file_made_of_a_store_that_cannot_take_a_note_is_in_the_accounts_own_lines(
    store, name, tmp_path, capsys, monkeypatch
):
    def closed(_folder):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with monkeypatch.context() as patch:
        patch.setattr(made_files, "make_private", closed)
        status, _out, err = call("sheet", store, tmp_path / "a.png", "--patient", name, capsys=capsys)
    own = own_lines(os.environ)
    assert status == 0 and f"cannot take a note of it: it is written down in {own}" in err
    assert (own.stat().st_mode & 0o777, own.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert states(store, capsys, "retract", store, "--patient", "patient3", "--yes") == {"a.png": "removed"}


def test_lines_of_several_accounts_are_read_and_one_that_was_cut_short_hides_no_other(
    store, name, tmp_path, capsys
):
    call("sheet", store, tmp_path / "a.png", "--patient", name, capsys=capsys)
    folder = store / "private" / "made"
    (path,) = folder.iterdir()
    line = path.read_text()
    (folder / "node7-1234.jsonl").write_text(line.replace("a.png", "b.png") + line[:40])
    assert states(store, capsys, "who-used", store, name, "--runs", tmp_path) == {
        "a.png": "there", "b.png": "gone",
    }  # fmt: skip
    err = call("retract", store, "--patient", "patient3", "--yes", capsys=capsys)[2]
    assert "1 line in" in err and "look for more files yourself" in err


def test_lines_of_a_store_that_was_moved_are_its_own_all_the_same(store, name, tmp_path, capsys):
    call("sheet", store, tmp_path / "a.png", "--patient", name, capsys=capsys)
    moved = store.rename(tmp_path / "moved")
    assert states(moved, capsys, "retract", moved, "--patient", "patient3", "--yes") == {"a.png": "removed"}
    assert not (tmp_path / "a.png").exists()


def test_a_path_that_two_machines_wrote_is_found_by_the_lines_of_both(store, name, tmp_path, capsys):
    other = next(one.decode() for one in Store.open(store).resolve().patient_names if one.decode() != name)
    call("sheet", store, tmp_path / "a.png", "--patient", other, capsys=capsys)
    (path,) = (store / "private" / "made").iterdir()
    path.rename(path.with_name("zz-last-0.jsonl"))
    call("sheet", store, tmp_path / "a.png", "--patient", name, capsys=capsys)
    assert states(store, capsys, "who-used", store, other, "--runs", tmp_path) == {"a.png": "changed"}
    assert states(store, capsys, "retract", store, "--patient", "patient3", "--yes") == {"a.png": "removed"}


def test_lines_that_this_account_may_not_read_are_counted(store, name, tmp_path, capsys):
    (store / "private" / "made" / "node7-1234.jsonl").mkdir(parents=True)
    err = call("retract", store, "--patient", "patient3", "--yes", capsys=capsys)[2]
    assert "1 line in" in err and "look for more files yourself" in err


def test_a_file_that_this_account_may_not_remove_is_listed_with_the_reason(
    store, name, tmp_path, capsys, monkeypatch
):
    call("sheet", store, tmp_path / "a.png", "--patient", name, capsys=capsys)
    unlink = type(tmp_path).unlink

    def refused(path, **options):
        if path.name == "a.png":
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        unlink(path, **options)

    monkeypatch.setattr(type(tmp_path), "unlink", refused)
    out = call("retract", store, "--patient", "patient3", "--yes", capsys=capsys)[1]
    assert "a.png: closed (Permission denied); by store sheet" in out
