"""A learning curve: what more patients would bring, with an interval where one holds."""

import json
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest
from matplotlib.axes import Axes

from mri_hpc.results.pages.figures import learning_curve
from mri_hpc.results.runs.learning_curve import Curve, fit, foretell
from mri_hpc.results.statistics.differences import POINTS
from mri_hpc.results.statistics.figure_of_merit import Figure
from mri_hpc.rundir.folds import SHARES, write_folds
from mri_hpc.rundir.predictions import Prediction
from mri_hpc.rundir.settings import JobSettings, TrainingSettings, save_settings

CLASSES = ("a", "b")
SHARES_OF_120 = (0.25, 0.5, 0.75, 1.0)


def simulated(random, num, *, luck, slope=0.3):
    """Answers of four runs about patients of three classes, and the slope of what sizes give on average."""
    counts = 120 * np.array(SHARES_OF_120)
    centred = np.log2(counts) - np.log2(counts).mean()
    label = random.integers(0, 3, num)
    heights = 1.6 + slope * centred
    seen = heights + random.normal(0, luck, 4)
    is_right = seen[:, None] + random.normal(0, 1.5, num) + random.normal(0, 1, (4, num)) > 0
    of_height = NormalDist(0, np.sqrt(1.5**2 + 1 + luck**2))
    means = [of_height.cdf(height) for height in heights]
    return counts, is_right, label, float(centred @ means / (centred**2).sum())


@pytest.mark.parametrize(("num", "luck"), [(30, 0.2), (60, 0.2), (60, 0.0)])
def test_the_interval_holds_the_slope_although_trainings_differ_by_luck(num, luck):
    random, held, found = np.random.default_rng(num), 0, 0
    for _ in range(400):
        counts, is_right, label, truth = simulated(random, num, luck=luck)
        slope = fit(counts, is_right, label)
        if slope.low is not None:
            found += 1
            held += slope.low <= truth <= slope.high
    assert found > 350
    assert held / found >= 0.93


def test_the_slope_is_that_of_the_line_through_balanced_accuracies():
    counts, is_right, label, _truth = simulated(np.random.default_rng(1), 90, luck=0.2)
    heights = np.mean([is_right[:, label == number].mean(axis=1) for number in range(3)], axis=0)
    slope = fit(counts, is_right, label)
    assert slope.value == pytest.approx(np.polyfit(np.log2(counts), heights, 1)[0])
    assert slope.low < slope.value < slope.high


def test_where_no_interval_holds_there_is_none_and_the_reason():
    counts, is_right, label, _truth = simulated(np.random.default_rng(1), 90, luck=0.2)
    cases = {
        "fewer than 4 runs": fit(counts[:3], is_right[:3], label),
        "a class has fewer than 4": fit(counts, is_right[:, :9], np.array([0, 0, 0, 0, 1, 1, 1, 2, 2])),
        "each of these patients says the same": fit(counts, np.tile(is_right[:1], (4, 1)), label),
    }
    for reason, slope in cases.items():
        assert (slope.low, slope.high) == (None, None)
        assert reason in slope.reason


def flattening(counts, exponent):
    """Balanced accuracy that nears 90 % by an inverse power law; of exponent 0, one that grows by a line."""
    return 0.9 - 0.3 * (counts / 30) ** -exponent if exponent else 0.6 + 0.075 * np.log2(counts / 30)


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
def test_what_more_patients_bring_is_foretold_although_curves_flatten(exponent):
    random, counts, more, held = np.random.default_rng(1), 120 * np.array(SHARES_OF_120), 100, 0
    of_height = NormalDist(0, np.sqrt(1.5**2 + 1))
    heights = np.array([of_height.inv_cdf(mean) for mean in flattening(counts, exponent)])
    truth = np.diff(flattening(np.array([120, 120 + more]), exponent))[0]
    for _ in range(100):
        label = random.integers(0, 3, 200)
        is_right = heights[:, None] + random.normal(0, 1.5, 200) + random.normal(0, 1, (4, 200)) > 0
        gain = foretell(counts, is_right, label, more)
        held += gain.low <= truth <= gain.high
    assert held >= 93


def test_a_gain_has_an_interval_only_where_the_slope_has_one():
    counts, is_right, label, _truth = simulated(np.random.default_rng(1), 90, luck=0.2)
    gain = foretell(counts[:3], is_right[:3], label, 100)
    assert (gain.low, gain.high) == (None, None)
    assert "fewer than 4 runs" in gain.reason


