"""What came since the run before is held against what that run had learnt from, by patient."""

import json
import tracemalloc
from statistics import NormalDist

import numpy as np
import pytest
from PIL import Image

from mri_hpc.cohort.splits import TEST, VALIDATION, split_by
from mri_hpc.report import main
from mri_hpc.results.runs.drift import Side, compare, confidence, keep_drift, sample
from mri_hpc.results.statistics.two_groups import PERMUTATIONS, holm, of_classes, of_values
from mri_hpc.rundir.drift import Drift
from mri_hpc.rundir.predictions import Prediction
from mri_hpc.rundir.settings import JobSettings, TrainingSettings, save_settings
from mri_hpc.storage.store import Store

CLASSES = ("glioma", "meningioma")


def picture(number, patient, *, grey):
    """Draw a head of noise that takes half of the image."""
    pixels = np.zeros((32, 32), np.uint8)
    pixels[8:24, 8:24] = np.random.default_rng([number, patient]).integers(grey - 20, grey + 20, (16, 16))
    return Image.fromarray(pixels)


def deliver(root, patients, *, grey, is_named=True):
    for patient in patients:
        folder = root / CLASSES[patient % 2]
        begins = f"patient{patient}/" if is_named else f"{patient}-"
        for number in range(2):
            path = folder / f"{begins}{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture(number, patient, grey=grey).save(path)


@pytest.fixture
def grown(tmp_path, preprocess, make_run):
    """Makes a run of 60 patients, and one that goes on from it when 60 more have come; grey: of theirs."""
    raw, store = tmp_path / "raw", tmp_path / "store"

    def run(name, predicted, **settings):
        made = make_run(name, classes=CLASSES, rows=predicted, provenance={"snapshot": settings["snapshot"]})
        made.settings.unlink()
        save_settings(made, TrainingSettings(store=str(store), **settings), JobSettings())
        return made

    def make(*, grey, is_named=True):
        found = []
        for patients, level in ((range(60), 100), (range(60, 120), grey)):
            deliver(raw, patients, grey=level, is_named=is_named)
            for patient in range(20) if found and is_named else ():
                # One image more of patients who were there.
                picture(2, patient, grey=level).save(
                    raw / CLASSES[patient % 2] / f"patient{patient}" / "2.png"
                )
            status, _out, err = preprocess(raw, store, "--size", "32", "--ids", "as-given")
            assert status == 0, err
            snapshot = Store.open(store).resolve()
            before = {"continue_from": str(found[-1].path)} if found else {}
            settings = {"snapshot": snapshot.digest, **before}
            found.append(run(f"run{len(found)}", predictions(snapshot, settings, store), **settings))
        return found[-1]

    return make


def predictions(snapshot, settings, store):
    code = split_by(snapshot, TrainingSettings(store=str(store), **settings))
    for split, number in (("validation", VALIDATION), ("test", TEST)):
        for row in np.flatnonzero(code == number).tolist():
            yield Prediction(
                key=f"{int(snapshot.key[row]):016x}", patient=snapshot.text("patient", row), split=split,
                label=snapshot.text("label", row), probabilities=(0.8, 0.2),
            )  # fmt: skip


def drift_of(run, capsys):
    capsys.readouterr()
    assert main([str(run.path), "--json", "--look-again"]) == 0
    page = " ".join(run.report.read_text(encoding="utf-8").split())
    return json.loads(capsys.readouterr().out)["drift"], page


