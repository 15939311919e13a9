"""Which of two images is the finer one, so that fine structure is compared on the pixels of the other."""

import cv2
import numpy as np
import pytest

from mri_hpc.cohort.alignment import Detail, is_as_fine, lay
from tests.cohort.heads import head

SIDE = 224
MIRRORED = np.array([[-1.0, 0, SIDE], [0, 1, 0], [0, 0, 1]])


@pytest.fixture(scope="module")
def images():
    """A head, and the same on half as many pixels each way between bars, as of a crop."""
    whole = head(3)
    wide = np.zeros_like(whole)
    wide[56:168, 56:168] = cv2.resize(whole, (112, 112), interpolation=cv2.INTER_AREA)
    wide[0, 0] = wide[-1, -1] = 255
    return Detail(whole), Detail(wide)


TO_WIDE = np.array([[0.5, 0, 56], [0, 0.5, 56], [0, 0, 1.0]])


def test_the_image_with_more_pixels_in_the_same_place_is_as_fine(images):
    whole, wide = images
    assert is_as_fine(whole, wide, np.linalg.inv(TO_WIDE))
    assert not is_as_fine(wide, whole, TO_WIDE)


@pytest.mark.parametrize("matrix", [np.eye(3), MIRRORED])
def test_an_image_is_as_fine_as_itself_however_it_is_turned(images, matrix):
    assert is_as_fine(images[0], images[0], matrix)


def test_another_head_is_not_laid_over_one(images):
    whole, _wide = images
    assert lay(whole, whole, np.eye(3)).score > 0.99
    assert lay(whole, Detail(head(4)), np.eye(3)) is None
