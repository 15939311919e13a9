"""The square: every size becomes what OpenCV's average over areas makes of it."""

import cv2
import numpy as np
import pytest

from mri_hpc.intake.decoding import square
from mri_hpc.intake.decoding.recipe import Recipe
from mri_hpc.intake.decoding.square import fit_to_square

STRETCHED = Recipe(size=224, fit="stretch")


def noise(height, width):
    """Return levels in which all sums of neighbours, and so all halves that are rounded, come about."""
    return np.random.default_rng(1).integers(0, 256, (height, width), dtype=np.uint8)


@pytest.mark.parametrize(("height", "width", "size"), [(256, 256, 224), (64, 64, 56), (512, 512, 448)])
def test_seven_of_eight_pixels_are_those_that_opencv_makes(height, width, size):
    grey = noise(height, width)
    pixels, placed = fit_to_square(grey, Recipe(size=size))
    assert (pixels == cv2.resize(grey, (size, size), interpolation=cv2.INTER_AREA)).all()
    assert placed == (0.0, 0.0, 1.0, 1.0)


def test_seven_of_eight_pixels_of_an_oblong_picture_lie_in_the_middle():
    grey = noise(256, 192)
    pixels, placed = fit_to_square(grey, Recipe(size=224))
    assert (pixels[:, 28:196] == cv2.resize(grey, (168, 224), interpolation=cv2.INTER_AREA)).all()
    assert not pixels[:, :28].any()
    assert not pixels[:, 196:].any()
    assert placed == (28 / 224, 0.0, 168 / 224, 1.0)


@pytest.mark.parametrize("shape", [(256, 255), (255, 256), (257, 256), (256, 512), (192, 256), (448, 448)])
def test_all_other_sizes_are_left_to_opencv(shape, monkeypatch):
    monkeypatch.delattr(square, "_seven_of_eight")
    grey = noise(*shape)
    pixels, _placed = fit_to_square(grey, STRETCHED)
    how = cv2.INTER_AREA if min(shape) >= 224 else cv2.INTER_LINEAR
    assert (pixels == cv2.resize(grey, (224, 224), interpolation=how)).all()


def test_deep_levels_are_left_to_opencv(monkeypatch):
    monkeypatch.delattr(square, "_seven_of_eight")
    grey = noise(256, 256).astype(np.uint16) * 257
    pixels, _placed = fit_to_square(grey, Recipe(size=224, bits=16))
    assert (pixels == cv2.resize(grey, (224, 224), interpolation=cv2.INTER_AREA)).all()
