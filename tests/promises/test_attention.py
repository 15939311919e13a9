"""The second stage of a run: stopped anywhere it ends in the same bits, and all commands pool by it alike."""

import os
import random
import shutil
import time
from dataclasses import replace

import numpy as np
import pytest

from mri_hpc import Run
from mri_hpc.base.errors import UserError
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.ledger import read_events
from mri_hpc.rundir.pooling import read_pooling, write_pooling
from mri_hpc.training.attention import STEPS
from tests.harness.results import results_of

SETTINGS = {"model": "shufflenet_v2_x0_5", "epochs": 1, "pooling": "attention", "mirror_answers": True}


def finish(start_ranks, run, restart=0):
    world = start_ranks(run, ranks=2, restart=restart)
    assert world.statuses() == [0, 0], world.log()
    return results_of(run)


@pytest.fixture(scope="module")
def finished():
    """Remembers the folder of the uninterrupted run, and what it came to."""
    return {}


@pytest.fixture
def whole(finished, new_run, start_ranks, tmp_path_factory):
    """A copy of the uninterrupted run, and what it came to; it is run once."""
    if not finished:
        run = new_run("whole", **SETTINGS)
        finished["results"] = finish(start_ranks, run)
        finished["folder"] = shutil.copytree(run.path, tmp_path_factory.mktemp("kept") / "run")
    run = RunDir(shutil.copytree(finished["folder"], tmp_path_factory.mktemp("whole") / "run"))
    return run, finished["results"]


def test_a_run_stopped_anywhere_in_its_second_stage_ends_with_the_bits_of_the_uninterrupted_run(
    whole, new_run, start_ranks
):
    seed = os.environ.get("MRI_TEST_SEED") or str(time.time_ns())
    drawn = random.Random(seed)
    print(f"the same again: MRI_TEST_SEED={seed}")
    moments = [
        ["signal_in", "features", "SIGTERM", drawn.randrange(3)],
        ["signal_in_attention", "SIGTERM", drawn.randrange(STEPS)],
    ]
    run = new_run("interrupted", **SETTINGS)
    for restart, moment in enumerate(moments):
        breaks = {drawn.randrange(2): [moment]}
        world = start_ranks(run, ranks=2, restart=restart, breaks=breaks)
        assert world.statuses() == [75, 75], world.log()
        assert not run.attention.exists() and not run.pooling.exists()
    _, results = whole
    assert finish(start_ranks, run, restart=len(moments)) == results
    stops = [event.values["phase"] for event in read_events(run) if event.kind == "stop_agreed"]
    assert stops == ["attention", "attention"]
    assert {"attention_digest", "attention.csv", "pooling.json"} <= results.keys()


@pytest.fixture
def kept(whole, picture_store):
    """A finished run that pools by attention, as if validation had said so."""
    run, _ = whole
    shutil.copy(picture_store / "recipe.json", run.recipe)
    found = read_pooling(run)
    assert found and found.reason == "validation has 6 patients, and fewer than 20 do not tell"
    figures = {"mean_log_loss": 0.4, "attention_log_loss": 0.3, "fraction_better": 0.97}
    write_pooling(run, replace(found, is_kept=True, reason="", **figures))
    return run


def test_predict_pools_as_evaluate_does(kept, picture_store):
    evaluated = {one.patient: one.probabilities for one in Run(kept.path).evaluate("test").patients}
    answer = Run(kept.path).predict(picture_store.parent / "raw")
    predicted = {one.patient: one.of_network for one in answer.patients()}
    assert len(evaluated) > 3
    for patient, probabilities in evaluated.items():
        np.testing.assert_allclose(predicted[patient], probabilities, atol=1e-5)
    mean = {
        name: np.mean([i.of_network for i in answer.images if i.patient == name], 0) for name in evaluated
    }
    assert max(np.abs(mean[name] - predicted[name]).max() for name in evaluated) > 1e-3
    assert "made by gated attention over the slices" in Run(kept.path).evaluate("test").method
    kept.attention.write_bytes(kept.attention.read_bytes()[:-4] + b"\1\2\3\4")
    with pytest.raises(UserError, match=r"attention\.safetensors does not hold the weights that"):
        Run(kept.path).predict(picture_store.parent / "raw")
    kept.attention_answers.write_text(kept.attention_answers.read_text().replace("1", "2"))
    with pytest.raises(UserError, match=r"attention\.csv is not the one by which this run pools"):
        Run(kept.path).evaluate("test")
