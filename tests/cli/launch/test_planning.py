"""What launch plans can be planned from Python as well: the same run, with the same settings."""

import re
from dataclasses import replace

import pytest

from mri_hpc.base.errors import UserError
from mri_hpc.cluster.launching import Plan
from mri_hpc.planning import RunSettings, plan_of, saved_settings, settings_after
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.settings import JobSettings, TrainingSettings, save_settings


@pytest.fixture
def asked(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return RunSettings(training=TrainingSettings(store=str(store)), job=JobSettings(nodes=2))


def saved(plan: Plan) -> Plan:
    """The plan, whose run has been launched."""
    plan.run.path.mkdir(parents=True)
    save_settings(plan.run, plan.training, plan.job)
    return plan


def test_the_same_settings_are_the_same_run_with_the_snapshot_of_its_first_day(asked):
    first = saved(plan_of(asked))
    assert first.is_new
    assert re.fullmatch(r"resnet18-[0-9a-f]{8}", first.run.path.name)
    assert re.fullmatch("[0-9a-f]{16,}", first.training.snapshot)
    assert any("patients: train" in note for note in first.notes)
    again = plan_of(asked)
    assert (again.run, again.training, again.is_new) == (first.run, first.training, False)


def test_whoever_types_over_saved_settings_is_asked_once_the_run_is_known(asked):
    first = saved(plan_of(asked))

    def over_saved(run):
        assert run == first.run
        return saved_settings(run)

    fewer = RunSettings(training=asked.training, job=JobSettings(nodes=1))
    assert plan_of(fewer, over_saved=over_saved).job.nodes == 2
    assert plan_of(fewer).job.nodes == 1


def decaying(asked: RunSettings, **options: int) -> RunSettings:
    return replace(asked, training=replace(asked.training, decay_epochs=3, **options))


def test_a_rate_that_is_held_has_no_cosine(asked, tmp_path):
    assert plan_of(asked).training.schedule_epochs == asked.training.epochs
    plan = saved(plan_of(decaying(asked), path=tmp_path / "held"))
    assert (plan.training.decay_epochs, plan.training.schedule_epochs) == (3, 0)
    assert plan_of(decaying(asked), path=tmp_path / "held").training == plan.training
    with pytest.raises(UserError, match=r"--schedule-epochs is of the cosine, .* give one of them"):
        decaying(asked, schedule_epochs=9)


def test_a_run_of_a_cosine_is_not_resumed_with_a_decay(asked):
    run = saved(plan_of(asked)).run
    with pytest.raises(UserError, match=r"is another run.*\n(.*\n)*  decay_epochs +saved 0, asked 3"):
        plan_of(decaying(asked), path=run.path)


def test_a_run_that_must_exist_is_not_planned_anew(asked, tmp_path):
    for path in (None, tmp_path / "run"):
        with pytest.raises(UserError, match="does not exist"):
            plan_of(asked, path=path, must_exist=True)
    first = saved(plan_of(asked, path=tmp_path / "run"))
    assert plan_of(asked, path=tmp_path / "run", must_exist=True).run == first.run


def test_only_a_finished_run_is_gone_on_from(asked, tmp_path):
    first = saved(plan_of(asked, path=tmp_path / "run"))
    assert first.run == RunDir(tmp_path / "run")
    with pytest.raises(UserError, match="not finished"):
        settings_after(tmp_path / "run")
