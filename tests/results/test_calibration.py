"""A stated probability means it: temperatures, what they are fitted on, and other shares of classes."""

import json

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.dummy import DummyClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import log_loss

from mri_hpc.base.errors import UserError
from mri_hpc.results.answers import calibration
from mri_hpc.results.answers.calibration import calibrate, fit, load_calibration, prevalence_of
from mri_hpc.results.answers.temperature import best_temperature, cross_fitted, fit_temperature, tempered
from mri_hpc.results.runs.evaluation import evaluate_split
from mri_hpc.results.statistics.patients import Outcomes
from mri_hpc.rundir.predictions import Prediction
from mri_hpc.rundir.question import Question

CLASSES = ("glioma", "meningioma", "pituitary")


def people(num, *, sharpened=1.0, seed=0, slices=1):
    """Patients whose probabilities are right, but for being sharpened by a factor."""
    draw = np.random.default_rng(seed)
    scores = np.repeat(draw.normal(0, 1.5, (num, 3)), slices, axis=0)
    right = tempered(np.exp(scores) / np.exp(scores).sum(1, keepdims=True), 1.0)
    label = (draw.random((num, 1)) > right[::slices].cumsum(1)).sum(1)
    return Outcomes(
        classes=CLASSES,
        label=np.repeat(label, slices),
        probabilities=tempered(right, 1 / sharpened),
        cluster=np.repeat(np.arange(num), slices),
        num_clusters=num,
    )


class Network(DummyClassifier):
    """A classifier whose probabilities are its input."""

    def predict_proba(self, X):
        return X


def test_the_temperature_is_that_of_scikit_learn():
    found = people(400, sharpened=3)
    network = Network().fit(found.probabilities, found.label)
    reference = CalibratedClassifierCV(FrozenEstimator(network), method="temperature").fit(
        found.probabilities, found.label
    )
    own = tempered(found.probabilities, best_temperature(found.probabilities, np.eye(3)[found.label]))
    theirs = reference.predict_proba(found.probabilities)
    assert log_loss(found.label, own) == pytest.approx(log_loss(found.label, theirs), abs=1e-6)
    assert own == pytest.approx(theirs, abs=1e-5)


def test_what_was_sharpened_is_softened_again_and_no_answer_changes():
    found = people(4000, sharpened=2.5)
    temperature = fit_temperature(found)
    assert temperature == pytest.approx(2.5, rel=0.05)
    softened = tempered(found.probabilities, temperature)
    assert np.array_equal(softened.argmax(1), found.predicted)
    assert softened.sum(1) == pytest.approx(1)


def test_few_answers_that_are_all_right_make_no_probability_certain():
    num = 20
    label = np.arange(num) % 3
    found = Outcomes(
        classes=CLASSES, label=label, probabilities=0.1 + 0.7 * np.eye(3)[label],
        cluster=np.arange(num), num_clusters=num,
    )  # fmt: skip
    sure = tempered(found.probabilities, fit_temperature(found)).max(1)
    assert 0.8 < sure.min() < 0.98


def test_a_probability_of_nothing_stays_a_number():
    assert tempered(np.array([[1.0, 0.0, 0.0]]), 2.0)[0] == pytest.approx([1, 0, 0])


def test_no_patient_has_a_temperature_that_its_own_label_made():
    found = people(40, sharpened=3, slices=3)
    before = cross_fitted(found)
    # One patient answered otherwise by the data: the others' figures may move, its own part's may not.
    label = found.label.copy()
    label[:3] = label[3:6]
    changed = cross_fitted(Outcomes(**{**vars(found), "label": label}))
    same = [np.array_equal(a, b) for a, b in zip(before[::3], changed[::3], strict=True)]
    assert label[0] == found.label[0] or (any(same) and not all(same))


def test_slices_of_one_patient_share_a_temperature_in_cross_fitting():
    found = people(30, sharpened=3, slices=4)
    before, after = (np.ptp(np.log(p), axis=1) for p in (found.probabilities, cross_fitted(found)))
    temperatures = before / after
    assert temperatures.reshape(30, 4) == pytest.approx(np.repeat(temperatures[::4, None], 4, axis=1))
    assert len(set(np.round(temperatures, 9))) == 5


def test_few_patients_and_what_helps_nobody_keep_what_the_network_says():
    few = fit(people(19, sharpened=3))
    assert (few.temperature, few.reason[:26]) == (1.0, "validation has 19 patients")
    many = fit(people(200, sharpened=3))
    assert many.temperature == pytest.approx(3, rel=0.3)
    assert many.cross_fitted < many.log_loss
    right = fit(people(60, seed=1))
    assert right.temperature == 1.0
    assert right.cross_fitted >= right.log_loss
    assert "did not help the others" in right.reason


def predictions(num=60, *, sharpened=3.0):
    found = people(2 * num, sharpened=sharpened, slices=2)
    return [
        Prediction(
            key=f"{unit:016x}",
            patient=f"P{number:03d}",
            split="validation" if number < num else "test",
            label=CLASSES[found.label[unit]],
            probabilities=tuple(found.probabilities[unit].tolist()),
        )
        for unit, number in enumerate(found.cluster.tolist())
    ]


def apart(rows):
    """The same, but every other validation patient chose nothing."""
    return [
        calibration.replace(row, split="calibration")
        if row.split == "validation" and int(row.patient[1:]) % 2
        else row
        for row in rows
    ]


