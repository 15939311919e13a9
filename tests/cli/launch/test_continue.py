"""--continue-from: more data later, as a new run that was never trained on whom it is judged by."""

import shutil

import pytest

from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.progress import EarlyStopping, Progress
from mri_hpc.rundir.settings import JobSettings, TrainingSettings, load_job, load_training, save_settings
from mri_hpc.storage.snapshot.catalogue import resolve
from mri_hpc.store import main as store_main

FOLDS = 5


@pytest.fixture
def add(tmp_path, make_pictures, preprocess):
    """Adds pictures to the raw folder, with a fold for each patient, and to a store."""

    def add_pictures(count, *options, first=0, store="store", size=32, classes=("glioma", "meningioma")):
        make_pictures(tmp_path / "raw", count, first=first, patients=40, classes=classes)
        paths = sorted((tmp_path / "raw").rglob("*.jpg"))
        rows = [
            f"{path.relative_to(tmp_path / 'raw')},{path.parts[-3]},{path.parts[-2]},"
            f"{int(path.parts[-2].removeprefix('patient')) % FOLDS}"
            for path in paths
        ]
        (tmp_path / "labels.csv").write_text("\n".join(["path,label,patient,fold", *rows]) + "\n")
        words = ("--labels", tmp_path / "labels.csv", "--size", size, "--ids", "as-given", *options)
        status, _, errors = preprocess(tmp_path / "raw", tmp_path / store, *words)
        assert status == 0, errors
        return resolve(tmp_path / store)

    return add_pictures


@pytest.fixture
def finished(tmp_path):
    """Makes a finished run of what a store holds now."""

    def make(name, *, store="store", job=None, **settings):
        run = RunDir(tmp_path / name)
        run.path.mkdir()
        folder = tmp_path / store
        training = TrainingSettings(
            store=str(folder), snapshot=resolve(folder).digest, schedule_epochs=30, **settings
        )
        save_settings(run, training, job or JobSettings())
        shutil.copy(folder / "recipe.json", run.recipe)
        run.model.write_bytes(b"weights")
        run.mark_done()
        return run

    return make


@pytest.fixture
def continued(launch, tmp_path):
    """Dry-runs a run that continues another; returns what launch said beside the script, or its complaint."""

    def run(parent, *options, expect=0):
        status, _, errors = launch("--continue-from", parent.path, "--dry-run", *options)
        assert status == expect, errors
        assert errors.count("Traceback") == 0
        return errors

    return run


def test_after_new_images_one_option_starts_a_new_run_with_the_settings_of_the_first(
    add, finished, launch, tmp_path
):
    old = add(80)
    parent = finished("a", lr=0.01, patience=9, weights="pretrained", job=JobSettings(time_limit_min=77))
    new = add(14, first=80)
    status, out, errors = launch("--continue-from", "a", "--patience", 4)
    assert status == 0, errors
    words = f"continues a (snapshot {old.digest[:8]} → {new.digest[:8]}, +14 images, +0 patients)"
    assert f"\n  {words}\n" in out
    [path] = (tmp_path / "runs").iterdir()
    child = load_training(RunDir(path))
    assert (child.lr, child.patience, child.weights) == (0.01, 4, "")
    assert child.continue_from == str(parent.path)
    assert (child.snapshot, child.schedule_epochs) == (new.digest, 30)
    assert load_job(RunDir(path)).time_limit_min == 77
    # The same command is the same run.
    assert "already in the hands of" in launch("--continue-from", "a")[1]
    assert "already in the hands of" in launch("--run", path, "--continue-from", parent.path)[1]


def test_a_run_that_goes_on_pools_as_the_first_where_its_rule_for_patients_lets_it(
    add, finished, launch, tmp_path
):
    add(80)
    for name, pooling in (("tried", "attention"), ("mean", "mean")):
        finished(name, pooling=pooling)
        for rule, wanted in (("majority", pooling), ("slices", "mean")):
            run = tmp_path / f"{name}-{rule}"
            words = ("--continue-from", name, "--run", run, "--patient-label", rule)
            status, _out, errors = launch(*words)
            assert status == 0, errors
            assert load_training(RunDir(run)).pooling == wanted


def test_images_that_are_in_no_split_are_not_counted_as_growth_and_are_named(
    add, finished, continued, tmp_path, make_pictures, preprocess
):
    add(80)
    parent = finished("a", val_fold=3, test_fold=4)
    # Later ones that name no fold.
    make_pictures(tmp_path / "later", 10, patients=5)
    words = ("--size", 32, "--ids", "as-given")
    assert preprocess(tmp_path / "later", tmp_path / "store", *words)[0] == 0
    said = continued(parent)
    assert ", +0 images, +0 patients)\n" in said
    assert "10 images, 0 patients are in no split: 10 without a fold\n" in said


