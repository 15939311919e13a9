"""``mri-hpc predict``: the same answers as the run gave, without its store, whatever else lies there."""

import itertools
import json
import os
import pty
import re
import shutil
import signal
import sys
import threading
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mri_hpc.base.documents import with_format
from mri_hpc.base.sealed_json import seal
from mri_hpc.intake.labels.images import find_images
from mri_hpc.intake.labels.pseudonyms import Pseudonyms
from mri_hpc.results.answers import judging as answering
from mri_hpc.results.answers.answer import Answer, Judged
from mri_hpc.results.answers.calibration import load_calibration
from mri_hpc.results.pages import answer_tables
from mri_hpc.results.pages.answer_tables import print_tables
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.predictions import read_predictions
from tests.cli.predict.drawn import CLASSES, KEY, draw, predict, read_table
from tests.harness.handlers import handlers_kept


@pytest.fixture
def key_file(trained, monkeypatch):
    """The key with which the run's store was made."""
    monkeypatch.setenv("MRI_KEY_FILE", str(trained[1].parent / "key"))


@pytest.fixture
def softened(trained):
    """The run, as if two had been found to be its temperature, of slices and of patients."""
    run, _raw = trained
    before = run.calibration.read_bytes()
    found = load_calibration(run)
    of = {
        "temperature": 2.0,
        "reason": "",
        "fractions": {"glioma": 0.5, "pituitary": 0.5},
        "cross_fitted": 0.1,
    }
    changed = replace(found, slice=replace(found.slice, **of), patient=replace(found.patient, **of))
    run.calibration.write_bytes(seal(with_format(1, asdict(changed))))
    yield run
    run.calibration.write_bytes(before)


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_patients_with_names_have_their_pages_and_the_tables_say_what_validation_shows(
    trained, tmp_path, capsys
):
    run, raw = trained
    assert predict(run.path, raw / "glioma", "--out", tmp_path / "out", capsys=capsys)[0] == 0
    table = read_table(tmp_path / "out" / "patients.csv")
    pages = sorted((tmp_path / "out" / "pages").iterdir())
    assert [page.stem for page in pages] == sorted({row["patient"] for row in table})
    digest = json.loads((run.path / "provenance.json").read_text())["model_digest"]
    for row in table:
        assert row["model_digest"] == digest
        assert row["made"].endswith("UTC")
        assert (row["share"] == "") == (int(row["like_scores"]) < 10)
    for page in pages:
        text = page.read_text()
        assert digest in text
        assert text.count("data:image/png;base64,") == text.count('alt="Slice ') > 0
        assert "can only answer glioma, pituitary: anything else is given one of these names" in text


def test_whatever_a_picture_shows_it_is_said_that_the_model_knows_no_other_names(trained, tmp_path, capsys):
    run, _raw = trained
    draw(tmp_path / "one.png", 3, 1)
    pixels = np.asarray(Image.open(tmp_path / "one.png"))
    Image.fromarray(255 - pixels).save(tmp_path / "negative.png")
    Image.fromarray(np.zeros_like(pixels)).save(tmp_path / "no head.png")
    (tmp_path / "text.png").write_text("no picture")
    for name in ("one.png", "negative.png", "no head.png"):
        status, out, _err = predict(run.path, tmp_path / name, capsys=capsys)
        assert status == 0
        assert "can only answer glioma, pituitary: anything else is given one of these names" in out
    status, out, err = predict(run.path, tmp_path / "text.png", capsys=capsys)
    assert (status, out) == (2, "")
    assert "text.png: text, not a picture" in err.splitlines()[0]


def shares_of(document, kind):
    return [list(one["probabilities"].values()) for one in document[kind]]


def test_a_run_calibrates_itself_or_says_why_not(trained, capsys):
    run, raw = trained
    found = load_calibration(run)
    assert found.patient.num < 20
    assert (found.patient.temperature, found.model_digest != "") == (1.0, True)
    words = json.loads(predict(run.path, raw, "--json", capsys=capsys)[1])["calibration"]
    assert f"(temperature 1): validation has {found.patient.num} patients" in words


