"""``mri-hpc compare``: two runs, in pairs, on the test patients that they share."""

import json
from dataclasses import replace

import numpy as np

from mri_hpc.compare import main
from mri_hpc.rundir.predictions import Prediction

CLASSES = ("a", "b")


def rows(right, *, first=0, num=40):
    """Two slices a patient, of whom those below `right` are answered rightly."""
    for number in range(2 * first, 2 * num):
        patient, label = number // 2, number // 2 % 2
        says = label if patient < right else 1 - label
        yield Prediction(
            key=f"{number:016x}", patient=f"P{patient:03d}", split="test", label=CLASSES[label],
            probabilities=tuple(0.8 if j == says else 0.2 for j in range(2)),
        )  # fmt: skip


def compare(first, second, *options, capsys):
    capsys.readouterr()
    status = main([str(first.path), str(second.path), *options])
    printed = capsys.readouterr()
    return status, " ".join(printed.out.split()), printed.err


def test_the_difference_is_by_patient_and_said_in_a_sentence(make_run, capsys):
    good = make_run("good", classes=CLASSES, rows=list(rows(38)))
    bad = make_run("bad", classes=CLASSES, rows=list(rows(20)))
    status, out, _err = compare(good, bad, capsys=capsys)
    assert status == 0
    assert out.startswith("good is better than bad by 45.0 points of balanced accuracy by patient (95 % int")
    assert compare(bad, good, capsys=capsys)[1].startswith("good is better than bad by 45.0 points")
    found = json.loads(compare(good, bad, "--json", capsys=capsys)[1])
    by = found["patient"]["balanced_accuracy"]["difference"]
    assert (found["unit"], found["patient"]["n"], found["slice"]["n"]) == ("patient", 40, 80)
    assert np.isclose(by["value"], 0.45) and 0.2 < by["low"] < 0.45 < by["high"] < 0.65


def test_runs_that_hardly_differ_are_not_told_apart(make_run, capsys):
    runs = [make_run(str(right), classes=CLASSES, rows=list(rows(right))) for right in (37, 38)]
    assert compare(*runs, capsys=capsys)[1].startswith("These 40 patients do not tell which run is better")


def test_what_one_test_set_alone_has_is_left_out_and_said(make_run, capsys):
    whole = make_run("whole", classes=CLASSES, rows=list(rows(38)))
    part = make_run("part", classes=CLASSES, rows=list(rows(20, first=10)))
    found = json.loads(compare(whole, part, "--json", capsys=capsys)[1])
    assert found["patient"]["n"] == 30
    assert found["notes"][0] == (
        "The test sets differ: 20 test images of whole, of 10 patients, are not in the other's and left out"
    )


def test_what_cannot_be_compared_is_refused_in_a_line(make_run, capsys):
    one = make_run("one", classes=CLASSES, rows=list(rows(38)))
    others = {
        "share no test image": make_run("else", classes=CLASSES, rows=list(rows(50, first=40, num=60))),
        "compare runs of the same classes": make_run("classes"),
        "have another class in": make_run(
            "relabelled", classes=CLASSES, rows=[replace(row, label="a") for row in rows(38)]
        ),
    }
    for said, other in others.items():
        status, _out, err = compare(one, other, capsys=capsys)
        assert (status, said in err, err.count("\n")) == (2, True, 1), err
