"""A recipe is a named set of defaults: typed options come before it, and runs keep what they have."""

import re

import pytest

from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.recipes import RECIPES, default_of, with_recipe
from mri_hpc.rundir.settings import JobSettings, TrainingSettings, load_training, save_settings
from mri_hpc.storage.snapshot.catalogue import resolve


@pytest.fixture
def planned(store, tmp_path, launch, monkeypatch):
    """The settings with which launch would submit a run."""
    plans = []

    def describe(plan, *_others):
        plans.append(plan)
        return ""

    monkeypatch.setattr("mri_hpc.launch.describe", describe)

    def run(*words):
        status, _, errors = launch("--store", store, "--cluster", "local", "--dry-run", *words)
        assert status == 0, errors
        return plans[-1].training

    return run


@pytest.mark.parametrize("name", [name for name in RECIPES if name != "0.1.0"])
def test_a_recipe_gives_what_is_not_typed(planned, name):
    training = planned("--recipe", name, "--lr", "0.25")
    expected = {**RECIPES[name], "lr": 0.25, "flip": "on"}
    if "pooling" in expected:
        expected["pooling"] = "attention"
    assert training.recipe == name
    assert {key: getattr(training, key) for key in expected} == expected


def test_without_a_name_it_is_the_default_one_and_0_1_0_is_there_by_its_own(planned):
    assert planned() == planned("--recipe", "default")
    assert planned("--recipe", "0.1.0", "--epochs", 30) == TrainingSettings(
        store=planned().store, snapshot=planned().snapshot, schedule_epochs=30
    )


def test_whoever_types_how_a_cosine_falls_gets_a_cosine(planned):
    training = planned("--schedule-epochs", 12)
    assert (training.schedule_epochs, training.decay_epochs, training.recipe) == (12, 0, "default")


def test_an_old_run_keeps_its_defaults_and_refuses_another_recipe(planned, store, tmp_path, launch):
    run = RunDir(tmp_path / "old")
    run.path.mkdir()
    old = TrainingSettings(store=str(store), snapshot=resolve(store).digest, schedule_epochs=30)
    save_settings(run, old, JobSettings())
    run.settings.write_text(
        re.sub(
            "(?m)^(recipe|flip|mixup|mirror_answers|distort|enlarge|matrix_unit|published_epoch|pooling)"
            " = .*\n",
            "",
            run.settings.read_text(),
        )
    )
    assert load_training(run) == old
    assert planned("--run", run.path) == old
    status, _, errors = launch("--run", run.path, "--recipe", "fast", "--dry-run")
    assert status == 2
    assert re.search("recipe +saved 0.1.0, asked fast", errors)


def test_attention_is_tried_where_patients_have_the_class_of_most_slices(planned):
    rules = {"auto": "attention", "majority": "attention", "slices": "mean", "any:glioma": "mean"}
    assert {rule: planned("--patient-label", rule).pooling for rule in rules} == rules
    assert planned("--recipe", "fast").pooling == planned("--pooling", "mean").pooling == "mean"


def test_help_shows_what_a_new_run_takes(launch):
    _, out, _ = launch("--help-all")
    assert re.search(r"--lr FLOAT(.|\n)*?\(default: 0\.0005\)", out)
    assert "--recipe default|fast|thorough|0.1.0" in out


@pytest.mark.parametrize(("classes", "flip"), [(("left", "right"), "off"), (("glioma", "none"), "on")])
def test_left_and_right_are_exchanged_unless_a_class_speaks_of_a_side(
    planned, tmp_path, make_pictures, preprocess, classes, flip
):
    make_pictures(tmp_path / "sides", 80, side=32, patients=40)
    for old, new in zip(
        sorted(p for p in (tmp_path / "sides").iterdir() if p.is_dir()), classes, strict=False
    ):
        old.rename(old.with_name(new))
    status, _, errors = preprocess(
        tmp_path / "sides", tmp_path / "sided", "--size", "32", "--ids", "as-given"
    )
    assert status == 0, errors
    training = planned("--store", tmp_path / "sided")
    assert (training.flip, training.mirror_answers) == (flip, flip == "on")
    assert planned("--store", tmp_path / "sided", "--flip", "on").mirror_answers


def test_a_recipe_takes_back_what_another_had_set():
    thorough = with_recipe(TrainingSettings(), "thorough")
    assert with_recipe(thorough, "0.1.0") == TrainingSettings()
    assert default_of("fast", "epochs") == RECIPES["fast"]["epochs"]
    assert default_of("fast", "seed") == 0
