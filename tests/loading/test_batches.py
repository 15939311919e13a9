"""Batches: reading ahead in a thread, trouble in it, and leaving it."""

import threading

import numpy as np
import pytest
import torch

from mri_hpc.base.errors import UserError
from mri_hpc.cohort.splits import Split
from mri_hpc.loading.batches import READ_AHEAD, Batches, read_ahead
from mri_hpc.rundir.progress import Progress


def reading_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("read-ahead")]


class Images:
    def read(self, rows):
        return np.zeros((len(rows), 4, 4), np.uint8)


def batches_on(device, *, accumulate=1):
    """One of two ranks' batches of 64 images, of which three are the validation split."""
    rows = np.arange(64)
    return Batches(
        Images(),
        keys=rows.astype(np.uint64),
        labels=np.arange(64) % 3,
        split=Split(train=rows, validation=rows[:3], test=rows[:3]),
        batch_size=4 * accumulate,
        accumulate=accumulate,
        seed=0,
        rank=0,
        world_size=2,
        device=torch.device(device),
    )


def test_reading_runs_ahead_by_a_few_batches_only():
    fetched = []
    items = read_ahead(iter(range(100)), lambda plan: fetched.append(plan) or plan)
    assert [next(items) for _ in range(10)] == list(range(10))
    items.close()
    assert 10 <= len(fetched) <= 10 + READ_AHEAD + 1


def test_trouble_in_the_reading_thread_is_raised_where_the_batch_is_asked_for():
    def fetch(plan):
        if plan == 2:
            raise UserError("chunk 7 is missing")
        return plan

    items = read_ahead(iter(range(5)), fetch)
    assert [next(items), next(items)] == [0, 1]
    with pytest.raises(UserError, match="chunk 7 is missing"):
        next(items)
    assert not reading_threads()


def test_leaving_an_epoch_early_ends_its_reading_thread():
    batches = batches_on("cpu")
    epoch = batches.training(Progress())
    batch = next(epoch)
    assert reading_threads()
    epoch.close()
    assert not reading_threads()
    assert (batch.images.dtype, batch.labels.dtype) == (torch.uint8, torch.int64)
    assert batch.labels.tolist() == (batch.keys % 3).tolist()
    # Fewer images than ranks: still as many batches for every rank, of which some are empty.
    assert [len(batch.images) for batch in batches.of_split("validation")] == [2]


@pytest.mark.parametrize(
    ("device", "taken"), [("cpu", []), ("cuda:3", [(torch.device("cuda:3"), "read-ahead_0")])]
)
def test_the_reading_thread_stands_on_the_gpu_of_its_rank(monkeypatch, device, taken):
    seen = []

    def set_device(device):
        seen.append((device, threading.current_thread().name))

    monkeypatch.setattr(torch.cuda, "set_device", set_device)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self)
    monkeypatch.setattr(torch.Tensor, "to", lambda self, _device, **_how: self)
    assert len(list(batches_on(device).of_split("validation"))) == 1
    assert seen == taken


def test_a_training_step_comes_in_as_many_micro_batches_as_asked_and_an_answer_in_one():
    batches = batches_on("cpu", accumulate=2)
    steps = list(batches.training(Progress()))
    assert {tuple(len(m) for m in batch.micro_batches) for batch in steps} == {(2, 2)}
    assert all(len(batch.images) == sum(map(len, batch.micro_batches)) for batch in steps)
    assert [len(batch.micro_batches) for batch in batches.of_split("validation")] == [1]
