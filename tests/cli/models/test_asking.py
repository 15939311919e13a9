"""``mri-hpc predict --model current``: named on every output, and no model is asked that must not be."""

import csv
import json
import shutil
from dataclasses import replace

import pytest

from mri_hpc.predict import main as predict_main
from mri_hpc.registry.layout import ModelsDir
from mri_hpc.registry.record import read_record, to_json
from mri_hpc.store import main as store_main
from tests.harness.handlers import handlers_kept

ALL = ("audit", "calibration", "controls", "not-worse")


@pytest.fixture
def scans(desk, tmp_path):
    """Pictures of three patients whom no store knows."""
    for number in range(6):
        path = tmp_path / "scans" / f"Anna{number // 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(desk / "raw" / f"{number}.png", path)
    return tmp_path / "scans"


@pytest.fixture
def predict(capsys):
    """Calls mri-hpc predict; gives status, stdout and stderr."""

    def call(*words):
        capsys.readouterr()
        with handlers_kept():
            status = predict_main([str(word) for word in words])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return call


@pytest.fixture
def current(make_finished, models):
    """Makes a run current, by its name."""

    def make(name, **made):
        run = make_finished(name, **made)
        assert models("add", run.path)[0] == 0
        assert models("promote", name, "--because", "x", "--accept", *ALL)[0] == 0
        return run

    return make


def table_of(out):
    with (out / "patients.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_current_model_answers_as_its_run_did_and_is_named_on_every_output(
    current, scans, predict, tmp_path
):
    run = current("first")
    of_run = json.loads(predict(run.path, scans, "--json")[1])
    shutil.rmtree(run.path)
    shutil.rmtree(tmp_path / "store")
    found = json.loads(predict("--model", "current", scans, "--json")[1])
    assert (found["model"], found["model_since"][-3:]) == ("first", "UTC")
    for name in ("images", "patients", "decision", "sets", "calibration", "model_digest"):
        assert found[name] == of_run[name], name
    digest, since = found["model_digest"], found["model_since"]
    assert f"Model first, {digest} (current since {since})" in predict("--model", "current", scans)[1]
    status, out, _err = predict("--model", "current", scans, "--out", tmp_path / "out")
    assert status == 0 and f"Model first, {digest}" in out
    for row in table_of(tmp_path / "out"):
        assert (row["model"], row["model_digest"], row["model_since"]) == ("first", digest, since)
        page = (tmp_path / "out" / "pages" / f"{row['patient']}.html").read_text()
        assert f"first, {digest} (current since {since})" in page


def test_a_change_of_model_since_the_last_prediction_of_a_patient_is_said(
    current, models, scans, predict, tmp_path
):
    out = tmp_path / "out"
    current("first")
    predict("--model", "current", scans / "Anna0", scans / "Anna1", "--out", out)
    before = {row["patient"]: row for row in table_of(out)}
    assert "model_before" not in next(iter(before.values()))
    current("second", seed=2)
    printed = predict("--model", "current", scans, "--out", out)[1]
    digest = next(iter(before.values()))["model_digest"]
    assert f"2 patients were last predicted by another model, first, {digest}" in printed
    assert "Anna" not in printed
    rows = {row["patient"]: row for row in table_of(out)}
    assert {name: bool(row["model_before"]) for name, row in rows.items()} == {
        name: name in before for name in rows
    }
    for name, row in before.items():
        told = [rows[name][column] for column in ("model_before", "made_before", "predicted_before")]
        assert told == [row["model_digest"], row["made"], row["predicted"]]
        assert "Another model than last time" in (out / "pages" / f"{name}.html").read_text()
    predict("--model", "current", scans, "--out", out)
    assert "model_before" not in table_of(out)[0], "the last prediction was by this model"


def test_a_model_that_learnt_from_a_retracted_patient_is_marked_and_not_asked_until_a_person_says_so(
    current, models, make_finished, scans, predict, store, tmp_path, capsys
):
    current("first")
    assert predict("--model", "current", scans)[0] == 0
    assert store_main(["retract", "store", "--patient", "P07", "--yes"]) == 0
    assert "models/first has learnt from them: it is not asked" in capsys.readouterr().out
    status, _out, err = predict("--model", "current", scans)
    assert (status, err.count("\n")) == (2, 1)
    assert "has learnt from images that a retraction took out since" in err and "P07" not in err
    assert "not asked: it has learnt" in models("list")[1]
    # Also where the store is out of reach: the folder of models knows it.
    (tmp_path / "store").rename(tmp_path / "aside")
    assert predict("--model", "first", scans)[0] == 2
    status, _out, err = predict("models/first", scans)
    assert status == 2 and "mri-hpc predict --model first --models models asks it" in err
    (tmp_path / "aside").rename(tmp_path / "store")

    assert "retracted not met" in models("promote", "first", "--because", "x", "--accept", *ALL)[2]
    status = models("promote", "first", "--because", "the patient agreed", "--accept", "retracted")[0]
    assert (status, predict("--model", "current", scans)[0]) == (0, 0)
    for words in (("retract", "store", "--patient", "P08", "--yes"), ("who-used", "store", "P08")):
        assert store_main([*words, "--models", "none"]) == 2, "nothing is done where models would go unmarked"
    assert store_main(["retract", "store", "--patient", "P08", "--yes", "--models", "runs"]) == 0
    assert predict("--model", "current", scans)[0] == 2, "a further one was not accepted, as the store tells"
    # One that was trained without them is asked.
    current("second", seed=2)
    assert predict("--model", "current", scans)[0] == 0
    status, _out, err = models("rollback")
    assert status == 2 and "has learnt from images" in err


