"""Chances by which a delivery is stopped: exact, as counted out by other ways."""

import math

import numpy as np
import pytest

from mri_hpc.chain.objections import LEVEL, chance_of_unlike, chance_of_wrong
from mri_hpc.results.answers.resemblance import ALARM


@pytest.mark.parametrize(("num", "validation"), [(1, 19), (5, 20), (12, 31)])
def test_the_chance_of_unlike_patients_is_that_of_ranks_drawn_at_random(num, validation):
    drawn = np.random.default_rng(0).random((20000, validation + num))
    old, new = drawn[:, :validation], drawn[:, validation:]
    as_far = (old[:, None, :] >= new[:, :, None]).sum(2)
    unlike = ((1 + as_far) / (validation + 1) <= ALARM).sum(1)
    for count in range(num + 1):
        expected = float((unlike >= count).mean())
        assert chance_of_unlike(count, num, validation) == pytest.approx(expected, abs=0.012)


def test_five_patients_of_another_look_are_stopped_and_one_never_is():
    assert chance_of_unlike(5, 5, 20) == pytest.approx(2 * 3 * 4 * 5 * 6 / (21 * 22 * 23 * 24 * 25))
    assert chance_of_unlike(5, 5, 20) < LEVEL < chance_of_unlike(1, 1, 200)


def test_the_chance_of_wrong_labels_is_fishers():
    # The lady tasting tea (Fisher 1935): all of four against none of four.
    assert chance_of_wrong(4, 4, 0, 4) == pytest.approx(1 / 70)
    assert chance_of_wrong(3, 4, 1, 4) == pytest.approx(17 / 70)
    assert chance_of_wrong(0, 9, 3, 30) == 1
    assert chance_of_wrong(4, 4, 0, 19) == pytest.approx(1 / math.comb(23, 4))


def test_thousands_of_patients_are_no_trouble():
    assert chance_of_wrong(900, 5000, 100, 1000) < LEVEL
    assert chance_of_unlike(500, 5000, 400) > 0.1
    assert chance_of_unlike(2500, 5000, 400) < LEVEL