def test_those_who_chose_nothing_give_temperature_and_threshold_alone(make_run):
    rows = apart(predictions(num=400))
    run = make_run(classes=CLASSES, rows=rows, provenance={"model_digest": "ab"})
    calibrate(run)
    found = load_calibration(run)
    assert (found.split, found.patient.num) == ("calibration", 200)
    evaluation = evaluate_split(run, "test", Question(investigate=("glioma", "meningioma")))
    assert "200 validation patients that chose nothing else" in evaluation.probabilities_mean
    assert evaluation.decision.choices == 1
    assert (
        evaluation.decision.validation.with_finding
        == sum(row.label != "pituitary" for row in rows if row.split == "calibration") // 2
    )


def test_a_temperature_leaves_the_decision_as_it_was(make_run):
    run = make_run(classes=CLASSES, rows=apart(predictions(num=400)), provenance={"model_digest": "ab"})
    question = Question(investigate=("glioma", "meningioma"))
    before = evaluate_split(run, "test", question).decision
    calibrate(run)
    assert load_calibration(run).patient.temperature > 1.5
    assert evaluate_split(run, "test", question).decision == before


def test_a_run_is_judged_by_its_temperatures_and_one_of_before_says_that_it_has_none(make_run):
    run = make_run(classes=CLASSES, rows=predictions(), provenance={"model_digest": "ab"})
    table = run.predictions.read_bytes()
    before = evaluate_split(run, "test")
    assert before.to_dict()["calibration"] is None
    assert "ended before runs were calibrated" in before.probabilities_mean
    calibrate(run)
    after = evaluate_split(run, "test")
    assert run.predictions.read_bytes() == table
    for unit in ("patient", "slice"):
        of_unit = [e.to_dict()[unit] for e in (before, after)]
        assert of_unit[0]["confusion"] == of_unit[1]["confusion"]
        assert of_unit[0]["log_loss"]["value"] > of_unit[1]["log_loss"]["value"]
        assert load_calibration(run).of(unit).temperature == pytest.approx(3, rel=0.4)
    assert [p.predicted for p in before.patients] == [p.predicted for p in after.patients]
    assert "fitted on 60 validation patients that also chose the epoch" in after.probabilities_mean
    first = run.calibration.read_bytes()
    calibrate(run)
    assert run.calibration.read_bytes() == first


def test_figures_of_validation_are_cross_fitted(make_run):
    run = make_run(classes=CLASSES, rows=predictions(), provenance={"model_digest": "ab"})
    calibrate(run)
    found = evaluate_split(run, "validation")
    assert found.patient_level["log_loss"].value == load_calibration(run).patient.cross_fitted
    assert "has the temperature that the other patients give" in found.probabilities_mean


def test_a_calibration_that_is_damaged_or_of_another_model_is_refused(make_run):
    run = make_run(classes=CLASSES, rows=predictions(), provenance={"model_digest": "ab"})
    calibrate(run)
    whole = run.calibration.read_text()
    run.calibration.write_text(whole.replace('"temperature": ', '"temperature": 1'))
    with pytest.raises(UserError, match=r"calibration.json is damaged .*restore it from a backup"):
        load_calibration(run)
    run.calibration.write_text(whole)
    run.provenance.write_text(json.dumps({"model_digest": "cd"}))
    with pytest.raises(UserError, match="is of another model"):
        load_calibration(run)


def test_predictions_that_are_no_numbers_do_not_keep_a_run_from_its_end(make_run):
    rows = [Prediction(key="0" * 16, patient="P", split="validation", label="a", probabilities=(np.nan,) * 2)]
    run = make_run(classes=("a", "b"), rows=rows)
    calibrate(run)
    found = load_calibration(run)
    assert found.slice is found.patient is None
    assert found.in_words("slice").endswith("validation has no labelled slice.")


def test_other_shares_of_classes_are_weighed_by_bayes_rule():
    # A sign that 80 of 100 ill and 10 of 100 well show: half of the patients ill, then one in ten.
    of_validation = fit(people(30))
    shares = {"well": 0.5, "ill": 0.5}
    found = calibration.Calibration(
        model_digest="",
        split="validation",
        slice=None,
        patient=calibration.replace(of_validation, fractions=shares),
    )
    shown = np.array([[0.1, 0.8]]) / 0.9
    fewer = found.reweighed("patient", shown, {"well": 0.9, "ill": 0.1})
    assert fewer[0] == pytest.approx([0.09 / 0.17, 0.08 / 0.17])
    assert found.reweighed("patient", shown, shares)[0] == pytest.approx(shown[0])
    absent = calibration.replace(of_validation, fractions={"well": 1.0, "ill": 0.0})
    with pytest.raises(UserError, match="validation has no patient of ill"):
        calibration.replace(found, patient=absent).reweighed("patient", shown, shares)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("a=0.5,b=0.4", "add up to 1, found 0.9"),
        ("a=1,b=0", "above 0 and below 1"),
        ("a=0.5", "missing: b"),
        ("a=0.5,bb=0.5", "no class 'bb'"),
        ("a=x,b=0.5", "above 0 and below 1"),
        ("a", "as a=0.5,b=0.5; 'a' has no share"),
    ],
)
def test_shares_that_are_none_are_refused(given, said):
    with pytest.raises(UserError, match=said):
        prevalence_of(given, ("a", "b"))
    assert prevalence_of("b=0.25, a=0.75", ("a", "b")) == {"a": 0.75, "b": 0.25}
    assert prevalence_of("x=y=0.25,a=0.75", ("a", "x=y")) == {"a": 0.75, "x=y": 0.25}


@pytest.mark.parametrize("num", range(2, 12))
def test_the_shares_of_the_usage_would_be_taken(num):
    classes = [f"c{number}" for number in range(num)]
    with pytest.raises(UserError) as refused:
        prevalence_of("", classes)
    example = str(refused.value).partition("as ")[2].partition(";")[0]
    assert [*prevalence_of(example, classes)] == classes
