"""Promises 1, 7 and 8 at the ranks: they stop together in every phase, and whatever dies is made up for."""

import inspect
import os
import re
import signal
import subprocess
import sys
import time
from importlib import import_module
from operator import attrgetter

import numpy as np
import pytest

from mri_hpc.cohort.splits import split_of
from mri_hpc.rundir.layout import Attempt
from mri_hpc.rundir.ledger import Kind, read_events, record
from mri_hpc.rundir.manifests import checkpoint_folders
from mri_hpc.rundir.metrics_log import read_metrics
from mri_hpc.rundir.predictions import read_predictions
from mri_hpc.storage.reading.reader import Reader
from mri_hpc.storage.snapshot.catalogue import resolve
from mri_hpc.training.deadline import SAVES_TIMED
from mri_hpc.training.model import load_for_prediction
from mri_hpc.training.prediction import probabilities
from tests.harness.results import events, results_of

SMALL = {"model": "shufflenet_v2_x0_5"}
# Of three images on each rank. The network has statistics, which a part changes before the optimizer moves.
IN_PARTS = {**SMALL, "accumulate": 3}


def test_a_signal_to_one_rank_before_the_first_step_stops_all_ranks(new_run, start_ranks, uninterrupted):
    run = new_run(**SMALL)
    world = start_ranks(run, ranks=2)
    world.signal(1, signal.SIGTERM)
    assert world.statuses() == [75, 75], world.log()
    assert events(run, "stop_agreed")[0]["step"] == 0
    assert start_ranks(run, ranks=2, restart=1).statuses() == [0, 0]
    assert results_of(run) == uninterrupted(SMALL)


def test_a_rank_that_is_told_to_stop_does_not_wait_for_ranks_that_never_come(new_run, start_ranks):
    run = new_run(**SMALL)
    world = start_ranks(run, ranks=3, only=[0, 2], break_all=[["wait_no_longer"]])
    for rank in (0, 1):
        world.signal(rank, signal.SIGTERM)
    assert world.statuses() == [75, 75]
    assert "told to stop by SIGTERM while waiting for all 3 ranks" in world.log(0)


def test_a_rank_that_is_told_to_stop_does_not_wait_for_a_first_rank_that_has_gone_again(new_run, start_ranks):
    run = new_run(**SMALL, hang_timeout_s=5.0)
    stop = ["signal_at", "mri_hpc.training.ranks", "meet"]
    first = start_ranks(run, ranks=2, only=[0], break_all=[["wait_no_longer"], stop])
    assert first.statuses() == [75]
    late = start_ranks(run, ranks=2, only=[1], break_all=[["wait_no_longer"], stop])
    assert late.statuses() == [75]
    assert "told to stop by SIGTERM while waiting for rank 0 to answer at " in late.log()


def test_a_first_rank_that_answers_no_more_is_missed_in_time_and_its_address_is_told(new_run, start_ranks):
    run = new_run(**SMALL, hang_timeout_s=3.0)
    stop = ["signal_at", "mri_hpc.training.ranks", "meet"]
    assert start_ranks(run, ranks=2, only=[0], break_all=[["wait_no_longer"], stop]).statuses() == [75]
    began_s = time.monotonic()
    late = start_ranks(run, ranks=2, only=[1])
    assert late.statuses() == [70]
    # A minute, if a try of a second counted as one glance.
    assert time.monotonic() - began_s < 30
    assert re.search(r"hung: waited 3 s for rank 0 to answer at \S+:\d+: see the logs", late.log())


def test_ranks_that_never_come_are_missed_in_one_line(new_run, start_ranks):
    run = new_run(**SMALL, hang_timeout_s=3.0)
    world = start_ranks(run, ranks=3, only=[1])
    assert world.statuses() == [70]
    assert "hung: waited 3 s for rank 0 to publish" in world.log(0)


def test_a_signal_while_predicting_stops_all_ranks_and_nothing_is_trained_again(
    new_run, start_ranks, uninterrupted
):
    run = new_run(**SMALL)
    stop = {1: [["signal_in", "prediction", "SIGINT", 0]]}
    assert start_ranks(run, ranks=2, breaks=stop).statuses() == [75, 75]
    assert [stop["phase"] for stop in events(run, "stop_agreed")] == ["prediction"]
    trained = read_metrics(run)
    assert start_ranks(run, ranks=2, restart=1).statuses() == [0, 0]
    assert read_metrics(run) == trained
    assert results_of(run) == uninterrupted(SMALL)


