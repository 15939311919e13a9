"""Text that is burnt into pixels is seen, and real slices without any are left in peace."""

import numpy as np
import pytest

from mri_hpc.intake.decoding.burnt_in import FEWEST_ROWS, shows_text
from tests.harness.burnt_in_text import BASES, plant, real_slices

MOST_FALSE = {"cheng": 0.01, "decubitus": 0.02, "ge_t1": 0.02, "nifti": 0.02, "dicom": 0.1, "twelve_bit": 0.0}
"""Fractions of pictures; of ten, and of three, there may be none."""


@pytest.fixture(scope="module")
def slices(real_data):
    """Real pictures by folder: of Cheng's, one in 20."""
    return {
        folder: list(real_slices(real_data, folder, step=20 if folder == "cheng" else 1))
        for folder in MOST_FALSE
    }


def test_of_19_texts_in_20_that_are_burnt_into_real_slices_none_is_passed_over(slices):
    bases = [picture for folder in BASES for picture in slices[folder][::7]]
    planted = list(plant(bases, 300, seed=3))
    missed = [one.how for one in planted if not shows_text(one.picture)]
    assert len(missed) <= 0.05 * len(planted), missed


@pytest.mark.parametrize("folder", MOST_FALSE)
def test_real_slices_are_hardly_ever_taken_for_pictures_with_text(slices, folder):
    found = [shows_text(picture) for picture in slices[folder]]
    assert len(found) > 2
    assert np.mean(found) < MOST_FALSE[folder] or not sum(found)


def bars(dtype=np.uint16, *, low=0, high=4000, side=256):
    """Ten upright strokes in a row, as of letters."""
    picture = np.full((side, side), low, dtype)
    for number in range(10):
        picture[20:34, 30 + 8 * number : 33 + 8 * number] = high
    return picture


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [
        (np.uint8, 0, 255), (np.uint16, 0, 4095), (np.int16, -1024, 3000), (np.int16, -2000, -100),
        (np.int32, 0, 70000), (np.uint32, 0, 70000), (np.float32, 0, 1.5),
    ],
)  # fmt: skip
def test_pixels_may_be_numbers_of_any_type(dtype, low, high):
    assert shows_text(bars(dtype, low=low, high=high))
    assert not shows_text(np.full((256, 256), high, dtype))


def test_what_stands_in_no_row_is_no_text():
    picture = np.zeros((256, 256), np.uint16)
    for number in range(10):
        picture[20 + 9 * number : 34 + 9 * number, 30 + 8 * number : 33 + 8 * number] = 4000
    assert not shows_text(picture)


def test_bright_dashes_are_no_text():
    picture = bars()
    picture[24:34] = 0
    assert not shows_text(picture)


def test_letters_that_run_into_their_surroundings_are_tissue():
    picture = bars()
    picture[18:36, 25:115] = np.maximum(picture[18:36, 25:115], 2500)
    assert not shows_text(picture)


def test_of_pictures_too_small_to_be_read_none_shows_text():
    assert not shows_text(bars(side=256)[: FEWEST_ROWS - 1])
