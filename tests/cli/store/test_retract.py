import io
import json
import multiprocessing
import shutil

import numpy as np
import pytest

from mri_hpc.base.errors import UserError
from mri_hpc.intake.labels.pseudonyms import Pseudonyms, site_key
from mri_hpc.storage.disk.chunk_file import read_header
from mri_hpc.storage.disk.commits import publish_retraction
from mri_hpc.storage.disk.layout import open_store
from mri_hpc.storage.reading.reader import Reader
from mri_hpc.storage.snapshot import folding
from mri_hpc.storage.snapshot.catalogue import current, resolve
from mri_hpc.storage.upkeep import compaction, retraction
from mri_hpc.storage.upkeep.verify import verify
from mri_hpc.store import main
from tests.cli.store.harms import assert_nothing_is_left

SMALL = ("--size", 16, "--chunk-images", 8)


@pytest.fixture
def store(copy_of_store):
    """40 images of 7 patients; images 3, 10, 17, 24, 31 and 38 are of patient3."""
    return copy_of_store(40, *SMALL)


@pytest.fixture
def name(tmp_path, store):
    return Pseudonyms(site_key(tmp_path / "site.key")).patient("patient3")


def pixels_of(path, snapshot, rows):
    with Reader(path, snapshot) as reader:
        return [image.tobytes() for image in reader.read(rows)]


def test_a_copy_without_the_private_folder_is_rid_of_a_patient_too(store, name, capsys):
    before = resolve(store)
    rows = np.flatnonzero(before.patient == before.patient_names.tolist().index(name.encode()))
    pixels = pixels_of(store, before, rows)
    shutil.rmtree(store / "private")
    assert main(["retract", str(store), "--patient", name, "--yes"]) == 0
    assert main(["compact", str(store), "--keep-days", "0"]) == 0
    assert_nothing_is_left(store, pixels)


@pytest.mark.parametrize(("is_published", "folds"), [(True, 1), (False, 2)])
def test_a_retraction_folds_the_store_once_beside_what_nobody_has_folded_yet(
    store, monkeypatch, is_published, folds
):
    if is_published:
        resolve(store)
    real, folded = folding.fold, []
    monkeypatch.setattr(folding, "fold", lambda *a, **k: folded.append(a) or real(*a, **k))
    assert main(["retract", str(store), "--patient", "patient3", "--yes"]) == 0
    assert len(folded) == folds
    assert len(resolve(store)) == 34
    assert verify(open_store(store)).problems == []


def test_a_retracted_patient_is_gone_from_the_snapshot_the_disk_and_the_private_tables(store, name, capsys):
    before = resolve(store)
    rows = np.flatnonzero(before.patient == before.patient_names.tolist().index(name.encode()))
    pixels = pixels_of(store, before, rows)
    assert main(["compact", str(store)]) == 0
    assert main(["retract", str(store), "--patient", "patient3", "--why", "asked us to", "--yes"]) == 0
    assert f"6 images of {name} are retracted" in capsys.readouterr().out
    after = resolve(store)
    assert len(after) == 34
    assert name.encode() not in after.patient_names
    for file in (store / "chunks").iterdir():
        assert not any(image in file.read_bytes() for image in pixels)
    for file in (store / "private").rglob("*.*"):
        assert b"patient3" not in file.read_bytes()
        assert file.stat().st_mode & 0o777 == 0o600
    assert verify(open_store(store)).problems == []
    (commit,) = (store / "commits").glob("retract-*.json")
    record = json.loads(commit.read_text())
    assert (record["why"], record["retracted_patients"]) == ("asked us to", [name])
    assert record["who"]
    assert record["created"] > 0


def test_preprocess_brings_nothing_of_a_retracted_patient_back(
    tmp_path, store, raw, preprocess, make_pictures
):
    content = _retract(store, "patient3").content_digest
    make_pictures(raw, 3, first=45, patients=7)
    assert preprocess(raw, store)[1].startswith("stored 2, already there 34, rejected 7 ")
    out, err = preprocess(raw, store)[1:]
    assert out.startswith("stored 0, already there 36, rejected 7 ")
    assert "rejected 7: retracted: its patient was withdrawn from this store" in err
    assert len(resolve(store)) == 36
    assert content != resolve(store).content_digest
    listed = "".join(path.read_text() for path in (store / "private" / "names").iterdir())
    # The owner has to find the files that are still in the source.
    assert listed.count("patient3") == 7


def test_a_retracted_image_stays_out_under_another_patient_too(store, raw, tmp_path, preprocess):
    _retract(store, "patient3")
    table = tmp_path / "labels.csv"
    paths = [path.relative_to(raw) for path in raw.rglob("patient3/*.jpg")]
    table.write_text("path,label,patient\n" + "".join(f"{path},glioma,other\n" for path in paths))
    assert preprocess(raw, store, "--labels", table)[0] == 0
    assert len(resolve(store)) == 34


def test_a_new_image_called_a_retracted_patients_by_mistake_is_stored_once_the_labels_name_another(
    store, raw, tmp_path, preprocess, make_pictures
):
    _retract(store, "patient3")
    (path,) = make_pictures(raw, 1, first=45)
    table, name = tmp_path / "labels.csv", path.relative_to(raw)
    table.write_text(f"path,label,patient\n{name},glioma,patient3\n")
    for _again in range(2):
        out, err = preprocess(raw, store, "--labels", table)[1:]
        assert out.startswith("stored 0, already there 34, rejected 7 ")
        assert "rejected 1: retracted: its patient was withdrawn from this store" in err
    table.write_text(f"path,label,patient\n{name},glioma,patient4\n")
    out, err = preprocess(raw, store, "--labels", table)[1:]
    assert out.startswith("stored 1, already there 34, rejected 6 ")
    assert "retracted" not in err
    after = current(open_store(store))
    assert (len(after), int(after.is_rejected.sum())) == (35, 6)


