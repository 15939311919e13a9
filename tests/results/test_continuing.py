"""A continued run says whom it has gained and whom it has forgotten since the run that it goes on from."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from mri_hpc.report import main
from mri_hpc.results.runs import continuing
from mri_hpc.results.runs.control_models import known_columns
from mri_hpc.rundir.continued import read_continued
from mri_hpc.rundir.look import digest_of_test_set
from mri_hpc.rundir.predictions import Prediction
from mri_hpc.rundir.settings import JobSettings, TrainingSettings, save_settings

CLASSES = ("a", "b")


def rows_of(wrong, *, num=40):
    """Two slices a patient; of the patients in `wrong` all are answered wrongly."""
    for number in range(2 * num):
        label = number // 2 % 2
        says = 1 - label if number // 2 in wrong else label
        yield Prediction(
            key=f"{number:016x}", patient=f"P{number // 2:03d}", split="test", label=CLASSES[label],
            probabilities=tuple(0.8 if j == says else 0.2 for j in range(2)),
        )  # fmt: skip


@pytest.fixture
def pair(make_run, tmp_path, monkeypatch):
    """Makes a run and one that goes on from it."""
    monkeypatch.chdir(tmp_path)

    def make(before=(0, 1, 2, 3), now=(3, 4), *, num=42, is_counted=False):
        runs = []
        for name, wrong, patients in (("before", before, 40), ("now", now, num)):
            rows = list(rows_of(wrong, num=patients))
            counted = {"model_digest": name, "test_set": digest_of_test_set(rows)} if is_counted else {}
            runs.append(make_run(name, classes=CLASSES, rows=rows, provenance=counted))
        settings = TrainingSettings(snapshot="5e" * 32, continue_from=str(runs[0].path))
        runs[1].settings.unlink()
        save_settings(runs[1], settings, JobSettings())
        return runs

    return make


def report(run, *options, capsys):
    capsys.readouterr()
    assert main([str(run.path), "--json", *options]) == 0
    found = json.loads(capsys.readouterr().out)
    return found.get("continued"), " ".join(run.report.read_text(encoding="utf-8").split())


def test_who_was_gained_and_who_was_forgotten_is_named_with_the_difference(pair, capsys):
    before, now = pair()
    found, page = report(now, capsys=capsys)
    assert [one["name"] for one in found["gained"]] == ["P000", "P001", "P002"]
    assert found["forgotten"] == [{"name": "P004", "label": "a", "before": "a", "now": "b"}]
    assert (found["num"], found["unit"]) == (40, "patient")
    [balanced, *_others] = found["differences"]
    assert balanced["title"] == "balanced accuracy, points"
    assert balanced["value"] == pytest.approx(5.0)
    assert balanced["low"] < 0 < balanced["value"] < balanced["high"] < 20
    assert (
        "Of the 40 test patients of both, 3 were answered wrongly before and rightly now, and 1 rightly"
        in page
    )
    assert "of 2 patients, are not in the other" in page
    assert str(before.path.parent) not in page
    before.predictions.unlink()
    assert report(now, capsys=capsys) == (found, page), "kept with the run"
    now.predictions.write_text(now.predictions.read_text().replace("0.8", "0.9"))
    assert read_continued(now) is None, "of other predictions"


@pytest.mark.parametrize("is_there", [True, False])
def test_where_runs_cannot_be_held_against_each_other_the_page_says_why(pair, capsys, is_there):
    before, now = pair()
    if is_there:
        text = before.predictions.read_text()
        before.predictions.write_text(text.replace(",test,a,", ",test,b,"))
    else:
        before.predictions.unlink()
    found, page = report(now, capsys=capsys)
    why = "have another class in" if is_there else "it is not where it was"
    assert why in found["reason"]
    assert f"{'' if is_there else 'not held against it: '}{why}" in page
    assert str(before.path.parent) not in page
    assert not now.continued.exists()


def test_a_run_before_that_was_never_looked_at_is_not_shown_by_the_way(pair, capsys):
    before, now = pair(is_counted=True)
    found, page = report(now, capsys=capsys)
    assert "that is one look more, which --look-again allows" in found["reason"]
    assert not before.look.exists()
    found, page = report(now, "--look-again", capsys=capsys)
    assert (found["num_gained"], before.look.exists()) == (3, True)
    assert "Gained and forgotten" in page


def test_a_run_that_goes_on_from_none_says_nothing_of_it(pair, capsys):
    before, _now = pair()
    found, page = report(before, capsys=capsys)
    assert (found, "forgotten" in page) == (None, False)


def test_gained_and_forgotten_are_told_by_class_site_and_arrival_and_no_interval_is_of_few(
    pair, capsys, monkeypatch
):
    _before, now = pair()
    keys = [row.key for row in rows_of(())]
    # Of the first patient, slices of two sites.
    site = {key: "there" if number == 0 or number > 65 else "here" for number, key in enumerate(keys)}
    arrived = {key: "2026-02" if number < 40 else "2026-10" for number, key in enumerate(keys)}
    monkeypatch.setattr(continuing, "_columns_of", lambda *_: {"site": site, "arrived": arrived})
    found, page = report(now, capsys=capsys)
    told = {
        (one["column"], one["value"]): (one["num"], one["num_gained"], one["num_forgotten"])
        for one in found["groups"]
    }
    assert told == {
        ("class", "a"): (20, 2, 1), ("class", "b"): (20, 1, 0),
        ("site", "here"): (32, 2, 1), ("site", "several"): (1, 1, 0), ("site", "there"): (7, 0, 0),
        ("arrived", "2026-02"): (20, 3, 1), ("arrived", "2026-10"): (20, 0, 0),
    }  # fmt: skip
    differences = {(one["column"], one["value"]): one["difference"] for one in found["groups"]}
    early, few = differences["arrived", "2026-02"], differences["site", "there"]
    assert early["value"] == pytest.approx(10.0)
    assert early["low"] < 10 < early["high"]
    assert (few["low"], few["reason"]) == (None, "fewer than 10 patients: no interval")
    assert "By class, site and time of arrival: patients who were gained and forgotten" in page
    assert "Arrived 2026-02</th><td>20</td><td>3</td><td>1</td>" in page


def test_a_site_may_have_a_name_outside_of_ascii():
    texts = {"site": np.array(["Zürich".encode(), b""])}
    snapshot = SimpleNamespace(
        names=lambda name: texts.get(name, ()),
        text=lambda name, rows: texts[name][rows],
        plane=np.array([-1, -1]),
    )
    assert known_columns(snapshot, np.arange(2))["site"].tolist() == ["Zürich", ""]