def test_probabilities_are_calibrated_and_recomputed_for_another_clinic(softened, trained, capsys):
    run, raw = trained
    calibrated = json.loads(predict(run.path, raw, "--json", capsys=capsys)[1])
    assert (
        "calibrated for validation's share of classes (glioma 50 %, pituitary 50 %)"
        in calibrated["calibration"]
    )
    whole = run.calibration.read_bytes()
    run.calibration.unlink()
    plain = json.loads(predict(run.path, raw, "--json", capsys=capsys)[1])
    assert "ended before runs were calibrated" in plain["calibration"]
    refused = predict(run.path, raw, "--prevalence", "glioma=0.1,pituitary=0.9", capsys=capsys)
    assert (refused[0], "the run has no calibration.json" in refused[2]) == (2, True)
    run.calibration.write_bytes(whole)
    elsewhere = ("--prevalence", "glioma=0.1,pituitary=0.9", "--json")
    rare = json.loads(predict(run.path, raw, *elsewhere, capsys=capsys)[1])
    assert rare["prevalence"] == {"glioma": 0.1, "pituitary": 0.9}
    assert "--prevalence asks for others" in rare["sets"]["reason"]
    assert "--prevalence" not in calibrated["sets"]["reason"]
    for kind in ("images", "patients"):
        of = [np.array(shares_of(document, kind)) for document in (plain, calibrated, rare)]
        odds = [chances[:, 0] / chances[:, 1] for chances in of]
        assert odds[1] == pytest.approx(odds[0] ** 0.5)
        assert odds[2] == pytest.approx(odds[1] / 9)
    out = predict(run.path, raw, "--prevalence", "glioma=0.1,pituitary=0.9", capsys=capsys)[1]
    assert "Recomputed for other shares (--prevalence): glioma 10 %, pituitary 90 %" in out
    wrong = predict(run.path, raw, "--prevalence", "glioma=0.1", capsys=capsys)
    assert (wrong[0], "missing: pituitary" in wrong[2]) == (2, True)


def test_where_images_have_another_temperature_a_patients_are_no_mean_of_theirs_and_that_is_in_the_words(
    softened, trained, capsys
):
    run, raw = trained
    of_its_own = "Images have a temperature of their own, 2.00"
    assert of_its_own not in json.loads(predict(run.path, raw, "--json", capsys=capsys)[1])["calibration"]
    found = load_calibration(run)
    apart = replace(found, patient=replace(found.patient, temperature=1.0, reason="it did not help"))
    run.calibration.write_bytes(seal(with_format(1, asdict(apart))))
    assert of_its_own in json.loads(predict(run.path, raw, "--json", capsys=capsys)[1])["calibration"]


def test_an_image_gets_the_probabilities_that_the_run_gave_it(trained, tmp_path, capsys):
    run, raw = trained
    status, out, _err = predict(run.path, raw, "--out", tmp_path / "out", capsys=capsys)
    assert status == 0
    assert "60 images, 30 patients, 0 rejected. Research use only. Look into patients.csv there" in out
    classes, rows = read_predictions(run.predictions)
    found = {}
    for row in read_table(tmp_path / "out" / "predictions.csv"):
        key = Pseudonyms(KEY).source_key("raw", os.path.relpath(row["path"], raw))
        found[f"{key:016x}"] = [float(row[f"p:{name}"]) for name in classes]
    assert len(rows) > 5
    for row in rows:
        assert found[row.key] == pytest.approx(row.probabilities, abs=1e-5)


def test_a_patients_probabilities_are_the_mean_over_its_images(trained, tmp_path, capsys):
    run, raw = trained
    predict(run.path, raw, "--out", tmp_path, capsys=capsys)
    images = read_table(tmp_path / "predictions.csv")
    for patient in read_table(tmp_path / "patients.csv"):
        own = [float(row["p:glioma"]) for row in images if row["patient"] == patient["patient"]]
        assert len(own) == int(patient["images"])
        assert float(patient["p:glioma"]) == pytest.approx(np.mean(own), abs=1e-8)


def test_without_names_patients_have_their_pseudonyms_and_files_the_keys_of_the_store(
    trained, key_file, tmp_path, capsys
):
    run, raw = trained
    (tmp_path / "words.png").write_text("no picture")
    arguments = [run.path, raw, tmp_path / "words.png", tmp_path / "gone", "--out", tmp_path / "new" / "out"]
    status, out, err = predict(*arguments, capsys=capsys, names=())
    assert status == 0
    assert "60 images, 30 patients, 2 rejected (--names tells which). Research use only." in out
    pseudonyms = Pseudonyms(KEY)
    words, gone = (f"{pseudonyms.source_key(tmp_path.name, name):016x}" for name in ("words.png", "gone"))
    assert err.splitlines() == [f"{gone}: does not exist", f"{words}: text, not a picture"]
    images, patients, rejected = (
        read_table(tmp_path / "new" / "out" / f"{name}.csv")
        for name in ("predictions", "patients", "rejected")
    )
    assert {row["path"] for row in rejected} == {words, gone}
    assert {row["path"] for row in images} >= {row.key for row in read_predictions(run.predictions)[1]}
    wanted = {pseudonyms.patient(f"P{number:02d}") for number in range(30)}
    assert {row["patient"] for row in images} == {row["patient"] for row in patients} == wanted


