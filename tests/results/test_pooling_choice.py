"""Attention pools only where validation patients, and no others, have shown it to be better."""

import json
from dataclasses import replace

import numpy as np
import pytest

from mri_hpc.base.errors import NewerFormat, UserError
from mri_hpc.compare import main as compare_command
from mri_hpc.evaluate import main as evaluate_command
from mri_hpc.results.answers.calibration import calibrate, load_calibration
from mri_hpc.results.answers.pooling_choice import choose_pooling, compare, patient_model_of
from mri_hpc.results.answers.run_decision import decide_by_validation
from mri_hpc.results.runs.evaluation import evaluate_split
from mri_hpc.results.statistics.patient_model import MeanOfImages
from mri_hpc.rundir.attention_answers import write_attention
from mri_hpc.rundir.pooling import read_pooling
from mri_hpc.rundir.predictions import Prediction
from mri_hpc.rundir.provenance import read_provenance
from mri_hpc.rundir.question import Question
from mri_hpc.rundir.settings import TrainingSettings, load_job, load_training, save_settings

CLASSES = ("a", "b")


def rows(split, num, *, better, seed=0):
    """Two slices a patient, of whom 70 % are answered rightly; by attention, those below `better`."""
    drawn = np.random.default_rng(seed)
    for number in range(num):
        label, mean = number % 2, 0.9 if drawn.random() < 0.7 else 0.2
        by_attention = 0.9 if drawn.random() < better else 0.2
        for part in range(2):
            right = np.array([mean, 1 - mean])
            said = np.log([by_attention, 1 - by_attention])
            yield Prediction(
                key=f"{'vct'.index(split[0])}{number:014x}{part}", patient=f"{split[0]}{number:03d}",
                split=split, label=CLASSES[label], probabilities=tuple(right[:: -1 if label else 1].tolist()),
                attention=(0.0, *said[:: -1 if label else 1].tolist()),
            )  # fmt: skip


@pytest.fixture
def tried(make_run):
    """Makes runs that have tried attention, and chosen."""

    def make(*found, name="tried", pooling="attention", named=True):
        run = make_run(name, classes=CLASSES, rows=[replace(row, attention=()) for row in found])
        settings = replace(load_training(run), pooling=pooling)
        save_settings(run, settings, load_job(run))
        if named:
            write_attention(run.attention_answers, CLASSES, {row.key: row.attention for row in found})
        choose_pooling(run)
        return run

    return make


def both(better, **options):
    return [*rows("validation", 80, better=better, **options), *rows("test", 80, better=better)]


def test_what_is_clearly_better_on_validation_patients_pools_everywhere(tried):
    run = tried(*both(1.0))
    found = read_pooling(run)
    assert (found.is_kept, found.num, found.fraction_better) == (True, 80, 1.0)
    assert found.attention_log_loss < 0.2 < 0.5 < found.mean_log_loss
    evaluation = evaluate_split(run, "test")
    assert evaluation.patient_level.to_dict()["accuracy"]["value"] == 1.0
    assert "made by gated attention over the slices. Slices are pooled by gated attention: on 80" in (
        evaluation.method
    )
    assert evaluation.to_dict()["pooling"]["is_kept"] is True


