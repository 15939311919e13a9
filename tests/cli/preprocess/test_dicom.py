"""DICOM through the command: a series is one source, wherever its files lie and whatever they are called."""

import hashlib
import json
import re
import shutil

import cv2
import numpy as np
import pytest

from mri_hpc import account
from mri_hpc.intake.decoding.burnt_in import BURNT_IN, KEPT_BACK
from mri_hpc.intake.decoding.dicom import listing
from mri_hpc.intake.files import content
from mri_hpc.intake.files.content import BEING_WRITTEN
from mri_hpc.storage.adding import loop
from mri_hpc.storage.adding.intake import Intake
from mri_hpc.storage.disk import chunk_file
from mri_hpc.storage.disk.private_tables import read_names
from mri_hpc.storage.snapshot.table import CHANGED_UNTOLD, RETRACTED_IMAGE
from mri_hpc.storage.store import Store
from mri_hpc.store import main as store_main
from tests.harness import dicom_phantoms as phantoms

SHAPE = (40, 48, 6)
AFFINE = np.diag([3.0, 4.0, 5.0, 1.0])
SMALL = ("--size", "32")


def head(number=0):
    """A bright ball in the dark, (columns, rows, slices), of more values than one."""
    middle = (np.array(SHAPE) - 1) / 2
    where = np.moveaxis(np.indices(SHAPE), 0, -1)
    inside = np.linalg.norm((where - middle) / (middle + 2), axis=-1) < 1
    noise = np.random.default_rng(number).integers(0, 200, SHAPE)
    return (inside * (600 + 100 * number + 4 * where[..., 0]) + noise).astype(np.uint16)


@pytest.fixture
def raw(tmp_path):
    folder = tmp_path / "raw"
    for name in ("glioma", "meningioma"):
        (folder / name).mkdir(parents=True)
    return folder


@pytest.fixture
def store(tmp_path):
    return tmp_path / "store"


def write(folder, series, *, which=None, voxels=None, **others):
    """Write a series into a folder, a file a slice; return these. which: those slices alone."""
    made = phantoms.classic(head(series) if voxels is None else voxels, AFFINE, series=series, **others)
    files = []
    for number in which if which is not None else range(len(made)):
        file = folder / f"IM{series:03d}_{number:04d}"
        file.write_bytes(phantoms.as_bytes(made[number]))
        files.append(file)
    return files


@pytest.fixture
def run(raw, store, preprocess):
    def run(*options):
        _status, out, err = preprocess(raw, store, *SMALL, "--json", *options)
        return json.loads(out), err

    return run


def rows(store):
    return Store.open(store).current()


def pixels_of(store):
    """The pixels of each image, by its key."""
    opened = Store.open(store)
    snapshot = opened.current()
    pixels = opened.reader(snapshot).read(np.arange(len(snapshot)))
    return {key: image.tobytes() for key, image in zip(snapshot.key.tolist(), pixels, strict=True)}


def test_a_series_is_one_source_and_its_slices_are_in_order(raw, store, run):
    write(raw / "glioma", 1)
    counts, _err = run()
    assert (counts["stored"], counts["images"], counts["rejected"]) == (1, 6, 0)
    found = rows(store)
    order = np.argsort(found.slice_index)
    assert found.slice_index[order].tolist() == list(range(6))
    assert np.diff(found.position[order]).tolist() == [5.0] * 5
    assert set(found.plane.tolist()) == {0}


def test_two_series_in_one_folder_are_two_sources_and_one_in_two_folders_is_one(raw, store, run):
    write(raw / "glioma", 1)
    write(raw / "glioma", 2)
    further = raw / "glioma" / "further"
    further.mkdir()
    for file in sorted((raw / "glioma").glob("IM001_*"))[3:]:
        file.rename(further / file.name)
    counts, _err = run("--patient-pattern", "(?P<patient>IM)")
    assert (counts["stored"], counts["images"]) == (2, 12)