def test_the_step_of_the_model_is_named_and_data_that_did_not_grow(add, finished, continued, monkeypatch):
    add(80)
    parent = finished("a")
    stopping = EarlyStopping(best_loss=0.5, best_epoch=1, best_step=42)
    manifest = type("M", (), {"progress": Progress(step=60, early_stopping=stopping)})
    monkeypatch.setattr("mri_hpc.cohort.lineage.newest_manifest", lambda run: manifest)
    assert "continues a (step 42, snapshot " in continued(parent)
    assert " as before)\n" in continued(parent)


def test_a_run_that_is_not_finished_or_not_there_is_refused(add, finished, launch, tmp_path):
    add(80)
    parent = finished("a")
    parent.model.unlink()
    status, _, errors = launch("--continue-from", "a")
    assert (status, errors.count("\n")) == (2, 1)
    assert "--continue-from a: the run is not finished, it has no model.safetensors yet; finish it" in errors
    status, _, errors = launch("--continue-from", "b")
    assert (status, errors.count("\n")) == (2, 1)
    assert "b does not exist; runs here: a" in errors


def test_another_model_is_refused(add, finished, continued):
    add(80)
    said = continued(finished("a"), "--model", "vgg11", expect=2)
    assert "--continue-from a is a resnet18, and --model is vgg11: weights of one do not fit" in said


def test_images_of_another_size_are_refused(add, finished, continued, tmp_path):
    add(80)
    add(80, store="large", size=64)
    said = continued(finished("a"), "--store", tmp_path / "large", expect=2)
    assert "--continue-from a was trained on images of 32 × 32 pixels, and the store holds 64 × 64" in said


def test_a_store_that_names_patients_otherwise_is_refused(add, finished, continued, tmp_path):
    add(80)
    # Where an option stands twice, the last counts.
    add(80, "--ids", "pseudonym", store="other")
    said = continued(finished("a"), "--store", tmp_path / "other", expect=2)
    assert "--continue-from a: other names patients otherwise than a did (another site key, or --ids)" in said


def test_retracted_patients_are_still_in_the_weights_and_a_note_tells(add, finished, continued, tmp_path):
    add(80)
    parent = finished("a", val_fold=3, test_fold=4)
    assert store_main(["retract", str(tmp_path / "store"), "--patient", "patient5", "--yes"]) == 0
    assert "have learnt from 1 patients who are not in the store any more (such as patient5)" in continued(
        parent
    )


def test_a_new_class_is_named_and_a_missing_one_refused(add, finished, continued, tmp_path):
    add(80)
    small = finished("small")
    add(40, first=100, classes=("pituitary", "glioma"))
    said = continued(small, "--patient-label", "majority")
    assert "new here: pituitary; the head starts anew, all else from small\n" in said
    large = finished("large")
    shutil.rmtree(tmp_path / "raw")
    add(80, store="fewer")
    said = continued(large, "--store", tmp_path / "fewer", expect=2)
    assert "knows classes that the store lacks (pituitary): add their images, or train without" in said


def test_a_patient_that_was_trained_on_cannot_be_judged(add, finished, continued):
    add(80)
    parent = finished("a", val_fold=0, test_fold=1)
    assert "continues a" in continued(parent)
    said = continued(parent, "--val-fold", 2, "--test-fold", 3, expect=2)
    assert said.count("\n") == 1
    assert "16 patients of this run's validation and test splits (such as patient12) were in the" in said
    assert "training split of a: its figures would be too good; keep that run's folds" in said


def test_a_patient_that_the_model_was_chosen_by_cannot_be_tested_on_but_chosen_by_again(
    add, finished, continued
):
    add(80)
    parent = finished("a", val_fold=0, test_fold=1)
    said = continued(parent, "--val-fold", 1, "--test-fold", 0, expect=2)
    assert said.count("\n") == 1
    assert "--continue-from a: 8 patients of this run's test split (such as patient0) were in the val" in said
    assert "in the validation split of a: its figures would be too good; keep that run's folds" in said


