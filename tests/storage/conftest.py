import shutil

import numpy as np
import pytest

from mri_hpc.storage.disk.columns import COLUMNS


@pytest.fixture
def make_columns():
    """Columns of a chunk for given keys; everything else follows from the key and `variant`."""

    def make(keys, *, variant=0, generation=0, labels=("a", "b", ""), patients=("P1", "P2", "P3", "")):
        keys = np.array(keys, "<u8")
        fill = keys.astype(np.int64) + variant
        columns = {
            c.name: np.zeros((len(keys), c.width) if c.width > 1 else len(keys), c.dtype) for c in COLUMNS
        }
        columns |= {
            "key": keys,
            "source_hash": (fill * 7919).astype("<u8"),
            "crc": (fill * 104729).astype("<u4"),
            "generation": np.full(len(keys), generation, "<i4"),
            "fold": (fill % 5 - 1).astype("<i2"),
            "split": (fill % 4 - 1).astype("|i1"),
            "position": np.where(fill % 2, np.nan, fill).astype("<f4"),
            "plane_inferred": (fill % 2).astype("|u1"),
            "label": np.array([labels[i % len(labels)].encode() for i in fill.tolist()], np.bytes_),
            "patient": np.array([patients[i % len(patients)].encode() for i in fill.tolist()], np.bytes_),
            "study": np.array([b""] * len(keys), np.bytes_),
        }
        return columns

    return make


@pytest.fixture(scope="session")
def pattern(tmp_path_factory):
    """Folder of the store of which every test has a copy, empty at first."""
    return tmp_path_factory.mktemp("pattern")


@pytest.fixture
def filled(tmp_path, pattern, make_pictures, preprocess):
    """A store of 60 images in chunks of 8, at tmp_path/store."""
    if not list(pattern.iterdir()):
        make_pictures(tmp_path / "raw", 60)
        assert preprocess(tmp_path / "raw", tmp_path / "store", "--size", 16, "--chunk-images", 8)[0] == 0
        shutil.copytree(tmp_path, pattern, dirs_exist_ok=True)
    shutil.copytree(pattern, tmp_path, dirs_exist_ok=True)
    return tmp_path / "store"
