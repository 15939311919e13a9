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


@pytest.mark.parametrize(
    ("rows", "tile_rows", "is_text"),
    [
        (5, 0, False), (14, 0, True), (40, 0, True), (60, 0, False),
        (10, 44, False), (10, 64, True), (14, 50, False), (14, 64, True),
    ],
)  # fmt: skip
def test_letters_are_tall_enough_to_be_read_and_small_beside_the_picture_or_a_tile(rows, tile_rows, is_text):
    picture = np.zeros((256, 256), np.uint16)
    for number in range(10):
        # So thin that they may fill the box around them.
        picture[20 : 20 + rows, 30 + 8 * number :][:, : min(3, rows // 3)] = 4000
    assert shows_text(picture, tile_rows=tile_rows) == is_text


def test_three_letters_are_a_text_and_two_are_not():
    for number, is_text in ((3, True), (2, False)):
        picture = bars()
        picture[:, 30 + 8 * number :] = 0
        assert shows_text(picture) == is_text


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


def drawn(*boxes, shape=(256, 256), step=0):
    """A dark picture with full boxes, (left, top, width, height) each; step: a box of teeth so far apart."""
    picture = np.zeros(shape, np.uint16)
    for left, top, width, height in boxes:
        box = picture[top : top + height, left : left + width]
        box[: 2 if step else height] = 4000
        if step:
            for tooth in range(0, width, step):
                box[:, tooth : tooth + 2] = 4000
    return picture


@pytest.mark.parametrize(("width", "is_text"), [(100, True), (140, False)])
def test_what_is_wider_than_twelve_letters_that_touch_is_no_text(width, is_text):
    combs = [(20 + (width + 12) * number, 30, width, 10) for number in range(3)]
    assert shows_text(drawn(*combs, shape=(256, 600), step=4)) == is_text


@pytest.mark.parametrize(("thick", "is_text"), [(7, True), (2, False)])
def test_lines_that_fill_little_of_their_box_are_no_letters(thick, is_text):
    picture = np.zeros((256, 256), np.uint16)
    for number in range(4):
        for row in range(40):
            picture[30 + row, 10 + 50 * number + row :][:thick] = 4000
    assert shows_text(picture) == is_text


@pytest.mark.parametrize(("width", "is_text"), [(4, True), (12, False)])
def test_full_squares_are_no_letters_and_thin_strokes_may_be(width, is_text):
    assert shows_text(drawn(*((20 + 18 * number, 30, width, 12) for number in range(8)))) == is_text


@pytest.mark.parametrize(("rows", "is_text"), [(12, True), (30, False)])
def test_more_parts_than_a_text_has_are_none(rows, is_text):
    grid = [(8 + 16 * column, 8 + 16 * row, 3, 10) for column in range(30) for row in range(rows)]
    assert shows_text(drawn(*grid, shape=(512, 512))) == is_text


@pytest.mark.parametrize(("apart", "is_text"), [(26, True), (7, False)])
def test_strokes_that_lie_over_each_other_are_no_row_of_letters(apart, is_text):
    picture = np.zeros((256, 256), np.uint16)
    for number in range(3):
        for row in range(20):
            picture[30 + row, 40 + apart * number + row :][:4] = 4000
    assert shows_text(picture) == is_text


@pytest.mark.parametrize(("heights", "is_text"), [((14, 12, 14, 12), True), ((8, 20, 40), False)])
def test_letters_of_one_row_are_of_about_one_height(heights, is_text):
    boxes = [(30 + 10 * number, 80 - height, 2, height) for number, height in enumerate(heights)]
    assert shows_text(drawn(*boxes)) == is_text


@pytest.mark.parametrize(
    ("tops", "lower"), [((40, 40, 40, 40), (50, 53, 50, 53)), ((40, 43, 40, 43), (53,) * 4)]
)
def test_letters_agree_at_one_end_and_some_are_longer_at_the_other(tops, lower):
    # So far apart that only neighbours are near enough.
    ends = enumerate(zip(tops, lower, strict=True))
    assert shows_text(drawn(*((30 + 15 * number, top, 3, end - top) for number, (top, end) in ends)))


def test_what_fades_is_no_letter():
    picture = bars()
    assert shows_text(picture)
    fading = 0.5 + 0.5 * np.linspace(0, 1, 14) ** 3
    picture[20:34] = (picture[20:34] * fading[:, np.newaxis]).astype(np.uint16)
    assert not shows_text(picture)


def test_letters_that_hang_together_by_their_grey_are_seen_and_so_are_those_on_a_grey_line():
    grey = bars()
    grey[21:34:2] = grey[21:34:2] * 0.6
    assert shows_text(grey)
    on_line = bars()
    on_line[33, 20:120] = np.maximum(on_line[33, 20:120], 3000)
    assert shows_text(on_line)
