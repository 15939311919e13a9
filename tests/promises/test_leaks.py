"""Real ranks on a store whose test set holds a slice that they would train on, turned and inverted."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from mri_hpc.cohort.kept_twins import kept_twins
from mri_hpc.preprocess import main as preprocess
from mri_hpc.rundir.manifests import checkpoint_folders
from mri_hpc.rundir.provenance import read_provenance
from mri_hpc.rundir.settings import load_job, load_training, save_settings
from mri_hpc.storage.store import Store
from mri_hpc.training.hang_watch import HUNG
from tests.cohort.heads import head
from tests.harness.results import events

SPLITS = ("train", "train", "validation", "test")
HANG_S = 5.0
SMALL = {"model": "shufflenet_v2_x0_5", "batch_size": 4, "epochs": 1}


@pytest.fixture
def leaky(tmp_path, new_run):
    """A run that has not started, on a store of 17 images."""
    raw = tmp_path / "raw"
    images = {(SPLITS[number % 4], f"p{number}"): head(number) for number in range(16)}
    images["test", "twin"] = np.ascontiguousarray(np.rot90(255 - images["train", "p0"]))
    for number, ((split, patient), image) in enumerate(images.items()):
        path = raw / split / f"class{number // 8 % 2}" / patient / "1.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(image).save(path)
    words = ("--source", raw, "--store", tmp_path / "store", "--size", 64, "--ids", "as-given")
    assert preprocess([str(word) for word in words]) == 0
    return new_run(store=str(tmp_path / "store"), **SMALL)


def allow(run, *, leaks):
    training = dataclasses.replace(load_training(run), allow_leaks=leaks)
    save_settings(run, training, load_job(run))


def has_patience(run, seconds):
    save_settings(run, dataclasses.replace(load_training(run), hang_timeout_s=seconds), load_job(run))


def test_both_ranks_refuse_a_leak_and_begin_where_it_is_allowed_and_then_go_on(leaky, start_ranks):
    world = start_ranks(leaky, ranks=2)
    assert world.statuses() == [2, 2]
    assert "1 slice is both trained on and judged on" in world.log(0) + world.log(1)
    assert not checkpoint_folders(leaky)
    allow(leaky, leaks=True)
    stop = {0: [["signal_in", "training", "SIGTERM", 1]]}
    assert start_ranks(leaky, ranks=2, restart=1, breaks=stop).statuses() == [75, 75]
    assert checkpoint_folders(leaky)
    # What has begun is finished, whatever is thought of it now.
    allow(leaky, leaks=False)
    assert start_ranks(leaky, ranks=2, restart=2).statuses() == [0, 0]
    assert leaky.is_finished
    assert read_provenance(leaky)["test_images_trained_on"] == 1


def test_a_signal_while_rank_0_looks_for_leaks_stops_both_ranks_to_come_again(leaky, start_ranks):
    look = ["signal_at", "mri_hpc.cohort.twins", "find_candidates"]
    world = start_ranks(leaky, ranks=2, breaks={0: [look]})
    assert world.statuses() == [75, 75]
    assert (events(leaky, "stop_agreed")[0]["phase"], events(leaky, "stop_agreed")[0]["step"]) == ("audit", 0)
    store = Store(leaky.path.parent / "store")
    assert kept_twins(store, store.resolve()) is None
    assert start_ranks(leaky, ranks=2, restart=1).statuses() == [2, 2]


def test_what_keeps_rank_0_from_looking_is_the_reason_of_both_ranks(leaky, start_ranks):
    fail = ["fail_at", "mri_hpc.training.leaks", "same_pixels", "chunk 7 is damaged: repair it"]
    world = start_ranks(leaky, ranks=2, breaks={0: [fail]})
    assert world.statuses() == [2, 2]
    assert all("chunk 7 is damaged: repair it" in world.log(rank) for rank in range(2))
    assert not checkpoint_folders(leaky)


def test_a_long_look_is_no_hang(leaky, start_ranks):
    has_patience(leaky, HANG_S)
    slow = ["take_long_at", "mri_hpc.training.leaks", "same_pixels", 2 * HANG_S]
    world = start_ranks(leaky, ranks=2, breaks={0: [slow]})
    assert world.statuses() == [2, 2]
    assert "1 slice is both trained on and judged on" in world.log(0)


def test_a_look_at_a_disk_that_does_not_answer_is_one(leaky, start_ranks):
    has_patience(leaky, HANG_S)
    world = start_ranks(
        leaky, ranks=2, breaks={0: [["wait_for_ever_at", "mri_hpc.training.leaks", "same_pixels"]]}
    )
    # The rank that ends first takes the other one with it.
    assert HUNG in world.statuses()
    assert "hung: no step for" in world.log(0) + world.log(1)
