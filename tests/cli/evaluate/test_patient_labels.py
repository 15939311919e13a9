"""Slices of one patient may be of several classes: a stated rule says which is the patient's."""

import dataclasses
import itertools
import json

import numpy as np
import pytest

from mri_hpc.base.errors import UserError
from mri_hpc.evaluate import main as evaluate
from mri_hpc.report import main as report
from mri_hpc.results.statistics.patient_model import AnyImage, patient_model
from mri_hpc.rundir.predictions import Prediction
from mri_hpc.rundir.settings import load_job, load_training, save_settings

CLASSES = ("none", "tumor")
PATIENTS, SLICES, SHOWING = 80, 10, 3


def rows(*, finds, missed=0):
    """Half of 80 patients show the tumour in 3 of 10 slices. finds: the network does, but for `missed`."""
    for patient in range(PATIENTS):
        for number in range(SLICES):
            shows = patient % 2 == 1 and number < SHOWING
            found = 0.9 if finds and shows and patient >= 2 * missed else 0.1
            yield Prediction(
                key=f"{patient * SLICES + number:016x}",
                patient=f"P{patient:03d}",
                split="test",
                label=CLASSES[shows],
                probabilities=(1 - found, found),
            )


@pytest.fixture
def judged(make_run, capsys):
    number = itertools.count()

    def judge(rule, run_rows, *options):
        run = make_run(f"run-{next(number)}", classes=CLASSES, rows=list(run_rows))
        save_settings(run, dataclasses.replace(load_training(run), patient_label=rule), load_job(run))
        capsys.readouterr()
        assert evaluate([str(run.path), *options]) == 0
        return run, capsys.readouterr().out

    return judge


def found(judged, rule, run_rows):
    return json.loads(judged(rule, run_rows, "--json")[1])


def test_a_network_that_never_says_tumour_misses_every_tumour_patient(judged):
    patient = found(judged, "any:tumor", rows(finds=False))["patient"]
    assert patient["confusion"] == [[40, 0], [40, 0]]
    assert patient["classes"]["tumor"]["sensitivity"]["value"] == 0
    assert patient["balanced_accuracy"]["value"] == 0.5
    # By majority the same answers would look like those of a perfect network.
    assert found(judged, "majority", rows(finds=False))["patient"]["accuracy"]["value"] == 1


def test_a_network_that_finds_the_slices_gets_its_patients_right(judged):
    patient = found(judged, "any:tumor", rows(finds=True))["patient"]
    assert patient["confusion"] == [[40, 0], [0, 40]]
    patient = found(judged, "any:tumor", rows(finds=True, missed=4))["patient"]
    assert patient["confusion"] == [[40, 0], [4, 36]]


def test_slices_alone_give_no_figures_by_patient_and_it_is_said(judged):
    told = found(judged, "slices", rows(finds=True))
    assert (told["patient"], told["unit"], told["counts"]["patients"]) == (None, "slice", 80)
    assert told["slice"]["n_independent"] == 80
    assert (
        told["notes"][0] == "slice level: not a patient estimate, as --patient-label slices of the run says"
    )


def test_many_slices_of_few_patients_are_said_to_tell_nothing(judged):
    few = "the slices are of few patients (none 4, tumor 2): the figures mean nothing for any others"
    same = (
        "2 of 4 patients have slices of several classes: how scans of one person differ is told apart, "
        "be it by the scanner"
    )
    shown = [row for row in rows(finds=True) if row.patient < "P004"]
    assert {few, same} <= set(found(judged, "slices", shown)["notes"])
    assert not {few, same} & set(found(judged, "majority", shown)["notes"])
    assert few not in found(judged, "slices", rows(finds=True))["notes"]


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        (
            "majority",
            ["40 patients have slices of several classes: the class of most slices is taken as theirs"],
        ),
        (
            "any:tumor",
            [
                "40 patients have slices of several classes: a patient is tumor as soon as one slice is",
                "A patient's probabilities are those of the slice with the largest probability of tumor.",
            ],
        ),
        ("slices", ["not a patient estimate, as --patient-label slices of the run says"]),
    ],
)
def test_evaluate_and_the_page_say_the_rule(judged, rule, says):
    run, out = judged(rule, rows(finds=True))
    assert report([str(run.path)]) == 0
    page = run.report.read_text()
    for text in says:
        assert text in " ".join(out.split())
        assert text.replace("'", "&#39;") in page
    assert ("Patients</h2>" in page) == (rule != "slices")


def test_the_patient_is_answered_as_the_slice_that_most_speaks_for_the_positive_classes():
    model = AnyImage(["b"], ("a", "b", "c"))
    slices = np.array([[0.6, 0.1, 0.3], [0.3, 0.7, 0.0], [0.6, 0.2, 0.2], [0.2, 0.5, 0.3]])
    pooled = model.pool(["P", "P", "P", "Q"], slices)
    assert pooled.patients == ("P", "Q")
    assert pooled.probabilities == pytest.approx(np.array([[0.225, 0.7, 0.075], [0.2, 0.5, 0.3]]))
    assert pooled.num_images.tolist() == [3, 1]
    assert model.labels(np.array([[5, 1, 3], [5, 0, 6], [0, 1, 0]])).tolist() == [1, 2, 1]


def test_of_several_positive_classes_a_patient_has_the_one_of_most_slices():
    model = patient_model("any:b,c", ("a", "b", "c"))
    assert model.labels(np.array([[9, 1, 2], [9, 0, 0]])).tolist() == [2, 0]
    certain = np.array([[0.0, 0.6, 0.4], [0.0, 0.7, 0.3]])
    assert model.pool(["P", "P"], certain).probabilities.tolist() == [[0.0, 0.6, 0.4]]


def test_a_class_that_the_run_has_not_is_refused():
    with pytest.raises(UserError, match=r"no class 'tumour'; did you mean 'tumor'\?; classes: none, tumor"):
        patient_model("any:tumour", CLASSES)
