"""Classes that speak of a side are found by their names, and others are not."""

import pytest

from mri_hpc.cohort.sides import sided_classes


@pytest.mark.parametrize(
    "classes",
    [
        ("left", "right"), ("tumor_left", "tumor_right"), ("LeftGlioma", "RightGlioma"), ("links", "rechts"),
        ("glioma-L", "glioma-R"), ("LH", "RH"), ("lesion gauche", "lesion droite"),
    ],
)  # fmt: skip
def test_both_sides_are_found(classes):
    assert sided_classes((*classes, "none")) == classes


@pytest.mark.parametrize(
    "classes",
    [
        ("glioma", "meningioma", "pituitary"),
        ("L", "M"),
        ("bright", "dark"),
        ("t1_l", "t2_r"),
        ("cleft", "notumor"),
    ],
)
def test_other_names_speak_of_no_side(classes):
    assert sided_classes(classes) == ()


def test_one_side_beside_no_side_is_enough():
    assert sided_classes(("left_mts", "normal")) == ("left_mts",)
