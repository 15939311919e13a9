"""Which parameters decay, and at which rate each group learns."""

import contextlib

import numpy as np
import pytest
import torch

from mri_hpc.loading.batches import Batch
from mri_hpc.loading.micro_batches import deal
from mri_hpc.rundir.place import Place
from mri_hpc.rundir.progress import Progress
from mri_hpc.rundir.settings import TrainingSettings
from mri_hpc.training.learner import Learner
from mri_hpc.training.model import build, head_of
from mri_hpc.training.optimizer import learnt_parameters, optimizer_of, set_rates, share_of_held_rate
from mri_hpc.training.ranks import Ranks

WEIGHTS = np.array([0.5, 1.0, 2.0], np.float32)


def learner(model="squeezenet1_1", world_size=1, **settings):
    chosen = TrainingSettings(model=model, warmup_epochs=0.0, weight_decay=0.0, **settings)
    network = build(chosen, 3, (32, 32))
    for module in network.modules():
        # Its draws depend on how a step is cut.
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    ranks = Ranks(place=Place(world_size=world_size), device=torch.device("cpu"), backend="gloo", num_hosts=1)
    return Learner(network, chosen, ranks, weights_of_classes=WEIGHTS, steps_per_epoch=5)


def batch(num_images=7, accumulate=1):
    random = torch.Generator().manual_seed(1)
    images = torch.randint(0, 255, (num_images, 32, 32), generator=random).to(torch.uint8)
    keys = np.arange(num_images, dtype=np.uint64)
    labels = torch.arange(num_images) % 3
    return Batch(
        images=images, labels=labels, keys=keys, step_keys=keys,
        micro_batches=tuple(deal(num_images, world_size=1, accumulate=accumulate)),
    )  # fmt: skip


def parameters(trained):
    return torch.cat([p.detach().flatten() for p in trained.model.parameters()])


def step(trained, number=0):
    accumulate = trained._settings.accumulate
    return trained.train_step(batch(accumulate=accumulate), Progress(step=number))


def test_the_head_learns_at_its_own_rate_and_both_follow_the_schedule():
    settings = TrainingSettings(model="resnet18", lr=1e-3, head_lr=5e-3, warmup_epochs=1.0)
    model = build(settings, 3, (32, 32))
    optimizer = optimizer_of(model, settings)
    head = {id(p) for p in head_of(model.network)}
    groups = [(g["highest_lr"], g["weight_decay"], len(g["params"])) for g in optimizer.param_groups]
    assert groups == [(1e-3, 0.01, 20), (1e-3, 0.0, 40), (5e-3, 0.01, 1), (5e-3, 0.0, 1)]
    assert {id(p) for g in optimizer.param_groups[2:] for p in g["params"]} == head
    for number in (0, 3, 30, 10_000):
        lr = set_rates(optimizer, settings, Progress(step=number), steps_per_epoch=5)
        rates = [group["lr"] for group in optimizer.param_groups]
        assert rates == pytest.approx([lr, lr, 5 * lr, 5 * lr])
    assert lr == pytest.approx(1e-5)


def held(step, decay_epoch=-1):
    epoch, step_in_epoch = divmod(step, 20)
    progress = Progress(step=step, epoch=epoch, step_in_epoch=step_in_epoch, decay_epoch=decay_epoch)
    return share_of_held_rate(progress, steps_per_epoch=20, warmup_epochs=1.0, decay_epochs=4)


def test_a_held_rate_warms_up_stays_and_falls_to_a_hundredth_once_its_decay_has_begun():
    assert held(0) == pytest.approx(1 / 21)
    assert [held(step) for step in range(20, 2000)] == [1.0] * 1980
    falling = [held(step, decay_epoch=50) for step in range(1000, 1081)]
    assert falling[0] == 1.0
    assert falling[20] == pytest.approx(0.505)
    assert falling[-1] == pytest.approx(0.01)
    assert falling == sorted(falling, reverse=True)


def test_a_decay_that_begins_within_the_warm_up_goes_on_from_there():
    assert held(0, decay_epoch=0) == held(0)
    assert held(79, decay_epoch=0) < 0.02


def test_the_learner_takes_the_held_rate_where_a_run_decays():
    trained = learner(decay_epochs=2, lr=0.5)
    step(trained, 10**6)
    assert {group["lr"] for group in trained.optimizer.param_groups} == {0.5}


