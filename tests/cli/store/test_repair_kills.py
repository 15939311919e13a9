"""A repair is killed before and after changes of files, and amid writes, and ended by another."""

import functools
import pickle
import shutil

import numpy as np
import pytest

from mri_hpc.storage.disk.commits import publish_retraction
from mri_hpc.storage.disk.layout import open_store
from mri_hpc.storage.snapshot.catalogue import current, resolve
from mri_hpc.storage.upkeep.verify import verify
from mri_hpc.store_actions.verify import Verify, check_store
from mri_hpc.testing.file_operations import FileOperations
from tests.cli.store.harms import (
    assert_nothing_is_left,
    chunk_with,
    chunks,
    cut_short,
    flip_pixels,
    pixels,
    truncate,
)  # fmt: skip
from tests.harness.scenes import Place, draw_sources, start, take, wait

KILLS = 5


@pytest.fixture
def wrecked(tmp_path, monkeypatch):
    """A store of ten images that is damaged in each way, what it has to be, and retracted pixels."""
    sources = tmp_path / "sources"
    draw_sources(sources)
    monkeypatch.setenv("MRI_KEY_FILE", str(sources / "site.key"))
    place = Place(tmp_path / "pattern", sources)
    place.root.mkdir()
    take(place, [place.preprocess()])
    old = resolve(place.store)
    images = pixels(place.store, old)
    retracted = np.flatnonzero(old.patient == 0)
    publish_retraction(open_store(place.store), old.key[retracted].tolist(), (), "")
    after = resolve(place.store)
    gone = chunk_with(place.store, old.key[retracted])
    # The last unit may be of one image, and the site's key is a new one each time.
    others = [path for path in chunks(place.store) if path != gone]
    first, second, third, *_rest = sorted(others, key=lambda path: -path.stat().st_size)
    flip_pixels(first, 0, 1)
    truncate(second)
    third.unlink()
    gone.unlink()
    cut_short(place.store / "snapshots" / after.digest)
    return place, after, [images[row] for row in retracted]


def test_a_repair_that_is_killed_is_ended_by_another(wrecked):
    moments = num_moments(wrecked[0])
    assert moments > 100
    for number in range(KILLS):
        assert check_kill(*wrecked, 1 + (moments - 1) * (2 * number + 1) // (2 * KILLS))


def check_kill(pattern, after, retracted, at):
    """Kill a repair at a moment and check what it leaves; False where it ended before that moment."""
    place = copy_of(pattern)
    sound = {path.name: path.read_bytes() for path in chunks(place.store) if path.stem in sound_chunks(place)}
    left = retracted_left(place, retracted)
    repair = functools.partial(check_store, Verify(store=place.store, repair=True, source=place.raw))
    was_killed = wait(place, start(place, repair, functools.partial(die_at, place.root, at))) != 0
    assert sound_chunks(place) >= {name.removesuffix(".h5") for name in sound} - superseded(place)
    assert (place.store / "snapshots" / after.digest).is_dir()
    assert retracted_left(place, retracted) <= left
    take(place, [repair])
    assert verify(open_store(place.store)).problems == []
    assert current(open_store(place.store)).content_digest == after.content_digest
    # Ends the retraction, as ever.
    take(place, [place.compact()])
    assert_nothing_is_left(place.store, retracted)
    return was_killed


def copy_of(pattern):
    place = Place(pattern.root.with_name("place"), pattern.sources)
    shutil.rmtree(place.root, ignore_errors=True)
    shutil.copytree(pattern.root, place.root)
    return place


def sound_chunks(place):
    return set(verify(open_store(place.store)).sound)


def superseded(place):
    commits = verify(open_store(place.store)).commits
    return {name for commit in commits for name in commit.superseded}


def retracted_left(place, retracted):
    """Which retracted images a file holds whose name lasts."""
    data = b"".join(path.read_bytes() for path in chunks(place.store))
    return {number for number, image in enumerate(retracted) if image in data}


def die_at(root, at):
    FileOperations(root, at).install()
    return lambda: None


def num_moments(pattern):
    """Moments at which a repair can be killed."""
    place = copy_of(pattern)
    found = place.sources / "moments"

    def watch():
        operations = FileOperations(place.root).install()
        return lambda: found.write_bytes(pickle.dumps(operations.moments))

    options = Verify(store=place.store, repair=True, source=place.raw)
    assert wait(place, start(place, functools.partial(check_store, options), watch)) == 0
    return pickle.loads(found.read_bytes())
