"""A source of 40 pictures, and where its store will be."""

import pytest


@pytest.fixture
def raw(tmp_path, make_pictures):
    make_pictures(tmp_path / "raw", 40)
    return tmp_path / "raw"


@pytest.fixture
def store(tmp_path):
    return tmp_path / "store"
