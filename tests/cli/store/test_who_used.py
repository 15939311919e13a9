import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from mri_hpc.cohort.splits import TEST, TRAIN, VALIDATION, split_of
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.predictions import Prediction, write_predictions
from mri_hpc.rundir.settings import JobSettings, TrainingSettings, save_settings
from mri_hpc.storage.snapshot.catalogue import resolve
from mri_hpc.store import main


@pytest.fixture
def store(tmp_path, make_pictures, preprocess):
    make_pictures(tmp_path / "raw", 60, patients=20)
    preprocess(tmp_path / "raw", tmp_path / "store", "--size", 16, "--ids", "as-given")
    return tmp_path / "store"


@pytest.fixture
def make_used_run(tmp_path, store):
    def make(name, snapshot, *, of=None, **more):
        run = RunDir(tmp_path / "runs" / name)
        run.path.mkdir(parents=True)
        settings = TrainingSettings(store=str(of or store), snapshot=snapshot, **more)
        save_settings(run, settings, JobSettings())
        return run

    return make


def asked(store, patient, capsys, *options):
    capsys.readouterr()
    assert (
        main(["who-used", str(store), patient, "--runs", str(store.parent / "runs"), "--json", *options]) == 0
    )
    return json.loads(capsys.readouterr().out)


def test_snapshots_runs_and_predictions_that_saw_a_patient_are_listed(store, make_used_run, capsys):
    snapshot = resolve(store)
    run = make_used_run("first", snapshot.digest)
    make_used_run("of another store", snapshot.digest, of="/elsewhere")
    row = {"label": "glioma", "probabilities": (0.5, 0.5), "patient": "patient3"}
    rows = [Prediction(key="0" * 16, split=split, **row) for split in ("test", "test", "validation")]
    write_predictions(run.predictions, ("glioma", "meningioma"), rows)
    seen = asked(store, "patient3", capsys)
    assert seen["snapshots"] == [{"snapshot": snapshot.digest, "images": 3}]
    (used,) = seen["runs"]
    assert used["run"] == str(run.path)
    assert sum(used["images"].values()) == 3
    assert used["images"].keys() <= {"train", "validation", "test"}
    assert len(used["images"]) == 1
    assert used["predictions"] == {"test": 2, "validation": 1}


def test_a_retracted_patient_is_still_found_and_the_retraction_is_told(store, make_used_run, capsys):
    before = resolve(store)
    make_used_run("first", before.digest)
    assert main(["retract", str(store), "--patient", "patient3", "--why", "asked us to", "--yes"]) == 0
    make_used_run("second", resolve(store).digest)
    seen = asked(store, "patient3", capsys)
    assert [one["snapshot"] for one in seen["snapshots"]] == [before.digest]
    assert [one["run"].endswith("first") for one in seen["runs"]] == [True]
    (record,) = seen["retracted"]
    assert (record["why"], bool(record["who"]), record["when"][:2]) == ("asked us to", True, "20")
    assert main(["who-used", str(store), "patient3", "--runs", str(store.parent / "runs")]) == 0
    assert "asked us to" in capsys.readouterr().out


def test_runs_that_descend_from_one_that_learnt_from_a_patient_are_listed(store, make_used_run, capsys):
    before = resolve(store)
    code = split_of(before)[np.asarray(before.patient) == before.patient_names.tolist().index(b"patient3")]
    assert set(code.tolist()) <= {TRAIN, VALIDATION}, "another patient, please"
    first = make_used_run("first", before.digest)
    assert main(["retract", str(store), "--patient", "patient3", "--yes"]) == 0
    after = resolve(store).digest
    child = make_used_run("second", after, continue_from=str(first.path))
    grandchild = make_used_run("third", after, weights=str(child.model))
    make_used_run("none of theirs", after)
    runs = {Path(one["run"]).name: one for one in asked(store, "patient3", capsys)["runs"]}
    assert runs.keys() == {"first", "second", "third"}
    assert runs["first"]["descends_from"] == []
    assert (runs["third"]["images"], runs["third"]["descends_from"]) == ({}, [str(first.path)])
    assert main(["who-used", str(store), "patient3", "--runs", str(store.parent / "runs")]) == 0
    assert f"second (not finished): descends from {first.path}\n" in capsys.readouterr().out

    # Runs that are gone by now are named by the provenance of its descendants.
    ancestors = [{"run": str(first.path), "model_digest": "", "snapshot": before.digest}]
    child.provenance.write_text(json.dumps({"continued_from": ancestors}))
    shutil.rmtree(first.path)
    runs = {Path(one["run"]).name: one for one in asked(store, "patient3", capsys)["runs"]}
    assert runs["second"]["descends_from"] == runs["third"]["descends_from"] == [str(first.path)]
    ancestors.insert(0, {"run": str(child.path), "model_digest": "", "snapshot": after})
    grandchild.provenance.write_text(json.dumps({"continued_from": ancestors}))
    shutil.rmtree(child.path)
    runs = {Path(one["run"]).name: one for one in asked(store, "patient3", capsys)["runs"]}
    assert runs["third"]["descends_from"] == [str(first.path)]


def test_a_run_that_descends_from_one_that_only_tested_on_a_patient_is_not_listed(
    store, make_used_run, capsys
):
    snapshot = resolve(store)
    names = np.asarray(snapshot.patient)[split_of(snapshot) == TEST]
    patient = snapshot.patient_names[names[0]].decode()
    first = make_used_run("first", snapshot.digest)
    make_used_run("second", "0" * 32, continue_from=str(first.path))
    assert [one["run"] for one in asked(store, patient, capsys)["runs"]] == [str(first.path)]


def test_a_patient_whom_nobody_saw_and_a_wrong_folder_of_runs_are_said(store, tmp_path, capsys):
    (tmp_path / "runs").mkdir()
    runs = ["--runs", str(tmp_path / "runs")]
    for folder in (store / "snapshots").iterdir():
        shutil.rmtree(folder)
    assert main(["who-used", str(store), "patient3", *runs]) == 0
    assert "no snapshot, and no run in" in capsys.readouterr().out
    assert main(["who-used", str(store), "nobody", *runs]) == 2
    assert "has nothing of a patient 'nobody': is it the id as in the labels?" in capsys.readouterr().err
    assert main(["who-used", str(store), "nobody", "--runs", str(tmp_path / "none")]) == 2
    assert "--runs takes the folder that holds the runs" in capsys.readouterr().err
