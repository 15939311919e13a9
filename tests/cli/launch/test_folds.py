"""``mri-hpc launch --folds``: one ordinary run for each fold. Ranks are stand-ins."""

import itertools
import json

import pytest

from mri_hpc.cluster.on_this_machine import ThisMachine
from mri_hpc.cohort.splits import TEST, TRAIN, UNUSED, VALIDATION, split_by
from mri_hpc.rundir.folds import SHARES, run_of, runs_in
from mri_hpc.rundir.settings import load_training
from mri_hpc.storage.store import Store


@pytest.fixture
def launch_folds(launch, store, tmp_path, monkeypatch):
    """Runs launch --folds 3 into tmp_path/f on a new store, whose stand-in ranks are soon done."""
    monkeypatch.setenv("STANDIN_PLAN", json.dumps({"steps": 3, "step_s": 0}))

    def run(*words, num=("--folds", 3)):
        return launch("--store", store, "--run", tmp_path / "f", *num, "--model", "squeezenet1_1", *words)

    return run


def test_each_fold_is_an_ordinary_run_and_every_patient_is_tested_once(launch_folds, store, tmp_path):
    status, out, errors = launch_folds("--wait", "--json")
    assert status == 0, errors
    found = json.loads(out)["folds"]
    runs = runs_in(tmp_path / "f")
    assert [one["run"] for one in found] == [str(run.path) for run in runs]
    assert [one["state"] for one in found] == ["finished"] * 3
    assert all(run.is_finished for run in runs)
    snapshot = Store.open(store).resolve("newest")
    codes = [split_by(snapshot, load_training(run)) for run in runs]
    assert (sum((code == TEST).astype(int) for code in codes) == 1).all()
    assert all((code == VALIDATION).any() and (code != UNUSED).all() for code in codes)
    again, out, errors = launch_folds("--wait", "--epochs", load_training(runs[0]).epochs)
    assert again == 0, errors
    assert out.count("is finished.") == 3
    assert "python -m mri_hpc.report f" in out


def test_without_a_queue_one_fold_runs_at_a_time_and_the_same_command_starts_the_next(
    launch_folds, tmp_path, wait_for
):
    first, second, third = (run_of(tmp_path / "f", number) for number in (1, 2, 3))
    status, out, errors = launch_folds()
    assert status == 0, errors
    assert "one fold at a time" in errors
    assert first.settings.is_file()
    assert not second.path.exists()
    wait_for(lambda: first.is_finished)
    status, out, errors = launch_folds("--wait")
    assert status == 0, errors
    assert f"{first.path.relative_to(tmp_path)} is finished." in out
    assert second.is_finished and third.is_finished
    assert len(second.all_attempts()) == len(first.all_attempts()) == 1


def test_a_queue_is_given_all_folds_at_once_and_cancelling_ends_them_all(
    launch_folds, launch, tmp_path, monkeypatch, wait_for
):
    monkeypatch.setattr(ThisMachine, "is_queue", True)
    monkeypatch.setenv("STANDIN_PLAN", json.dumps({"steps": 100_000, "step_s": 0.02}))
    status, out, errors = launch_folds()
    assert status == 0, errors
    assert out.count("supervisor") >= 3
    assert all(run.settings.is_file() for run in runs_in(tmp_path / "f"))
    wait_for(lambda: all(run.metrics.exists() for run in runs_in(tmp_path / "f")))
    # The folder says by itself that it is of folds.
    status, out, errors = launch("--run", tmp_path / "f", "--cancel")
    assert status == 0, errors
    assert out.count("cancelled; saved at step") == 3
    monkeypatch.setenv("STANDIN_PLAN", json.dumps({"steps": 0, "step_s": 0}))
    status, out, errors = launch("--run", tmp_path / "f", "--wait")
    assert status == 0, errors
    assert out.count("resumes at step") == 3


def test_a_dry_run_leaves_nothing_behind(launch_folds, tmp_path):
    status, out, errors = launch_folds("--dry-run")
    assert status == 0, errors
    assert out.count("fold-") >= 3
    assert not (tmp_path / "f").exists()


def test_other_folds_than_those_of_the_folder_are_refused(launch_folds, launch, store, tmp_path):
    assert launch_folds("--wait")[0] == 0
    status, _, errors = launch_folds(num=("--folds", 4))
    assert status == 2
    assert "hash" in errors
    status, _, errors = launch("--store", store, "--run", tmp_path / "f" / "fold-1", "--folds", 3)
    assert status == 2
    assert "is one run" in errors


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--folds",), "the labels name no folds"),
        (("--folds", "1"), "--folds must be at least 2"),
        (("--folds", "3", "--val-fold", "1", "--test-fold", "2"), "leave --val-fold"),
        (("--folds", "3", "--cancel"), "no fold was launched"),
        (("--folds", "3", "--run", "raw"), "holds other things"),
    ],
)
def test_folds_that_cannot_be_are_refused(launch, store, words, says):
    status, _, errors = launch("--store", store, *words)
    assert status == 2
    assert says in errors


def test_a_learning_curve_is_runs_on_nested_shares_with_the_same_validation_patients(
    launch_folds, launch, store, tmp_path
):
    status, out, errors = launch_folds("--wait", "--json", num=("--learning-curve",))
    assert status == 0, errors
    assert [one["state"] for one in json.loads(out)["shares"]] == ["finished"] * 4
    runs = [run_of(tmp_path / "f", share, SHARES) for share in (25, 50, 75, 100)]
    assert runs == runs_in(tmp_path / "f")
    settings = [load_training(run) for run in runs]
    assert [one.train_share for one in settings] == [0.25, 0.5, 0.75, 1.0]
    assert {(one.calibration_share, one.pooling) for one in settings} == {(0.5, "mean")}
    codes = [split_by(Store.open(store).resolve("newest"), one) for one in settings]
    trained = [code == TRAIN for code in codes]
    assert all((one <= other).all() for one, other in itertools.pairwise(trained))
    assert len({int(one.sum()) for one in trained}) > 2
    assert all((code[code > TRAIN] == codes[-1][code > TRAIN]).all() for code in codes)
    status, out, errors = launch("--run", tmp_path / "f", "--wait")
    assert status == 0, errors
    assert out.count("is finished.") == 4
    for words, says in (
        (("--folds", 3), "is of --learning-curve"),
        (("--learning-curve", "--folds", 3), "give one of them"),
        (("--learning-curve", "--train-share", 0.5), "leave --train-share out"),
    ):
        status, _, errors = launch_folds(num=words)
        assert (status, says in errors) == (2, True), errors