def test_files_that_are_moved_and_renamed_change_nothing(raw, store, run):
    files = write(raw / "glioma", 1)
    run()
    digest = rows(store).content_digest
    for number, file in enumerate(reversed(files)):
        file.rename(file.with_name(f"{number}.dcm"))
    counts, _err = run()
    assert (counts["stored"], counts["already_there"], counts["rejected"]) == (0, 1, 0)
    assert rows(store).content_digest == digest


def test_files_that_come_later_are_a_change_and_replace_takes_them(raw, store, run):
    write(raw / "glioma", 1, which=range(5))
    run()
    assert len(rows(store).key) == 5
    write(raw / "glioma", 1)
    counts, err = run()
    assert (counts["stored"], counts["rejected"]) == (0, 1)
    assert "changed: other bytes than those stored" in err
    counts, _err = run("--replace")
    assert (counts["stored"], counts["rejected"]) == (1, 0)
    assert len(rows(store).key) == 6


def test_a_series_that_would_leave_old_slices_behind_is_refused(raw, store, run):
    files = write(raw / "glioma", 1)
    run()
    files[-1].unlink()
    counts, err = run("--replace")
    assert (counts["stored"], counts["rejected"]) == (0, 1)
    assert (
        "changed: some slices that are stored would stay beside its fewer ones (put missing files back, or "
        "take those slices out for good: --replace --accept shorter)"
    ) in " ".join(err.split())
    assert len(rows(store).key) == 6


def test_a_series_that_has_become_shorter_replaces_the_longer_one_by_what_the_refusal_says(
    raw, store, run, preprocess, tmp_path
):
    files = write(raw / "glioma", 1)
    write(raw / "glioma", 2)
    run()
    before = set(rows(store).key.tolist())
    for file in (files[0], files[3], files[4], files[5]):
        file.unlink()
    _counts, err = run("--replace")
    counts, err = run(*re.search(r"for good: (--[^)]*)\)", " ".join(err.split()))[1].split())
    assert (counts["stored"], counts["rejected"], counts["slices_retracted"]) == (1, 0, 4)
    assert "4 slices retracted, of files or series that have become shorter: runs that have seen these" in err
    preprocess(raw, tmp_path / "fresh", *SMALL)
    assert pixels_of(store) == pixels_of(tmp_path / "fresh")
    assert Store.open(store).verify().problems == []
    gone = before - set(rows(store).key.tolist())
    on_disk = [chunk_file.read_header(file).columns["key"] for file in (store / "chunks").rglob("*.h5")]
    assert len(gone) == 4 and on_disk and gone.isdisjoint(np.concatenate(on_disk).tolist())
    counts, _err = run()
    assert (counts["already_there"], counts["rejected"]) == (2, 0)
    # For good: to put the files back does not bring them back.
    write(raw / "glioma", 1)
    assert run("--replace")[0]["reasons"] == {RETRACTED_IMAGE: 1}
    assert len(rows(store).key) == 2 + 6


def test_slices_of_a_twin_at_another_site_are_no_part_of_what_has_become_shorter(raw, store, preprocess):
    files = write(raw / "glioma", 1)
    one, two = ("--site", "one"), ("--site", "two")
    preprocess(raw, store, *SMALL, *one)
    preprocess(raw, store, *two, "--accept", "sources")
    files[-1].unlink()
    out = preprocess(raw, store, *one, "--replace", "--accept", "shorter", "sources")[1]
    assert out.startswith("stored 1, already there 0, rejected 0")
    assert len(rows(store).key) == 5 + 6
    # Nor do they keep what is as long as before from being replaced.
    write(raw / "glioma", 1, which=range(5), voxels=head(2))
    assert preprocess(raw, store, *one, "--replace", "--accept", "sources")[1].startswith(
        "stored 1, already there 0, rejected 0"
    )


def test_who_cannot_tell_the_slices_of_a_series_from_its_twins_takes_none_out(raw, store, run):
    files = write(raw / "glioma", 1)
    run()
    for table in (store / "private" / "names").iterdir():
        table.unlink()
    files[-1].unlink()
    counts, _err = run("--replace", "--accept", "shorter")
    assert counts["reasons"] == {CHANGED_UNTOLD: 1}
    assert len(rows(store).key) == 6


