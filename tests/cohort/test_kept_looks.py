"""Looks that an earlier version has kept serve as long as they are made by the same rule."""

import numpy as np
import pytest

from mri_hpc.cohort.kept_looks import NONE, read_looks
from mri_hpc.cohort.kept_parts import keep_part
from mri_hpc.cohort.looks import look_at
from mri_hpc.storage.store import Store
from tests.cohort.heads import head


@pytest.fixture
def store(tmp_path, make_pictures, preprocess):
    make_pictures(tmp_path / "raw", 2)
    preprocess(tmp_path / "raw", tmp_path / "store", "--size", 32)
    return Store(tmp_path / "store")


def some(number):
    """Arrays of so many looks, as version 0.1.0 has kept them."""
    return {name: np.zeros((number, *array.shape[1:]), array.dtype) for name, array in NONE.items()}


def test_looks_of_rule_1_are_read_and_those_of_other_rules_are_not(store):
    keep_part(store, "looks-2", some(2))
    assert len(read_looks(store).pair) == 0
    keep_part(store, "looks-1", some(3))
    assert len(read_looks(store).pair) == 3


def test_rule_1_still_makes_these_looks():
    """Whoever changes how looks are made gives them another rule: kept ones would be compared with others."""
    found = look_at([head(0)[None]], 1)
    assert found.frames[0, 0] == pytest.approx([37.29, 186.71, 46.313, 177.687], abs=0.01)
    assert found.coefficients[0, 0, :3, :3] == pytest.approx(
        np.array([[0, -0.0223, -0.0591], [0.01, 0.1035, -0.0877], [-0.2377, 0.0151, -0.3455]]), abs=2e-3
    )
