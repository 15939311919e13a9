"""A look at training images costs what it may, gives signs of life, and bears one patient of many images."""

from types import SimpleNamespace

import numpy as np
import pytest

from mri_hpc.results.answers import appearance, resemblance_run
from mri_hpc.results.answers.resemblance_run import resemblance_of

COPIED = 40


class Drawn:
    """A reader of small pictures drawn by chance."""

    def read(self, rows):
        images = [np.random.default_rng(row).integers(0, 256, (16, 16)) for row in rows.tolist()]
        return np.stack(images).astype(np.uint8)


def look(images_of, beat=lambda: None):
    """Look at patients of so many images each, and at ten validation patients of one."""
    whose = np.repeat(np.arange(len(images_of)), images_of)
    patient = np.concatenate([whose, len(images_of) + np.arange(10)])
    snapshot = SimpleNamespace(patient=patient, patient_names=[str(name) for name in np.unique(patient)])
    train, validation = np.arange(len(whose)), len(whose) + np.arange(10)
    return resemblance_of(Drawn(), snapshot, train, validation, beat=beat)


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(resemblance_run, "MOST_COPIED", COPIED)
    monkeypatch.setattr(resemblance_run, "BATCH", 16)


def test_a_patient_of_more_images_than_are_copied_leaves_copies_of_others():
    first = int(np.random.default_rng(0).permutation(20)[0])
    found = look([COPIED + 5 if number == first else 1 for number in range(20)])
    assert found.space.changes is not None


def test_no_more_images_are_copied_than_half_of_each_half_may_give(monkeypatch):
    copied = []
    real = resemblance_run.look_at_copies
    monkeypatch.setattr(
        resemblance_run, "look_at_copies", lambda *given: copied.append(len(given[0])) or real(*given)
    )
    look([5] * 24)
    assert sum(copied) == COPIED


def test_copies_are_looked_at_in_small_pixels_alone(monkeypatch):
    described = []
    real = appearance._statistics
    monkeypatch.setattr(appearance, "_statistics", lambda grey: described.append(1) or real(grey))
    look([2] * 20)
    assert len(described) == 40 + 10


def test_it_gives_a_sign_of_life_after_each_batch():
    beats = []
    look([2] * 20, beat=lambda: beats.append(1))
    # 40 images, 40 of which copies are made, and 10 validation patients.
    assert len(beats) == 3 + 3 + 1
