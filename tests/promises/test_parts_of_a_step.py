"""However a step is cut, into ranks and into parts of their shares, it is the same step to rounding."""

import pytest

from mri_hpc.rundir.metrics_log import read_metrics


def losses(run):
    return [line["loss"] for line in read_metrics(run) if "loss" in line]


def norms(run):
    return [line["gradient_norm"] for line in read_metrics(run) if "loss" in line]


def test_ranks_and_parts_do_not_change_what_a_network_without_batch_norm_learns(new_run, start_ranks):
    found = {}
    for ranks, parts in ((1, 1), (2, 3), (3, 2)):
        settings = {"model": "squeezenet1_1", "epochs": 1, "clip_norm": 1.0, "lr": 3e-4, "warmup_epochs": 0.0}
        run = new_run(f"{ranks}x{parts}", accumulate=parts, **settings)
        world = start_ranks(run, ranks=ranks, break_all=[["no_dropout"]])
        assert world.statuses() == [0] * ranks, world.log()
        found[ranks, parts] = losses(run) + norms(run)
    whole = found.pop((1, 1))
    assert len(whole) == 8
    # Steps that learnt: a wrong gradient would show in the losses after the first.
    assert len({round(loss, 4) for loss in whole[:4]}) == 4
    for cut in found.values():
        assert cut == pytest.approx(whole, rel=1e-3)


def test_more_parts_than_a_share_can_be_cut_into_are_refused_before_the_first_step(new_run, start_ranks):
    world = start_ranks(new_run(model="squeezenet1_1", accumulate=3), ranks=4)
    assert 2 in world.statuses()
    wanted = "in some step, and it needs 2 for each of 3 parts: lower --accumulate, raise --batch-size"
    assert wanted in world.log()
    assert "Traceback" not in world.log()
