"""Stores that are made once a file of tests, and copied for each test."""

import json
import shutil

import pytest

from mri_hpc.store import main


@pytest.fixture(scope="module")
def pattern(tmp_path_factory):
    """Folder of the pictures and the store of which every test has a copy, empty at first."""
    return tmp_path_factory.mktemp("pattern")


@pytest.fixture
def copy_of_store(tmp_path, pattern, make_pictures, preprocess):
    """Makes a store of so many pictures with these options, beside the pictures in raw."""

    def make(count, *options):
        if not list(pattern.iterdir()):
            make_pictures(tmp_path / "raw", count)
            assert preprocess(tmp_path / "raw", tmp_path / "store", *options)[0] == 0
            shutil.copytree(tmp_path, pattern, dirs_exist_ok=True)
        shutil.copytree(pattern, tmp_path, dirs_exist_ok=True)
        return tmp_path / "store"

    return make


@pytest.fixture
def raw(tmp_path, store):
    """The pictures that the store was made of."""
    return tmp_path / "raw"


@pytest.fixture
def repair(store, raw, capsys):
    """Repairs the store; returns the exit status, what --json prints, and stderr."""

    def run(*options):
        capsys.readouterr()
        status = main(["verify", str(store), "--repair", "--source", str(raw), "--json", *map(str, options)])
        printed = capsys.readouterr()
        return status, json.loads(printed.out), printed.err

    return run
