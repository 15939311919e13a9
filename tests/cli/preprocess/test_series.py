"""Which sequence: a study holds several series, and those that are chosen are stored."""

import json

import numpy as np
import pytest

from mri_hpc.intake.decoding.dicom.listing import Series
from mri_hpc.intake.decoding.dicom.named import Named
from mri_hpc.storage.disk.chunk_file import read_header
from mri_hpc.storage.store import Store
from mri_hpc.store import main as store_main
from tests.cli.preprocess.test_dicom import head
from tests.harness import dicom_phantoms as phantoms

AFFINE = np.diag([3.0, 4.0, 5.0, 1.0])
SMALL = ("--size", "32")
T1 = {"ScanningSequence": "SE", "RepetitionTime": 500, "EchoTime": 8.4, "SeriesDescription": "AX Meier T1"}
T2 = {"ScanningSequence": "SE", "RepetitionTime": 5000, "EchoTime": 99, "SeriesDescription": "AX Meier T2"}
PATIENTS = {"glioma": ("P1", "P2"), "healthy": ("P3",)}


def write(folder, series, patient, **protocol):
    """Write a series of three slices, a file a slice."""
    folder.mkdir(parents=True, exist_ok=True)
    voxels = head(series)[..., 2:5]
    model = {"ManufacturerModelName": "MAGNETOM Aera", **protocol}
    for one in phantoms.classic(voxels, AFFINE, series=series, PatientID=patient, **model):
        (folder / f"{one.SOPInstanceUID}.dcm").write_bytes(phantoms.as_bytes(one))


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    """T1 of three patients, and T2 of two of them."""
    root = tmp_path_factory.mktemp("studies") / "raw"
    for number, (label, patient) in enumerate((c, p) for c, people in PATIENTS.items() for p in people):
        write(root / label, 10 * number + 1, patient, **T1)
        if patient != "P2":
            write(root / label, 10 * number + 2, patient, **T2)
    return root