def test_of_a_frozen_network_only_the_head_learns():
    settings = TrainingSettings(model="resnet18", weights="some.pth", freeze=True, lr=1e-3)
    model = build(TrainingSettings(model="resnet18"), 3, (32, 32))
    model.freeze_all_but_head()
    optimizer = optimizer_of(model, settings)
    assert {id(p) for p in learnt_parameters(optimizer)} == {id(p) for p in head_of(model.network)}
    assert [group["highest_lr"] for group in optimizer.param_groups] == [1e-3, 1e-3]


@pytest.mark.parametrize("accumulate", [2, 3, 7])
def test_parts_of_a_step_add_up_to_the_whole_step(accumulate):
    whole, cut = learner(optimizer="sgd"), learner(optimizer="sgd", accumulate=accumulate)
    for number in range(2):
        losses = [step(one, number).value() for one in (whole, cut)]
        assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    torch.testing.assert_close(parameters(cut), parameters(whole), rtol=0, atol=1e-6)


def test_every_part_of_every_step_and_rank_draws_its_own_numbers(monkeypatch):
    seeds = []
    one = learner(accumulate=2)
    monkeypatch.setattr(torch, "manual_seed", seeds.append)
    for number in (0, 1, 0):
        step(one, number)
    assert len(set(seeds)) == 4
    assert seeds[:2] == seeds[4:]


class Exchanging(torch.nn.Module):
    """Stands in for DDP: notes whether the gradient of each forward pass would be exchanged."""

    def __init__(self, model):
        super().__init__()
        self.model, self.exchanges, self.is_off = model, [], False

    def forward(self, images):
        self.exchanges.append(not self.is_off)
        return self.model(images)

    @contextlib.contextmanager
    def no_sync(self):
        self.is_off = True
        yield
        self.is_off = False


def test_ranks_exchange_the_gradient_once_a_step_with_the_last_part(monkeypatch):
    one = learner(accumulate=3, world_size=2)
    one._parallel = Exchanging(one.model)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda tensor, async_op: None)
    step(one)
    assert one._parallel.exchanges == [False, False, True]


def test_a_scaled_gradient_is_measured_and_clipped_unscaled():
    plain, scaled = learner(optimizer="sgd", clip_norm=0.01), learner(optimizer="sgd", clip_norm=0.01)
    scaled._scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    assert step(scaled).gradient_norm() == pytest.approx(step(plain).gradient_norm(), rel=1e-4)
    torch.testing.assert_close(parameters(scaled), parameters(plain), rtol=0, atol=1e-7)


def test_a_gradient_that_is_too_long_is_shortened_and_its_length_told():
    plain, clipped = learner(optimizer="sgd", lr=0.1), learner(optimizer="sgd", lr=0.1, clip_norm=0.01)
    before = parameters(plain)
    assert step(plain).gradient_norm() is None
    norm = step(clipped).gradient_norm()
    moved, shortened = parameters(plain) - before, parameters(clipped) - before
    assert norm == pytest.approx(float(moved.norm()) / 0.1, rel=1e-3)
    assert norm > 0.01
    assert float(shortened.norm()) == pytest.approx(0.1 * 0.01, rel=1e-3)


def test_a_gradient_that_is_short_enough_stays_as_it_is():
    plain, clipped = learner(optimizer="sgd", lr=0.1), learner(optimizer="sgd", lr=0.1, clip_norm=1e6)
    step(plain), step(clipped)
    assert torch.equal(parameters(plain), parameters(clipped))


def test_labels_are_smoothed_in_training_and_not_in_validation():
    logits, labels = torch.randn(7, 3, generator=torch.Generator().manual_seed(0)), batch().labels
    smooth, plain = learner(label_smoothing=0.3), learner()
    chances = torch.log_softmax(logits, 1)
    own = chances[torch.arange(7), labels]
    wanted = -(0.7 * own + 0.3 * chances.mean(1)) * torch.from_numpy(WEIGHTS)[labels]
    torch.testing.assert_close(smooth.share_of_loss(logits, batch()), wanted.mean())
    assert torch.equal(smooth.losses(logits, batch())[0], plain.losses(logits, batch())[0])
