"""Twins among real slices: changed copies are found across folds, neighbouring slices are none."""

import csv

import cv2
import numpy as np

from mri_hpc.cohort.twins import find_twins
from mri_hpc.intake.decoding.recipe import Recipe
from mri_hpc.intake.decoding.square import fit_to_square
from tests.cohort.heads import brighter, saved_again


def smaller(image):
    return cv2.resize(image, (300, 300), interpolation=cv2.INTER_AREA)


def cropped(image):
    return image[20:-8, 11:-25]


CHANGES = (
    saved_again,
    smaller,
    lambda image: image[:, ::-1],
    lambda image: np.rot90(image),
    cropped,
    brighter,
    lambda image: 255 - image,
)


def test_changed_copies_of_real_slices_are_found_and_no_neighbours(real_data):
    with (real_data / "cheng" / "index.csv").open() as file:
        rows = list(csv.DictReader(file))
    # Runs of neighbours from all over the set.
    rows = [row for number, row in enumerate(rows) if number % 240 < 40]
    slices = [cv2.imread(str(real_data / "cheng" / row["path"]), cv2.IMREAD_GRAYSCALE) for row in rows]
    copied = range(0, len(slices), 4)
    copies = [CHANGES[number % len(CHANGES)](slices[row]) for number, row in enumerate(copied)]
    images = np.stack([fit_to_square(np.ascontiguousarray(one), Recipe())[0] for one in (*slices, *copies)])
    groups = find_twins(lambda wanted: images[wanted], len(images))
    planted = {(row, len(slices) + number) for number, row in enumerate(copied)}
    found = {group.rows for group in groups}
    assert len(planted) == 100
    assert found - planted == set()
    # As if every third copy had been filed under another class.
    assert set(sorted(planted)[::3]) <= found
    assert len(planted - found) <= 1


def test_the_two_likest_slices_that_are_no_twins_are_told_apart(real_data):
    """Looked at: other ventricles, another rim of the tumour; of all 2,400 slices none are liker."""
    for pair in (("2144", "2349"), ("2203", "2204")):
        paths = [str(real_data / "cheng" / "glioma" / f"{name}.jpg") for name in pair]
        slices = [cv2.imread(path, cv2.IMREAD_GRAYSCALE) for path in paths]
        images = np.stack([fit_to_square(one, Recipe())[0] for one in slices])
        assert find_twins(lambda wanted, images=images: images[wanted], 2) == []
