import dataclasses

import cv2
import numpy as np
import pytest

from mri_hpc.cohort import twins
from mri_hpc.cohort.twins import SAME_PIXELS, find_twins
from tests.cohort.heads import brighter, cropped, head, resized, saved_again

PERSONS = 12
CHANGES = {
    "re-saved": saved_again,
    "resized": resized,
    "cropped": cropped,
    "other brightness": brighter,
    "inverted": lambda image: 255 - image,
    "mirrored": lambda image: image[:, ::-1],
    "mirrored top to bottom": lambda image: image[::-1],
    "rotated by 90": lambda image: np.rot90(image, -1),
    "rotated by 180": lambda image: np.rot90(image, 2),
    "rotated by 270": lambda image: np.rot90(image, 1),
    "mirrored and rotated by 90": lambda image: np.rot90(image[:, ::-1], -1),
    "mirrored and rotated by 270": lambda image: np.rot90(image[:, ::-1], 1),
}


@pytest.fixture(scope="module")
def heads():
    return np.stack([head(number) for number in range(PERSONS)])


def twins_of(images, **options):
    stacked = np.stack([np.ascontiguousarray(image) for image in images])
    return find_twins(lambda rows: stacked[rows], len(stacked), **options)


@pytest.mark.parametrize("how", CHANGES)
def test_a_changed_copy_is_found_and_told_how_it_was_changed(heads, how):
    (group,) = twins_of([*heads, CHANGES[how](heads[3])])
    assert group.rows == (3, PERSONS)
    assert group.how == (("re-saved",) if how == "resized" else (how,))


def test_changes_are_found_together(heads):
    changed = saved_again(255 - cropped(np.ascontiguousarray(np.rot90(heads[5], -1))))
    (group,) = twins_of([*heads, changed])
    assert (group.rows, group.how) == ((5, PERSONS), ("cropped", "inverted", "rotated by 90"))


def test_the_finer_one_of_two_is_brought_to_the_pixels_of_the_other_whichever_comes_first(heads):
    wide = np.random.default_rng(1).integers(0, 14, heads[3].shape).astype(np.uint8)
    wide[26:197, 26:197] = cv2.resize(heads[3], (171, 171), interpolation=cv2.INTER_AREA)
    both, rows = np.stack([wide, heads[3]]), np.arange(2)
    looks = twins.looks_of(lambda rows: both[rows], rows, side=224, progress=lambda starts: starts)
    pairs = twins.find_candidates(looks, lambda starts: starts)
    assert len(pairs) == 1
    back = dataclasses.replace(pairs, first=pairs.second, second=pairs.first, move=-pairs.move)
    judge = twins._Judge(lambda rows: both[rows], rows, looks, 224)
    there, again = (judge._judge(one, 0, [int(one.first[0]), int(one.second[0])]) for one in (pairs, back))
    assert there.how == again.how == ("cropped",)
    assert there.score == pytest.approx(again.score, abs=0.002)


def test_an_image_that_has_missed_twice_is_not_compared_with_all_that_are_left(heads, monkeypatch):
    compared = []
    monkeypatch.setattr(twins, "lay", lambda *given: compared.append(given))
    likely = [saved_again(heads[0], quality) for quality in range(60, 90, 2)]
    assert twins_of(likely) == []
    assert len(likely) / 2 <= len(compared) <= twins.MOST_MISSES * len(likely)


def test_neighbouring_slices_and_other_heads_are_no_twins(heads):
    neighbours = [head(number, slice_number=1) for number in range(PERSONS)]
    assert twins_of([*heads, *neighbours]) == []


def test_all_copies_of_one_image_are_one_group_however_many_there_are(heads):
    copies = [change(heads[0]) for change in CHANGES.values()]
    again = [saved_again(np.ascontiguousarray(copy), 85) for copy in copies]
    (group,) = twins_of([*heads, *copies, *again])
    assert group.rows == (0, *range(PERSONS, PERSONS + 2 * len(CHANGES)))
    assert len(group.twins) == len(group.rows) - 1


def test_images_of_the_same_pixels_are_joined_without_being_compared(heads):
    images = [*heads, heads[2], 255 - heads[2]]
    (group,) = twins_of(images, same=[np.array([2, PERSONS])])
    assert group.rows == (2, PERSONS, PERSONS + 1)
    assert group.how == ("inverted", SAME_PIXELS)


def test_images_that_show_nothing_have_no_twins(heads):
    blank = np.zeros_like(heads[0])
    speck = blank.copy()
    speck[100, 100] = 3
    assert twins_of([blank, blank + 7, blank, speck, speck]) == []


def test_none_and_few_images_are_no_trouble(heads):
    assert find_twins(lambda rows: heads[rows], 0) == []
    assert twins_of(heads[:1]) == []
    assert len(twins_of([heads[0], heads[0][::-1]])) == 1
