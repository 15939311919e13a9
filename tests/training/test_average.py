"""Averaged weights: how they move, and that they are what is judged and kept."""

import numpy as np
import pytest
import torch
from torch import nn

from mri_hpc.loading.batches import Batch
from mri_hpc.loading.micro_batches import deal
from mri_hpc.rundir.layout import Attempt, RunDir
from mri_hpc.rundir.place import Place
from mri_hpc.rundir.progress import Progress
from mri_hpc.rundir.settings import TrainingSettings
from mri_hpc.training import checkpoint
from mri_hpc.training.average import Average, decay_at
from mri_hpc.training.learner import Learner
from mri_hpc.training.model import GreyClassifier, build, weights_digest
from mri_hpc.training.ranks import Ranks

ALONE = Ranks(place=Place(), device=torch.device("cpu"), backend="none", num_hosts=1)
FIRST = Attempt(submission=1, restart=0)


def learner(**settings):
    chosen = TrainingSettings(**{"model": "shufflenet_v2_x0_5", "ema_decay": 0.9, **settings})
    model = build(chosen, 2, (32, 32))
    return Learner(model, chosen, ALONE, weights_of_classes=np.ones(2, np.float32), steps_per_epoch=5)


def batch():
    images = torch.randint(0, 255, (4, 32, 32), generator=torch.Generator().manual_seed(1))
    keys = np.arange(4, dtype=np.uint64)
    labels = torch.tensor([0, 1, 0, 1])
    return Batch(
        images=images.to(torch.uint8), labels=labels, keys=keys, step_keys=keys,
        micro_batches=tuple(deal(4, world_size=1)),
    )  # fmt: skip


def test_the_decay_is_small_at_first_and_then_as_set():
    assert [decay_at(1, 0.999), decay_at(90, 0.999)] == pytest.approx([2 / 11, 0.91])
    assert decay_at(10**6, 0.999) == 0.999
    assert decay_at(1, 0.1) == 0.1


def test_weights_and_statistics_move_by_the_decay_and_counts_do_not_lag():
    model = GreyClassifier(nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)), "image")
    average = Average(model, decay=0.5)
    wanted = None
    for number in range(4):
        for tensor in model.state_dict().values():
            tensor.copy_(torch.full_like(tensor, 10 + number**2))
        average.follow(model)
        now = 10.0 + number**2
        decay = decay_at(number, 0.5)
        wanted = now if wanted is None else decay * wanted + (1 - decay) * now
    state = average.model.network.state_dict()
    for name in ("0.weight", "1.weight", "1.running_mean"):
        torch.testing.assert_close(state[name], torch.full_like(state[name], wanted))
    assert int(state["1.num_batches_tracked"]) == 19
    assert average.num_steps == 4


def test_the_averaged_weights_are_what_answers_and_what_is_kept():
    trained = learner()
    for step in range(3):
        trained.train_step(batch(), Progress(step=step))
    last, averaged = trained.model.network.state_dict(), trained.weights()
    assert weights_digest(averaged) != weights_digest(last)
    alone = learner(ema_decay=0.0)
    alone.load_weights(averaged, of="memory")
    assert torch.equal(trained.logits(batch()), alone.logits(batch()))


def test_a_resumed_average_goes_on_to_the_bit(tmp_path):
    run = RunDir(tmp_path)
    run.claim_attempt(FIRST)
    whole = learner()
    for step in range(2):
        whole.train_step(batch(), Progress(step=step))
    saved = checkpoint.save(run, FIRST, whole.state(Progress(step=2), {}))
    assert saved.manifest.weights_digest == weights_digest(whole.weights())
    resumed = learner()
    resumed.train_step(batch(), Progress(step=9))
    resumed.restore(checkpoint.load(run, 2), of="memory")
    for one in (whole, resumed):
        one.train_step(batch(), Progress(step=2))
    for part in (Learner.weights, lambda one: one.model.network.state_dict()):
        assert weights_digest(part(resumed)) == weights_digest(part(whole))


class Copying(Ranks):
    """Notes what would be copied from the first rank."""

    def copy_from_first(self, tensors):
        Copying.copied = [id(tensor) for tensor in tensors] + Copying.copied


def test_statistics_of_both_sets_come_from_the_first_rank_before_they_are_judged():
    trained = learner()
    Copying.copied = []
    trained._ranks = Copying(place=Place(), device=torch.device("cpu"), backend="none", num_hosts=1)
    trained.copy_statistics_from_first()
    wanted = [*trained.model.buffers(), *trained._published.buffers()]
    assert set(Copying.copied) == {id(tensor) for tensor in wanted}
    assert len(Copying.copied) == len(wanted)


def test_the_best_weights_replace_the_averaged_ones_to_predict_with(tmp_path):
    run = RunDir(tmp_path)
    run.claim_attempt(FIRST)
    trained = learner()
    trained.train_step(batch(), Progress())
    best = weights_digest(trained.weights())
    checkpoint.save(run, FIRST, trained.state(Progress(step=1), {}))
    trained.train_step(batch(), Progress(step=1))
    assert weights_digest(trained.weights()) != best
    trained.load_weights(checkpoint.load_weights(run, 1), of="memory")
    assert weights_digest(trained.weights()) == best
