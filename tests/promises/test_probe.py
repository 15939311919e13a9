"""Promise 7 with --probe: what is timed before the first step leaves no bit of the run otherwise."""

import re

import pytest

from mri_hpc.rundir.ledger import read_events
from mri_hpc.rundir.probe import read_probe
from mri_hpc.rundir.settings import JobSettings, load_training, save_settings
from mri_hpc.rundir.use import uses_of
from tests.harness.results import results_of

# Dropout, averaged weights and steps in parts: what draws numbers, and what a learner keeps beside weights.
SETTINGS = {"model": "mobilenet_v3_small", "epochs": 1, "accumulate": 2, "ema_decay": 0.9}
FEW_STEPS = ["time_few_steps"]


def finish(world, run):
    assert world.statuses() == [0] * len(world.pids), world.log()
    return results_of(run)


def stops_of(run):
    return [
        (event.values["phase"], event.values["step"], event.values["why"])
        for event in read_events(run)
        if event.kind == "stop_agreed"
    ]


AMONG_ALL = {1: [["signal_in", "training", "SIGTERM", 3]]}
WITH_ONE_ALONE = {0: [["signal_at", "mri_hpc.training.probe", "_alone"]]}


@pytest.mark.parametrize("breaks", [AMONG_ALL, WITH_ONE_ALONE], ids=["among all", "with one alone"])
def test_a_probe_that_is_interrupted_is_not_done_again_and_leaves_no_bit_of_the_run_otherwise(
    breaks, new_run, start_ranks, uninterrupted
):
    run = new_run(probe=True, **SETTINGS)
    world = start_ranks(run, ranks=2, breaks=breaks, break_all=[FEW_STEPS])
    assert world.statuses() == [75, 75], world.log()
    assert read_probe(run) is None
    assert stops_of(run) == [("probe", 0, "nothing to save")]
    assert finish(start_ranks(run, ranks=2, restart=1), run) == uninterrupted(SETTINGS)
    assert [event.attempt for event in read_events(run) if event.kind == "probing"] == ["1.0"]
    assert read_probe(run).verdict == "unknown"


def test_a_run_that_was_probed_trains_in_the_same_processes_as_if_it_had_not_been(
    new_run, start_ranks, uninterrupted
):
    run = new_run(probe=True, **SETTINGS)
    in_training = {0: [["signal_in_part", 2, 1]]}
    world = start_ranks(run, ranks=2, breaks=in_training, break_all=[FEW_STEPS])
    assert world.statuses() == [75, 75], world.log()
    assert [phase for phase, _step, _why in stops_of(run)] == ["training"]
    assert finish(start_ranks(run, ranks=2, restart=1), run) == uninterrupted(SETTINGS)
    assert [event.attempt for event in read_events(run) if event.kind == "probing"] == ["1.0"]
    found = read_probe(run)
    assert found.attempt == "1.0"
    assert (found.figures.ranks, found.figures.steps_per_epoch, found.figures.has_gpu) == (2, 4, False)
    assert found.figures.images_stay
    for name in ("compute_s", "first_s", "again_s", "alone_s", "validation_s", "memory_bytes"):
        assert getattr(found.figures, name) > 0, name
    first_steps = [event.values for event in read_events(run) if event.kind == "first_step"]
    assert [values.get("probe", 0) > 0 for values in first_steps] == [True, False]
    assert [use.attempt for use in uses_of(read_events(run))] == ["1.0", "1.1"]


FAST, SLOW = 0.0001, 0.1
IN_A_SMALL_JOB = {"SLURM_JOB_ID": "7", "SLURM_MEM_PER_NODE": "100"}
# Seconds to read an image, to compute one, and of each step beside; what the job says; what is then said.
STARVED = (
    (SLOW, FAST, 0.0), {}, "waits_for_data",
    r"100 % of the time is waiting for images: put the store on a faster disk \(--store\); "
    r"2 nodes are 2.0 × as fast as one.",
)  # fmt: skip
TOO_MANY = (
    (0.00001, 0.001, 0.1), {}, "too_many_ranks",
    r"2 nodes are 1.1 × as fast as one: use one \(--nodes 1\).",
)  # fmt: skip
TOO_LITTLE_MEMORY = (
    (FAST, SLOW, 0.0), IN_A_SMALL_JOB, "too_little_memory",
    r"\d\.\d of the 0\.1 GB of memory that the run has on a node are in use: ask for more \(--mem-gb \d\), "
    r"or for fewer ranks a node \(--tasks-per-node\).",
)  # fmt: skip
FINE = (
    (FAST, SLOW, 0.0), {}, "fine",
    "2 nodes are 2.0 × as fast as one, and 0 % of the time is waiting for images: worth it.",
)  # fmt: skip


@pytest.mark.parametrize(
    ("times", "environ", "verdict", "sentence"),
    [STARVED, TOO_MANY, TOO_LITTLE_MEMORY, FINE],
    ids=["a slow reader", "too many ranks", "too little memory", "fine"],
)
def test_a_probe_says_what_is_wrong_with_what_was_asked_for(
    times, environ, verdict, sentence, new_run, start_ranks
):
    run = new_run(model="shufflenet_v2_x0_5", epochs=1, probe=True)
    save_settings(run, load_training(run), JobSettings(nodes=2))
    breaks = [FEW_STEPS, ["make_up_times", *times], ["environ", environ]]
    stop = {0: [["signal_at", "mri_hpc.training.rank", "train"]]}
    world = start_ranks(run, ranks=2, breaks=stop, break_all=breaks)
    assert world.statuses() == [75, 75], world.log()
    found = read_probe(run)
    assert found.verdict == verdict
    assert re.fullmatch(sentence, found.sentence), found.sentence
