"""A step is cut into micro-batches, and dealt, by integers alone."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from mri_hpc.loading.batches import Batch
from mri_hpc.loading.micro_batches import deal
from mri_hpc.loading.order import Order


def sizes(dealt):
    return [len(micro_batch) for micro_batch in dealt]


@given(st.integers(0, 300), st.integers(1, 9), st.integers(1, 5))
def test_every_sample_of_a_step_is_dealt_once_and_ranks_get_nearly_the_same(num, world_size, accumulate):
    dealt = deal(num, world_size=world_size, accumulate=accumulate)
    assert np.concatenate([np.arange(num)[m.samples] for m in dealt]).tolist() == list(range(num))
    shares = [[m for m in dealt if m.rank == rank] for rank in range(world_size)]
    assert [len(own) for own in shares] == [accumulate] * world_size
    for unequal in (list(map(sum, map(sizes, shares))), *map(sizes, shares)):
        assert max(unequal) - min(unequal) <= 1


def test_what_is_dealt_is_pinned_so_that_old_runs_draw_the_same_numbers():
    dealt = deal(7, world_size=2, accumulate=2)
    assert [(m.rank, m.samples.start, m.samples.stop, m.stream) for m in dealt] == [
        (0, 0, 2, (0, 0)), (0, 2, 4, (0, 1)), (1, 4, 6, (1, 0)), (1, 6, 7, (1, 1)),
    ]  # fmt: skip


def test_a_rank_reads_its_micro_batches_one_after_the_other():
    keys = np.arange(100, 114, dtype=np.uint64)
    order = Order(rows=np.arange(14), keys=keys, batch_size=7)
    step = list(order.rows_by_step(rank=1, world_size=2, accumulate=2))[1]
    assert (step.rows.tolist(), step.keys.tolist()) == ([11, 12, 13], [111, 112, 113])
    assert (sizes(step.micro_batches), len(step.step_keys)) == ([2, 1], 7)


def test_parts_of_a_batch_are_its_micro_batches_wherever_in_the_step_they_stand():
    dealt = deal(7, world_size=1, accumulate=3)
    own = (dealt[2], dealt[0])
    keys = np.concatenate([np.arange(7, dtype=np.uint64)[m.samples] for m in own])
    batch = Batch(
        images=torch.from_numpy(keys.astype(np.uint8))[:, None, None],
        labels=torch.from_numpy(keys.astype(np.int64)),
        keys=keys,
        step_keys=np.arange(7, dtype=np.uint64),
        micro_batches=own,
    )
    parts = batch.parts()
    assert [part.keys.tolist() for part in parts] == [[5, 6], [0, 1, 2]]
    for part, micro_batch in zip(parts, own, strict=True):
        assert part.images.flatten().tolist() == part.labels.tolist() == part.keys.tolist()
        assert (part.micro_batches, len(part.step_keys)) == ((micro_batch,), 7)