def test_a_run_whose_model_is_given_as_weights_is_looked_at_in_the_same_way(
    add, finished, launch, monkeypatch, tmp_path
):
    add(80)
    parent = finished("a", val_fold=0, test_fold=1)
    # What the file holds is looked at elsewhere.
    monkeypatch.setattr("mri_hpc.training.model.check_weights", lambda *_arguments: None)
    words = ("--weights", parent.model, "--store", "store", "--dry-run", "--val-fold")
    status, _, errors = launch(*words, 2, "--test-fold", 3)
    assert (status, errors.count("\n")) == (2, 1)
    assert "--weights a/model.safetensors: 16 patients of this run's validation and test splits" in errors
    assert "or start from other weights" in errors
    assert launch(*words, 0, "--test-fold", 1)[0] == 0
    # Another site's model, which came without its data.
    settings = parent.settings.read_text().replace(str(tmp_path / "store"), "/elsewhere")
    parent.settings.write_text(settings.replace(resolve(tmp_path / "store").digest, "0" * 32))
    status, _, errors = launch(*words, 2, "--test-fold", 3)
    assert status == 0, errors
    assert "the data of that run are not here; patients that both runs have go unnoticed\n" in errors


@pytest.mark.parametrize("option", ["--continue-from", "--weights"])
def test_who_chose_the_epoch_of_the_run_before_is_not_set_apart_as_one_who_chose_nothing(
    add, finished, launch, monkeypatch, option
):
    add(80)
    parent = finished("a", val_fold=0, test_fold=1)
    monkeypatch.setattr("mri_hpc.training.model.check_weights", lambda *_arguments: None)
    start = (option, parent.path if option == "--continue-from" else parent.model)
    words = (*start, "--store", "store", "--dry-run", "--val-fold", 0, "--test-fold", 1)
    status, _, errors = launch(*words, "--calibration-share", 0.5)
    assert (status, errors.count("\n")) == (2, 1)
    assert "--calibration-share 0.5: a has 0.0, so that patients who are to choose nothing have" in errors
    assert launch(*words)[0] == 0


def test_weights_of_another_site_s_run_do_not_hinder_setting_patients_apart(
    add, finished, launch, monkeypatch, tmp_path
):
    digest = add(80).digest
    parent = finished("a", val_fold=0, test_fold=1)
    monkeypatch.setattr("mri_hpc.training.model.check_weights", lambda *_arguments: None)
    settings = parent.settings.read_text().replace(str(tmp_path / "store"), "/elsewhere")
    parent.settings.write_text(settings.replace(digest, "0" * 32))
    words = ("--weights", parent.model, "--store", "store", "--dry-run", "--val-fold", 0, "--test-fold", 1)
    status, _, errors = launch(*words, "--calibration-share", 0.5)
    assert status == 0, errors


def test_nor_one_that_an_earlier_run_of_the_lineage_was_trained_on(add, finished, continued):
    add(80)
    grand = finished("grand", val_fold=0, test_fold=1)
    parent = finished("parent", val_fold=2, test_fold=3, continue_from=str(grand.path))
    said = continued(parent, expect=2)
    assert "were in the training split of grand: its figures" in said
    shutil.rmtree(grand.path)
    said = continued(parent, expect=2)
    assert "grand, from which this run descends, is gone: nobody can tell which patients" in said


def test_nor_a_picture_whose_patient_has_another_name_in_another_store(add, finished, continued, preprocess,
                                                                       tmp_path):  # fmt: skip
    add(80)
    parent = finished("a")
    labels = (tmp_path / "labels.csv").read_text().replace(",patient", ",person").splitlines()
    (tmp_path / "labels.csv").write_text("\n".join(["path,label,patient,fold", *labels[1:]]) + "\n")
    words = ("--labels", tmp_path / "labels.csv", "--size", 32, "--ids", "as-given")
    assert preprocess(tmp_path / "raw", tmp_path / "other", *words)[0] == 0
    said = continued(parent, "--store", tmp_path / "other", expect=2)
    assert "images of this run's validation and test splits (by their bytes) were in the training" in said


def test_without_the_data_of_the_first_run_nobody_can_tell_and_it_is_refused(
    add, finished, continued, tmp_path
):
    add(80)
    parent = finished("a")
    add(20, first=100, store="another")
    shutil.rmtree(tmp_path / "store")
    said = continued(parent, "--store", tmp_path / "another", expect=2)
    assert said.count("\n") == 1
    assert "a was trained on snapshot " in said
    assert f"not in {tmp_path / 'store'} and not in {tmp_path / 'another'}" in said
    assert "bring its store back, or train without --continue-from" in said


def test_a_store_that_has_moved_is_found_where_the_new_run_has_it(add, finished, continued, tmp_path):
    add(80)
    parent = finished("a")
    (tmp_path / "store").rename(tmp_path / "moved")
    assert "continues a (snapshot " in continued(parent, "--store", tmp_path / "moved")
