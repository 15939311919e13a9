"""Images of a step are mixed in pairs, alike in every attempt."""

import numpy as np
import pytest
import torch

from mri_hpc.base.errors import UserError
from mri_hpc.loading.mixing import MIXED_STEPS, mixing_of
from mri_hpc.rundir.settings import TrainingSettings

KEYS = np.arange(100, 132, dtype=np.uint64)


def mixings(alpha=0.4, steps=2000):
    return [mixing_of(alpha, KEYS, 0, step, 0, 0) for step in range(steps)]


def test_half_of_the_steps_are_mixed_by_shares_of_the_beta_distribution():
    drawn = [mixing.share for mixing in mixings() if mixing]
    assert len(drawn) / 2000 == pytest.approx(MIXED_STEPS, abs=0.05)
    assert np.mean(drawn) == pytest.approx(0.5, abs=0.05)
    # Of beta(a, a): 1 / (4 (2 a + 1)).
    assert np.var(drawn) == pytest.approx(1 / (4 * 1.8), abs=0.01)
    assert np.var([mixing.share for mixing in mixings(1.0) if mixing]) == pytest.approx(1 / 12, abs=0.01)


def test_without_mixup_no_step_is_mixed():
    assert mixings(alpha=0.0, steps=50) == [None] * 50


def test_a_step_is_mixed_alike_again_and_every_micro_batch_otherwise():
    step = next(number for number in range(99) if mixing_of(0.4, KEYS, 0, number, 0, 0))
    one, again = (mixing_of(0.4, KEYS, 0, step, 0, 0) for _ in range(2))
    assert one.share == again.share
    assert torch.equal(one.partners, again.partners)
    assert sorted(one.partners.tolist()) == list(range(len(KEYS)))
    others = [mixing_of(0.4, KEYS, seed, step, rank, 0) for seed, rank in ((1, 0), (0, 1))]
    assert all(other is None or other.share != one.share for other in others)


def test_an_image_and_its_partner_share_pixels_as_they_share_the_label():
    mixing = next(one for one in mixings() if one)
    images = torch.arange(32.0)[:, None, None].expand(32, 2, 2)
    mixed = mixing.of_images(images)[:, 0, 0]
    expected = mixing.share * torch.arange(32.0) + (1 - mixing.share) * mixing.of_others(torch.arange(32.0))
    assert torch.equal(mixed, expected)


@pytest.mark.parametrize("alpha", [-0.1, 0.001, 1.5])
def test_a_mixup_that_cannot_be_is_refused(alpha):
    with pytest.raises(UserError, match=r"--mixup must be 0, or between 0\.01 and 1"):
        TrainingSettings(mixup=alpha)
