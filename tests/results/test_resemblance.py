"""A patient who is not like the training data is called so, and one who is, in at most one case of ten."""

from dataclasses import replace

import numpy as np
import pytest

from mri_hpc.base.documents import with_format, without_format
from mri_hpc.base.errors import NewerFormat, UserError
from mri_hpc.base.sealed_json import seal, unseal
from mri_hpc.results.answers.appearance import NUM_PIXELS, NUM_STATISTICS, appearance_of
from mri_hpc.results.answers.planted_changes import look_at_copies
from mri_hpc.results.answers.resemblance import (
    FEWEST,
    FORMAT,
    NoResemblance,
    Resemblance,
    fit_space,
    fit_with_changes,
    load_resemblance,
    write_resemblance,
)
from mri_hpc.rundir.layout import RunDir

SIDE = 48


def head(number, size=1.0, side=SIDE):
    """A bright ellipse with something in it, which no two patients have alike: uint8, (side, side)."""
    random = np.random.default_rng(number)
    across, down = size * random.uniform(0.6, 0.75), size * random.uniform(0.75, 0.9)
    x, y = np.meshgrid(*[np.linspace(-1, 1, side)] * 2)
    grey = np.where((x / across) ** 2 + (y / down) ** 2 < 1, 130 + 60 * np.cos(7 * y + random.normal()), 0)
    return np.clip(grey + random.normal(0, 6, grey.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def resemblance():
    """Of a hundred such heads, beside thirty validation patients of two slices each."""
    space = fit_space(appearance_of(np.stack([head(number) for number in range(100)])))
    others = space.distances(appearance_of(np.stack([head(number) for number in range(200, 260)])))
    validation = tuple(tuple(pair) for pair in others.reshape(30, 2).tolist())
    return Resemblance(model_digest="d" * 8, num_images=100, space=space, validation=validation)


def verdict(resemblance, *images):
    return resemblance.verdict(resemblance.space.distances(appearance_of(np.stack(images))).tolist())


@pytest.mark.parametrize("num", [*range(1, 40), 99])
def test_of_patients_who_could_change_places_at_most_one_in_ten_is_called_unlike(num, resemblance):
    distances = np.random.default_rng(num).normal(size=num + 1).tolist()
    called = 0
    for new in range(num + 1):
        others = tuple((one,) for at, one in enumerate(distances) if at != new)
        called += replace(resemblance, validation=others).verdict([distances[new]]).is_unlike
    assert called == (num + 1) // 10


CHANGES = {
    "a negative": lambda image: 255 - image,
    "a head of half the size": lambda image: head(7, 0.5),
    "a head that fills the picture": lambda image: head(7, 1.6),
    "a head on its side": lambda image: np.rot90(image).copy(),
    "no head, black": np.zeros_like,
    "no head, white": lambda image: np.full_like(image, 255),
    "noise": lambda image: np.random.default_rng(1).integers(0, 256, image.shape).astype(np.uint8),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_the_training_images_do_not_look_like_is_called_unlike(change, resemblance):
    images = [head(number) for number in range(300, 303)]
    assert not verdict(resemblance, *images).is_unlike
    found = verdict(resemblance, *(CHANGES[change](image) for image in images))
    assert (found.is_unlike, found.num_as_far) == (True, 0)
    assert found.words.startswith("This is not like the training data")
    assert "0 of 30 validation patients lie as far from it" in found.words
    assert "1 in 10 patients like those is called so by mistake" in found.words


def lopsided(number):
    """A head of any size and brightness, a little brighter above."""
    image = head(number, size=np.random.default_rng((number, 1)).uniform(0.75, 1.1)).astype(int)
    bright = 1 + np.random.default_rng((number, 2)).uniform(-0.3, 0.3)
    above = np.where(np.arange(SIDE)[:, None] < 0.4 * SIDE, 1.15, 0.95)
    return np.clip(np.where(image > 40, image * bright * above, image), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def spaces():
    """What 120 such heads tell, without and with copies that were turned and resized."""
    images, number = np.stack([lopsided(number) for number in range(120)]), np.arange(120)
    appearance, copies = appearance_of(images), look_at_copies(images, np.random.default_rng(0))
    changed = fit_with_changes(appearance, copies, of=number, half=number % 2 == 0)
    return fit_space(appearance), changed


def called(space, images):
    """Part of 20 patients, two slices each, who are called unlike."""
    others = np.stack([lopsided(number) for number in range(200, 260)])
    validation = space.distances(appearance_of(others)).reshape(30, 2).tolist()
    found = Resemblance(
        model_digest="d" * 8, num_images=120, space=space, validation=tuple(tuple(one) for one in validation)
    )
    pairs = space.distances(appearance_of(images)).reshape(20, 2).tolist()
    return np.mean([found.verdict(pair).is_unlike for pair in pairs])


def test_copies_of_the_training_images_tell_heads_that_are_upside_down(spaces):
    new = np.stack([lopsided(number) for number in range(300, 340)])
    upside_down = np.ascontiguousarray(new[:, ::-1, ::-1])
    plain, changed = spaces
    assert called(plain, upside_down) < 0.9 <= called(changed, upside_down)
    assert called(changed, new) <= 0.1
    assert called(changed, 255 - new) == 1
    odds = changed.changes.direction.odds
    assert np.median(odds(appearance_of(new))) < 0 < np.median(odds(appearance_of(upside_down)))


def test_what_copies_tell_is_read_as_it_was_written_and_a_run_of_before_has_none(spaces, tmp_path):
    run, (plain, changed) = RunDir(tmp_path), spaces
    validation = tuple((float(number),) for number in range(20))
    found = Resemblance(model_digest="", num_images=120, space=changed, validation=validation)
    write_resemblance(run, found)
    assert load_resemblance(run) == found
    document = without_format(unseal(run.resemblance.read_bytes()), of=run.resemblance, reads=FORMAT)
    del document["space"]["changes"]
    run.resemblance.write_bytes(seal(with_format(1, document)))
    before = load_resemblance(run)
    assert before.space == replace(changed, changes=None)
    looks = appearance_of(np.stack([lopsided(1)]))
    assert before.space.distances(looks) == pytest.approx(plain.distances(looks))


def test_a_patient_is_called_so_by_most_of_the_slices(resemblance):
    images = [head(number) for number in range(300, 305)]
    black = np.zeros_like(images[0])
    assert not verdict(resemblance, *images, black, black).is_unlike
    assert verdict(resemblance, images[0], black, black).is_unlike


def test_one_picture_is_held_against_one_picture_of_each(resemblance):
    validation = tuple((5.0, 1.0, 1.0) for _ in range(20))
    found = replace(resemblance, validation=validation)
    assert not found.verdict([4.0]).is_unlike
    assert found.verdict([4.0, 4.0, 4.0]).is_unlike


def test_with_too_few_validation_patients_nothing_is_known_and_it_is_said(resemblance):
    few = replace(resemblance, validation=resemblance.validation[: FEWEST - 1])
    found = verdict(few, np.zeros((SIDE, SIDE), np.uint8))
    assert (found.is_known, found.is_unlike, found.p) == (False, False, None)
    assert found.words == (
        "Whether this is like the training data is not known: "
        "it needs 9 validation patients, and the run has 8"
    )
    enough = replace(resemblance, validation=resemblance.validation[:FEWEST])
    assert verdict(enough, np.zeros((SIDE, SIDE), np.uint8)).is_unlike


def test_the_appearance_depends_on_neither_depth_nor_who_else_is_looked_at():
    images = np.stack([head(1), head(2)])
    found = appearance_of(images)
    assert found.shape == (2, NUM_STATISTICS + NUM_PIXELS)
    assert appearance_of(images.astype(np.uint16) * 257) == pytest.approx(found, abs=1e-5)
    assert np.array_equal(appearance_of(images[1:]), found[1:])


@pytest.mark.parametrize("image", [np.zeros((8, 8), np.uint8), head(1), np.eye(300, dtype=np.uint8)])
def test_two_training_images_even_if_they_are_the_same_give_a_distance(image):
    space = fit_space(appearance_of(np.stack([image, image])))
    found = space.distances(appearance_of(np.stack([image, 255 - image])))
    assert np.isfinite(found).all()
    assert found[0] < found[1]


def test_it_is_read_as_it_was_written(resemblance, tmp_path):
    run = RunDir(tmp_path)
    assert isinstance(load_resemblance(run), NoResemblance)
    write_resemblance(run, resemblance)
    assert load_resemblance(run) == resemblance


def test_one_without_changes_is_read_by_a_version_that_knows_none(spaces, resemblance, tmp_path):
    run = RunDir(tmp_path)
    for space, number in zip(spaces, (1, 2), strict=True):
        write_resemblance(run, replace(resemblance, space=space))
        assert unseal(run.resemblance.read_bytes())["format"] == number


def changed(resemblance, run, **values):
    write_resemblance(run, resemblance)
    document = unseal(run.resemblance.read_bytes())
    run.resemblance.write_bytes(seal({**document, **values}))


def test_a_damaged_one_is_refused_and_said_how_to_make_it_again(resemblance, tmp_path):
    run = RunDir(tmp_path)
    write_resemblance(run, resemblance)
    whole = run.resemblance.read_bytes()
    run.resemblance.write_bytes(whole.replace(b'"num_images": 100', b'"num_images": 101'))
    with pytest.raises(UserError, match=r"is damaged .*remove it, and mri-hpc evaluate .* makes it again"):
        load_resemblance(run)
    space = unseal(whole)["space"]
    changed(resemblance, run, space={**space, "components": space["components"][1:]})
    with pytest.raises(UserError, match="its parts do not fit each other"):
        load_resemblance(run)
    changed(resemblance, run, **with_format(3, {}))
    with pytest.raises(NewerFormat):
        load_resemblance(run)
