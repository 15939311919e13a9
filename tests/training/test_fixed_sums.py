"""Gradient, loss and statistics of a step are alike to the bit, whichever rank held which micro-batch."""

import copy
import itertools

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from mri_hpc.loading.micro_batches import deal
from mri_hpc.rundir.place import Place
from mri_hpc.training import fixed_sums
from mri_hpc.training.fixed_sums import UNIT, FixedSums
from mri_hpc.training.ranks import Ranks

PARTS = 5
# Of 0 to 1,000 times the size of others.
SIZES = (1.0, 1e-3, 40.0, 1e3, 0.0)


def ranks_of(rank=0, world_size=1):
    place = Place(rank=rank, world_size=world_size)
    return Ranks(place=place, device=torch.device("cpu"), backend="gloo", num_hosts=1)


def network():
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(1, 6, 3),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 4, 3),
        nn.BatchNorm2d(4, momentum=0.3),
    ]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))


def images_of(number):
    generator = torch.Generator().manual_seed(number)
    return SIZES[number] * torch.randn(3 + number % 2, 1, 9, 9, generator=generator)


def step_of(model, *, world_size, monkeypatch, scale=1.0):
    """Do a step on all ranks, one after another; return what it leaves on each."""
    models = [copy.deepcopy(model) for _ in range(world_size)]
    sums = [FixedSums(one, ranks_of(rank, world_size), PARTS) for rank, one in enumerate(models)]
    for one in sums:
        one.begin(scale)
    for part in deal(18, world_size=world_size, micro_batches=PARTS):
        [number] = part.stream
        found = images_of(number)
        loss = cross_entropy(models[part.rank].train()(found), torch.arange(len(found)) % 3) / 18
        (scale * loss).backward()
        sums[part.rank].add(number, loss.detach())
    whole = sum(one._all for one in sums)
    monkeypatch.setattr(fixed_sums.dist, "all_reduce", lambda mine: mine.copy_(whole))
    losses = [one.finish() for one in sums]
    return [
        (loss, [p.grad for p in one.parameters()], list(one.buffers()))
        for loss, one in zip(losses, models, strict=True)
    ]


def is_same(one, other):
    return torch.equal(one[0], other[0]) and all(
        torch.equal(a, b) for part in (1, 2) for a, b in zip(one[part], other[part], strict=True)
    )


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 5])
def test_a_step_leaves_the_same_bits_on_every_rank_of_any_number(world_size, monkeypatch):
    model = network()
    [alone] = step_of(model, world_size=1, monkeypatch=monkeypatch)
    assert any(bool(gradient.any()) for gradient in alone[1])
    for left in step_of(model, world_size=world_size, monkeypatch=monkeypatch):
        assert is_same(left, alone)


def test_adding_floats_would_give_other_bits_in_another_order():
    # Of the gradients above, so that the test before rests on something.
    model, found = network().train(), []
    for number in range(PARTS):
        model.zero_grad()
        shown = images_of(number)
        (cross_entropy(model(shown), torch.arange(len(shown)) % 3) / 18).backward()
        found.append(model[0].weight.grad.clone())
    sums = {
        tuple(sum(found[i] for i in order).flatten().tolist())
        for order in itertools.permutations(range(PARTS))
    }
    assert len(sums) > 1


def test_the_gradient_is_the_exact_sum_but_for_one_rounding(monkeypatch):
    model = network()
    [(loss, gradients, buffers)] = step_of(model, world_size=1, monkeypatch=monkeypatch)
    plain, total = copy.deepcopy(model).train(), 0.0
    exact = [torch.zeros(p.shape, dtype=torch.float64) for p in plain.parameters()]
    for number in range(PARTS):
        shown = images_of(number)
        part = cross_entropy(plain(shown), torch.arange(len(shown)) % 3) / 18
        plain.zero_grad()
        part.backward()
        total += float(part.detach())
        for sum_, parameter in zip(exact, plain.parameters(), strict=True):
            sum_ += parameter.grad
    assert float(loss) == pytest.approx(total, rel=1e-6)
    for gradient, sum_ in zip(gradients, exact, strict=True):
        torch.testing.assert_close(gradient.double(), sum_, rtol=2.0**-24, atol=PARTS * UNIT / 2)
    # Batch norm's statistics go through the micro-batches as those of torch do.
    for buffer, wanted in zip(buffers, plain.buffers(), strict=True):
        torch.testing.assert_close(buffer, wanted, rtol=1e-6, atol=1e-7)
    assert int(buffers[-1]) == PARTS


def test_a_gradient_that_is_scaled_up_comes_out_as_large_as_it_went_in(monkeypatch):
    model = network()
    [plain] = step_of(model, world_size=1, monkeypatch=monkeypatch)
    [scaled] = step_of(model, world_size=1, monkeypatch=monkeypatch, scale=2.0**16)
    for one, other in zip(plain[1], scaled[1], strict=True):
        torch.testing.assert_close(other / 2.0**16, one, rtol=1e-6, atol=PARTS * UNIT)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 2.0**18 / PARTS * 1.01])
def test_a_gradient_too_large_to_be_added_shows_in_every_gradient_of_every_rank(number, monkeypatch):
    model = nn.Linear(2, 1)
    sums = FixedSums(model, ranks_of(), PARTS)
    sums.begin(1.0)
    for part in range(PARTS):
        model.weight.grad, model.bias.grad = torch.ones(1, 2), torch.full((1,), number if part == 3 else 1.0)
        sums.add(part, torch.tensor(1.0))
    sums.finish()
    assert model.weight.grad.isnan().all()
    # The next step begins anew.
    sums.begin(1.0)
    model.weight.grad, model.bias.grad = torch.ones(1, 2), torch.full((1,), 2.0**18 / PARTS * 0.99)
    sums.add(0, torch.tensor(1.0))
    sums.finish()
    assert model.weight.grad.tolist() == [[1.0, 1.0]]


def test_frozen_layers_keep_their_statistics(monkeypatch):
    model = network()
    model[1].train = lambda mode=True: nn.Module.train(model[1], False)
    before = [buffer.clone() for buffer in model[1].buffers()]
    sums = FixedSums(model, ranks_of(), 1)
    sums.begin(1.0)
    model.train()(images_of(0)).sum().backward()
    sums.add(0, torch.tensor(0.0))
    sums.finish()
    assert all(torch.equal(*pair) for pair in zip(model[1].buffers(), before, strict=True))
    assert int(model[4].num_batches_tracked) == 1
