"""Pictures of a prediction wait in a file: any number of them needs no memory."""

import tempfile
import tracemalloc

import numpy as np
from PIL import Image

from mri_hpc.intake.decoding.recipe import Recipe
from mri_hpc.intake.labels.images import find_images
from mri_hpc.results.answers.judging import Asked, judge
from mri_hpc.results.answers.kept_pictures import KeptPictures
from mri_hpc.results.statistics.patient_model import MeanOfImages


def test_many_pictures_take_no_memory_and_come_back_as_they_were():
    pictures = KeptPictures()
    tracemalloc.start()
    kept = [pictures.keep(bytes([n]) * (100_000 + n)) for n in range(100)]
    _now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000
    assert all(one.read() == bytes([n]) * (100_000 + n) for n, one in enumerate(kept))


def test_what_a_network_saw_is_kept_outside_memory_and_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    greys = np.arange(16 * 16, dtype=np.uint8).reshape(16, 16)
    (tmp_path / "anna").mkdir()
    for number in range(3):
        Image.fromarray(greys + number).save(tmp_path / "anna" / f"{number}.png")
    run = Asked(
        classes=("a", "b"),
        model=lambda images: np.ones((len(images), 2)) / 2,
        patient_model=MeanOfImages(),
    )
    (answer,) = judge(
        find_images([tmp_path / "anna"], "folder").images,
        Recipe(size=16),
        [run],
        keep_pictures=True,
    )
    assert len({image.picture for image in answer.images}) == 3
    assert all(image.picture.startswith(b"\x89PNG") for image in answer.images)
    assert not any(isinstance(value, bytes) for image in answer.images for value in vars(image).values())
    # No name, so that no one else finds it, and a killed prediction leaves no patient's picture.
    assert list((tmp_path / "temporary").iterdir()) == []