def test_who_is_killed_between_taking_slices_out_and_replacing_the_others_ends_it_by_replacing(
    raw, store, run, preprocess, monkeypatch, tmp_path
):
    files = write(raw / "glioma", 1)
    run()
    files[-1].unlink()

    def killed(*_given):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(loop, "seal", killed)
        preprocess(raw, store, "--replace", "--accept", "shorter")
    assert len(rows(store).key) == 5
    assert run("--replace")[0]["stored"] == 1
    preprocess(raw, tmp_path / "fresh", *SMALL)
    assert pixels_of(store) == pixels_of(tmp_path / "fresh")


def test_a_second_copy_of_a_file_is_said_and_the_series_is_stored(raw, store, run):
    files = write(raw / "glioma", 1)
    (raw / "glioma" / "copy").mkdir()
    shutil.copy(files[0], raw / "glioma" / "copy" / "IM")
    counts, err = run()
    assert (counts["stored"], counts["images"], counts["rejected"]) == (1, 6, 1)
    assert "duplicate of an instance" in err


def test_a_copy_is_told_by_what_it_shows_whatever_else_its_file_says(raw, store, run):
    write(raw / "glioma", 1)
    again = phantoms.classic(head(1), AFFINE, series=1, StationName="ANOTHER")[0]
    (raw / "glioma" / "again").write_bytes(phantoms.as_bytes(again, phantoms.IMPLICIT))
    counts, err = run()
    assert (counts["stored"], counts["images"], counts["rejected"]) == (1, 6, 1)
    assert "duplicate of an instance" in err
    assert run()[0]["already_there"] == 1


def test_one_instance_with_other_pixels_in_one_place_is_a_doubled_slice(raw, store, run):
    write(raw / "glioma", 1)
    other = phantoms.classic(head(2), AFFINE, series=1)[2]
    (raw / "glioma" / "other").write_bytes(phantoms.as_bytes(other))
    counts, err = run()
    assert (counts["stored"], counts["rejected"]) == (0, 1)
    assert "doubled slice: two in one place, and nothing tells them apart" in err


@pytest.mark.parametrize("name", ["A", "Z"])
def test_a_damaged_copy_of_an_instance_that_is_whole_elsewhere_is_left_out(raw, store, run, name):
    files = write(raw / "glioma", 1)
    (raw / "glioma" / name).write_bytes(files[2].read_bytes()[:-100])
    counts, err = run()
    assert (counts["stored"], counts["images"], counts["rejected"]) == (1, 6, 1)
    assert "duplicate of an instance" in err
    assert run()[0]["already_there"] == 1


def test_slices_that_were_all_given_one_instance_id_are_a_volume(raw, store, run):
    write(raw / "glioma", 1, SOPInstanceUID=phantoms.uid(1, 1))
    counts, _err = run()
    assert (counts["stored"], counts["images"], counts["rejected"]) == (1, 6, 0)
    assert sorted(rows(store).slice_index.tolist()) == list(range(6))


def test_mosaics_that_share_an_instance_id_are_volumes_of_their_own(raw, run, real_data):
    for file in (real_data / "twelve_bit").glob("*.dcm"):
        shutil.copy(file, raw / "glioma")
    counts, _err = run()
    assert (counts["stored"], counts["rejected"]) == (1, 0)
    assert counts["images"] > 60


def test_a_series_that_was_deleted_is_missing_and_is_taken_out_as_such(raw, store, run, capsys):
    files = write(raw / "glioma", 1)
    write(raw / "glioma", 2, PatientID="P2")
    run()
    for file in files:
        file.unlink()
    kept = sorted((raw / "glioma").glob("IM002*"))
    for file in kept:
        file.rename(file.with_name(f"moved-{file.name}"))
    for _again in range(2):
        doubts = run()[0]["account"]["doubts"]
        assert [(doubt["kind"], doubt["count"]) for doubt in doubts] == [("missing", 6)]
    assert store_main(["retract", str(store), "--missing", str(raw), "--yes"]) == 0
    assert len(rows(store)) == 6
    assert run()[0]["account"]["doubts"] == []
    capsys.readouterr()
    assert store_main(["retract", str(store), "--missing", str(raw), "--yes"]) == 0
    assert "every stored image" in capsys.readouterr().out


