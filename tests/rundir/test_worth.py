"""Figures of a probe in, one sentence out."""

from dataclasses import replace

import pytest

from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.probe import Figures, Probe, publish_probe, read_probe
from mri_hpc.rundir.worth import Worth, enough_ranks, judge

GB = 2**30
TWO_NODES = Figures(
    ranks=2, nodes=2, threads=4, has_gpu=True, steps_per_epoch=100, epochs=30, compute_s=0.5, first_s=0.6,
    again_s=0.52, images_stay=True, alone_s=1.0, validation_s=10.0, memory_bytes=9 * GB,
    memory_limit_bytes=32 * GB, is_of_job=True, gpu_bytes=20 * GB, gpu_limit_bytes=80 * GB,
)  # fmt: skip


def judged(**others):
    return judge(replace(TWO_NODES, **others))


def test_two_nodes_that_are_hardly_faster_than_one_are_too_many():
    assert judged(alone_s=0.57) == (
        Worth.TOO_MANY_RANKS, "2 nodes are 1.1 × as fast as one: use one (--nodes 1)."
    )  # fmt: skip


def test_two_nodes_that_share_the_work_are_worth_it():
    assert judged() == (
        Worth.FINE, "2 nodes are 1.9 × as fast as one, and 4 % of the time is waiting for images: worth it."
    )  # fmt: skip


def test_who_waits_for_images_is_told_to_move_the_store_and_what_more_ranks_bring():
    assert judged(compute_s=0.1, again_s=0.5, alone_s=0.5) == (
        Worth.WAITS_FOR_DATA,
        "80 % of the time is waiting for images: put the store on a faster disk (--store); 2 nodes are 1.0 × "
        "as fast as one: use one (--nodes 1).",
    )
    assert judged(compute_s=0.1, again_s=0.5)[1].endswith("(--store); 2 nodes are 2.0 × as fast as one.")


def test_a_slow_first_reading_alone_is_no_want_of_data():
    assert judged(first_s=20.0)[0] is Worth.FINE


def test_memory_that_is_nearly_full_comes_before_all_else():
    slow = {"compute_s": 0.1, "again_s": 0.5}
    assert judged(memory_bytes=31 * GB, **slow) == (
        Worth.TOO_LITTLE_MEMORY,
        "31.0 of the 32.0 GB of memory that the run has on a node are in use: ask for more (--mem-gb 39), or "
        "for fewer ranks a node (--tasks-per-node).",
    )
    of_no_job = judged(memory_bytes=31 * GB, is_of_job=False)[1]
    assert of_no_job.endswith("in use: ask for fewer ranks a node (--tasks-per-node).")
    assert judged(gpu_bytes=78 * GB, **slow) == (
        Worth.TOO_LITTLE_MEMORY,
        "78.0 of the 80.0 GB of the GPU's memory are in use: use more ranks, or start a new run with a "
        "smaller --batch-size or more --accumulate.",
    )


def test_one_rank_is_compared_with_none():
    one = replace(TWO_NODES, ranks=1, nodes=1, alone_s=None)
    assert judge(one) == (Worth.FINE, "4 % of the time is waiting for images: worth it.")
    starved = judge(replace(one, compute_s=0.1))
    assert starved[1] == "81 % of the time is waiting for images: put the store on a faster disk (--store)."


def test_ranks_of_which_none_could_be_timed_alone_are_not_called_too_many():
    assert judged(alone_s=None) == (
        Worth.FINE,
        "One alone has too little memory for a step; 4 % of the time is waiting for images: worth it.",
    )


def test_of_ranks_that_could_not_be_compared_in_time_it_is_said_that_nothing_is_known():
    assert judged(alone_s=None, alone_takes_long=True) == (
        Worth.UNKNOWN,
        "4 % of the time is waiting for images; whether 2 nodes are worth it was not timed, since steps on "
        "one alone take long.",
    )


@pytest.mark.parametrize(
    ("ranks", "speedup", "enough"),
    [(2, 1.39, 1), (2, 1.41, 2), (4, 2.0, 2), (4, 0.8, 1), (8, 7.5, 8), (8, 3.0, 2), (8, 5.5, 7)],
)
def test_as_many_ranks_are_enough_as_still_gain_seven_tenths_each(ranks, speedup, enough):
    figures = replace(TWO_NODES, ranks=ranks, nodes=ranks, again_s=0.5, alone_s=0.5 * speedup)
    assert enough_ranks(figures) == enough


@pytest.mark.parametrize(
    ("figures", "advice"),
    [
        ({"ranks": 8, "nodes": 2, "alone_s": 1.5}, ": use about two (--nodes 1 --gpus-per-node 2)."),
        ({"ranks": 8, "nodes": 4, "alone_s": 2.4}, ": use about two nodes (--nodes 2)."),
        ({"ranks": 4, "nodes": 1, "alone_s": 0.6}, "are 1.2 × as fast as one: use one (--gpus-per-node 1)."),
        ({"ranks": 4, "nodes": 1, "alone_s": 0.6, "has_gpu": False}, "use one (--tasks-per-node 1)."),
    ],
)  # fmt: skip
def test_what_to_type_is_of_nodes_where_whole_ones_are_enough(figures, advice):
    assert judged(again_s=0.5, compute_s=0.5, **figures)[1].endswith(advice)


def test_what_a_run_will_take_is_that_of_all_its_epochs_and_a_slow_first_reading_once():
    assert TWO_NODES.expected_s == pytest.approx(30 * (100 * 0.52 + 10) + 100 * 0.08)
    assert TWO_NODES.device_hours == pytest.approx(2 * TWO_NODES.expected_s / 3600)
    assert TWO_NODES.expected_alone_s == pytest.approx(TWO_NODES.expected_s / 0.52)
    assert TWO_NODES.device_hours_alone == pytest.approx(TWO_NODES.expected_s / 0.52 / 3600)
    assert replace(TWO_NODES, has_gpu=False).device_hours == pytest.approx(4 * TWO_NODES.device_hours)


def test_the_first_probe_that_was_published_stays_and_one_of_before_or_damaged_is_none(tmp_path):
    run = RunDir(tmp_path)
    assert read_probe(run) is None
    found = Probe(time=1.0, attempt="1.0", verdict="fine", sentence="worth it", figures=TWO_NODES)
    assert publish_probe(run, found)
    assert not publish_probe(run, replace(found, attempt="1.1"))
    assert read_probe(run) == found
    assert found.to_dict()["expected_end"] == 1.0 + TWO_NODES.expected_s
    run.probe.write_text("{")
    assert read_probe(run) is None