@pytest.fixture
def store(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def run(studies, store, preprocess):
    def run(*options, source=studies):
        return preprocess(source, store, *SMALL, *options)

    return run


def kinds(store):
    snapshot = Store.open(store).current()
    return sorted(set(snapshot.text("kind", slice(None)).tolist()))


def test_of_several_kinds_nothing_is_stored_and_the_table_is_shown(store, run):
    status, out, err = run()
    assert (status, out) == (2, "")
    assert err.splitlines() == [
        "kind  glioma                  healthy",
        "t1    2 series of 2 patients  1 series of 1 patient",
        "t2    1 series of 1 patient   1 series of 1 patient",
        "mri-hpc preprocess: 2 patients have series of several kinds, and none is chosen: a class could "
        "follow the protocol, so nothing is stored. Type --series t1 (of t1, t2; several may be given, all "
        "takes them all)",
    ]
    assert not store.exists()


def test_what_is_chosen_is_stored_with_its_kind_and_scanner_and_holds_for_what_comes_later(store, run):
    status, out, err = run("--series", "t1", "--json")
    assert (status, json.loads(out)["stored"], json.loads(out)["left_out_series"]) == (0, 3, {"t2": 2})
    assert "left out: 2 series of other kinds (t2 2)" in err
    snapshot = Store.open(store).current()
    assert kinds(store) == [b"t1"]
    assert set(snapshot.text("scanner", slice(None)).tolist()) == {b"Siemens Aera"}
    assert not len(snapshot.site_names)
    status, out, err = run()
    assert (status, out.startswith("stored 0, already there 3, rejected 0")) == (0, True)
    assert "no longer in" not in err
    status, _out, err = run("--series", "t2")
    assert (status, "series t1 there, t2 here" in err) == (2, True)
    assert store_main(["verify", str(store)]) == 0


def test_all_and_several_kinds_take_them_all(store, run, tmp_path):
    assert run("--series", "t2", "t1")[0] == 0
    assert kinds(store) == [b"t1", b"t2"]
    assert json.loads((store / "recipe.json").read_text())["series"] == "t1,t2"


def test_a_pattern_is_looked_for_in_descriptions_which_are_written_nowhere(store, run):
    status, out, _err = run("--series", "/ t2$/")
    assert (status, out.startswith("stored 2,")) == (0, True)
    assert kinds(store) == [b"t2"]
    files = [file for file in store.rglob("*") if file.is_file()]
    assert len(files) > 5
    assert [file for file in files if b"Meier" in file.read_bytes()] == []


def test_a_choice_that_takes_nothing_is_refused_before_a_store_is_made(store, run):
    status, _out, err = run("--series", "adc")
    assert status == 2
    assert "--series adc takes none of the series: left out: 5 series of other kinds (t1 3, t2 2)" in err
    assert not store.exists()


def test_a_word_that_is_no_kind_is_refused(run):
    status, _out, err = run("--series", "t1c")
    assert status == 2
    assert "got 't1c'" in err


def test_a_look_shows_the_table_and_says_what_would_be_refused(store, run):
    status, out, err = run("--look")
    assert status == 2
    assert "  series    t1    2 series of 2 patients  1 series of 1 patient\n" in out
    assert "Type --series t1" in err
    status, out, _err = run("--look", "--series", "t1")
    assert status == 0
    assert "  series    left out: 2 series of other kinds (t2 2)\n" in out
    assert "--series t1" in out.splitlines()[-1]
    assert json.loads(run("--look", "--series", "t1", "--json")[1])["left_out_series"] == {"t2": 2}
    assert not store.exists()


def test_a_store_that_was_made_without_a_choice_takes_one_for_that_time(store, run, tmp_path, studies):
    first = tmp_path / "first" / "raw"
    write(first / "glioma", 81, "P8", **T1)
    write(first / "healthy", 91, "P9", **T1)
    assert run(source=first)[0] == 0
    recipe = json.loads((store / "recipe.json").read_text())
    assert run()[0] == 2
    status, out, err = run("--series", "t1")
    assert (status, out.startswith("stored 3,")) == (0, True)
    assert f"--series t1 holds for this time: {store} was made without it" in err
    # What is stored, and not chosen this time, is not missing.
    status, out, err = run("--series", "t2")
    assert (status, out.startswith("stored 2,"), "no longer in" in err) == (0, True, False)
    assert json.loads((store / "recipe.json").read_text()) == recipe


def test_a_series_of_two_kinds_is_unknown_unless_it_measures_diffusion():
    def named(instance, series, kind):
        return Named(series=series, instance=instance, kind=kind)

    series = Series({
        "a": named("1", "echoes", "unknown"), "b": named("2", "echoes", "t2"),
        "c": named("1", "diffusion", "unknown"), "d": named("2", "diffusion", "dwi"),
        "e": named("1", "plain", "t1"), "f": named("2", "plain", "t1"),
    })  # fmt: skip
    assert [series.kind_of(path) for path in "abcdef"] == ["unknown"] * 2 + ["dwi"] * 2 + ["t1"] * 2
    assert series.kind_of("picture.png") == ""


def test_pictures_are_no_series_and_have_no_such_column(store, run, tmp_path, make_pictures):
    make_pictures(tmp_path / "raw", 6)
    assert run(source=tmp_path / "raw")[0] == 0
    chunk = next(store.glob("chunks/*.h5"))
    assert not {"kind", "scanner", "site"} & read_header(chunk).columns.keys()
    # What has no kind is not left out.
    assert run("--series", "t1", source=tmp_path / "raw")[1].startswith("stored 0, already there 6,")


def test_the_site_of_pictures_is_kept(store, run, tmp_path, make_pictures):
    make_pictures(tmp_path / "raw", 6)
    assert run("--site", "leipzig", source=tmp_path / "raw")[0] == 0
    snapshot = Store.open(store).current()
    assert set(snapshot.text("site", slice(None)).tolist()) == {b"leipzig"}


def test_a_patient_of_whom_another_kind_is_stored_is_refused_too(store, run, tmp_path):
    for number, protocol in enumerate((T1, T2)):
        write(tmp_path / f"{number}" / "raw" / "glioma", number + 1, "P8", **protocol)
    assert run(source=tmp_path / "0" / "raw")[0] == 0
    status, _out, err = run("--accept", "sources", source=tmp_path / "1" / "raw")
    assert status == 2
    assert "1 patient has series of other kinds in the store (t1): " in err
    assert kinds(store) == [b"t1"]
    assert run("--accept", "sources", "--series", "all", source=tmp_path / "1" / "raw")[0] == 0
    assert kinds(store) == [b"t1", b"t2"]