def test_no_name_is_printed_or_written_without_names_and_nobody_else_may_read_it(
    trained, key_file, tmp_path, capsys
):
    run, _raw = trained
    scans = tmp_path / "Zacharias" / "Geraldine"
    for number in range(2):
        draw(scans / f"{number}.png", number, 0)
    (scans / "Dorothea.png").write_text("no picture")
    for options in (["--json"], [], ["--out", tmp_path / "out"], ["--patient-from", "file"]):
        status, out, err = predict(run.path, scans.parent, scans, *options, capsys=capsys, names=())
        assert status == 0
        assert not re.search("Zacharias|Geraldine|Dorothea|[01].png", out + err)
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o700
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len([file for file in files if file.parent.name == "pages"]) == 1
    for file in files:
        assert not re.search("Zacharias|Geraldine|Dorothea|[01].png", file.read_text())
        assert file.stat().st_mode & 0o777 == 0o600


def test_without_the_sites_key_pseudonyms_are_of_one_prediction_and_no_key_is_made(
    trained, tmp_path, capsys, monkeypatch
):
    run, raw = trained
    monkeypatch.setenv("MRI_KEY_FILE", str(tmp_path / "absent" / "site.key"))
    found = []
    for _time in range(2):
        _status, out, err = predict(run.path, raw, "--json", capsys=capsys, names=())
        assert f"the site's key, {tmp_path}/absent/site.key, is not there" in err
        found.append({one["patient"] for one in json.loads(out)["patients"]})
    assert [len(names) for names in found] == [30, 30]
    assert found[0].isdisjoint(found[1])
    assert not (tmp_path / "absent").exists()


def test_bad_files_are_named_once_each_and_the_others_go_on(trained, tmp_path, capsys):
    run, _raw = trained
    scans = tmp_path / "new scans"
    draw(scans / "P1" / "good.png", 1, 0)
    (scans / "P1" / "words.png").write_text("no picture")
    (scans / "P1" / "gone.png").symlink_to(tmp_path / "nowhere")
    out = tmp_path / "out"
    status, _out, err = predict(run.path, scans, tmp_path / "absent", "--out", out, capsys=capsys)
    assert status == 0
    assert len(err.splitlines()) == 3
    assert {row["path"].rsplit("/", 1)[1]: row["reason"] for row in read_table(out / "rejected.csv")} == {
        "words.png": "text, not a picture",
        "gone.png": "link to a file that is not there (git-annex: get it first)",
        "absent": "does not exist",
    }
    assert [row["patient"] for row in read_table(out / "predictions.csv")] == ["P1"]


def test_only_where_nothing_could_be_judged_the_status_is_2(trained, tmp_path, capsys):
    run, _raw = trained
    (tmp_path / "words.png").write_text("no picture")
    status, _out, err = predict(run.path, tmp_path / "words.png", capsys=capsys)
    assert status == 2
    assert "words.png: text, not a picture" in err
    assert "none of the files given could be judged" in err
    assert predict(run.path, capsys=capsys)[0] == 2


def test_a_decision_that_was_asked_for_and_is_not_given_is_said(trained, tmp_path, capsys):
    run, raw = trained
    run.decision.write_text("{")
    try:
        status, said, _err = predict(
            run.path, next(raw.rglob("*.png")), "--out", tmp_path / "out", capsys=capsys
        )
    finally:
        run.decision.unlink()
    assert status == 0 and "No threshold is given: " in said


def test_what_cannot_be_judged_takes_no_earlier_predictions_away(trained, tmp_path, capsys):
    run, raw = trained
    out = tmp_path / "out"
    assert predict(run.path, next(raw.rglob("*.png")), "--out", out, capsys=capsys)[0] == 0
    before = contents(out)
    status, said, err = predict(run.path, tmp_path / "absent", "--out", out, capsys=capsys)
    assert said == "", "there is nothing to sum up"
    assert status == 2
    assert f"{out} keeps the predictions that it holds" in err
    assert contents(out) == before


