"""A small store for those who read one."""

import itertools

import numpy as np
import pytest
from PIL import Image

from mri_hpc.preprocess import main as preprocess

SIDE = 32


@pytest.fixture(scope="session")
def store_path(tmp_path_factory):
    """A store of 120 images of 60 patients in two classes."""
    folder = tmp_path_factory.mktemp("library")
    raw, store = folder / "raw", folder / "store"
    random = np.random.default_rng(0)
    for label, patient, part in itertools.product(range(2), range(30), range(2)):
        folder = raw / ("meningioma", "glioma")[label] / f"p{label}{patient:02d}"
        folder.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 90, (SIDE, SIDE))
        pixels[4 : 12 + 4 * label, 6:20] += 60
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{part}.png")
    arguments = ["--source", str(raw), "--store", str(store), "--size", str(SIDE), "--ids", "as-given"]
    assert preprocess(arguments) == 0
    return store