def test_brighter_images_that_came_since_are_named_on_the_page_and_nothing_else_is(grown, capsys):
    run = grown(grey=180)
    found, page = drift_of(run, capsys)
    drifted = {one["name"]: one["is_drifted"] for one in found["measures"]}
    assert drifted == {
        "brightness": True, "contrast": True, "extent": False, "slices": False, "confidence": False,
        "classes": False,
    }  # fmt: skip
    lead = "What came since differs from what run0 had learnt from in brightness and contrast"
    assert found["sentence"].startswith(lead)
    assert lead in page
    assert "Patients before and since, by what is measured of their images" in page
    assert str(run.path.parent) not in page
    assert "with images from before and since count under before alone" in page
    assert "chance gives as much in at most 5 of 100 divisions" in page
    confidence = next(one for one in found["measures"] if one["name"] == "confidence")
    assert "too few to tell" in confidence["sentence"]
    # Kept with the run, once the images are gone.
    (run.path.parent / "store").rename(run.path.parent / "elsewhere")
    assert drift_of(run, capsys)[0] == found


def test_where_the_same_came_no_drift_is_found(grown):
    run = grown(grey=100)
    found = keep_drift(run)
    assert not any(one.is_drifted for one in found.measures)
    assert found.num_both > 0
    slices = next(one for one in found.measures if one.name == "slices")
    assert slices.since.quantiles == (2.0, 2.0, 2.0, 2.0, 2.0), (
        "without the one image more of earlier patients"
    )
    assert found.sentence == (
        "No drift was found between what run0 had learnt from and what came since; a small one may have gone "
        "unnoticed. Of too few patients to be told: how sure the network is"
    )
    text = run.drift.read_text()
    assert '"rule": 1' in text
    run.drift.write_text(text.replace('"rule": 1', '"rule": 0').replace("a small one", "nothing"))
    assert keep_drift(run) == found, "by another rule it is found anew"
    assert run.drift.read_text() == text
    run.drift.unlink()
    (run.path.parent / "store").rename(run.path.parent / "elsewhere")
    reason = keep_drift(run).reason
    assert "store" in reason
    assert str(run.path.parent) not in reason and "/" not in reason
    assert not run.drift.exists()


def test_what_an_earlier_rule_has_found_stays_and_is_named_so_where_it_cannot_be_found_anew(grown, capsys):
    run = grown(grey=180)
    found = keep_drift(run)
    text = run.drift.read_text()
    earlier = text.replace('"rule": 1', '"rule": 0')
    run.drift.write_text(earlier)
    (run.path.parent / "store").rename(run.path.parent / "elsewhere")
    document, page = drift_of(run, capsys)
    assert (document["sentence"], document["rule"]) == (found.sentence, 0)
    assert "Found by rule 0, and kept as it is: this version has rule 1." in page
    assert run.drift.read_text() == earlier
    (run.path.parent / "elsewhere").rename(run.path.parent / "store")
    later = text.replace('"rule": 1', '"rule": 2')
    run.drift.write_text(later)
    assert keep_drift(run).rule == 2
    assert run.drift.read_text() == later, "what a newer version has found is not found anew by an older rule"
    run.drift.write_text(text)
    assert "Found by rule" not in drift_of(run, capsys)[1]


def test_images_that_name_no_patients_are_not_compared_as_if_each_were_one(grown):
    found = keep_drift(grown(grey=180, is_named=False))
    assert found.measures == ()
    assert found.reason == "images name no patients, and slices of one patient do not count as several"


def test_of_volumes_many_patients_are_looked_at_by_a_few_slices_each():
    volumes = Side(rows=np.arange(6000) + 7, patient=np.repeat(np.arange(60), 100))
    looked_at = sample(volumes)
    assert np.unique(looked_at.patient, return_counts=True)[1].tolist() == [10] * 60
    assert ((looked_at.rows[:10] - 7) % 100).tolist() == [5, 15, 25, 35, 45, 55, 65, 75, 85, 95]
    pairs = Side(rows=np.arange(600), patient=np.tile(np.arange(300), 2))
    looked_at = sample(pairs)
    assert np.unique(looked_at.patient, return_counts=True)[1].tolist() == [2] * 100
    assert (pairs.patient[looked_at.rows] == looked_at.patient).all()