@pytest.mark.parametrize(
    ("module", "name", "phase", "steps", "settings"),
    [
        ("parts", "Store.resolve", "audit", (0,), {"snapshot": "newest"}),
        ("batch_size", "most_images_a_rank", "batch size", (0,), {"batch_size": "auto"}),
        ("parts", "build", "starting", (0,), {}),
        ("data_parallel", "DistributedDataParallel", "training", (1,), {}),
        # Beside the training, which does the second step meanwhile, or is asked before that.
        ("checkpoint", "_publish", "training", (1, 2), {"checkpoint_interval_s": 0.0}),
        ("loop", "Learner.copy_statistics_from_first", "validation", (4,), {}),
        ("rank", "load_published", "prediction", (8,), {}),
    ],
)
def test_a_signal_to_rank_0_is_agreed_upon_within_a_step_whatever_the_ranks_are_doing(
    module, name, phase, steps, settings, new_run, start_ranks
):
    # One that is not there would leave the other rank waiting for the first.
    assert attrgetter(name)(import_module(f"mri_hpc.training.{module}"))
    run = new_run(**{**SMALL, **settings})
    world = start_ranks(run, ranks=2, breaks={0: [["signal_at", f"mri_hpc.training.{module}", name]]})
    assert world.statuses() == [75, 75], world.log()
    [stop] = events(run, "stop_agreed")
    assert stop["phase"] == phase and stop["step"] in steps


@pytest.mark.parametrize(
    ("way", "left_s", "save_s", "saved", "lost"),
    [("finish", 60, 8.0, 3, 0), ("give_up", 60, 45.0, 2, 0), ("rely", 30, 31.0, 1, 1)],
)
def test_a_stop_in_the_middle_of_a_step_goes_as_the_deadline_allows_and_the_run_stays_the_same(
    way, left_s, save_s, saved, lost, new_run, start_ranks, uninterrupted
):
    run = new_run(**IN_PARTS)
    stop = {1: [["signal_in", "training", "SIGTERM", 0]]}
    assert start_ranks(run, ranks=2, breaks=stop).statuses() == [75, 75]
    for _ in range(SAVES_TIMED):
        record(
            run, Attempt(submission=1, restart=0), Kind.SAVED, step=1, seconds=save_s, bytes=1, reason="stop"
        )
    stop = {1: [["signal_in_part", 2, 1]], 0: [["kill_after", left_s]]}
    assert start_ranks(run, ranks=2, restart=1, breaks=stop).statuses() == [75, 75]
    agreed = events(run, "stop_agreed")[-1]
    assert (agreed["way"], agreed["phase"]) == (way, "training")
    assert f"s left, a save takes {save_s} s" in agreed["why"]
    assert checkpoint_folders(run)[0].name == str(saved)
    assert start_ranks(run, ranks=2, restart=2).statuses() == [0, 0]
    assert [event["steps"] for event in events(run, "lost")] == ([lost] if lost else [])
    assert results_of(run) == uninterrupted(IN_PARTS)


@pytest.mark.parametrize("ahead_s", [-3600, 3600])
@pytest.mark.parametrize(("left_s", "way"), [(60, "finish"), (-1, "give_up")])
def test_the_clock_of_another_host_says_neither_when_the_kill_comes_nor_how_long_the_ranks_took(
    ahead_s, left_s, way, new_run, start_ranks
):
    run = new_run(**IN_PARTS)
    told = [["set_clock", ahead_s], ["signal_in_part", 2, 1]]
    world = start_ranks(run, ranks=2, breaks={0: [["kill_after", left_s]], 1: told})
    assert world.statuses() == [75, 75]
    [agreed] = events(run, "stop_agreed")
    assert (agreed["rank"], agreed["way"]) == (1, way)
    assert 0 <= agreed["agreed_after_s"] < 60


def test_a_suspended_job_is_no_hang_and_goes_on(new_run, start_ranks, uninterrupted, wait_for):
    run = new_run(**SMALL, hang_timeout_s=4.0)
    world = start_ranks(run, ranks=2, breaks={1: [["suspend", 2]]})
    wait_for(
        lambda: world.is_suspended(1) and world.is_waiting(0), timeout_s=300, what="rank 0 waiting for rank 1"
    )
    world.signal(0, signal.SIGSTOP)
    # Longer than a rank may hang, by any clock.
    time.sleep(8.5)
    for rank in (0, 1):
        world.signal(rank, signal.SIGCONT)
    assert world.statuses() == [0, 0], world.log()
    assert results_of(run) == uninterrupted(SMALL)


def test_an_attempt_that_a_newer_one_has_superseded_writes_nothing(new_run, start_ranks):
    run = new_run(**SMALL)
    run.claim_attempt(Attempt(submission=2, restart=0))
    world = start_ranks(run, ranks=2)
    assert world.statuses() == [75, 75]
    assert "superseded: attempt 2.0 owns the run" in world.log(0)
    assert not run.checkpoints.exists() and not run.events.exists()


def test_a_rank_that_hangs_shows_where_and_ends(new_run, start_ranks):
    run = new_run(**SMALL, hang_timeout_s=3.0)
    world = start_ranks(run, ranks=2, breaks={1: [["hang", 2]]})
    assert world.statuses()[1] == 70
    assert "hung: no step for" in world.log(1)
    assert 'rank_nursery.py", line' in world.log(1)