def test_what_is_worse_than_the_mean_is_not_kept_and_said(tried, capsys):
    run = tried(*both(0.6))
    found = read_pooling(run)
    assert not found.is_kept and found.fraction_better < 0.5
    assert isinstance(patient_model_of(run, CLASSES), MeanOfImages)
    assert evaluate_command([str(run.path)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "Gated attention over a patient's slices was tried, and is not kept: on 80 validation" in out
    assert f"{found.attention_log_loss:.3f} and that of the mean {found.mean_log_loss:.3f}" in out


def test_the_lower_log_loss_wins_by_however_little():
    found = [compare(CLASSES, list(rows("validation", 40, better=0.7, seed=seed))) for seed in range(60)]
    assert [one.is_kept for one in found] == [one.attention_log_loss < one.mean_log_loss for one in found]
    assert 15 < sum(one.is_kept for one in found) < 45
    assert any(0.5 < one.fraction_better < 0.9 for one in found if one.is_kept)


def test_a_choice_of_when_95_percent_were_asked_for_says_so(tried):
    found = replace(read_pooling(tried(*both(1.0))), is_kept=False, fraction_better=0.92)
    assert found.words.endswith("in 92 % of resamples of these patients, and 95 % were asked for then.")
    assert "asked for" not in read_pooling(tried(*both(0.6), name="other")).words


def test_patients_who_were_set_apart_and_those_of_the_test_choose_nothing(tried):
    alone = tried(*rows("validation", 40, better=1.0), name="alone")
    others = [*rows("calibration", 200, better=0.0), *rows("test", 200, better=0.0)]
    beside = tried(*rows("validation", 40, better=1.0), *others, name="beside")
    assert read_pooling(alone).is_kept and read_pooling(beside).num == 40
    assert read_pooling(alone).fraction_better == read_pooling(beside).fraction_better


def test_few_patients_and_none_choose_nothing_and_the_reason_is_said(tried):
    few = tried(*rows("validation", 19, better=1.0), *rows("test", 40, better=1.0), name="few")
    assert read_pooling(few).words == (
        "Gated attention over a patient's slices is not used: validation has 19 patients, and fewer than 20 "
        "do not tell."
    )
    nobody = tried(*both(1.0), name="nobody", named=False)
    assert read_pooling(nobody).reason == "no training image names a patient"
    assert evaluate_split(nobody, "test").patient_level.num == 80


def test_a_run_that_was_not_asked_for_it_writes_nothing(tried):
    run = tried(*both(1.0), pooling="mean")
    assert not run.pooling.exists() and evaluate_split(run, "test").pooling is None
    assert TrainingSettings().identity_digest() == TrainingSettings(pooling="mean").identity_digest()
    assert TrainingSettings().identity_digest() != TrainingSettings(pooling="attention").identity_digest()


def test_a_temperature_is_fitted_on_what_is_pooled(tried):
    kept, mean = tried(*both(1.0), name="kept"), tried(*both(1.0), name="mean", pooling="mean")
    for run in (kept, mean):
        calibrate(run)
    found = [load_calibration(run).patient.log_loss for run in (kept, mean)]
    assert found[0] == pytest.approx(-np.log(0.9)) and found[1] > 0.4


def test_a_promise_counts_that_validation_patients_chose_the_pooling_too(tried):
    run = tried(*rows("validation", 400, better=1.0), *rows("test", 40, better=1.0))
    question = Question(investigate=("a",), sensitivity=0.9)
    choices = decide_by_validation(run, CLASSES, list(rows("validation", 400, better=1.0)), question).choices
    assert choices == 2 * load_training(run).epochs
    notes = evaluate_split(run, "validation").notes
    assert notes[0].startswith("the epoch of the model and the pooling of slices were chosen on these very")


def test_runs_that_pool_otherwise_are_compared_as_each_of_them_pools(tried, capsys):
    kept, mean = tried(*both(1.0), name="kept"), tried(*both(1.0), name="mean", pooling="mean")
    for pair in ((kept, mean), (mean, kept)):
        assert compare_command([*(str(run.path) for run in pair), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)["patient"]["accuracy"]
        by_run = dict(zip([run.path.name for run in pair], (found["first"], found["second"]), strict=True))
        assert by_run["kept"]["value"] == 1.0 and by_run["mean"]["value"] < 0.9


def test_damaged_files_are_refused_in_a_line(tried):
    run = tried(*both(1.0))
    whole = run.pooling.read_text()
    run.pooling.write_text(whole.replace('"num": 80', '"num": 81'))
    with pytest.raises(UserError, match=r"pooling\.json is damaged \(its checksum does not fit\)"):
        evaluate_split(run, "test")
    run.pooling.write_text(whole)
    run.attention_answers.unlink()
    with pytest.raises(UserError, match=r"attention\.csv is not the one by which this run pools"):
        evaluate_split(run, "test")


def test_a_choice_that_is_gone_is_not_taken_for_none(tried):
    run = tried(*both(1.0))
    run.mark_done()
    run.pooling.unlink()
    assert read_pooling(run) is None, "of a run that tried nothing"
    origin = read_provenance(run)
    run.provenance.write_text(json.dumps({**origin, "attention_digest": "0" * 64}))
    with pytest.raises(UserError, match=r"pooling\.json is gone, and this run has tried attention"):
        evaluate_split(run, "test")


def test_a_newer_file_is_refused_by_name(tried, monkeypatch):
    run = tried(*both(1.0))
    monkeypatch.setattr("mri_hpc.rundir.pooling.FORMAT", 2)
    choose_pooling(run)
    monkeypatch.undo()
    with pytest.raises(NewerFormat, match=r"pooling\.json has format 2, this version reads up to 1"):
        read_pooling(run)


def test_attention_does_not_go_with_another_rule_for_patients():
    for rule in ("any:tumor", "slices"):
        with pytest.raises(UserError, match="--pooling attention learns the class of most slices"):
            TrainingSettings(pooling="attention", patient_label=rule)
