"""Training images are bent, curved, blurred and covered within bounds, where a run asks for it."""

import numpy as np
import pytest
import torch
from torch.nn.functional import affine_grid, grid_sample

from mri_hpc.loading.augment import augmented
from mri_hpc.loading.distortion import Distortion, distortion_of
from mri_hpc.loading.order import mix64

MANY = distortion_of(mix64(np.arange(4000, dtype=np.uint64)), 0, 0)
IMAGES = torch.rand(3, 40, 32, generator=torch.Generator().manual_seed(0)) * 200


def distortion(**parts: torch.Tensor) -> Distortion:
    nothing = {
        "knots": torch.zeros(3, 2, 6, 6), "exponent": torch.ones(3), "blur": torch.zeros(3),
        "cover": torch.zeros(3, 4),
    }  # fmt: skip
    return Distortion(**{**nothing, **parts})


def test_draws_keep_within_their_bounds_and_fill_them():
    assert MANY.knots.std().item() == pytest.approx(0.03, rel=0.01)
    assert MANY.knots.abs().max().item() <= 0.03 * 3**0.5 + 1e-6
    for values, low, high in ((MANY.exponent.log(), -0.2, 0.2), (MANY.blur, -0.3, 0.3)):
        assert low - 1e-6 <= values.min().item() < 0.95 * low
        assert 0.95 * high < values.max().item() <= high + 1e-6


def test_a_quarter_of_the_images_are_covered_by_a_tenth_to_three_tenths_of_a_side():
    left, top, right, bottom = MANY.cover.T
    is_covered = right > left
    assert 0.23 < is_covered.float().mean() < 0.27
    for sides in ((right - left)[is_covered], (bottom - top)[is_covered]):
        assert sides.min() >= 0.1 - 1e-6 and sides.max() <= 0.3 + 1e-6
    assert MANY.cover.min() >= 0 and MANY.cover.max() <= 1 + 1e-6


def test_what_is_covered_is_the_mean_and_the_rest_stays():
    covers = torch.tensor([[0.25, 0.5, 0.5, 0.75], [0.0, 0.0, 0.0, 0.2], [0.0, 0.0, 1.0, 1.0]])
    seen = distortion(cover=covers).covered(IMAGES)
    is_in = torch.zeros(40, 32, dtype=torch.bool)
    is_in[20:30, 8:16] = True
    assert (seen[0][is_in] == 0).all() and torch.equal(seen[0][~is_in], IMAGES[0][~is_in])
    assert torch.equal(seen[1], IMAGES[1])
    assert (seen[2] == 0).all()


def test_a_curve_keeps_black_and_the_highest_and_moves_what_lies_between():
    images = torch.linspace(0, 150, 40 * 32).reshape(1, 40, 32).repeat(3, 1, 1)
    seen = distortion(exponent=torch.tensor([0.9, 1.0, 1.1])).curved(images)
    torch.testing.assert_close(seen[1], images[1])
    torch.testing.assert_close(seen[:, 0, 0], torch.zeros(3))
    torch.testing.assert_close(seen[:, -1, -1], torch.full((3,), 150.0))
    middle = images[0, 20, 10]
    assert seen[0, 20, 10] > middle > seen[2, 20, 10]


def test_a_blur_takes_a_pixel_towards_the_mean_around_it_and_a_negative_one_away():
    seen = distortion(blur=torch.tensor([0.25, 0.0, -0.25])).blurred(IMAGES)
    image = IMAGES[0]
    mean = image[9:12, 4:7].mean()
    torch.testing.assert_close(seen[0, 10, 5], image[10, 5] + 0.25 * (mean - image[10, 5]))
    torch.testing.assert_close(seen[1], IMAGES[1])
    assert seen[2].std() > IMAGES[2].std()


def test_a_bend_moves_places_by_what_its_knots_say():
    knots = torch.zeros(3, 2, 6, 6)
    knots[1, 0] = 0.5
    grid = affine_grid(torch.eye(2, 3).repeat(3, 1, 1), [3, 1, 40, 32], align_corners=False)
    seen = grid_sample(IMAGES[:, None], distortion(knots=knots).bent(grid), align_corners=False)[:, 0]
    torch.testing.assert_close(seen[0], IMAGES[0], rtol=1e-4, atol=1e-2)
    # By 0.5 of half the width to the right: 8 pixels.
    torch.testing.assert_close(seen[1][:, :20], IMAGES[1][:, 8:28], rtol=1e-3, atol=1e-1)


def test_images_are_distorted_where_the_run_says_so_alone():
    keys = mix64(np.arange(3, dtype=np.uint64))
    images = IMAGES.to(torch.uint8)
    plain, distorted = (augmented(images, keys, 0, 0, "image", distorts=is_on) for is_on in (False, True))
    assert torch.equal(plain, augmented(images, keys, 0, 0, "image"))
    assert all(not torch.allclose(one, other, atol=0.1) for one, other in zip(plain, distorted, strict=True))
