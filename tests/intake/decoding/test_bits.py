"""Grey levels of 16 bits: the window of 8 bits, in finer steps."""

import numpy as np
import pytest

from mri_hpc.intake.decoding.grey_values import levels_of, to_8_bits, to_levels
from mri_hpc.intake.decoding.left_out import shows_head
from mri_hpc.intake.decoding.recipe import Recipe
from mri_hpc.intake.decoding.samples import Sample
from mri_hpc.intake.decoding.window import Window

WINDOW = Window(low=100, high=4100)
ALL_WORDS = np.arange(2**16, dtype=np.uint16).reshape(256, 256)


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32])
def test_black_is_0_and_white_is_65535_whatever_numbers_the_source_has(kind):
    grey = np.array([[0, 100, 101, 2100, 4100, 9000]], kind)
    found = levels_of(grey, WINDOW, 16)
    assert found.dtype == np.uint16
    assert found.tolist() == [[0, 0, 16, 32768, 65535, 65535]]
    assert levels_of(grey, WINDOW).tolist() == [[0, 0, 0, 128, 255, 255]]


def test_a_group_of_one_value_is_black_in_both():
    for bits in (8, 16):
        assert not levels_of(ALL_WORDS, None, bits).any()


def test_pictures_of_8_bits_are_multiplied_by_257_and_come_back_as_they_were():
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    deep = to_levels(grey, Recipe(bits=16), None)
    assert deep.dtype == np.uint16 and np.array_equal(deep, grey.astype(int) * 257)
    assert np.array_equal(to_8_bits(deep), grey)
    assert to_levels(grey, Recipe(), None) is grey


def test_in_8_bits_each_pixel_has_the_nearest_level():
    nearest = np.rint(ALL_WORDS / 257)
    assert np.array_equal(to_8_bits(ALL_WORDS), nearest)
    stack = ALL_WORDS.reshape(4, 128, 128)
    assert np.array_equal(to_8_bits(stack).reshape(256, 256), nearest)


def test_what_shows_a_head_in_8_bits_shows_one_in_16():
    y, x = np.mgrid[-1:1:48j, -1:1:48j]
    noise = np.random.default_rng(0).integers(0, 6, (48, 48))
    for grey in (np.where(np.hypot(x, y) < 0.8, 60, 0), noise):
        pixels = grey.astype(np.uint8)
        deep = to_levels(pixels, Recipe(bits=16), None)
        assert shows_head(Sample(pixels=deep)) == shows_head(Sample(pixels=pixels))