def test_the_slices_of_many_series_that_are_there_are_not_missing(raw, store, run, monkeypatch):
    monkeypatch.setattr(account, "MOST_LOOKED_FOR", 6)
    files = [write(raw / "glioma", series, PatientID=f"P{series}") for series in (1, 2, 3)]
    assert "missing" not in {doubt["kind"] for doubt in run()[0]["account"]["doubts"]}
    for file in files[1]:
        file.unlink()
    doubts = run()[0]["account"]["doubts"]
    assert [(doubt["kind"], doubt["count"]) for doubt in doubts] == [("missing", 6)]


def test_a_series_that_is_moved_before_anything_is_retracted_is_not_missing(raw, store, run, capsys):
    files = write(raw / "glioma", 1)
    run()
    for file in files:
        file.rename(file.with_name(f"moved-{file.name}"))
    capsys.readouterr()
    assert store_main(["retract", str(store), "--missing", str(raw), "--yes"]) == 0
    assert "every stored image" in capsys.readouterr().out
    assert len(rows(store)) == 6


def test_the_patient_and_the_study_are_those_of_the_file_where_nothing_else_names_one(raw, store, run):
    write(raw / "glioma", 1, PatientID="PLANTED-A")
    write(raw / "glioma", 2, PatientID="PLANTED-B")
    write(raw / "meningioma", 3, PatientID="PLANTED-A")
    run()
    assert len(set(rows(store).patient.tolist())) == 2
    shown = b"".join(file.read_bytes() for file in files_that_may_be_shared(store))
    assert b"PLANTED" not in shown
    assert phantoms.ROOT.encode() not in shown


def files_that_may_be_shared(store):
    private = store / "private"
    return [file for file in store.rglob("*") if file.is_file() and private not in file.parents]


def test_no_text_of_a_header_leaves_the_private_folder(raw, store, run):
    texts = ("PatientName", "InstitutionName", "SeriesDescription", "ProtocolName", "StationName")
    others = dict.fromkeys(texts, "PLANTED^TEXT")
    for number, modality in enumerate(("MR", "MR", "PLANTED")):
        write(
            raw / "glioma", number,
            PatientID="PLANTED-ID", PatientBirthDate="19010203", Modality=modality, **others,
        )  # fmt: skip
    files = write(raw / "glioma", 7, PatientID="PLANTED-ID")
    files[0].write_bytes(files[0].read_bytes()[:700])
    counts, err = run()
    assert (counts["stored"], counts["rejected"]) == (2, 2)
    shown = b"".join(file.read_bytes() for file in files_that_may_be_shared(store))
    for planted in (b"PLANTED", b"19010203"):
        assert planted not in shown
        assert planted not in err.encode()
        assert planted not in json.dumps(counts).encode()
    assert "IM0" not in err


def test_files_of_one_series_with_several_labels_are_refused(raw, store, run):
    write(raw / "glioma", 1, which=range(3))
    write(raw / "meningioma", 1, which=range(3, 6))
    write(raw / "glioma", 2)
    counts, err = run()
    assert (counts["stored"], counts["rejected"]) == (1, 1)
    assert "files of one series have several labels, or patients" in err


@pytest.mark.parametrize(
    ("there", "here", "reason"),
    [
        ("glioma/P1", "meningioma/P1", "files of one series have several labels, or patients"),
        ("glioma/P1", "glioma/P2", "files of one series have several labels, or patients"),
        ("glioma", "glioma/P1", ""),
    ],
)
def test_a_series_that_lies_in_two_folders_is_stored_only_where_both_say_the_same(
    raw, run, there, here, reason
):
    (raw / there).mkdir(exist_ok=True)
    files = write(raw / there, 1)
    (raw / here).mkdir()
    for file in files:
        shutil.copy(file, raw / here)
    write(raw / "meningioma", 2)
    counts, err = run()
    assert (counts["stored"], counts["rejected"]) == ((1, 7) if reason else (2, 6))
    assert reason in err and "duplicate of an instance" in err