@pytest.fixture
def stop_after(monkeypatch):
    """Sends this very process a stop signal after so many calls of a function."""

    def arm(module, name, calls, number):
        call, count = getattr(module, name), itertools.count(1)

        def signalling(*arguments):
            done = call(*arguments)
            if next(count) == calls:
                signal.raise_signal(number)
            return done

        monkeypatch.setattr(module, name, signalling)

    with handlers_kept():
        # Whatever test ran before in this process: a preprocess leaves its own behind.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        yield arm


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_ends_it_at_the_very_image_and_nothing_is_written(
    number, trained, tmp_path, capsys, stop_after
):
    run, raw = trained
    stop_after(answering, "decode_file", 3, number)
    status, out, err = predict(run.path, raw, "--out", tmp_path / "out", capsys=capsys)
    assert (status, out, err) == (130, "", "mri-hpc predict: interrupted\n")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_while_tables_are_written_leaves_all_of_them(number, trained, tmp_path, capsys, stop_after):
    run, raw = trained
    stop_after(answer_tables, "_write_table", 1, number)
    status, _out, err = predict(run.path, raw, "--out", tmp_path / "out", capsys=capsys)
    assert (status, err) == (130, "mri-hpc predict: interrupted\n")
    assert {file.name: len(read_table(file)) for file in (tmp_path / "out").glob("*.csv")} == {
        "predictions.csv": 60, "patients.csv": 30, "rejected.csv": 0,
    }  # fmt: skip


def test_json_names_every_class(trained, tmp_path, capsys):
    run, _raw = trained
    draw(tmp_path / "scan.png", 3, 1)
    found = json.loads(predict(run.path, tmp_path / "scan.png", "--json", capsys=capsys)[1])
    assert set(found["images"][0]["probabilities"]) == set(CLASSES)
    assert sum(found["images"][0]["probabilities"].values()) == pytest.approx(1)
    assert found["patients"] == []
    assert found["use"] == "research only"


def test_who_an_image_is_of_can_be_told_by_folder_by_file_or_not_at_all(trained, tmp_path, capsys):
    run, _raw = trained
    for number, path in enumerate(("P7/study/a.png", "P7/b.png", "glioma/c.png", "test/glioma/P8/d.png")):
        draw(tmp_path / path, number, 0)

    def patients(how):
        found = json.loads(predict(run.path, tmp_path, "--patient-from", how, "--json", capsys=capsys)[1])
        return {row["path"].removeprefix(f"{tmp_path}/"): row["patient"] for row in found["images"]}

    assert patients("folder") == {
        "P7/study/a.png": "P7", "P7/b.png": "P7", "glioma/c.png": "", "test/glioma/P8/d.png": "P8",
    }  # fmt: skip
    assert set(patients("none").values()) == {""}
    assert len(set(patients("file").values())) == 4


PATIENTS_BY_PATHS = {
    "a folder for each patient, with studies in it": (
        ["new/P1", "new/P2"],
        {"new/P1/T1/a": "P1", "new/P1/ses-02/a": "P1", "new/P2/T1/a": "P2"},
    ),
    "the folder above them": (["new"], {"new/P1/T1/a": "P1", "new/P2/2024-01-31/flair/a": "P2"}),
    "images in the very folder given": (["new/P1"], {"new/P1/a": "P1", "new/P1/axial/b": "P1"}),
    "patients beside a file": (["new"], {"new/P1/a": "P1", "new/overview": ""}),
    "a folder of a class": (["raw/glioma"], {"raw/glioma/a": ""}),
    "a class without patients": (["raw"], {"raw/glioma/a": "", "raw/glioma/T1/b": "", "raw/c": ""}),
    "one name at two sites": (
        ["siteA", "siteB"],
        {"siteA/001/a": "siteA/001", "siteB/001/a": "siteB/001", "siteB/002/a": "002"},
    ),
    "one name in two places": (["A/P1", "B/P1"], {"A/P1/a": "A/P1", "B/P1/a": "B/P1"}),
    "a patient, and the folder above": (["new/P1", "new"], {"new/P1/a": "P1", "new/P2/a": "P2"}),
}


@pytest.mark.parametrize("case", PATIENTS_BY_PATHS)
def test_a_patient_is_the_first_folder_that_is_no_study_else_the_folder_given(case, tmp_path, monkeypatch):
    given, wanted = PATIENTS_BY_PATHS[case]
    for name in wanted:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    found = find_images([Path(name) for name in given], "folder", CLASSES)
    assert {str(image.path): image.patient for image in found.images} == wanted
    assert found.rejected == ()


