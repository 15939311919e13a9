"""Sets of classes that can be promised: evaluate, report and predict give the same."""

import csv
import json

import numpy as np
import pytest

from mri_hpc import report
from mri_hpc.evaluate import main
from mri_hpc.results.answers.answer import Answer, Judged
from mri_hpc.results.answers.run_decision import sets_of
from mri_hpc.results.pages.answer_tables import print_tables, write_tables
from mri_hpc.results.pages.patient_page import make_page
from mri_hpc.rundir.predictions import Prediction

CLASSES = ("glioma", "meningioma", "pituitary")


def rows(num, splits):
    """Patients of three classes, whose own class has from 0.3 to 0.9, and the next one most of the rest."""
    for at, split in enumerate(splits):
        for number in range(num):
            own = 0.3 + 0.6 * (number // 3) / (num // 3)
            chances = np.roll([own, 0.8 * (1 - own), 0.2 * (1 - own)], number % 3)
            yield Prediction(
                key=f"{at:08x}{number:08x}",
                patient=f"{split[0]}{number:03d}",
                split=split,
                label=CLASSES[number % 3],
                probabilities=tuple(chances.tolist()),
            )


@pytest.fixture
def run(make_run):
    return make_run(classes=CLASSES, rows=list(rows(150, ("validation", "test"))))


def found_in(run, *options, capsys):
    capsys.readouterr()
    assert main([str(run.path), "--json", *options]) == 0
    return json.loads(capsys.readouterr().out)["sets"]


def answer(run, **more):
    images = [
        Judged(name=f"{number}.png", patient=f"P{number}", probabilities=np.array(chances))
        for number, chances in enumerate([(0.98, 0.01, 0.01), (0.45, 0.4, 0.15)])
    ]
    return Answer(classes=CLASSES, images=tuple(images), rejected=(), sets=sets_of(run), **more)


def test_evaluate_and_the_page_say_what_is_promised_and_what_test_patients_show(run, capsys):
    found = found_in(run, capsys=capsys)
    assert (found["guarantee"], found["coverage"], found["n"], found["choices"]) == (
        "on average",
        0.9,
        150,
        30,
    )
    shown = found["shown"]
    assert shown["n"] == 150
    assert shown["covered"]["low"] < shown["covered"]["value"] < shown["covered"]["high"]
    assert shown["covered"]["value"] >= 0.9
    assert 1 < shown["mean_size"]["low"] < shown["mean_size"]["value"] < shown["mean_size"]["high"] < 3
    assert sorted(shown["covered_by_class"]) == sorted(CLASSES)
    assert found_in(run, "--split", "validation", capsys=capsys)["shown"] is None
    assert report.main([str(run.path)]) == 0
    page = " ".join(run.report.read_text().split())
    card = (run.review / "model_card.html").read_text()
    assert main([str(run.path)]) == 0
    terminal = " ".join(capsys.readouterr().out.split())
    for words in found["words"]:
        assert f"<p>{words}.</p>" in page
        assert words in terminal and words in card
    assert "Patients of the test split whose class is in their set" in page
    assert "of 150 patients have their class in their set" in terminal


def test_patients_set_apart_promise_more_than_those_who_chose_the_epoch(make_run, capsys):
    apart = make_run("apart", classes=CLASSES, rows=list(rows(21, ("validation", "calibration", "test"))))
    found = found_in(apart, capsys=capsys)
    assert (found["n"], found["choices"]) == (21, 1)
    assert found["threshold"] > 0
    chose = make_run("chose", classes=CLASSES, rows=list(rows(21, ("validation", "test"))))
    found = found_in(chose, capsys=capsys)
    assert found["threshold"] is None
    assert "needs 42 validation patients, there are 21 (9 would do" in found["reason"]


def test_predict_gives_the_same_sets_in_every_output(run, tmp_path, capsys):
    given = answer(run)
    assert given.to_dict()["sets"]["threshold"] == found_in(run, capsys=capsys)["threshold"]
    assert [one["set"] for one in given.to_dict()["patients"]] == [["glioma"], ["glioma", "meningioma"]]
    write_tables(tmp_path / "out", given)
    with (tmp_path / "out" / "patients.csv").open() as file:
        assert [row["promised_set"] for row in csv.DictReader(file)] == ["glioma", "glioma;meningioma"]
    print_tables(given)
    assert "P1: The promised set is glioma or meningioma: at least 90.0 %" in capsys.readouterr().out
    pages = [make_page(given, one, list(given.images)) for one in given.patients()]
    assert "The promised set is glioma: at least 90.0 %" in pages[0]


def test_no_set_is_given_where_classes_have_other_shares_or_none_is_promised(run, tmp_path):
    few = answer(run).to_dict()["patients"][0]
    assert "set" in few
    run.predictions.unlink()
    none = answer(run)
    assert "set" not in none.to_dict()["patients"][0]
    assert "predictions.csv does not exist" in none.to_dict()["sets"]["reason"]
    write_tables(tmp_path / "out", none)
    assert "promised_set" not in (tmp_path / "out" / "patients.csv").read_text()
