"""``mri-hpc evaluate --investigate``: what is to be found is kept, and evaluate, report and predict agree."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from mri_hpc import report
from mri_hpc.evaluate import main
from mri_hpc.results.answers.answer import Answer, Judged
from mri_hpc.results.answers.decision import Decision
from mri_hpc.results.answers.run_decision import decision_of, validation_patients
from mri_hpc.results.pages.answer_tables import print_tables, write_tables
from mri_hpc.rundir.predictions import Prediction
from mri_hpc.rundir.provenance import read_provenance, write_provenance
from mri_hpc.rundir.settings import JobSettings, TrainingSettings, save_settings

CLASSES = ("glioma", "pituitary")


def rows(num):
    """Half of the patients of each split are of either class; the scores of each spread evenly."""
    for split in ("validation", "test"):
        for number in range(num):
            place = number // 2 / (num // 2)
            score = 0.3 + 0.6 * place if number % 2 else 0.05 + 0.4 * place
            yield Prediction(
                key=f"{number + num * (split == 'test'):016x}",
                patient=f"{split[0]}{number:03d}",
                split=split,
                label=CLASSES[1 - number % 2],
                probabilities=(score, 1 - score),
            )


@pytest.fixture
def run(make_run):
    return make_run(classes=CLASSES, rows=list(rows(400)))


def evaluate(run, *options, capsys):
    capsys.readouterr()
    status = main([str(run.path), *options])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def decided(run, *options, capsys):
    status, out, err = evaluate(run, "--json", *options, capsys=capsys)
    assert status == 0, err
    return json.loads(out)["decision"]


def test_without_a_class_to_be_found_no_threshold_is_given_and_nothing_is_written(run, capsys):
    found = decided(run, capsys=capsys)
    assert (found["threshold"], "--investigate CLASS" in found["reason"]) == (None, True)
    assert "No threshold is given: " in evaluate(run, capsys=capsys)[1]
    assert not run.decision.exists()


def test_what_is_to_be_found_is_asked_once_and_kept(run, capsys):
    first = decided(run, "--investigate", "glioma", "--sensitivity", "0.9", capsys=capsys)
    assert (first["investigate"], first["sensitivity"], first["choices"]) == (["glioma"], 0.9, 30)
    assert first["validation"]["missed"] < 0.1 * first["validation"]["with_finding"] == 20
    assert decided(run, capsys=capsys) == first
    assert decided(run, "--sensitivity", "0.95", capsys=capsys)["investigate"] == ["glioma"]
    assert decided(run, "--investigate", "pituitary", capsys=capsys)["sensitivity"] == 0.95


def test_validation_alone_shows_the_threshold_without_a_look_at_the_test_patients(run, capsys):
    both = decided(run, "--investigate", "glioma", capsys=capsys)
    alone = decided(run, "--split", "validation", capsys=capsys)
    assert (alone["threshold"], alone["shown"]) == (both["threshold"], None)
    assert both["shown"]["with_finding"] == 200


def test_a_question_that_cannot_be_answered_is_not_kept(run, capsys):
    for options, said in (
        (["--investigate", "gliom"], "there is no class 'gliom'"),
        (["--investigate", *CLASSES], "names all classes"),
        (["--sensitivity", "95"], "--sensitivity must be above 0 and below 1, got 95"),
    ):
        status, _out, err = evaluate(run, *options, capsys=capsys)
        assert (status, said in err, err.count("\n")) == (2, True, 1), err
    assert not run.decision.exists()


def test_a_question_that_is_damaged_or_newer_is_refused(run, capsys):
    for content in ("[]", '{"format": 1, "sensitivity": "high"}', '{"format": 9}'):
        run.decision.write_text(content)
        status, _out, err = evaluate(run, capsys=capsys)
        assert (status, "decision.json" in err, err.count("\n")) == (2, True, 1), content


def test_the_page_says_what_evaluate_says(run, capsys):
    found = decided(run, "--investigate", "glioma", capsys=capsys)
    assert report.main([str(run.path)]) == 0
    page = " ".join(run.report.read_text().split())
    for words in found["words"]:
        assert f"<p>{words}.</p>" in page
    assert "Patients at the threshold" in page
    terminal = " ".join(evaluate(run, capsys=capsys)[1].split())
    assert all(words in terminal for words in found["words"])


def answer(run):
    images = [
        Judged(name=f"{score}.png", patient=f"P{score}", probabilities=np.array([score, 1 - score]))
        for score in (0.9, 0.05)
    ]
    return Answer(classes=CLASSES, images=tuple(images), rejected=(), decision=decision_of(run))


def patients_of(folder, given):
    write_tables(folder, given)
    with (folder / "patients.csv").open() as file:
        return list(csv.DictReader(file))


def test_predict_decides_by_the_same_threshold(run, tmp_path, capsys):
    threshold = decided(run, "--investigate", "glioma", capsys=capsys)["threshold"]
    given = answer(run)
    assert isinstance(given.decision, Decision)
    assert given.to_dict()["decision"]["threshold"] == threshold
    assert [one["decision"] for one in given.to_dict()["patients"]] == ["below the threshold", "investigate"]
    of_patients = patients_of(tmp_path / "out", given)
    assert [one["decision"] for one in of_patients] == ["below the threshold", "investigate"]
    print_tables(given)
    printed = capsys.readouterr().out
    assert "below the threshold" in printed.splitlines()[1]
    assert given.decision.words[2] in printed


def test_predict_decides_nothing_where_nothing_can_be_promised(run, tmp_path, capsys):
    given = answer(run)
    assert "decision" not in patients_of(tmp_path / "out", given)[0]
    assert "decision" not in given.to_dict()["patients"][0]
    print_tables(given)
    assert "No threshold is given: " in capsys.readouterr().out
    run.predictions.unlink()
    assert "predictions.csv does not exist" in decision_of(run).reason


@pytest.mark.parametrize("option", ["continue_from", "weights"])
def test_models_of_the_runs_before_were_chosen_too_and_where_one_is_gone_nothing_is_promised(
    make_run, run, capsys, option
):
    settings = TrainingSettings(epochs=4, decay_epochs=2)
    before = make_run("before", classes=CLASSES, rows=list(rows(400)))
    save_settings(before, settings, JobSettings())
    path = before.path if option == "continue_from" else before.model
    save_settings(run, replace(settings, **{option: str(path)}), JobSettings())
    # With --epochs 4 after nine were done.
    write_provenance(run, {**read_provenance(run), "epochs": 9})
    write_provenance(before, {**read_provenance(before), "epochs": 3})
    assert decided(run, "--investigate", "glioma", capsys=capsys)["choices"] == 9 * 3 * 4 * 3
    # Where the last epoch is published, they chose no more than when the rate began to fall.
    save_settings(before, replace(settings, published_epoch="last"), JobSettings())
    write_provenance(before, {**read_provenance(before), "model_epoch": 3})
    assert decided(run, "--investigate", "glioma", capsys=capsys)["choices"] == 9 * 3 * 4
    write_provenance(before, {**read_provenance(before), "model_epoch": 2})
    assert decided(run, "--investigate", "glioma", capsys=capsys)["choices"] == 9 * 3 * 4 * 3
    if option == "continue_from":
        before.settings.unlink()
        found = decided(run, capsys=capsys)
        assert (found["threshold"], "from which this run descends, is gone" in found["reason"]) == (
            None,
            True,
        )
        assert validation_patients(run).patients == ()