def test_a_file_that_two_paths_name_counts_once(tmp_path, monkeypatch):
    (tmp_path / "P1").mkdir()
    (tmp_path / "P1" / "a").touch()
    (tmp_path / "P1" / "twin").symlink_to("a")
    monkeypatch.chdir(tmp_path / "P1")
    given = [Path(), tmp_path / "P1", tmp_path / "P1" / "a", Path("../P1/a")]
    found = find_images(given, "folder", CLASSES)
    assert [(image.path, image.patient) for image in found.images] == [
        (Path("a"), "P1"),
        (Path("twin"), "P1"),
    ]


def test_tables_are_printed_without_a_folder_to_write_to(trained, capsys):
    run, raw = trained
    status, out, _err = predict(run.path, raw, capsys=capsys)
    assert status == 0
    assert "P00" in out
    assert "20 more images; --out DIR writes all." in out
    assert "more patients" not in out
    assert "Research use only." in out


def tables_in_a_terminal(columns, classes, patients):
    """What print_tables shows on a terminal of so many columns, of two images a patient."""
    chances = np.full(len(classes), 0.125 / (len(classes) - 1))
    chances[1] = 0.875
    images = tuple(
        Judged(
            name=f"scans/hospital/P{n // 2:03d}/slice {n:03d}.png",
            patient=f"P{n // 2:03d}",
            probabilities=chances,
        )
        for n in range(2 * patients)
    )
    ours, theirs = pty.openpty()
    shown = []
    reader = threading.Thread(target=lambda: shown.extend(iter(lambda: read_some(ours), b"")))
    reader.start()
    with pytest.MonkeyPatch.context() as patch, os.fdopen(theirs, "w") as terminal:
        patch.setenv("COLUMNS", str(columns))
        patch.setenv("TERM", "xterm")
        patch.setattr(sys, "stdout", terminal)
        print_tables(Answer(classes=classes, images=images, rejected=()))
    reader.join()
    os.close(ours)
    return re.sub(r"\x1b\[[0-9;]*m|\r", "", b"".join(shown).decode())


def read_some(descriptor):
    """Linux answers the end of a terminal with an error."""
    try:
        return os.read(descriptor, 65536)
    except OSError:
        return b""


def test_a_terminal_shows_all_of_four_classes_and_says_how_many_patients_are_left_out():
    found = tables_in_a_terminal(80, ("glioma", "meningioma", "no tumour", "pituitary"), patients=45)
    assert "patient" in found.splitlines()[0] and "pituitary" in found.splitlines()[0]
    assert "5 more patients; --out DIR writes all.\n" in found
    assert "50 more images; --out DIR writes all.\n" in found
    assert "…" not in found
    assert max(map(len, found.splitlines())) <= 80


def test_a_terminal_too_narrow_for_all_classes_shows_the_predicted_one_and_says_so():
    found = tables_in_a_terminal(50, ("glioma", "meningioma", "no tumour", "pituitary"), patients=2)
    assert "P001          2  meningioma  87.5\n" in found
    assert "The other classes do not fit this terminal; --out" in found
    assert "more" not in found
    assert "…" not in found


def test_into_a_pipe_no_line_is_broken(trained, tmp_path, capsys):
    run, _raw = trained
    scan = tmp_path / ("long " * 40) / "scan.png"
    draw(scan, 3, 1)
    assert f"{scan}  " in predict(run.path, scan, capsys=capsys)[1]


def test_weights_that_were_changed_or_cut_short_are_refused(trained, tmp_path, capsys):
    run, raw = trained
    copy = RunDir(tmp_path / "copy")
    shutil.copytree(run.path, copy.path)
    whole = copy.model.read_bytes()
    copy.model.write_bytes(whole[:-1000])
    status, _out, err = predict(copy.path, raw, capsys=capsys)
    assert (status, "is damaged" in err) == (2, True)
    copy.model.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    status, _out, err = predict(copy.path, raw, capsys=capsys)
    assert (status, "does not hold the weights" in err) == (2, True)


def test_a_run_that_is_not_finished_points_to_status(make_run, tmp_path, capsys):
    draw(tmp_path / "scan.png", 0, 0)
    status, _out, err = predict(make_run(finished=False).path, tmp_path / "scan.png", capsys=capsys)
    assert status == 2
    assert "has not finished; see: mri-hpc status" in err


def test_the_model_alone_knows_its_classes(trained, tmp_path, capsys):
    run, raw = trained
    copy = RunDir(tmp_path / "copy")
    shutil.copytree(run.path, copy.path)
    copy.provenance.unlink()
    image = next((raw / "glioma").rglob("*.png"))
    found = [json.loads(predict(r.path, image, "--json", capsys=capsys)[1])["images"] for r in (run, copy)]
    assert found[0] == found[1]