def rows_of(wrong, *, split="calibration"):
    """Two slices of 40 patients each, of whom those in `wrong` are answered wrongly; and a test patient."""
    for number in range(80):
        label = number // 2 % 2
        says = 1 - label if number // 2 in wrong else label
        yield Prediction(
            key=f"{number:016x}", patient=f"P{number // 2:03d}", split=split, label=CLASSES[label],
            probabilities=tuple(0.8 if j == says else 0.2 for j in range(2)),
        )  # fmt: skip
    yield Prediction(key="ff", patient="T", split="test", label="a", probabilities=(0.8, 0.2))


@pytest.fixture
def curve(make_run, tmp_path):
    """Makes the runs of a learning curve in tmp_path/curve: of 30 to 120 patients, ever fewer are wrong."""

    def make(*, split="calibration", wrong=(13, 9, 6, 4), **others):
        (tmp_path / "curve").mkdir()
        for share, count in zip(SHARES_OF_120, wrong, strict=True):
            trained = {"split_counts": {"train": {"patients": round(120 * share), "images": 0}}}
            run = make_run(
                f"curve/share-{round(100 * share)}",
                classes=CLASSES, rows=list(rows_of(range(count), split=split)), provenance=trained,
            )  # fmt: skip
            run.settings.unlink()
            training = TrainingSettings(snapshot="5e" * 32, train_share=share, **others)
            save_settings(run, training, JobSettings())
        write_folds(tmp_path / "curve", (25, 50, 75, 100), SHARES)
        return tmp_path / "curve"

    return make


def test_the_runs_become_one_page_that_says_what_more_patients_would_bring(curve, report):
    folder = curve()
    status, out, errors = report(folder, "--json")
    assert status == 0, errors
    found = json.loads(out)
    assert [point["train_patients"] for point in found["points"]] == [30, 60, 90, 120]
    assert [point["balanced_accuracy"] for point in found["points"]] == pytest.approx(
        [0.675, 0.775, 0.85, 0.9]
    )
    assert (found["unit"], found["split"], found["n"], found["more_patients"]) == (
        "patient", "calibration", 40, 100,
    )  # fmt: skip
    slope, gain = found["per_doubling"], found["per_more"]
    assert slope["low"] < slope["value"] < slope["high"]
    # A curve that flattens gains less than its line.
    assert 0 < gain["value"] < slope["value"] * np.log2(220 / 120) <= gain["high"]
    assert found["sentence"].startswith(f"100 more patients: +{100 * gain['value']:.1f} points (")
    assert ("these runs do not tell" in found["sentence"]) == (gain["low"] <= 0 <= gain["high"])
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert found["sentence"] in page.replace("&#43;", "+")
    assert "Per doubling, within these runs" in page and "Twice as many" not in page
    assert "fewer than 95 of 100 such intervals hold" in page
    assert "Research use only." in page and str(folder.parent) not in page
    assert not list(folder.glob("*/look.json")), "no look at test patients is spent"
    paths = [folder / f"share-{share}" for share in (100, 25, 50, 75)]
    status, out, errors = report(*paths)
    assert status == 0, errors
    assert f"  {found['sentence']}\n" in out


@pytest.mark.parametrize(("low", "is_told"), [(0.001, True), (-0.001, False)])
def test_whether_more_patients_help_is_told_by_what_more_would_bring(low, is_told):
    gain = Figure(value=0.02, low=low, high=0.04, scale=POINTS)
    found = Curve(
        training=TrainingSettings(), points=(), unit="patient", split="calibration", num=40, more=80,
        per_doubling=replace(gain, low=-low), per_more=gain,
    )  # fmt: skip
    assert ("these runs do not tell" not in found.sentence) == is_told


def test_the_line_ends_at_the_last_run(monkeypatch):
    lines = []
    monkeypatch.setattr(Axes, "plot", lambda _axes, x, *_rest, **_style: lines.append(np.asarray(x)))
    learning_curve([20, 40, 80], [0.5, 0.6, 0.7], 0.1)
    assert [line.max() for line in lines] == pytest.approx([80, 80])


def test_patients_who_chose_the_epoch_give_no_interval(curve, report):
    status, out, errors = report(curve(split="validation"))
    assert status == 0, errors
    assert "points (no interval) of balanced accuracy by patient" in out
    assert "no interval: the epoch was chosen by these patients" in out


def test_runs_that_are_no_curve_are_refused(curve, report):
    folder = curve()
    run = folder / "share-50" / "settings.toml"
    run.write_text(run.read_text().replace("seed = 0", "seed = 3"))
    status, _out, errors = report(folder)
    assert status == 2
    assert "has another seed" in errors and "only --train-share may differ" in errors