def test_a_file_of_a_retracted_patient_is_rejected_again_without_being_read(
    store, preprocess, raw, monkeypatch
):
    _retract(store, "patient3")
    assert preprocess(raw, store)[1].startswith("stored 0, already there 34, rejected 6 ")
    monkeypatch.setattr("mri_hpc.storage.adding.windowed.read_content", None)
    out, err = preprocess(raw, store)[1:]
    assert out.startswith("stored 0, already there 34, rejected 6 ")
    assert "rejected 6: retracted" in err


def test_images_that_come_in_at_the_same_time_are_withheld_and_then_removed(store, name):
    """As if a task that started before the retraction had stored them after it."""
    opened = open_store(store)
    publish_retraction(opened, (), [name], "")
    snapshot = current(opened)
    assert (len(snapshot), len(snapshot.withheld)) == (34, 6)
    compaction.compact(opened)
    gone = snapshot.withheld["key"]
    for file in (store / "chunks").iterdir():
        assert not np.isin(read_header(file).columns["key"], gone).any()
    assert current(opened).content_digest == snapshot.content_digest


def test_a_run_on_an_older_snapshot_that_holds_the_patient_is_told_what_to_do(store):
    before = resolve(store)
    _retract(store, "patient3", "--why", "asked us to")
    with pytest.raises(
        UserError, match=r"holds 6 images of patients .* retracted \(.*, asked us to\).*launch"
    ):
        resolve(store, before.digest)


def test_an_older_snapshot_without_the_patient_is_read_on(store, raw, preprocess, make_pictures):
    before = resolve(store)
    expected = pixels_of(store, before, np.arange(40))
    make_pictures(raw, 1, first=40, patients=100)
    preprocess(raw, store)
    _retract(store, "patient40")
    main(["compact", str(store), "--keep-days", "0"])
    assert pixels_of(store, resolve(store, before.digest), np.arange(40)) == expected


@pytest.mark.parametrize(("module", "moment"), [(retraction, "compact"), (compaction, "tidy")])
def test_a_retraction_that_was_killed_is_ended_by_doing_it_again(store, monkeypatch, module, moment):
    class Killed(BaseException):
        pass

    def die(*_arguments, **_options):
        raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(module, moment, die)
        main(["retract", str(store), "--patient", "patient3", "--yes"])
    assert len(resolve(store)) == 34
    assert main(["retract", str(store), "--patient", "patient3", "--yes"]) == 0
    assert len(list((store / "chunks").iterdir())) == len(resolve(store).chunks)
    assert verify(open_store(store)).problems == []


def test_two_retractions_at_once_leave_nothing_of_either(store):
    fork = multiprocessing.get_context("fork")
    both = [fork.Process(target=_retract, args=(store, f"patient{number}")) for number in (1, 3)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert len(resolve(store)) == 28
    text = b"".join(path.read_bytes() for path in (store / "private").rglob("*.csv"))
    assert b"patient1" not in text
    assert b"patient3" not in text
    assert verify(open_store(store)).problems == []


def test_the_pseudonym_does_as_well_and_an_unknown_patient_is_said(store, name, capsys, monkeypatch):
    assert main(["retract", str(store), "--patient", "nobody", "--yes"]) == 2
    assert "has nothing of a patient 'nobody'" in capsys.readouterr().err
    monkeypatch.setenv("MRI_KEY_FILE", "/nowhere/key")
    assert main(["retract", str(store), "--patient", "patient3", "--yes"]) == 2
    assert "give the pseudonym in place of the patient's id" in capsys.readouterr().err
    assert main(["retract", str(store), "--patient", name, "--yes"]) == 0


def test_without_yes_nothing_is_done(store, capsys):
    assert main(["retract", str(store), "--patient", "patient3"]) == 2
    assert "are to be removed from the disk for good: add --yes" in capsys.readouterr().err
    assert len(resolve(store)) == 40


def test_one_image_is_told_as_one(store, raw, preprocess, make_pictures, capsys):
    make_pictures(raw, 1, first=1000, patients=1001)
    preprocess(raw, store)
    assert main(["retract", str(store), "--patient", "patient1000"]) == 2
    assert "1 image of " in (said := capsys.readouterr().err) and " is to be removed from the disk" in said
    assert main(["retract", str(store), "--patient", "patient1000", "--yes"]) == 0
    assert "is retracted, 1 chunk file without it replaced those that held it" in capsys.readouterr().out


def test_another_sites_key_is_refused(store, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MRI_KEY_FILE", str(tmp_path / "other.key"))
    site_key(tmp_path / "other.key")
    assert main(["retract", str(store), "--patient", "patient3", "--yes"]) == 2
    assert "another site's key" in capsys.readouterr().err


def _retract(store, patient, *options):
    assert main(["retract", str(store), "--patient", patient, "--yes", *options]) == 0
    return resolve(store)


def test_the_question_before_a_retraction_stands_beside_the_document_for_scripts(store, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("yes\n"))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    capsys.readouterr()
    assert main(["retract", str(store), "--patient", "patient3", "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["images"] == 6
    assert printed.err.endswith("are to be removed from the disk for good. Type yes: ")