def test_changed_conditions_are_named_and_the_samples_stay_the_same(new_run, start_ranks, uninterrupted):
    run = new_run(**SMALL)
    stop = {0: [["signal_in", "training", "SIGTERM", 1]]}
    assert start_ranks(run, ranks=2, breaks=stop).statuses() == [75, 75]
    assert start_ranks(run, ranks=3, restart=1).statuses() == [0, 0, 0]
    assert {"condition": "ranks", "before": 2, "now": 3} in events(run, "changed")
    assert results_of(run)["samples_digest"] == uninterrupted(SMALL)["samples_digest"]


def test_a_condition_that_changed_on_another_rank_than_the_first_is_named(new_run, start_ranks):
    run = new_run(**SMALL, epochs=1)
    stop = {0: [["signal_in", "training", "SIGTERM", 1]]}
    assert start_ranks(run, ranks=2, breaks=stop).statuses() == [75, 75]
    other = {1: [["have_other_conditions", "another GPU", 2]]}
    assert start_ranks(run, ranks=2, restart=1, breaks=other).statuses() == [0, 0]
    changed = {event["condition"]: (event["before"], event["now"]) for event in events(run, "changed")}
    device = events(run, "started")[0]["device"]
    assert changed == {"device": (device, f"{device}, another GPU"), "threads": (1, "1, 2")}


def test_a_finished_run_ends_at_once_without_torch(new_run):
    run = new_run()
    run.mark_done()
    code = (
        "import sys; from mri_hpc.train import main; status = main(sys.argv[1:]);"
        "sys.exit(status or ('torch' in sys.modules and 'torch was imported') or 0)"
    )
    ran = subprocess.run([sys.executable, "-c", code, "--run", str(run.path)], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (0, f"{run.path} is finished\n"), ran.stderr


def test_a_rank_that_is_told_to_stop_while_it_imports_torch_has_heard(new_run, tmp_path):
    run = new_run(**SMALL)
    # Imported by every Python before anything else.
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, sys\n"
        "class Told:\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'torch':\n"
        "            sys.meta_path.remove(self)\n"
        "            os.kill(os.getpid(), signal.SIGTERM)\n"
        "sys.meta_path.insert(0, Told())\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    command = [sys.executable, "-m", "mri_hpc.train", "--run", str(run.path)]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert ran.returncode == 75, ran.stderr
    assert [(stop["signal"], stop["phase"]) for stop in events(run, "stop_agreed")] == [
        ("SIGTERM", "starting")
    ]
    assert not run.checkpoints.exists()


def test_a_rank_as_a_program_of_its_own_trains_alone_and_its_model_says_the_same_again(
    new_run, picture_store
):
    run = new_run(model="shufflenet_v2_x0_5", epochs=1, mixup=0.4, mirror_answers=True)
    command = [sys.executable, "-W", "error", "-m", "mri_hpc.train", "--run", str(run.path)]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert run.is_finished
    assert str(run.newest_attempt()) == "1.0"
    first_step = events(run, "first_step")[0]
    assert list(first_step) == ["python", "torch", "join", "data", "model", "first_step", "seconds"]

    classes, rows = read_predictions(run.predictions)
    snapshot = resolve(picture_store)
    keys = np.array([int(row.key, 16) for row in rows], np.uint64)
    with Reader(picture_store, snapshot) as reader:
        images = reader.read(np.searchsorted(snapshot.key, keys))
    again = probabilities(load_for_prediction(run).model, images)
    assert classes == snapshot.classes
    np.testing.assert_allclose(again, [row.probabilities for row in rows], atol=1e-6)
    code = split_of(snapshot)
    assert {row.split for row in rows} == {"validation", "test"}
    assert len(rows) == (code > 0).sum()


def test_the_ledger_carries_what_is_written_beside_its_kinds(new_run, start_ranks):
    run = new_run(**SMALL, epochs=1)
    for restart, phase in enumerate(["starting", "training"]):
        module, name = {"starting": ("parts", "build"), "training": ("loop", "StepsUnderWay.add")}[phase]
        stop = {0: [["signal_at", f"mri_hpc.training.{module}", name]]}
        assert start_ranks(run, ranks=1, restart=restart, breaks=stop).statuses() == [75]
    assert start_ranks(run, ranks=1, restart=2).statuses() == [0]
    said = dict(re.findall(r'    [A-Z_]+ = "(\w+)"  # (.*)', inspect.getsource(Kind)))
    told = [event for event in read_events(run) if event.kind != Kind.FIRST_STEP]
    assert {event.kind for event in told} >= {
        "started",
        "stop_agreed",
        "saved",
        "epoch",
        "trained",
        "predicted",
    }
    for event in told:
        names = set(re.findall(r"\w+", said[event.kind]))
        assert event.values.keys() <= names, event
    stops = [event.values.keys() for event in told if event.kind == Kind.STOP_AGREED]
    assert stops[0] == stops[1]
