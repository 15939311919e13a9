"""What must be true of a store after any kill, and after the work has been done again."""

import os
import time

import numpy as np

from mri_hpc.base.atomic import TEMP_PREFIX
from mri_hpc.storage.disk.layout import GONE_PREFIX, LITTER_AGE_S, open_store
from mri_hpc.storage.reading.reader import Reader
from mri_hpc.storage.snapshot.catalogue import current, resolve
from mri_hpc.storage.upkeep.verify import verify
from mri_hpc.testing.invariants import holding, open_private_files
from tests.harness.scenes import IMAGES, PATIENTS, Place, Stage, take


def check_kill(stage: Stage, at: int, *, victim: int = 0, way: int = 0) -> bool:
    """Kill one task at a moment and check all promises; False where it ended before that moment.

    way: 0 to 3, how the work is done again, and what clears away.
    """
    place, was_killed = stage.play(at, victim)
    check_sound(place)
    take(place, stage.scene.again(place, stage.num_tasks, way % 2))
    check_end(stage, place)
    check_litter(stage, place, by_compaction=way < 2)
    return was_killed


def check_sound(place: Place) -> None:
    """Right after a kill: what is visible is whole."""
    if (place.store / "recipe.json").exists():
        assert verify(open_store(place.store)).problems == []
        current(open_store(place.store))


def check_end(stage: Stage, place: Place) -> None:
    """After the work was done again: as if nobody had been killed."""
    store = open_store(place.store)
    now = current(store)
    assert now.content_digest == stage.after.content_digest
    assert len(now) == len(stage.after) == len(np.unique(now.key))
    assert now.classes == stage.after.classes
    assert int(now.is_rejected.sum()) == int(stage.after.is_rejected.sum())
    findings = verify(store)
    assert findings.problems == []
    assert findings.images >= len(now)
    assert open_private_files(place.store / "private") == []
    if stage.scene.withdrawn:
        check_withdrawn(stage, place)
    elif stage.before is not None:
        with Reader(place.store, resolve(place.store, stage.before.digest)) as reader:
            assert np.array_equal(reader.read(np.arange(len(stage.before))), stage.pixels)


def check_withdrawn(stage: Stage, place: Place) -> None:
    """No file on the disk holds pixels of who was withdrawn, nor does a private table name them."""
    before, gone = stage.before, stage.after.retracted_keys
    assert before is not None
    rows = np.flatnonzero(np.isin(before.key, gone))
    assert len(rows) == IMAGES // PATIENTS * stage.num_tasks
    names = [f"patient{number}".encode() for number in range(stage.num_tasks)]
    assert holding(place.store, (stage.pixels[row].tobytes() for row in rows)) == []
    for path in (place.store / "private").rglob("*.*"):
        # What was rejected for another reason is nobody's image.
        lines = [line for line in path.read_bytes().splitlines() if b"broken" not in line]
        assert not [name for name in names if any(name in line for line in lines)], path


def check_litter(stage: Stage, place: Place, *, by_compaction: bool) -> None:
    """What a kill left lying goes with the next compaction or preprocessing a day later, and nothing else."""
    long_ago = time.time() - LITTER_AGE_S - 60
    for path in place.store.rglob("*"):
        if path.name.startswith((TEMP_PREFIX, GONE_PREFIX)) or path.suffix == ".h5":
            os.utime(path, (long_ago, long_ago))
    take(place, [place.compact() if by_compaction else place.preprocess()])
    left = [path for path in place.store.rglob("*") if path.name.startswith(TEMP_PREFIX)]
    assert left == []
    store = open_store(place.store)
    assert verify(store).problems == []
    if by_compaction:
        assert verify(store).remarks == []
        now = current(store)
        assert now.content_digest == stage.after.content_digest
        assert now.num_shadowed == 0