def test_who_used_follows_into_the_models(current, models, store, capsys):
    current("first")
    capsys.readouterr()
    for patient, learnt in (("P07", 2), ("P75", None)):
        assert store_main(["who-used", "store", patient, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)["models"]
        assert found == ([{"model": "models/first", "state": "current", "images": learnt}] if learnt else [])
    assert store_main(["retract", "store", "--patient", "P07", "--yes"]) == 0
    shutil.rmtree("runs")
    capsys.readouterr()
    assert store_main(["who-used", "store", "P07", "--runs", "."]) == 0
    assert "model models/first (current): learnt from 2 images" in capsys.readouterr().out


def test_a_model_of_which_nobody_knows_what_it_learnt_from_is_named_by_a_retraction(two, store, capsys):
    record = replace(read_record(two, "second"), store=str(store.path))
    two.record("second").write_bytes(to_json(record))
    two.learnt_from("second").unlink()
    assert store_main(["retract", "store", "--patient", "P07", "--yes"]) == 0
    printed = capsys.readouterr()
    assert "models/first has learnt from them" in printed.out
    assert "models/second: may have learnt from them, which nobody can tell" in printed.err


def test_nothing_is_asked_where_there_is_no_current_model_or_it_was_edited(
    current, make_finished, models, scans, predict
):
    assert "has no current model" in predict("--model", "current", scans)[2]
    run = make_finished("first")
    models("add", run.path)
    assert "has no model 'frist'" in predict("--model", "frist", scans)[2]
    assert predict("--model", "first", scans)[0] == 0, "a candidate, by its name"
    models("promote", "first", "--because", "x", "--accept", *ALL)
    kept = ModelsDir(models.folder)
    path = kept.run("first").calibration
    path.write_text(path.read_text().replace("1", "2", 1))
    status, _out, err = predict("--model", "current", scans)
    assert (status, "not as it was added (another digest)" in err, err.count("\n")) == (2, True, 1)
    path.unlink()
    assert "calibration.json is gone" in predict("--model", "current", scans)[2]


def test_a_record_that_was_sealed_anew_by_hand_is_not_asked(current, models, scans, predict):
    current("first")
    kept = ModelsDir(models.folder)
    record = read_record(kept, "first")
    kept.record("first").write_bytes(to_json(replace(record, store="/elsewhere")))
    assert "is not as it was promoted" in predict("--model", "current", scans)[2]


def test_pages_with_pictures_are_written_down_and_a_retraction_removes_them(
    make_finished, desk, predict, store, tmp_path, capsys
):
    from mri_hpc.report import main as report_main

    run = make_finished("first")
    for number in (14, 16):
        path = tmp_path / "scans" / f"P{number // 2:02d}" / f"{number}.png"
        path.parent.mkdir(parents=True)
        shutil.copy(desk / "raw" / f"{number}.png", path)
    assert predict(run.path, tmp_path / "scans", "--out", tmp_path / "out")[0] == 0
    assert report_main([str(run.path), "--pictures"]) == 0
    capsys.readouterr()
    assert store_main(["retract", "store", "--patient", "P07", "--yes", "--json"]) == 0
    (page,) = json.loads(capsys.readouterr().out)["files"]
    assert (page["state"], page["command"]) == ("removed", "predict --out")
    assert len(list((tmp_path / "out" / "pages").iterdir())) == 1
    line = next(line for line in lines_of(store) if line["command"] == "report --pictures")
    assert line["path"] == str(run.private_report) and len(line["keys"]) >= 8
    assert store_main(["retract", "store", "--image", line["keys"][0], "--yes"]) == 0
    assert f"showed them: {run.private_report}: removed; by report --pictures" in capsys.readouterr().out
    assert not run.private_report.exists()


def lines_of(store):
    paths = (store.private / "made").iterdir()
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]
