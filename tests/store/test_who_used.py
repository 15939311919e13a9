import json

import pytest

from mri_hpc.chunks.snapshots import resolve
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.predictions import Prediction, write_predictions
from mri_hpc.rundir.settings import JobSettings, TrainingSettings, save_settings
from mri_hpc.store import main


@pytest.fixture
def store(tmp_path, make_pictures, preprocess):
    make_pictures(tmp_path / "raw", 60, patients=20)
    preprocess(tmp_path / "raw", tmp_path / "store", "--size", 16, "--ids", "as-given")
    return tmp_path / "store"


@pytest.fixture
def make_used_run(tmp_path, store):
    def make(name, snapshot, *, of=None):
        run = RunDir(tmp_path / "runs" / name)
        run.path.mkdir(parents=True)
        settings = TrainingSettings(store=str(of or store), snapshot=snapshot)
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
    said = asked(store, "patient3", capsys)
    assert said["snapshots"] == [{"snapshot": snapshot.digest, "images": 3}]
    (used,) = said["runs"]
    assert used["run"] == str(run.path)
    assert sum(used["images"].values()) == 3
    assert used["images"].keys() <= {"train", "validation", "test"}
    assert len(used["images"]) == 1
    assert used["predictions"] == {"test": 2, "validation": 1}


def test_a_withdrawn_patient_is_still_found_and_the_retraction_is_told(store, make_used_run, capsys):
    before = resolve(store)
    make_used_run("first", before.digest)
    assert main(["retract", str(store), "--patient", "patient3", "--why", "asked us to", "--yes"]) == 0
    make_used_run("second", resolve(store).digest)
    said = asked(store, "patient3", capsys)
    assert [one["snapshot"] for one in said["snapshots"]] == [before.digest]
    assert [one["run"].endswith("first") for one in said["runs"]] == [True]
    (record,) = said["retracted"]
    assert (record["why"], bool(record["who"]), record["when"][:2]) == ("asked us to", True, "20")
    assert main(["who-used", str(store), "patient3", "--runs", str(store.parent / "runs")]) == 0
    assert "asked us to" in capsys.readouterr().out


def test_a_patient_whom_nobody_saw_and_a_wrong_folder_of_runs_are_said(store, tmp_path, capsys):
    (tmp_path / "runs").mkdir()
    assert main(["who-used", str(store), "nobody", "--runs", str(tmp_path / "runs")]) == 0
    assert "no snapshot, and no run in" in capsys.readouterr().out
    assert main(["who-used", str(store), "nobody", "--runs", str(tmp_path / "none")]) == 2
    assert "--runs takes the folder that holds the runs" in capsys.readouterr().err
