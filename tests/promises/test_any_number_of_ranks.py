"""A run whose steps are summed over micro-batches ends in the same bits on whatever numbers of ranks."""

import torch

from mri_hpc import replaying
from mri_hpc.rundir.interval import find_intervals, read_record
from mri_hpc.rundir.ledger import read_events
from mri_hpc.rundir.place import Place
from mri_hpc.rundir.replay import Outcome, compare, read_replayed, write_interval
from tests.harness.results import results_of

# Batch norm, dropout, averaging, clipping, mixing, balanced classes; early stopping after the third epoch.
SETTINGS = {
    "model": "mobilenet_v3_small", "sums": "fixed-1", "micro_batches": 5, "epochs": 4, "patience": 2,
    "min_improvement": 100.0, "ema_decay": 0.9, "clip_norm": 0.5, "mixup": 0.4, "head_lr": 5e-3,
    "pooling": "attention",
}  # fmt: skip


# By the number of ranks: within a step, of which rank 0 holds two parts and the others one; after a step;
# while it is validated.
STOPS = {
    4: {0: [["kill_after", -1], ["signal_in_part", 2, 0]]},
    1: {0: [["signal_in", "training", "SIGUSR2", 1]]},
    2: {1: [["signal_in", "validation", "SIGTERM", 0]]},
}


def test_a_run_of_four_one_two_and_three_ranks_ends_with_the_bits_of_one_rank(new_run, start_ranks, tmp_path):
    whole = new_run("whole", **SETTINGS)
    world = start_ranks(whole, ranks=1)
    assert world.statuses() == [0], world.log()
    changing = new_run("changing", **SETTINGS)
    for restart, (ranks, breaks) in enumerate(STOPS.items()):
        world = start_ranks(changing, ranks=ranks, restart=restart, breaks=breaks)
        assert world.statuses() == [75] * ranks, world.log()
    world = start_ranks(changing, ranks=3, restart=len(STOPS))
    assert world.statuses() == [0] * 3, world.log()
    assert results_of(changing) == results_of(whole)
    ledger = read_events(changing)
    assert [e.values["ranks"] for e in ledger if e.kind == "started"] == [4, 1, 2, 3]
    stops = [e.values for e in ledger if e.kind == "stop_agreed"]
    assert [(stop["step"], stop["way"]) for stop in stops][:1] == [(2, "give_up")]
    assert not [e for e in ledger if e.kind in ("lost", "changed", "damaged")]
    # Ended by patience, not by epochs.
    assert [e.values["reason"] for e in ledger if e.kind == "trained"] == ["patience"]
    assert_one_rank_does_again_what_three_did(changing, tmp_path)


def assert_one_rank_does_again_what_three_did(run, folder):
    record, threads = read_record(run), torch.get_num_threads()
    interval = find_intervals(run, record, 3)[-1]
    assert interval.ranks == 3
    write_interval(folder, interval)
    try:
        replaying.do_again(folder, Place(), threads=1)
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_num_threads(threads)
    replayed = read_replayed(folder)
    compared = compare(record, interval, replayed)
    assert (compared.outcome, compared.is_promised, replayed.changed) == (Outcome.EQUAL, True, {})


def test_more_ranks_than_parts_of_a_step_are_refused_before_the_first_step(new_run, start_ranks):
    world = start_ranks(new_run(model="squeezenet1_1", sums="fixed-1", micro_batches=2), ranks=3)
    assert 2 in world.statuses()
    assert "is cut into 2 micro-batches, too few for 3 ranks: use at most 2" in world.log()


def test_parts_of_a_step_too_small_to_normalise_by_are_refused(new_run, start_ranks):
    world = start_ranks(new_run(model="squeezenet1_1", sums="fixed-1", micro_batches=10), ranks=1)
    assert world.statuses() == [2]
    assert "a micro-batch of 10 only 1 images in some step, and it needs 2: raise --batch-size" in world.log()
