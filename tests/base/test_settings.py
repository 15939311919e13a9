"""Settings load what they saved, name what is unknown, and tell identity from operation."""

from dataclasses import replace

import pytest

from mri_hpc.base.errors import UserError
from mri_hpc.base.settings import differences
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.settings import JobSettings, TrainingSettings, load_job, load_training, save_settings


def test_settings_come_back_as_saved(tmp_path):
    run = RunDir(tmp_path)
    training = TrainingSettings(model="efficientnet_b0", val_fold=3, test_fold=4, lr=3e-4)
    job = JobSettings(nodes=2, slurm=("mail-type=END", "comment=a b"), partition=None)
    save_settings(run, training, job)
    assert load_training(run) == training
    assert load_job(run) == job


def test_an_unknown_setting_is_refused_by_naming_the_nearest(tmp_path):
    run = RunDir(tmp_path)
    run.settings.write_text("[training]\nbatchsize = 3\n")
    with pytest.raises(
        UserError, match=r"unknown setting 'batchsize' in \[training\]; did you mean 'batch_size'"
    ):
        load_training(run)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"training = 3"])
def test_a_file_that_is_no_settings_file_is_one_clear_line(content, tmp_path):
    run = RunDir(tmp_path)
    run.settings.write_bytes(content)
    with pytest.raises(UserError, match="is not a settings file"):
        load_training(run)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("lr = '0.1'", r"lr = '0\.1' in \[training\] must be a number"),
        ("seed = true", r"seed = True in \[training\] must be a whole number"),
        ("val_fold = 1.5", r"val_fold = 1\.5 in \[training\] must be a whole number$"),
        ("optimizer = 'adam'", r"optimizer = 'adam' in \[training\] must be one of 'adamw', 'sgd'"),
    ],
)
def test_a_value_of_another_type_is_refused_by_name(line, message, tmp_path):
    run = RunDir(tmp_path)
    run.settings.write_text(f"[training]\n{line}\n")
    with pytest.raises(UserError, match=message):
        load_training(run)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"patience": 0}, "--patience must be at least 1, got 0"),
        ({"lr": 0.0}, "--lr must be above 0, got 0.0"),
        ({"lr": float("nan")}, "--lr must be above 0, got nan"),
        ({"seed": -1}, "--seed must be between 0 and"),
        ({"val_fold": 1}, "--val-fold and --test-fold go together"),
        ({"val_fold": 1, "test_fold": 1}, "must differ, both are 1"),
    ],
)
def test_impossible_values_say_what_is_possible(values, message):
    with pytest.raises(UserError, match=message):
        TrainingSettings(**values)


def test_ranks_are_not_told_to_stop_before_their_time_has_begun():
    with pytest.raises(UserError, match=r"^--signal-ahead-s must be below the 60 s of --time-limit-min 1"):
        JobSettings(time_limit_min=1)
    assert JobSettings(time_limit_min=1, signal_ahead_s=59)


def test_how_a_run_is_operated_is_no_part_of_its_identity():
    settings = TrainingSettings()
    assert replace(settings, epochs=99, store="elsewhere").identity_digest() == settings.identity_digest()
    assert replace(settings, seed=1).identity_digest() != settings.identity_digest()
    assert differences(settings, replace(settings, seed=1)) == {"seed": (0, 1)}
