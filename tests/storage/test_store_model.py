"""What must hold of a store: each thing that does not hold is found, and named."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from mri_hpc.intake.decoding.recipe import load_recipe
from mri_hpc.intake.decoding.window import Window
from mri_hpc.testing import Image, Trial
from mri_hpc.testing.invariants import different_pixels, pixels_of, windows_of


@pytest.fixture
def trial(tmp_path):
    """A store of four images of two patients, with a snapshot."""
    made = Trial(tmp_path / "trial")
    for number in range(4):
        made.put(f"{number}.png", f"class{number % 2}", f"patient{number % 2}")
    made.run(made.adding())
    made.publish()
    assert made.problems() == []
    return made


def test_an_image_that_is_lost_is_found(trial):
    commits = sorted((trial.bench.path / "commits").iterdir())
    commits[0].unlink()
    shutil.rmtree(trial.bench.path / "snapshots")
    (trial.bench.path / "snapshots").mkdir()
    assert len([problem for problem in trial.problems() if problem.endswith(".png is missing")]) == 2


def test_an_image_that_nobody_gave_is_found(trial):
    key = trial.bench.key_of("0.png")
    del trial.model.images["0.png"]
    assert trial.problems() == [f"image {key:016x} should not be there"]


@pytest.mark.parametrize("field", ["label", "patient", "source"])
def test_an_image_that_is_told_of_otherwise_is_found(trial, field):
    other = trial.model.images["1.png"]
    trial.model.images["0.png"] = replace(trial.model.images["0.png"], **{field: getattr(other, field)})
    (problem,) = trial.problems()
    assert problem.startswith("0.png is (")


def test_other_pixels_are_found_in_the_newest_snapshot_and_in_older_ones(trial):
    images = {**trial.model.images, "0.png": trial.model.images["1.png"]}
    snapshot = trial.bench.store.current()
    (problem,) = different_pixels(trial.bench, trial.bench.store, snapshot, images)
    assert problem == f"0.png has other pixels than its source, in snapshot {snapshot.digest}"
    trial.model.older[snapshot.digest] = images
    assert trial.problems() == [problem]


def test_a_damaged_pixel_is_found_and_is_well_after_a_repair(trial):
    trial.bench.damage("2.png")
    (problem,) = trial.problems()
    assert f"differ from their CRC: {trial.bench.key_of('2.png'):016x}" in problem
    assert trial.bench.repair().problems == []
    assert trial.problems() == []


def test_a_picture_of_16_bits_has_the_window_of_the_first_ones_of_its_patient(trial):
    for number in range(8):
        trial.put(f"deep{number}.png", "class", "deep", is_deep=True)
        trial.run(trial.adding(is_replacing=number % 2 == 0))
        assert trial.problems() == []
    (window,) = {trial.model.images[f"deep{number}.png"].window for number in range(8)}
    assert window == trial.model.windows["deep"]
    assert len({*trial.model.windows.values(), *windows_of(trial.model.images).values()}) > 1
    # Of a model that knows another one, every pixel is told to be other.
    first = trial.model.images["deep0.png"]
    trial.model.images["deep0.png"] = replace(first, window=Window(low=0.0, high=window.high * 2))
    assert [line for line in trial.problems() if "deep0.png has other pixels" in line]


def test_pixels_of_a_retracted_patient_that_are_still_somewhere_are_found(trial):
    recipe, source = load_recipe(trial.bench.store.recipe), trial.model.images["0.png"].source
    trial.run(trial.retracting("patient0"))
    assert trial.problems() == []
    left = trial.bench.path / "chunks" / ".tmp-left"
    left.write_bytes(b"before" + pixels_of(source, recipe) + b"after")
    assert trial.problems() == [f"{left} still holds pixels of a retracted patient"]


def test_a_snapshot_of_a_retracted_patient_that_can_still_be_read_is_found(trial):
    (digest,) = trial.model.older
    trial.model.retracted.add("patient0")
    assert trial.problems() == [f"snapshot {digest} can be read, and holds images of a retracted patient"]


def test_an_older_snapshot_that_is_gone_is_found(trial):
    trial.model.older["0" * 32] = dict(trial.model.images)
    (problem,) = trial.problems()
    assert problem.startswith(f"snapshot {'0' * 32} cannot be read: ")


def test_a_private_table_that_is_open_to_others_is_found(trial):
    table = next((trial.bench.path / "private" / "names").iterdir())
    table.chmod(0o644)
    assert trial.problems() == [f"{table} has mode 644"]


def test_content_that_one_undisturbed_task_would_not_have_made_is_found(trial):
    assert trial.problems_beside_clean() == []
    trial.bench.relabel({"0.png": Image(source=b"", label="class7", patient="patient0")})
    (problem,) = trial.problems_beside_clean()
    assert "that of one undisturbed task" in problem


def test_a_store_that_is_not_there_lacks_its_images(trial):
    shutil.rmtree(trial.bench.path)
    assert trial.problems() == ["there is no store, and 4 images should be in it"]


def test_a_change_that_is_killed_leaves_each_image_as_before_or_as_after_and_the_model_follows(tmp_path):
    """At every ninth file operation."""
    counts = set()
    for at in range(1, 200, 9):
        trial = Trial(tmp_path / f"{at}")
        for number in range(4):
            trial.put(f"{number}.png", "a", "p")
        if not trial.kill(trial.adding(), at):
            break
        assert trial.problems() == []
        counts.add(len(trial.model.images))
        shutil.rmtree(tmp_path / f"{at}")
    # A unit is two images; of the second one's end there are few moments.
    assert counts - {4} == {0, 2}
    assert 40 < at < 199


def test_pictures_of_other_paths_and_versions_differ():
    from mri_hpc.testing.workbench import draw

    drawn = {draw(path, version, 16) for path in ("a", "b") for version in range(3)}
    assert len(drawn) == 6
    assert draw("a", 1, 16) == draw("a", 1, 16)
    assert np.all([one.startswith(b"\x89PNG") for one in drawn])
