"""status and report say whether a run was worth what it asked for, and what it used of that."""

import json

import pytest

from mri_hpc.report import main as report
from mri_hpc.rundir.layout import Attempt
from mri_hpc.rundir.ledger import Kind, record
from mri_hpc.rundir.probe import Figures, Probe, publish_probe
from mri_hpc.status import main as status

GB = 2**30
SENTENCE = "2 nodes are 1.1 × as fast as one: use one (--nodes 1)."
FIGURES = Figures(
    ranks=2, nodes=2, threads=4, has_gpu=True, steps_per_epoch=100, epochs=30, compute_s=0.49, first_s=0.5,
    again_s=0.5, images_stay=True, alone_s=0.55, memory_bytes=9 * GB, memory_limit_bytes=32 * GB,
)  # fmt: skip


@pytest.fixture
def run(make_run):
    found = make_run()
    publish_probe(
        found, Probe(time=1.0, attempt="1.0", verdict="too_many_ranks", sentence=SENTENCE, figures=FIGURES)
    )
    used = {"seconds": 60.0, "cores_used": 1.8, "cores": 8, "memory_bytes": 9 * GB, "is_of_job": True}
    for restart, limit in enumerate((16, 32)):
        attempt = Attempt(submission=1, restart=restart)
        record(found, attempt, Kind.USED, **used, memory_limit_bytes=limit * GB)
    return found


def test_status_shows_the_advice_with_what_it_rests_on(run, capsys):
    assert status([str(run.path)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"probe {SENTENCE}" in shown
    assert "all 30 epochs about 25 min, 0.8 GPU-hours; on one rank 28 min and 0.5" in shown
    assert "2 % of the time is waiting for images; 9.0 of 32.0 GB of memory a node" in shown
    assert "used 1.8 of 8 cores a rank, 9.0 of 32.0 GB of memory a node" in shown
    assert "ask for --mem-gb 12 would do: the peak was 9.0 of 32.0" in shown


def test_json_has_the_figures_and_the_use_of_each_attempt(run, capsys):
    assert status([str(run.path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["probe"]["sentence"] == SENTENCE
    assert found["probe"]["speedup"] == pytest.approx(1.1)
    assert found["probe"]["expected_end"] == pytest.approx(1501.0)
    assert found["probe"]["figures"]["alone_s"] == 0.55
    assert [(use["attempt"], use["cores_used"]) for use in found["uses"]] == [("1.0", 1.8), ("1.1", 1.8)]
    assert len(found["advice"]) == 2


def test_the_report_shows_both(run, capsys):
    assert report([str(run.path)]) == 0
    page = run.report.read_text(encoding="utf-8")
    assert SENTENCE in page
    assert "--cpus-per-task 2 would do" in page
    assert page.count("1.8 of 8 cores a rank") == 2


def test_a_run_of_before_has_neither_and_shows_no_gap(make_run, capsys):
    run = make_run()
    assert status([str(run.path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["probe"], found["uses"], found["advice"]) == (None, [], [])
    assert report([str(run.path)]) == 0
    assert "What it asked for" not in run.report.read_text(encoding="utf-8")