def test_files_of_several_patients_that_share_a_series_are_refused(raw, store, run):
    write(raw / "glioma", 1, which=range(3), PatientID="P1")
    write(raw / "glioma", 1, which=range(3, 6), PatientID="P2")
    write(raw / "glioma", 2)
    counts, err = run()
    assert (counts["stored"], counts["rejected"]) == (1, 1)
    assert "files of one series name several patients" in err


def test_any_number_of_tasks_stores_each_series_once(raw, tmp_path, preprocess):
    for series in range(1, 9):
        write(raw / "glioma", series, PatientID=f"P{series % 3}")
    preprocess(raw, tmp_path / "one", *SMALL)
    for task in range(3):
        preprocess(raw, tmp_path / "many", *SMALL, "--task", str(task), "--tasks", "3")
    assert rows(tmp_path / "one").content_digest == rows(tmp_path / "many").content_digest


def test_what_was_found_out_about_a_file_is_not_looked_for_again(raw, store, run, monkeypatch):
    write(raw / "glioma", 1)
    run()
    opened = []
    look = listing.named_in
    monkeypatch.setattr(listing, "named_in", lambda path: opened.append(path.name) or look(path))
    files = write(raw / "glioma", 2)
    counts, _err = run()
    assert (counts["stored"], counts["already_there"]) == (1, 1)
    assert sorted(opened) == [file.name for file in files]


def test_a_damaged_table_of_series_only_costs_looking_again(raw, store, run):
    write(raw / "glioma", 1)
    run()
    (table,) = (store / "private" / "series").iterdir()
    assert table.stat().st_mode & 0o077 == 0
    table.write_bytes(table.read_bytes()[:-3] + b"xxx")
    counts, _err = run()
    assert (counts["stored"], counts["already_there"]) == (0, 1)


def test_a_table_of_series_in_a_newer_format_only_costs_looking_again(raw, store, run):
    write(raw / "glioma", 1)
    run()
    (table,) = (store / "private" / "series").iterdir()
    older, newer = table.read_bytes(), b"format 2\0more\0" * 20
    table.write_bytes(hashlib.sha256(newer).digest() + newer)
    counts, _err = run()
    assert (counts["stored"], counts["already_there"]) == (0, 1)
    assert table.read_bytes() == older


def test_a_slice_that_comes_after_its_series_was_looked_for_is_no_volume_of_its_own(
    raw, store, run, monkeypatch
):
    last = write(raw / "glioma", 1)[-1]
    whole, sources = last.read_bytes(), Intake.sources
    last.write_bytes(whole[:200])

    def arrived(*given):
        last.write_bytes(whole)
        return sources(*given)

    monkeypatch.setattr(Intake, "sources", arrived)
    counts, _err = run()
    assert counts["images"] == 5
    assert counts["reasons"] == {BEING_WRITTEN: 1}
    counts, _err = run("--replace")
    assert (counts["stored"], counts["images"], counts["rejected"]) == (1, 6, 0)
    assert len(rows(store).key) == 6


def test_dicom_that_is_named_as_a_picture_is_refused_slice_by_slice_by_a_look_too(raw, store, preprocess):
    write(raw / "meningioma", 2)
    for file in write(raw / "glioma", 1):
        file.rename(file.with_suffix(".JPG"))
    reason = "DICOM that is named as another format: rename it (.dcm), so that its series is found"
    for look in (["--look"], []):
        found = json.loads(preprocess(raw, store, *SMALL, "--json", *look)[1])
        assert found["images"] == 6
        assert found["rejected" if look else "reasons"] == {reason: 6}


def test_pictures_are_not_opened_to_see_whether_they_are_dicom(raw, store, run, make_pictures, monkeypatch):
    make_pictures(raw, 4)
    monkeypatch.setattr(listing, "named_in", lambda path: pytest.fail(f"{path} was opened"))
    assert run()[0]["stored"] == 4


def test_a_damaged_chunk_is_made_again_from_its_series(raw, store, run):
    write(raw / "glioma", 1)
    run()
    (chunk,) = (store / "chunks").glob("*.h5")
    chunk.write_bytes(chunk.read_bytes()[:-2000] + bytes(2000))
    status = store_main(["verify", str(store), "--repair", "--source", str(raw)])
    assert status == 0
    assert store_main(["verify", str(store)]) == 0


