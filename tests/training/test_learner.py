"""The loss over ranks, class weights, the learning rate and what the network says about a split."""

from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from mri_hpc.base.errors import UserError
from mri_hpc.loading.batches import Batch
from mri_hpc.loading.micro_batches import deal
from mri_hpc.loading.mixing import Mixing
from mri_hpc.rundir.place import Place
from mri_hpc.rundir.progress import Progress
from mri_hpc.rundir.settings import TrainingSettings
from mri_hpc.training.class_weights import class_weights
from mri_hpc.training.evaluation import Answers, softmax
from mri_hpc.training.journal import StepsUnderWay
from mri_hpc.training.learner import Learner
from mri_hpc.training.model import GreyClassifier, build
from mri_hpc.training.optimizer import share_of_cosine
from mri_hpc.training.ranks import Ranks
from mri_hpc.training.step_loss import StepLoss

WEIGHTS = np.array([0.5, 1.0, 2.0], np.float32)


def learner(rank=0, world_size=1, *, model=None, **settings):
    chosen = TrainingSettings(model="squeezenet1_1", **settings)
    place = Place(rank=rank, world_size=world_size)
    ranks = Ranks(place=place, device=torch.device("cpu"), backend="gloo", num_hosts=1)
    model = model or build(chosen, 3, (32, 32))
    return Learner(model, chosen, ranks, weights_of_classes=WEIGHTS, steps_per_epoch=5)


def batch(labels, step_size):
    keys = np.arange(len(labels), dtype=np.uint64)
    images = torch.zeros(len(labels), 32, 32, dtype=torch.uint8)
    return Batch(
        images=images, labels=labels, keys=keys, step_keys=np.zeros(step_size, np.uint64),
        micro_batches=tuple(deal(len(labels), world_size=1)),
    )  # fmt: skip


def test_the_mean_over_ranks_of_uneven_shares_is_the_mean_over_images():
    torch.manual_seed(0)
    logits, labels = torch.randn(8, 3, requires_grad=True), torch.tensor([0, 1, 2, 2, 1, 0, 0, 2])
    expected = (cross_entropy(logits, labels, reduction="none") * torch.from_numpy(WEIGHTS)[labels]).mean()
    shares = [slice(0, 3), slice(3, 6), slice(6, 8)]
    losses = [
        learner(rank, 3).share_of_loss(logits[own], batch(labels[own], 8)) for rank, own in enumerate(shares)
    ]
    torch.testing.assert_close(sum(losses) / 3, expected)
    wanted = torch.autograd.grad(expected, logits, retain_graph=True)[0]
    torch.testing.assert_close(torch.autograd.grad(sum(losses) / 3, logits)[0], wanted)


def test_a_mixed_step_counts_the_labels_of_both_as_it_mixes_their_images():
    torch.manual_seed(0)
    logits, labels, partners = torch.randn(4, 3), torch.tensor([0, 1, 2, 2]), torch.tensor([2, 0, 3, 1])
    one, other = (
        (cross_entropy(logits, of, reduction="none") * torch.from_numpy(WEIGHTS)[of]).mean()
        for of in (labels, labels[partners])
    )
    mixed = learner().share_of_loss(logits, batch(labels, 4), Mixing(share=0.75, partners=partners))
    torch.testing.assert_close(mixed, 0.75 * one + 0.25 * other)


def test_an_answer_is_about_an_image_and_its_mirror_image_where_the_run_says_so():
    images = torch.rand(2, 32, 32)
    mirrored, plain = (learner(mirror_answers=mirrors).model.eval() for mirrors in (True, False))
    torch.testing.assert_close(mirrored.answer(images), mirrored.answer(images.flip(2)))
    assert not torch.allclose(plain.answer(images), plain.answer(images.flip(2)))
    torch.testing.assert_close(mirrored.answer(images), (plain(images) + plain(images.flip(2))) / 2)


def test_ranks_compute_in_one_arithmetic_whatever_processor_each_is_on(monkeypatch):
    monkeypatch.setattr("mri_hpc.training.arithmetic.has_matrix_unit", lambda: True)
    assert learner(matrix_unit=True).arithmetic == "bfloat16"
    monkeypatch.setattr(Ranks, "from_all", lambda _ranks, value: [value, False])
    assert learner(matrix_unit=True).arithmetic == "float32"


