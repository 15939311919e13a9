"""Whose slices are of several classes has a class by a stated rule, or the launch is refused."""

import dataclasses

import pytest

from mri_hpc.base.errors import UserError
from mri_hpc.planning import RunSettings, plan_of, settings_after
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.settings import JobSettings, TrainingSettings, save_settings


@pytest.fixture
def mixed_store(tmp_path, make_pictures, preprocess):
    """40 patients, of whom each has an image of both classes."""
    make_pictures(tmp_path / "raw", 40, patients=40)
    make_pictures(tmp_path / "raw", 40, first=40, patients=40, classes=("meningioma", "glioma"))
    status, _out, err = preprocess(tmp_path / "raw", tmp_path / "mixed", "--size", 32, "--ids", "as-given")
    assert status == 0
    assert "40 patients with images of several classes: launch --patient-label says which class" in err
    return tmp_path / "mixed"


def test_many_mixed_patients_are_refused_until_a_rule_is_typed(mixed_store, launch):
    status, _out, err = launch("--store", mixed_store, "--dry-run")
    assert status == 2
    assert "40 of 40 patients have images of several classes: say which class is a patient's: " in err
    assert "--patient-label any:glioma (as soon as one image is of it), --patient-label majority" in err
    assert len(err.splitlines()) == 1
    names = set()
    for rule in ("any:glioma", "any:meningioma", "majority", "slices"):
        status, out, err = launch("--store", mixed_store, "--dry-run", "--patient-label", rule)
        assert status == 0
        assert f"40 of 40 patients have images of several classes: theirs is by --patient-label {rule}" in err
        names.update(line for line in out.splitlines() if "--job-name" in line or "--run" in line)
    assert len(names) >= 4


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ("any:tumor", "there is no class 'tumor'; classes: glioma, meningioma"),
        ("any:", "--patient-label takes majority, slices or any:CLASS, got 'any:'"),
        ("majorty", "got 'majorty'; did you mean 'majority'?"),
    ],
)
def test_a_rule_that_is_none_is_refused(store, launch, rule, says):
    status, _out, err = launch("--store", store, "--dry-run", "--patient-label", rule)
    assert status == 2
    assert says in err


def test_another_rule_is_another_run_and_where_nobody_is_mixed_none_is_asked_for(store):
    plain, other = (
        plan_of(RunSettings(training=TrainingSettings(store=str(store), **rule)))
        for rule in ({}, {"patient_label": "slices"})
    )
    assert plain.run != other.run
    assert not any("several classes" in note for note in plain.notes)


def test_a_run_that_was_begun_without_a_rule_goes_on_as_before(mixed_store, tmp_path):
    asked = TrainingSettings(store=str(mixed_store))
    with pytest.raises(UserError, match="say which class is a patient's"):
        plan_of(RunSettings(training=asked))
    majority = dataclasses.replace(asked, patient_label="majority")
    begun = plan_of(RunSettings(training=majority)).training
    run = RunDir(tmp_path / "old")
    run.path.mkdir()
    save_settings(run, dataclasses.replace(begun, patient_label="auto"), JobSettings())
    # As 0.1.0 wrote it.
    text = run.settings.read_text()
    run.settings.write_text(text.replace('patient_label = "auto"\n', ""))
    assert text != run.settings.read_text()
    for same in (asked, majority):
        plan = plan_of(RunSettings(training=same), path=run.path)
        assert (plan.is_new, plan.training.patient_label) == (False, "auto")
    with pytest.raises(UserError, match=r"patient_label +saved auto, asked slices"):
        other = dataclasses.replace(asked, patient_label="slices")
        plan_of(RunSettings(training=other), path=run.path)


def test_a_run_that_goes_on_with_more_data_has_the_rule_that_was_asked_for(store, tmp_path):
    for rule in ("auto", "any:glioma"):
        run = RunDir(tmp_path / rule)
        run.path.mkdir()
        asked = TrainingSettings(store=str(store), patient_label=rule)
        save_settings(run, plan_of(RunSettings(training=asked)).training, JobSettings())
        run.model.touch()
        assert settings_after(run.path).training.patient_label == rule