def test_all_slices_of_a_series_are_taken_out_by_the_path_that_the_store_knows_it_by(raw, store, run):
    write(raw / "glioma", 1)
    write(raw / "glioma", 2, PatientID="P2")
    run()
    named = {row["path"] for row in names_in(store)}
    (first,) = (path for path in named if path.startswith("glioma/IM001"))
    assert store_main(["retract", str(store), "--image", str(raw / first), "--yes"]) == 0
    assert len(rows(store).key) == 6
    counts, err = run()
    assert (counts["stored"], counts["already_there"], counts["rejected"]) == (0, 1, 1)
    assert "retracted: this image was taken out" in err


def test_a_series_too_large_for_memory_is_read_by_and_by_and_is_the_same(
    raw, tmp_path, preprocess, monkeypatch
):
    files = write(raw / "glioma", 1)
    preprocess(raw, tmp_path / "at_once", *SMALL)
    monkeypatch.setattr(content, "MAX_BYTES", 2 * files[0].stat().st_size)
    read = []
    look = content._large_file
    monkeypatch.setattr(
        content, "_large_file", lambda *given, **how: read.append(given[0]) or look(*given, **how)
    )
    preprocess(raw, tmp_path / "by_and_by", *SMALL)
    assert len(read) == 6
    assert rows(tmp_path / "at_once").content_digest == rows(tmp_path / "by_and_by").content_digest


def names_in(store):
    return [
        row for file in (store / "private" / "names").glob("*.csv") for row in read_names(file.read_bytes())
    ]


def test_a_source_that_was_moved_as_a_whole_is_the_same_to_a_look_and_to_preprocess(raw, store, preprocess):
    for series in (1, 2, 3):
        write(raw / "glioma", series, PatientID=f"P{series}")
    preprocess(raw, store, *SMALL)
    (raw.parent / "disk").mkdir()
    moved = raw.rename(raw.parent / "disk" / "raw")
    found = json.loads(preprocess(moved, store, *SMALL, "--look", "--json")[1])
    assert not {doubt["kind"] for doubt in found["doubts"]} & {"same-patients", "other-images"}
    assert json.loads(preprocess(moved, store, *SMALL, "--json")[1])["already_there"] == 3


def test_a_look_counts_a_series_as_what_it_would_be(raw, store, preprocess):
    write(raw / "glioma", 1)
    write(raw / "meningioma", 2, PatientID="P2")
    found = json.loads(preprocess(raw, store, *SMALL, "--look", "--json")[1])
    assert (found["read"], found["images"], found["rejected"]) == (12, 12, {})
    assert (found["depths"], found["patients"], found["unnamed_stacks"]) == ({"volumes": 12}, 2, 0)
    assert not store.exists()


def test_a_row_for_one_file_of_a_series_labels_all_of_them_to_a_look_too(raw, store, preprocess):
    for series, label in ((1, "glioma"), (2, "meningioma")):
        file = write(raw / "glioma", series, PatientID=f"P{series}")[3]
        with (raw / "labels.csv").open("a") as table:
            table.write(f"{'path,label' if series == 1 else ''}\n{file.relative_to(raw)},{label}\n".lstrip())
    found = json.loads(preprocess(raw, store, *SMALL, "--look", "--json")[1])
    assert (found["unlabelled"], found["rejected"]) == ({}, {})
    assert found["classes"] == {
        "glioma": {"images": 6, "patients": 1},
        "meningioma": {"images": 6, "patients": 1},
    }


def test_nothing_is_said_of_what_was_not_compared_in_a_new_store_of_volumes(raw, run):
    write(raw / "glioma", 1)
    counts, _err = run()
    assert "not-compared" not in {doubt["kind"] for doubt in counts["account"]["doubts"]}


