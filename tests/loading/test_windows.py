"""Training samples are sorted a window at a time, so that memory does not grow with their number."""

import numpy as np
import pytest

from mri_hpc.loading import order
from mri_hpc.loading.order import Order, mix64, permutation


@pytest.mark.parametrize("window", [2**22, 1000, 7])
@pytest.mark.parametrize("first_step", [0, 1, 37, 79])
def test_the_order_is_the_same_however_many_windows_it_is_made_in(monkeypatch, window, first_step):
    monkeypatch.setattr(order, "WINDOW", window)
    monkeypatch.setattr(order, "BLOCK", 100)
    keys = np.sort(mix64(np.arange(2000, dtype=np.uint64)))
    rows = np.flatnonzero(np.arange(2000) % 3)
    steps = Order(rows=rows, keys=keys, batch_size=17).shuffled(3, 4).rows_by_step(rank=0, world_size=1)
    whole = [step.rows for step in steps]
    assert np.concatenate(whole).tolist() == rows[permutation(keys[rows], 3, 4)].tolist()
    again = Order(rows=rows, keys=keys, batch_size=17).shuffled(3, 4)
    rest = [step.rows.tolist() for step in again.rows_by_step(rank=0, world_size=1, first_step=first_step)]
    assert rest == [part.tolist() for part in whole[first_step:]]
