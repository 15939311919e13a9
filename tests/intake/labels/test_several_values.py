import numpy as np

from mri_hpc.intake.labels.several_values import num_of_several, of_several


def test_groups_of_one_value_and_what_is_unknown_do_not_count():
    groups = np.array([5, 5, 2, 2, 2, 1, 1, -1, -1, 3], np.int32)
    values = np.array([0, 7, 1, 1, -1, 4, 3, 0, 1, -1], np.int16)
    assert of_several(groups, values).tolist() == [1, 5]


def test_no_rows_are_of_no_group():
    assert of_several(np.empty(0, np.int32), np.empty(0, np.int8)).tolist() == []


def test_names_are_counted_once_and_an_empty_name_or_value_says_nothing():
    pairs = [("a", "x"), ("a", "y"), ("a", "x"), ("b", "x"), ("b", ""), ("", "x"), ("", "y")]
    assert num_of_several(pairs) == 1
    assert num_of_several([]) == 0