def test_a_look_tells_a_second_copy_and_the_patients_in_headers_as_preprocess_would(raw, store, preprocess):
    files = write(raw / "glioma", 1, PatientID="P1")
    shutil.copy(files[0], raw / "glioma" / "copy")
    write(raw / "meningioma", 2, PatientID="P1")
    _status, out, _err = preprocess(raw, store, *SMALL, "--look")
    assert out.count("rejected  1: duplicate of an instance") == out.count("rejected") == 1
    assert out.count("  patients  1, at most 13 files of one") == 2
    assert "doubtful  1 patient with images of several classes" in out
    assert "stacks" not in out and "missing slice" not in out


def with_name(voxels):
    """A series of 144 x 120 with a name burnt into its third slice."""
    large = np.repeat(np.repeat(voxels, 3, 0), 3, 1)
    letters = np.zeros((144, 120), np.uint8)
    cv2.putText(letters, "DOE JANE", (4, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 255, 1)
    large[..., 2][letters.T > 0] = 4095
    return large


def test_a_series_with_text_in_its_pixels_is_kept_back_until_somebody_has_looked(raw, store, run, preprocess):
    write(raw / "glioma", 1, voxels=with_name(head()))
    write(raw / "meningioma", 2)
    counts, err = run()
    assert (counts["stored"], counts["rejected"]) == (1, 1)
    assert f"rejected 1: {KEPT_BACK}" in err and f"{store}/private/names/*.csv" in err
    assert run()[0]["rejected"] == 1
    _status, out, _err = preprocess(raw, store, "--look", "--json")
    assert json.loads(out)["rejected"] == {KEPT_BACK: 1}
    counts, err = run("--accept", "burnt-in")
    assert (counts["stored"], counts["images"], counts["rejected"]) == (1, 6, 0)
    assert f"1 volume: {BURNT_IN}" in err
    assert run()[0]["already_there"] == 2


def add_patients(raw, *ids):
    for number, patient in enumerate(ids, 1):
        # No folder that could be a patient's.
        folder = raw / ("glioma", "meningioma")[number % 2]
        write(folder, number, which=range(3), voxels=head(number), PatientID=patient)


def test_blanks_around_an_id_in_a_header_are_none_of_it(raw, store, preprocess):
    add_patients(raw, "A 1", " A 1", "A 1  ", "B")
    (raw / "glioma" / "IM002_0001").write_bytes(
        phantoms.as_bytes(phantoms.classic(head(2), AFFINE, series=2, PatientID="A 1")[1])
    )
    out = preprocess(raw, store, *SMALL)[1]
    assert out.startswith("stored 4, already there 0, rejected 0")
    assert len(rows(store).patient_names) == 2


def test_ids_in_headers_that_differ_in_case_alone_are_two_patients_once_the_user_says_so(
    raw, store, preprocess
):
    add_patients(raw, "Ab", "aB", "C")
    for more in ((), ("--look",)):
        status, _out, err = preprocess(raw, store, *SMALL, *more)
        assert status == 2
        assert "1 patient may have two ids: a series of meningioma and a series of glioma (they differ" in err
        assert "differ in case)" in err and "--accept same-ids; if it is meant so: --accept ids" in err
        assert "Ab" not in err and "aB" not in err and not store.exists()
    assert preprocess(raw, store, *SMALL, "--accept", "ids")[0] == 0
    assert len(rows(store).patient_names) == 3
    other = store.with_name("other")
    assert preprocess(raw, other, *SMALL, "--accept", "same-ids")[0] == 0
    assert len(rows(other).patient_names) == 2
    # What comes later is held against what is stored.
    write(raw / "glioma", 9, which=range(3), PatientID="c")
    status, _out, err = preprocess(raw, store)
    assert (status, "a series of glioma and one stored as P" in err) == (2, True)


def test_a_row_of_a_table_is_of_the_patient_whom_a_header_writes_just_so(raw, store, preprocess, tmp_path):
    add_patients(raw, "Ab", " aB ", "C")
    table = tmp_path / "labels.csv"
    table.write_text("PatientID,label\nAb,sound\naB ,ill\nC,ill\n")
    assert preprocess(raw, store, *SMALL, "--labels", table, "--accept", "ids")[0] == 0
    found = rows(store)
    of_patient = {found.text("patient", row): found.text("label", row) for row in range(len(found))}
    assert sorted(of_patient.values()) == ["ill", "ill", "sound"]
