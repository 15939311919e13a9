"""Promise 6: order and randomness are functions of integers, not state."""

import shutil

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mri_hpc.base.errors import UserError
from mri_hpc.cohort.splits import Split
from mri_hpc.loading.batches import Batches
from mri_hpc.loading.order import Order, mix64, permutation
from mri_hpc.preprocess import main as preprocess
from mri_hpc.rundir.progress import Progress
from mri_hpc.storage.reading.reader import Reader
from mri_hpc.storage.snapshot.catalogue import resolve

KEYS = st.sets(st.integers(0, 2**64 - 1), min_size=4, max_size=300).map(
    lambda keys: np.array(sorted(keys), np.uint64)
)


class RowsAsImages:
    """Stands in for the reader: an image of one pixel, which is its row."""

    def read(self, rows):
        return rows.astype(np.uint8).reshape(-1, 1, 1)


def batches(keys, *, reader=None, rank=0, world_size=1, batch_size=16, seed=0, train=None):
    everything = np.arange(len(keys))
    return Batches(
        reader or RowsAsImages(),
        keys=keys,
        labels=np.zeros(len(keys), np.int16),
        split=Split(train=everything if train is None else train, validation=everything, test=everything),
        batch_size=batch_size,
        seed=seed,
        rank=rank,
        world_size=world_size,
        device=torch.device("cpu"),
    )


@given(KEYS, st.integers(0, 2**63 - 1), st.integers(0, 10**6))
def test_an_epoch_is_a_permutation_of_the_training_samples(keys, seed, epoch):
    assert sorted(permutation(keys, seed, epoch)) == list(range(len(keys)))


def test_order_is_pinned_so_that_no_release_changes_it():
    keys = np.arange(6, dtype=np.uint64) * np.uint64(0x0123456789ABCDEF)
    assert mix64(keys, 7, 3).tolist()[:2] == [0xD5219D4A79EFB74D, 0x47751D9A92E83072]
    assert permutation(keys, 7, 3).tolist() == [5, 1, 3, 4, 2, 0]


def test_order_changes_with_seed_and_with_epoch():
    keys = mix64(np.arange(100, dtype=np.uint64))
    orders = {tuple(permutation(keys, seed, epoch)) for seed in range(4) for epoch in range(4)}
    assert len(orders) == 16


@given(KEYS, st.integers(0, 1000), st.data())
def test_data_that_arrive_leave_the_order_of_the_others_as_it_was(keys, seed, data):
    is_there = np.array(data.draw(st.lists(st.booleans(), min_size=len(keys), max_size=len(keys))))
    after = keys[permutation(keys, seed, 1)]
    before = keys[is_there][permutation(keys[is_there], seed, 1)]
    assert after[np.isin(after, keys[is_there])].tolist() == before.tolist()


@given(KEYS, st.integers(2, 64), st.sampled_from([1, 2, 4]))
def test_every_sample_is_in_an_epoch_once_whatever_the_number_of_ranks(keys, batch_size, world_size):
    order = Order(rows=np.arange(len(keys)), keys=keys, batch_size=batch_size).shuffled(5, 2)
    by_rank = [list(order.rows_by_step(rank=rank, world_size=world_size)) for rank in range(world_size)]
    for of_step in zip(*by_rank, strict=True):
        own = np.concatenate([plan.keys for plan in of_step])
        assert own.tolist() == of_step[0].step_keys.tolist()
        assert len(own) <= batch_size
    steps = [plan.step_keys for plan in by_rank[0]]
    assert max(map(len, steps)) - min(map(len, steps)) <= 1
    assert np.concatenate(steps).tolist() == keys[permutation(keys, 5, 2)].tolist()


def test_ranks_see_together_what_one_rank_sees_alone():
    keys = mix64(np.arange(101, dtype=np.uint64))
    keys.sort()
    progress = Progress(epoch=3)
    alone = [batch.images.flatten().tolist() for batch in batches(keys).training(progress)]
    for world_size in (2, 4):
        shares = [batches(keys, rank=r, world_size=world_size).training(progress) for r in range(world_size)]
        together = [torch.cat([b.images.flatten() for b in s]).tolist() for s in zip(*shares, strict=True)]
        assert together == alone


def test_resuming_within_an_epoch_yields_the_very_next_sample():
    keys = np.sort(mix64(np.arange(101, dtype=np.uint64)))
    whole = [batch.keys.tolist() for batch in batches(keys).training(Progress(epoch=1))]
    for step in range(len(whole) + 1):
        rest = batches(keys).training(Progress(epoch=1, step=40, step_in_epoch=step))
        assert [batch.keys.tolist() for batch in rest] == whole[step:]


def test_a_share_too_small_to_normalise_by_is_refused_with_the_numbers():
    keys = np.arange(50, dtype=np.uint64)
    with pytest.raises(UserError, match=r"50 training images in steps of 8 .* rank of 4 only 1 images"):
        batches(keys, batch_size=8, world_size=4)


def test_how_a_store_is_cut_into_chunks_does_not_matter_to_order_or_pixels(picture_store, tmp_path):
    raw = picture_store.with_name("raw")
    whole = tmp_path / "all" / "raw"
    part = tmp_path / "some" / "raw"
    shutil.copytree(raw, whole)
    shutil.copytree(raw / "class1", part / "class1")
    for store, sources in (("once", [whole]), ("twice", [part, whole])):
        for source in sources:
            arguments = ["--store", str(tmp_path / store), "--size", "32", "--ids", "as-given"]
            assert preprocess(["--source", str(source), *arguments]) == 0
    seen = []
    for store in ("once", "twice"):
        snapshot = resolve(tmp_path / store)
        with Reader(tmp_path / store, snapshot) as reader:
            epoch = list(batches(snapshot.key, reader=reader).training(Progress(epoch=2)))
        seen.append([(batch.keys.tolist(), batch.images.numpy().tobytes()) for batch in epoch])
    assert len(resolve(tmp_path / "once").chunks) < len(resolve(tmp_path / "twice").chunks)
    assert seen[0] == seen[1]
