"""Augmentation is f(seed, epoch, key), and images do not depend on the scanner's scale."""

import numpy as np
import pytest
import torch

from mri_hpc.loading.augment import Draw, augmented, draw, standardised
from mri_hpc.loading.order import mix64

HOWS = ["image", "imagenet"]
KEYS = mix64(np.arange(12, dtype=np.uint64))
IMAGES = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (12, 24, 20), dtype=np.uint8))


@pytest.mark.parametrize("distorts", [False, True])
@pytest.mark.parametrize("how", HOWS)
def test_an_image_is_augmented_alike_in_whatever_batch_and_place_it_is(how, distorts):
    whole = augmented(IMAGES, KEYS, 3, 1, how, distorts=distorts)
    for part in ([4], [7, 2, 4], list(range(11, -1, -1))):
        alone = augmented(IMAGES[part], KEYS[part], 3, 1, how, distorts=distorts)
        torch.testing.assert_close(alone, whole[part], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("how", HOWS)
def test_augmentation_changes_with_seed_epoch_and_key(how):
    same = torch.from_numpy(np.repeat(IMAGES[:1].numpy(), 12, axis=0))
    seen = [augmented(same, KEYS, seed, epoch, how) for seed in range(2) for epoch in range(2)]
    images = torch.cat(seen).reshape(48, -1)
    assert len(torch.unique(images, dim=0)) == 48


def test_about_half_of_the_images_are_mirrored_and_none_is_moved_far():
    drawn = draw(mix64(np.arange(20000, dtype=np.uint64)), 0, 0)
    turn = drawn.theta[:, :, :2]
    sign = np.linalg.det(turn)
    assert 0.48 < (sign < 0).mean() < 0.52
    assert np.abs(sign).min() >= 0.9**2 - 1e-5 and np.abs(sign).max() <= 1.1**2 + 1e-5
    assert np.abs(drawn.theta[:, :, 2]).max() <= 0.1 + 1e-6
    angle = np.degrees(np.arctan2(drawn.theta[:, 1, 0], np.abs(drawn.theta[:, 1, 1])))
    assert 14.5 < np.abs(angle).max() <= 15 + 1e-3
    assert abs(angle.mean()) < 0.2


@pytest.mark.parametrize("how", HOWS)
def test_without_a_move_an_image_is_only_standardised(monkeypatch, how):
    still = np.tile(np.eye(2, 3, dtype=np.float32), (12, 1, 1))
    one, none = np.ones(12, np.float32), np.zeros(12, np.float32)
    drawn = type(draw(KEYS, 0, 0))(theta=still, contrast=one, brightness=none)
    monkeypatch.setattr("mri_hpc.loading.augment.draw", lambda *_, **_named: drawn)
    torch.testing.assert_close(
        augmented(IMAGES, KEYS, 0, 0, how), standardised(IMAGES, how), rtol=1e-4, atol=1e-4
    )


def test_scale_and_offset_of_grey_levels_do_not_matter():
    levels = IMAGES.float()
    torch.testing.assert_close(
        standardised(levels * 0.3 + 20, "image"), standardised(IMAGES, "image"), rtol=1e-4, atol=1e-4
    )


def test_with_imagenets_normalisation_black_and_white_are_the_same_in_all_images():
    found = standardised(torch.tensor([[[0, 255]], [[255, 255]]], dtype=torch.uint8), "imagenet")
    black, white = -0.449 / 0.226, (1 - 0.449) / 0.226
    torch.testing.assert_close(found, torch.tensor([[[black, white]], [[white, white]]]))


@pytest.mark.parametrize("how", HOWS)
def test_contrast_is_about_the_mean_of_the_image_and_brightness_in_its_deviations(monkeypatch, how):
    drawn = Draw(
        theta=np.tile(np.eye(2, 3, dtype=np.float32), (12, 1, 1)),
        contrast=np.full(12, 1.1, np.float32),
        brightness=np.full(12, 0.2, np.float32),
    )
    monkeypatch.setattr("mri_hpc.loading.augment.draw", lambda *_, **_named: drawn)
    found, plain = augmented(IMAGES, KEYS, 0, 0, how), standardised(IMAGES, how)
    (after, moved), (before, mean) = (torch.std_mean(x, (1, 2), correction=0) for x in (found, plain))
    torch.testing.assert_close(after, 1.1 * before, rtol=1e-3, atol=0)
    torch.testing.assert_close(moved - mean, 0.2 * before, rtol=1e-2, atol=1e-4)


def test_an_image_of_one_grey_becomes_zeros():
    assert standardised(torch.full((1, 8, 8), 7, dtype=torch.uint8), "image").abs().max() == 0


@pytest.mark.parametrize("how", HOWS)
def test_an_image_is_the_same_to_the_network_in_a_store_of_16_bits(how):
    deep = torch.from_numpy(np.multiply(IMAGES.numpy(), 257, dtype=np.uint16))
    assert torch.equal(standardised(deep, how), standardised(IMAGES, how))
    assert torch.equal(augmented(deep, KEYS, 3, 1, how), augmented(IMAGES, KEYS, 3, 1, how))


def test_without_flips_left_and_right_are_never_exchanged_and_all_else_is_drawn_alike():
    plain, held = draw(KEYS, 0, 0), draw(KEYS, 0, 0, flips=False)
    assert (plain.theta[:, 0, 0] < 0).any()
    assert (held.theta[:, 0, 0] > 0).all()
    np.testing.assert_array_equal(abs(plain.theta), abs(held.theta))
    np.testing.assert_array_equal(plain.contrast, held.contrast)