def test_balanced_class_weights_are_one_on_average_over_the_images():
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    weights = class_weights(labels, ("a", "b", "c"), "balanced")
    assert weights.tolist() == pytest.approx([100 / 180, 100 / 90, 100 / 30])
    assert weights[labels].mean() == pytest.approx(1)
    assert class_weights(labels, ("a", "b", "c"), "none").tolist() == [1, 1, 1]


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_one_number_that_is_not_finite_anywhere_in_a_checkpoint_shows(number):
    # Each tensor is looked at for each number: a network of few.
    layers = {
        "conv": nn.Conv2d(1, 4, 3), "norm": nn.BatchNorm2d(4), "pool": nn.AdaptiveAvgPool2d(1),
        "flat": nn.Flatten(), "fc": nn.Linear(4, 3),
    }  # fmt: skip
    network = nn.Sequential(OrderedDict(layers))
    trained = learner(model=GreyClassifier(network, "plain"), ema_decay=0.9)
    assert trained.is_finite()
    trained.train_step(batch(torch.tensor([0, 1, 2]), 3), Progress())
    state = trained.state(Progress(), {}).rest
    kept = [
        *trained.model.state_dict().values(),
        *trained._published.state_dict().values(),
        *(value for values in state["optimizer"]["state"].values() for value in values.values()),
    ]
    kept = [tensor for tensor in kept if tensor.is_floating_point()]
    assert len(kept) == 8 + 8 + 3 * 6
    assert trained.is_finite()
    for tensor in kept:
        before = tensor.reshape(-1)[-1].clone()
        with torch.no_grad():
            tensor.view(-1)[-1] = number
            assert not trained.is_finite()
            tensor.view(-1)[-1] = before
    assert trained.is_finite()


def test_a_class_without_training_images_is_refused_by_name():
    with pytest.raises(UserError, match="class 'c' has no image in the training split"):
        class_weights(np.array([0, 1]), ("a", "b", "c"), "balanced")


def test_a_single_class_is_refused():
    with pytest.raises(UserError, match="all images are of one class, 'a': a classifier needs two"):
        class_weights(np.array([0, 0]), ("a",), "balanced")


def rate(step, **options):
    chosen = {"warmup_epochs": 1.0, "schedule_epochs": 10, **options}
    return share_of_cosine(step, steps_per_epoch=20, **chosen)


def test_the_learning_rate_warms_up_falls_by_a_cosine_and_stays_at_a_hundredth():
    rates = [rate(step) for step in range(300)]
    assert rates[0] == pytest.approx(1 / 21)
    assert max(rates) == rates[20] == 1.0
    assert rates[110] == pytest.approx(0.505)
    assert rates[200:] == [pytest.approx(0.01)] * 100
    assert rates[20:] == sorted(rates[20:], reverse=True)


def test_a_schedule_without_warm_up_begins_at_the_highest_rate():
    assert rate(0, warmup_epochs=0.0) == 1.0


def test_a_schedule_that_is_all_warm_up_still_ends():
    assert rate(1000, warmup_epochs=50.0) == pytest.approx(0.01)


def test_half_precision_without_a_gpu_is_refused():
    with pytest.raises(UserError, match="--precision fp16 needs a GPU"):
        learner(precision="fp16")


def test_the_network_answers_an_empty_share():
    assert learner().logits(batch(torch.empty(0, dtype=torch.int64), 1)).shape == (0, 3)


def test_the_mean_loss_is_weighted_and_balanced_accuracy_leaves_out_absent_classes():
    answers = Answers(
        keys=np.arange(4, dtype=np.uint64),
        labels=np.array([0, 0, 0, 2]),
        losses=np.array([1, 2, 3, 8], np.float32),
        weights=np.array([1, 1, 1, 2], np.float32),
        logits=np.eye(3, dtype=np.float32)[[0, 1, 0, 2]],
    )
    assert answers.mean_loss == pytest.approx(14 / 5)
    assert answers.balanced_accuracy == pytest.approx((2 / 3 + 1) / 2)


def test_probabilities_add_up_to_one_also_for_extreme_logits():
    chances = softmax(np.array([[1000.0, 0.0], [-1000.0, -1000.0]], np.float32))
    assert chances.tolist() == [[1.0, 0.0], [0.5, 0.5]]


def step(number, loss):
    return Progress(step=number), StepLoss(tensor=torch.tensor([loss]), wait=lambda: None, lr=0.1)


def test_on_a_gpu_losses_are_read_a_step_later_and_a_broken_one_is_known_before_saving():
    steps = StepsUnderWay(is_late=True)
    assert steps.add(*step(1, 0.5), num_images=4) == []
    assert steps.are_sound()
    assert [done.progress.step for done in steps.add(*step(2, float("nan")), num_images=4)] == [1]
    assert not steps.are_sound()
    with pytest.raises(UserError, match="the loss of step 2 is nan"):
        steps.rest()


def test_a_loss_is_not_read_before_it_is_there():
    tensor = torch.zeros(1)
    assert StepLoss(tensor=tensor, wait=lambda: tensor.fill_(0.5), lr=0.1).value() == 0.5
