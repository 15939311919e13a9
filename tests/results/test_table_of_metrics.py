"""Terminal, JSON and page are made from one table of metrics."""

import json

from mri_hpc.evaluate import main as evaluate
from mri_hpc.report import main as report
from mri_hpc.results.statistics import metrics
from mri_hpc.results.statistics.figure_of_merit import AREA, PERCENT
from mri_hpc.results.statistics.intervals import Limits, means


def missed(outcomes, number):
    value, low, high = metrics.sensitivity(outcomes, number)
    return Limits(1 - value, 1 - high, 1 - low)


MISSED = metrics.ClassMetric(
    name="missed",
    title="missed share",
    scale=PERCENT,
    estimate=missed,
    missing="none is",
)
MEAN_MISSED = metrics.MeanOfClasses(name="mean_missed", title="mean missed share", of=MISSED, limits=means)
RIGHT = metrics.Proportion(name="right", title="right, of 1", estimate=metrics.accuracy, scale=AREA)


def test_a_metric_that_is_added_to_the_table_is_printed_saved_and_shown(make_run, monkeypatch, capsys):
    run = make_run()
    monkeypatch.setattr(metrics, "CLASS_METRICS", (*metrics.CLASS_METRICS, MISSED))
    monkeypatch.setattr(metrics, "METRICS", (*metrics.METRICS, MEAN_MISSED, RIGHT))
    monkeypatch.setenv("COLUMNS", "200")
    assert evaluate([str(run.path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["patient"]
    missed = found["classes"]["glioma"]["missed"]["value"]
    assert missed == 1 - found["classes"]["glioma"]["sensitivity"]["value"] > 0
    assert found["right"] == found["accuracy"]
    assert evaluate([str(run.path)]) == report([str(run.path)]) == 0
    printed, page = capsys.readouterr().out, run.report.read_text()
    rows = [line.split() for line in printed.splitlines()]
    assert ["mean", "missed", "share", f"{100 * found['mean_missed']['value']:.1f}"] in [r[:4] for r in rows]
    assert ["right,", "of", "1", f"{found['right']['value']:.3f}"] in [row[:4] for row in rows]
    assert printed.partition("95 % intervals")[0].count("AUROC") == 3
    assert printed.count("missed share") == 3
    for heading in ("Mean missed share, %", "Right, of 1", "Missed share, %"):
        assert f">{heading}</th>" in page
    assert f"<td><b>{100 * missed:.1f}</b> " in page
