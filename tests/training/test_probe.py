"""What a probe leaves alone, and when there is one."""

import gc
import weakref
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mri_hpc.base.stop_flag import StopFlag
from mri_hpc.loading.batches import Batch
from mri_hpc.loading.micro_batches import deal
from mri_hpc.rundir.allotment import Allotment
from mri_hpc.rundir.decisions import Cause
from mri_hpc.rundir.layout import Attempt, RunDir
from mri_hpc.rundir.ledger import Kind, read_events, record
from mri_hpc.rundir.place import Place
from mri_hpc.rundir.probe import read_probe
from mri_hpc.rundir.settings import JobSettings, TrainingSettings, save_settings
from mri_hpc.training import probe as probe_module
from mri_hpc.training.agreed_stop import AgreedStop
from mri_hpc.training.learner import Learner
from mri_hpc.training.model import build
from mri_hpc.training.probe import probe
from mri_hpc.training.ranks import Ranks

SETTINGS = TrainingSettings(model="shufflenet_v2_x0_5", batch_size=4, epochs=2)
ALONE = Ranks(place=Place(), device=torch.device("cpu"), backend="none", num_hosts=1)


class FakeBatches:
    """Batches without a store."""

    steps_per_epoch = 2

    def training(self, _progress):
        for _step in range(self.steps_per_epoch):
            yield self._batch()

    def of_split(self, _split):
        yield self._batch()

    def steps_of(self, _split):
        return 1

    def _batch(self):
        images = torch.zeros(4, 32, 32, dtype=torch.uint8)
        keys = np.arange(4, dtype=np.uint64)
        return Batch(
            images=images, labels=torch.zeros(4, dtype=torch.int64), keys=keys, step_keys=keys,
            micro_batches=tuple(deal(4, world_size=1)),
        )  # fmt: skip


def make(settings, ranks):
    weights = np.ones(2, np.float32)
    learner = Learner(
        build(settings, 2, (32, 32)), settings, ranks, weights_of_classes=weights, steps_per_epoch=2
    )
    return learner, FakeBatches()


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(probe_module, "FEWEST", 1)
    monkeypatch.setattr(probe_module, "MOST", 1)
    found = RunDir(tmp_path)
    save_settings(found, SETTINGS, JobSettings())
    return found


def probed(run, *, restart=0, make=make, ranks=ALONE):
    attempt = Attempt(submission=1, restart=restart)
    stop = AgreedStop(StopFlag(), ranks)
    probe(run, attempt, SETTINGS, ranks, make, stop=stop, allotment=Allotment())
    return read_probe(run)


def test_random_numbers_go_on_as_if_there_had_been_no_probe(run):
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    assert probed(run).figures.alone_s is None
    assert torch.equal(torch.rand(3), wanted)


def test_a_run_is_probed_once(run):
    first = probed(run)
    assert probed(run, restart=1) == first
    assert [event.attempt for event in read_events(run) if event.kind == Kind.PROBING] == ["1.0"]


def decided(run, cause):
    attempt = Attempt(submission=1, restart=0)
    record(run, attempt, Kind.PROBING)
    record(run, attempt, Kind.DECIDED, decision="again", cause=cause.value, reason="")


def test_a_probe_that_crashed_is_not_what_the_next_attempt_dies_of(run):
    decided(run, Cause.CRASH)
    found = probed(run, restart=1)
    assert (found.verdict, found.figures) == ("unknown", None)
    assert found.sentence == (
        "Attempt 1.0 crashed while steps were timed, often for want of memory (--mem-gb asks for more): they "
        "are not timed again."
    )
    assert [event.attempt for event in read_events(run) if event.kind == Kind.PROBING] == ["1.0"]


@pytest.mark.parametrize("cause", [Cause.PREEMPTED, Cause.TIME_LIMIT, Cause.STOPPED])
def test_a_probe_that_was_interrupted_does_not_keep_the_next_attempt_from_training(run, cause):
    decided(run, cause)
    found = probed(run, restart=1)
    assert (found.verdict, found.figures, found.attempt) == ("unknown", None, "1.1")
    assert found.sentence == ("Attempt 1.0 was interrupted while steps were timed: they are not timed again.")
    assert [event.attempt for event in read_events(run) if event.kind == Kind.PROBING] == ["1.0"]


class TwoRanks(Ranks):
    """The first of two ranks, whose peer does as it does."""

    def largest(self, value):
        return value

    def from_rank(self, value, rank=0):
        return value

    def from_all(self, value):
        return [value, value]


TWO = TwoRanks(place=Place(world_size=2), device=torch.device("cpu"), backend="gloo", num_hosts=1)
TWO_GPUS = replace(TWO, device=torch.device("cuda", 0), backend="nccl")


def test_one_rank_alone_is_not_timed_for_minutes(run, monkeypatch):
    made = []

    def make_slow(settings, ranks):
        made.append(ranks.world_size)
        now = SimpleNamespace(s=0.0)
        monkeypatch.setattr(probe_module, "clock", lambda: now.s)

        def train_step(_batch, _progress):
            now.s += 10.0
            return SimpleNamespace(value=lambda: 0.0)

        return SimpleNamespace(train_step=train_step, logits=lambda _batch: None), FakeBatches()

    found = probed(run, make=make_slow, ranks=TWO)
    assert made == [2]
    assert (found.figures.alone_s, found.figures.alone_takes_long) == (None, True)
    assert "not timed" in found.sentence


def test_one_gpu_alone_takes_a_step_in_more_parts_where_the_whole_is_too_large(run, monkeypatch):
    tried = []

    def make_large(settings, ranks):
        tried.append((settings.accumulate, ranks.world_size))

        def train_step(_batch, _progress):
            if settings.accumulate == 1:
                raise torch.OutOfMemoryError
            return SimpleNamespace(value=lambda: 0.0)

        return SimpleNamespace(train_step=train_step), FakeBatches()

    assert timed_alone(make_large, monkeypatch) > 0
    assert tried == [(1, 1), (2, 1)]


def timed_alone(make, monkeypatch):
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _device: None)
    watch = probe_module._Stopwatch(TWO_GPUS, AgreedStop(StopFlag(), TWO_GPUS))
    return probe_module._alone(SETTINGS, TWO_GPUS, make, watch, is_kept=False)


def test_a_gpu_into_which_no_learner_fits_alone_does_not_end_the_run(run, monkeypatch):
    def make_none(_settings, _ranks):
        raise torch.OutOfMemoryError

    assert timed_alone(make_none, monkeypatch) is None


@pytest.fixture
def no_collection_by_itself():
    gc.disable()
    yield
    gc.enable()


class TooLarge:
    """A learner that holds itself, as one does whose gradients are watched."""

    def __init__(self):
        self.itself = self

    def train_step(self, _batch, _progress):
        raise torch.OutOfMemoryError


def test_no_two_learners_are_held_at_once(run, monkeypatch, no_collection_by_itself):
    # The one that all ranks had together.
    learners = [weakref.ref(TooLarge())]

    def held():
        return sum(learner() is not None for learner in learners)

    def make_large(_settings, _ranks):
        assert held() == 0
        learner = TooLarge()
        learners.append(weakref.ref(learner))
        return learner, FakeBatches()

    assert timed_alone(make_large, monkeypatch) is None
    assert len(learners) == 3