def test_patients_with_images_of_before_and_since_count_by_those_of_before():
    both = [
        Prediction(
            key=f"{key:016x}", patient=patient, split="validation", label="glioma", probabilities=(sure, 0.0)
        )
        for key, patient, sure in ((1, "A", 0.6), (2, "A", 0.9), (3, "B", 0.7))
    ]
    before, since = confidence(both, frozenset({1}))
    assert (before.tolist(), since.tolist()) == ([0.6], [0.7])


def test_the_finding_names_what_was_too_few_to_tell():
    few, many = normal(9), normal(100)
    measures = compare(
        {"brightness": (many, few), "slices": (many, normal(100, seed=1))},
        (np.array([50, 50]), np.array([50, 50])), CLASSES,
    )  # fmt: skip
    assert "9 patients since, 100 before, of at most 100 drawn a side, and 10" in measures[0].sentence
    found = Drift(before="run0", measures=measures)
    assert found.sentence.startswith("No drift was found")
    assert found.sentence.endswith(". Of too few patients to be told: brightness")


def normal(num, mean=0.0, seed=0):
    return np.random.default_rng([seed, num]).normal(mean, 1, num)


def test_a_difference_that_is_sure_but_small_is_no_drift():
    [one, _classes] = compare(
        {"brightness": (normal(2000), normal(2001, 0.3))}, (np.array([5, 5]), np.array([5, 5])), CLASSES
    )
    assert one.p < 0.01
    assert (one.is_drifted, one.distance < 0.2) == (False, True)


def test_a_difference_that_chance_may_give_is_no_drift():
    [one, _classes] = compare(
        {"brightness": (normal(10), normal(11, 0.5))}, (np.array([5, 5]), np.array([5, 5])), CLASSES
    )
    assert one.distance > 0.2
    assert (one.is_drifted, one.p > 0.05) == (False, True)


def test_of_fewer_than_ten_patients_nothing_is_told():
    one, classes = compare(
        {"slices": (normal(100), normal(9, 5.0))}, (np.array([50, 50]), np.array([9, 0])), CLASSES
    )
    assert (one.distance, one.p, one.is_drifted) == (None, None, False)
    assert one.sentence.startswith(
        "The number of slices a patient: too few to tell (9 patients since, 100 before"
    )
    assert not classes.is_drifted


def test_other_shares_of_the_classes_are_drift():
    [classes] = compare({}, (np.array([50, 50]), np.array([70, 30])), CLASSES)
    assert classes.is_drifted
    assert "glioma 70 % (before 50 %), meningioma 30 % (before 50 %)" in classes.sentence


def test_distances_and_chances_are_those_of_their_definitions():
    distance, p = of_values(np.array([1.0, 1.0, 2.0]), np.array([1.0, 3.0]))
    # Up to 2 are all of the first, and half of the second.
    assert distance == pytest.approx(0.5)
    # Of 10 ways to take 2 of the 5, 7 are at least as far.
    assert p == pytest.approx(0.7, abs=0.03)
    distance, p = of_values(np.arange(20.0), np.arange(20.0) + 100)
    assert (distance, p) == pytest.approx((1.0, 1 / (PERMUTATIONS + 1)))
    distance, p = of_classes(np.array([3, 1]), np.array([1, 3]))
    assert distance == pytest.approx(0.5)
    # Of 70 ways to take 4 of 8 by 4 of each class, 34 are at least as far from even.
    assert p == pytest.approx(34 / 70, abs=0.03)
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_of_many_patients_the_chance_is_of_some_in_bounded_memory():
    first, second = normal(30_000), normal(30_001, 0.6)
    tracemalloc.start()
    distance, p = of_values(first, second)
    _now, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 50e6
    assert p == 1 / (PERMUTATIONS + 1)
    # Of all, to the last: the largest difference of both normal distributions.
    assert distance == pytest.approx(2 * NormalDist().cdf(0.3) - 1, abs=0.01)
