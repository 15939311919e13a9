"""--batch-size auto: what is found, by whom, and that it stays."""

import json
import math

import numpy as np
import pytest
import torch

from mri_hpc.base.errors import UserError
from mri_hpc.base.stop_flag import StopFlag, StopRequest
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.place import Place
from mri_hpc.rundir.settings import TrainingSettings
from mri_hpc.rundir.settled_batch import read_settled
from mri_hpc.training import batch_size
from mri_hpc.training.agreed_stop import AgreedStop
from mri_hpc.training.batch_size import (
    IMAGES_ON_CPU,
    largest_that_fits,
    most_images_a_rank,
    rate_factor,
    settle,
)
from mri_hpc.training.learner import Learner
from mri_hpc.training.model import build
from mri_hpc.training.ranks import Ranks

AUTO = TrainingSettings(batch_size="auto", lr=1e-3, head_lr=4e-3)


class OtherRanksSay(Ranks):
    """Several ranks, of which the others have no room for more than some images."""

    def largest(self, value):
        OtherRanksSay.tried += 1
        return max(value, int(2**OtherRanksSay.tried > 16))

    def from_rank(self, value, rank=0):
        return value


def ranks(world_size=1, kind=Ranks):
    place = Place(world_size=world_size)
    return kind(place=place, device=torch.device("cpu"), backend="gloo", num_hosts=1)


def found(run, *, settings=AUTO, world_size=1, images=2_000, has_begun=False, kind=Ranks, stop=None):
    return settle(
        run, settings, ranks(world_size, kind),
        stop=stop or AgreedStop(StopFlag(), ranks()),
        num_training_images=images, num_classes=3, image_shape=(32, 32), has_begun=has_begun,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("room", "most", "images"), [(100, 512, 64), (512, 512, 512), (2, 512, 2), (99, 50, 32)]
)
def test_the_search_doubles_while_images_fit_and_stops_at_the_most(room, most, images):
    tried = []

    def fits(number):
        tried.append(number)
        return number <= room

    assert largest_that_fits(fits, most=most) == images
    assert tried == [2**n for n in range(1, len(tried) + 1)]
    assert max(tried) <= max(most, 2)


def test_a_model_that_does_not_fit_at_all_is_refused():
    with pytest.raises(
        UserError, match="--batch-size auto: not even 2 images a rank fit into the GPU's memory"
    ):
        largest_that_fits(lambda images: False, most=64)


def test_small_data_sets_keep_their_steps_and_large_ones_the_most_images():
    assert most_images_a_rank(2_000, 1) == 100
    assert most_images_a_rank(10**6, 4) == 256
    assert most_images_a_rank(40, 4) == 8


def test_rates_grow_with_the_batch_for_sgd_and_with_its_root_for_adamw():
    assert rate_factor("sgd", 64) == rate_factor("adamw", 64) == 1
    assert rate_factor("sgd", 256) == 4
    assert rate_factor("adamw", 256) == 2


def test_a_processor_takes_a_fixed_number_and_says_so_in_the_folder_of_the_run(tmp_path):
    run = RunDir(tmp_path)
    settings = found(run, world_size=1)
    factor = math.sqrt(IMAGES_ON_CPU / 64)
    assert (settings.batch_size, settings.accumulate) == (IMAGES_ON_CPU, 1)
    assert (settings.lr, settings.head_lr) == pytest.approx((1e-3 * factor, 4e-3 * factor))
    written = json.loads(run.batch_size.read_text())
    assert (written["batch_size"], written["ranks"], written["lr"]) == (IMAGES_ON_CPU, 1, settings.lr)


def test_the_rank_with_the_least_room_decides_for_all(tmp_path):
    OtherRanksSay.tried = 0
    assert found(RunDir(tmp_path), world_size=2, images=10**5, kind=OtherRanksSay).batch_size == 2 * 16


