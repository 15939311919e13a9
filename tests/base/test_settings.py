"""Settings load what they saved, name what is unknown, and tell identity from operation."""

from dataclasses import dataclass, replace

import pytest

from mri_hpc.base.errors import UserError
from mri_hpc.base.settings import differences, identity, operation
from mri_hpc.rundir import settings as settings_module
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.settings import JobSettings, TrainingSettings, load_job, load_training, save_settings


@dataclass(frozen=True, kw_only=True)
class LaterSettings(TrainingSettings):
    """What a later version may have: another default, and fields more."""

    lr: float = identity(3e-4)
    head_lr: float | None = identity(0.1)
    upside_down: bool = identity(True, neutral=False)
    width: int | None = identity(3, neutral=None)
    retries: int = operation(7)


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


def test_an_old_run_keeps_its_name_and_its_values_when_a_default_changes_and_fields_come(
    tmp_path, monkeypatch
):
    run, old = RunDir(tmp_path), TrainingSettings(seed=5)
    save_settings(run, old, JobSettings())
    monkeypatch.setattr(settings_module, "TrainingSettings", LaterSettings)
    resumed = load_training(run)
    assert (resumed.lr, resumed.head_lr, resumed.upside_down, resumed.width) == (1e-3, None, False, None)
    # How it is operated may change from one attempt to the next.
    assert resumed.retries == 7
    assert resumed.identity_digest() == old.identity_digest()
    settings_module.refuse_other_identity(run, resumed)
    save_settings(run, resumed, JobSettings())
    assert load_training(run) == resumed


def test_what_only_a_later_version_can_do_makes_another_run_of_another_name(tmp_path, monkeypatch):
    run, old = RunDir(tmp_path), TrainingSettings(seed=5)
    save_settings(run, old, JobSettings())
    monkeypatch.setattr(settings_module, "TrainingSettings", LaterSettings)
    before = load_training(run)
    others = [replace(before, upside_down=True), replace(before, width=3), LaterSettings(seed=5)]
    assert len({old.identity_digest(), *(other.identity_digest() for other in others)}) == 4
    with pytest.raises(UserError, match=r"upside_down  saved False, asked True"):
        settings_module.refuse_other_identity(run, others[0])


def test_a_setting_that_was_always_saved_and_is_gone_is_never_guessed(tmp_path):
    run = RunDir(tmp_path)
    save_settings(run, TrainingSettings(lr=0.1), JobSettings())
    run.settings.write_text(run.settings.read_text().replace("lr = 0.1\n", ""))
    with pytest.raises(UserError, match=r"settings\.toml: lr is missing in \[training\]; restore it"):
        load_training(run)


def test_a_settings_file_says_its_format_and_a_newer_one_is_refused_by_name(tmp_path):
    run = RunDir(tmp_path)
    save_settings(run, TrainingSettings(), JobSettings())
    text = run.settings.read_text()
    assert text.startswith("format = 1\n")
    run.settings.write_text(text.replace("format = 1", "format = 2\nnew = 1", 1))
    for load in (load_training, load_job):
        with pytest.raises(UserError, match=r"settings\.toml has format 2, this version reads up to 1: "):
            load(run)
