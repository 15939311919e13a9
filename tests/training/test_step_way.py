"""In which way steps are computed: found when a run is made, kept from there on, and the same arithmetic."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mri_hpc.base.errors import UserError
from mri_hpc.base.stop_flag import StopFlag, StopRequest
from mri_hpc.loading.batches import Batch
from mri_hpc.loading.micro_batches import deal
from mri_hpc.rundir.place import Place
from mri_hpc.rundir.progress import Progress
from mri_hpc.rundir.settings import TrainingSettings
from mri_hpc.training import step_trial
from mri_hpc.training.agreed_stop import AgreedStop
from mri_hpc.training.learner import Learner
from mri_hpc.training.model import build
from mri_hpc.training.ranks import Ranks
from mri_hpc.training.step_trial import find_way, is_faster
from mri_hpc.training.step_way import StepWay, way_of

SETTINGS = TrainingSettings(model="squeezenet1_1", batch_size=8, ema_decay=0.9)
ALONE = Ranks(place=Place(), device=torch.device("cpu"), backend="none", num_hosts=1)
FUSED, LAST = StepWay.FUSED, StepWay.CHANNELS_LAST


def learner(way, settings=SETTINGS):
    weights = np.ones(3, np.float32)
    network = build(settings, 3, (32, 32))
    return Learner(network, settings, ALONE, weights_of_classes=weights, steps_per_epoch=5, way=way)


def batch(num_images=6):
    drawn = torch.randint(256, (num_images, 32, 32), generator=torch.Generator().manual_seed(1))
    keys = np.arange(num_images, dtype=np.uint64)
    return Batch(
        images=drawn.to(torch.uint8), labels=torch.arange(num_images) % 3, keys=keys, step_keys=keys,
        micro_batches=tuple(deal(num_images, world_size=1)),
    )  # fmt: skip


def trained(one, first=0, last=3):
    for number in range(first, last):
        assert one.train_step(batch(), Progress(step=number))
    return one


def found(settings=SETTINGS, ranks=ALONE, *, num_steps=10_000, stop=None):
    stop = stop or AgreedStop(StopFlag(), ALONE)
    return find_way(settings, ranks, stop=stop, num_steps=num_steps, num_classes=3, image_shape=(32, 32))


@pytest.fixture
def no_trial(monkeypatch):
    def refuse(*_arguments):
        raise AssertionError("steps were timed")

    monkeypatch.setattr(step_trial, "_time_in_turns", refuse)


@pytest.fixture
def seconds(monkeypatch):
    """Times of each round, in place of what a clock would say."""
    times = {FUSED: [1.0] * 5, LAST: [0.8] * 5}
    monkeypatch.setattr(step_trial, "_time_in_turns", lambda *_arguments: times)
    return times


@pytest.mark.parametrize(
    ("after", "is_taken"),
    [
        ([0.8] * 5, True),
        ([0.8, 0.8, 0.8, 0.8, 1.5], True),
        ([0.8, 0.8, 0.8, 1.1, 1.5], False),
        ([0.98] * 5, False),
        ([1.0] * 5, False),
        ([], False),
    ],
)
def test_a_layout_is_taken_only_where_it_is_faster_by_more_than_chance(after, is_taken):
    assert is_faster([1.0] * len(after), after) == is_taken


def test_the_faster_layout_of_a_trial_is_taken(seconds):
    assert found() is LAST
    seconds[LAST] = [1.0] * 5
    assert found() is FUSED


def test_what_the_first_rank_has_found_holds_for_all(seconds):
    class Second(Ranks):
        def from_rank(self, value, rank=0):
            return FUSED

    place = Place(rank=1, world_size=2)
    assert found(ranks=Second(place=place, device=torch.device("cpu"), backend="gloo", num_hosts=1)) is FUSED


def test_a_deterministic_run_is_computed_as_before_there_were_ways(no_trial):
    assert found(replace(SETTINGS, deterministic=True)) is StepWay.PLAIN


def test_a_gpu_needs_no_trial(no_trial):
    assert found(ranks=replace(ALONE, device=torch.device("cuda"))) is StepWay.PLAIN


def test_a_run_too_short_for_a_trial_to_pay_goes_without(no_trial):
    assert found(num_steps=step_trial.ENOUGH_STEPS - 1) is FUSED


def test_where_the_matrix_unit_has_channels_last_anyway_there_is_no_trial(no_trial, monkeypatch):
    monkeypatch.setattr("mri_hpc.training.arithmetic.has_matrix_unit", lambda: True)
    assert found(replace(SETTINGS, matrix_unit=True)) is FUSED


def test_a_stop_ends_a_trial_at_the_next_round(monkeypatch):
    flag, timed = StopFlag(), []

    def timing(step):
        step()
        timed.append(step)
        if len(timed) == 2:
            flag.take(StopRequest(signal_name="SIGTERM", received_s=0.0))
        return 1.0 if len(timed) % 2 else 0.1

    monkeypatch.setattr(step_trial, "_seconds", timing)
    stop = AgreedStop(flag, ALONE)
    assert found(stop=stop) is FUSED
    assert (len(timed), stop.agreed.phase) == (2, "trial of layouts")


def test_a_trial_does_a_step_of_each_layout_in_turns(monkeypatch):
    monkeypatch.setattr(step_trial, "ROUNDS", 1)
    layouts, layout_of = [], Learner.train_step

    def noting(one, *arguments):
        weights = [p for p in one.model.parameters() if p.dim() == 4 and min(p.shape) > 1]
        layouts.append(all(p.is_contiguous(memory_format=torch.channels_last) for p in weights))
        return layout_of(one, *arguments)

    monkeypatch.setattr(Learner, "train_step", noting)
    # In parts, of which one is timed.
    found(replace(SETTINGS, batch_size=16, sums="fixed-1", micro_batches=4))
    assert layouts == [False, True, False, True]


def test_no_way_changes_more_than_the_rounding():
    plain, *others = (trained(learner(way)) for way in StepWay)
    of_plain = torch.cat([p.detach().flatten() for p in plain.model.parameters()])
    for other in others:
        assert plain.optimizer.param_groups[0]["fused"] != other.optimizer.param_groups[0]["fused"]
        of_other = torch.cat([p.detach().flatten() for p in other.model.parameters()])
        torch.testing.assert_close(of_other, of_plain, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("way", StepWay)
def test_a_run_that_goes_on_in_its_way_is_the_uninterrupted_one_however_its_state_was_laid(way):
    one = trained(learner(way), last=2)
    state = one.state(Progress(step=2), {}).changed(lambda tensor: tensor.clone().contiguous())
    other = learner(way)
    other.restore(state, of=None)
    trained(one, first=2), trained(other, first=2)
    for mine, theirs in zip(one.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_runs_of_before_go_on_in_the_plain_way_and_those_of_a_newer_version_are_refused():
    assert way_of({"ranks": 1}) is StepWay.PLAIN
    assert [way_of({"steps": way.value}) for way in StepWay] == [*StepWay]
    with pytest.raises(UserError, match=r"in a way that this version does not know \(compiled\): go on with"):
        way_of({"steps": "compiled"})