def test_later_attempts_take_what_the_first_has_found_whatever_their_ranks(tmp_path):
    run = RunDir(tmp_path)
    OtherRanksSay.tried = 0
    first = found(run, world_size=2, images=10**5, kind=OtherRanksSay)
    OtherRanksSay.tried = 99
    more = found(run, world_size=4, images=10, has_begun=True, kind=OtherRanksSay)
    fewer = found(run, world_size=1, images=10, has_begun=True, kind=OtherRanksSay)
    assert {(s.batch_size, s.lr, s.head_lr) for s in (first, more, fewer)} == {(32, first.lr, first.head_lr)}
    # What fitted two ranks fits one in two parts.
    assert [s.accumulate for s in (first, more, fewer)] == [1, 1, 2]


def test_a_typed_number_stays_and_leaves_no_file(tmp_path):
    run = RunDir(tmp_path)
    settings = TrainingSettings(batch_size=48)
    assert found(run, settings=settings) is settings
    assert read_settled(run) is None


def test_what_the_steps_were_done_with_is_not_measured_anew(tmp_path):
    with pytest.raises(UserError, match=r"batch_size\.json is gone, and the run has begun with it: restore"):
        found(RunDir(tmp_path), has_begun=True)


def test_a_stop_ends_the_search_at_the_next_size_and_nothing_is_settled(tmp_path, monkeypatch):
    run, flag, tried = RunDir(tmp_path), StopFlag(), []

    def fits(images):
        tried.append(images)
        if images == 8:
            flag.take(StopRequest(signal_name="SIGTERM", received_s=0.0))
        return True

    monkeypatch.setattr(batch_size, "_fits_on", lambda *_arguments: fits)
    stop = AgreedStop(flag, ranks())
    assert found(run, images=10**6, stop=stop) is AUTO
    assert (tried, stop.agreed.phase) == ([2, 4, 8], "batch size")
    assert read_settled(run) is None


def test_a_damaged_file_is_named(tmp_path):
    run = RunDir(tmp_path)
    none = {"batch_size": 0, "lr": 1, "head_lr": None, "images_a_rank": 1, "ranks": 1, "device": "cpu"}
    for text in ("[1]", '{"batch_size": "many"}', "{", json.dumps(none), json.dumps({**none, "a": 1})):
        run.batch_size.write_text(text)
        with pytest.raises(UserError, match=r"batch_size\.json is not what a run wrote .*restore it"):
            found(run)


class Memory:
    """Stands in for a GPU's memory: a step over an image takes a megabyte, and there are 100."""

    def __init__(self, monkeypatch, *, fails_above):
        self.used, self.fails_above = 0, fails_above
        for name in ("empty_cache", "reset_peak_memory_stats"):
            monkeypatch.setattr(torch.cuda, name, lambda *device: None)
        monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: self.used)
        train_step = Learner.train_step

        def step(learner, batch, progress):
            self.used = len(batch.keys) * 10**6
            if len(batch.keys) > self.fails_above:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate much")
            return train_step(learner, batch, progress)

        monkeypatch.setattr(Learner, "train_step", step)


@pytest.mark.parametrize(("fails_above", "most_bytes", "fitting"), [(5, 10**9, 4), (99, 5 * 10**6, 4)])
def test_a_step_fits_that_neither_fails_nor_comes_near_the_end_of_the_memory(
    fails_above, most_bytes, fitting, monkeypatch
):
    Memory(monkeypatch, fails_above=fails_above)
    settings = TrainingSettings(model="squeezenet1_1", batch_size="auto", ema_decay=0.9, clip_norm=1.0)
    learner = Learner(
        build(settings, 2, (32, 32)),
        settings,
        ranks(),
        weights_of_classes=np.ones(2, np.float32),
        steps_per_epoch=1,
    )

    def fits(images):
        blank = batch_size._blank(images, (32, 32), torch.device("cpu"), accumulate=1)
        return batch_size._fits_on_gpu(learner, blank, most_bytes)

    assert largest_that_fits(fits, most=64) == fitting
