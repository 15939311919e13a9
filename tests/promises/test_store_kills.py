"""Promises 1 to 3: killed at any file operation, on a full disk, beside everything else, the store is right.

The same as tests/harness/store_kills does a thousand times, at some of the moments.
"""

import contextlib
import io
import os
import random
import shutil
import signal
import time

import numpy as np
import pytest

from mri_hpc.base.atomic import TEMP_PREFIX
from mri_hpc.base.errors import UserError
from mri_hpc.base.process import look_at
from mri_hpc.storage.disk.layout import GONE_PREFIX, open_store
from mri_hpc.storage.reading.reader import Reader
from mri_hpc.storage.snapshot.catalogue import current, resolve
from mri_hpc.storage.upkeep.verify import verify
from mri_hpc.store import main
from tests.harness.disks import Disk, can_mount, without_hard_links
from tests.harness.promises import check_end, check_kill, check_sound, check_withdrawn
from tests.harness.scenes import SCENES, Place, draw_sources, start, take, wait

SCENE = [scene.name for scene in SCENES]
KILLS = {1: 5, 4: 2}
pytestmark = pytest.mark.usefixtures("limits")
needs_disk = pytest.mark.skipif(not can_mount(), reason="only root may mount a disk of its own")


@pytest.mark.parametrize("tasks", KILLS)
@pytest.mark.parametrize("name", SCENE)
def test_a_kill_at_any_file_operation_loses_doubles_and_corrupts_nothing(stage, name, tasks):
    moments = stage(name, tasks).operations().moments
    for number in range(KILLS[tasks]):
        at = 1 + (moments - 1) * (2 * number + 1) // (2 * KILLS[tasks])
        was_killed = check_kill(stage(name, tasks), at, victim=number % tasks, way=number % 4)
        # Of several, the victim may find that another has done its work.
        assert was_killed or tasks > 1, at


def commands(place):
    """Command lines of all that changes a store."""
    store, sources = str(place.store), place.sources
    labels = ["--labels", str(sources / "corrected-0.csv"), "--source", str(place.raw)]
    return {
        "compact": ["compact", store, "--keep-days", "0"],
        "relabel": ["relabel", store, *labels],
        "retract": ["retract", store, "--patient", "patient0", "--yes"],
    }


def said(argv):
    """Status and what was complained of."""
    err = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(err):
        status = main(argv)
    return status, err.getvalue().splitlines()


@needs_disk
@pytest.mark.parametrize("name", ["compact", "relabel", "retract"])
def test_a_disk_that_fills_up_anywhere_gives_one_line_and_room_mends_it(stage, name):
    """With no page free, then one, two and so on, until the disk is large enough."""
    made = stage(name)
    place = made.place()

    def fill_up():
        disk, pages, refused, status = Disk(place.root / "disk"), 0, 0, 2
        on_disk = Place(disk.folder, place.sources)
        shutil.copytree(place.store, on_disk.store)
        while status:
            disk.leave_room(pages)
            status, lines = said(commands(on_disk)[name])
            if status:
                refused, pages = refused + 1, pages + 3
                assert (status, len(lines)) == (2, 1), lines
                assert "No space left on device" in lines[0]
                assert "make room there, then run it again" in lines[0]
                check_sound(on_disk)
        assert refused >= 1
        disk.leave_room(1000)
        assert said(commands(on_disk)[name])[0] == 0
        check_end(made, on_disk)
        assert not list(on_disk.store.rglob(f"{TEMP_PREFIX}*"))

    take(place, [fill_up])


@needs_disk
def test_a_store_that_may_only_be_read_is_read_and_every_change_is_refused_in_one_line(stage):
    place = stage("compact").place()

    def change():
        disk = Disk(place.root / "disk")
        on_disk = Place(disk.folder, place.sources)
        shutil.copytree(place.store, on_disk.store)
        resolve(on_disk.store)
        disk.make_read_only()
        for argv in commands(on_disk).values():
            status, lines = said(argv)
            assert (status, len(lines)) == (2, 1), (argv, lines)
            assert "Read-only file system: " in lines[0]
        for action in ("info", "verify", "audit"):
            assert said([action, str(on_disk.store)]) == (0, []), action
        check_sound(on_disk)

    take(place, [change])


@pytest.mark.parametrize("name", SCENE)
def test_a_file_system_without_hard_links_does_as_well(stage, name):
    made = stage(name)
    place = made.place()

    def work():
        without_hard_links()
        for step in made.scene.tasks(place, 1) * 2:
            step()

    take(place, [work])
    check_end(made, place)


def test_pixels_in_files_that_killed_tasks_left_go_when_their_patient_is_retracted(stage):
    """An unfinished chunk, and a whole one that was never committed: neither waits for its day."""
    made = stage("retract")
    place = made.place()
    before = sorted((place.store / "chunks").iterdir())
    commit = next((place.store / "commits").glob("compact-*.json"))
    commit.unlink()
    shutil.rmtree(place.store / "snapshots")
    (place.store / "snapshots").mkdir()
    dead = start(place, lambda: None)
    wait(place, dead)
    name = make_temporary_name(place, dead)
    shutil.copy(before[0], name)
    take(place, [place.retract(0)])
    check_withdrawn(made, place)
    assert not name.exists()


def test_a_private_table_that_still_names_who_was_withdrawn_is_found_whatever_else_it_names(stage):
    made = stage("retract")
    place = made.place()
    take(place, [place.retract(0)])
    check_withdrawn(made, place)
    tables = sorted((place.store / "private" / "names").iterdir())
    table = next(table for table in tables if "broken" in table.read_text())
    whole = table.read_text()
    for left in ("patient0/0.png,", "0.png,patient0"):
        table.write_text(f"{whole}{0:016x},class0/{left},,,,\n")
        with pytest.raises(AssertionError, match=table.name):
            check_withdrawn(made, place)


def make_temporary_name(place, process):
    """As base/atomic names what a process is writing."""
    from mri_hpc.base import atomic

    return (
        place.store
        / "chunks"
        / f"{TEMP_PREFIX}{atomic._here()}-{process}.{look_at(os.getpid()).start_ticks}-0a1b2c3d-{'0' * 32}.h5"
    )


def test_everything_at_once_with_random_kills_ends_as_it_should(tmp_path):
    """Compaction, preprocessing, relabelling, retraction and readers of an older snapshot."""
    chance = random.Random(4)
    root = tmp_path
    place, clean = Place(root / "place", root / "sources"), Place(root / "clean", root / "sources")
    draw_sources(place.sources)
    place.root.mkdir()
    clean.root.mkdir()
    take(clean, [clean.preprocess()])
    whole = resolve(clean.store)
    for step in (*map(clean.relabel, range(4)), clean.retract(0), clean.retract(1)):
        take(clean, [step])
    take(place, [place.preprocess(0, 2)])
    first = resolve(place.store)
    with Reader(place.store, first) as reader:
        pixels = reader.read(np.arange(len(first)))

    def read():
        try:
            with Reader(place.store, resolve(place.store, first.digest)) as reader:
                assert np.array_equal(reader.read(np.arange(len(first))), pixels)
        except UserError as error:
            assert "have been retracted" in str(error)

    steps = [
        *(lambda task=task: place.preprocess(task, 3) for task in range(3)),
        lambda: place.compact(0), lambda: place.compact(0), lambda: place.compact(7),
        *(lambda part=part: place.relabel(part) for part in range(2)),
        lambda: place.retract(0), lambda: place.retract(1),
        lambda: read, lambda: read,
    ]  # fmt: skip
    running, killed = [], 0
    for number in range(400):
        if number >= 60 and killed >= 10:
            break
        running.append(start(place, chance.choice(steps)()))
        if len(running) == 4:
            process = running.pop(chance.randrange(4))
            if chance.random() < 0.6:
                time.sleep(chance.random() * 0.05)
                os.kill(process, signal.SIGKILL)
            status = wait(place, process)
            assert status in (0, -signal.SIGKILL), status
            killed += status == -signal.SIGKILL
    for process in running:
        assert wait(place, process) == 0
    assert killed >= 10
    take(place, [place.preprocess()])
    take(place, [place.relabel(part) for part in range(4)])
    take(place, [place.retract(0), place.retract(1)])
    take(place, [place.compact()])
    now, should_be = current(open_store(place.store)), current(open_store(clean.store))
    assert now.content_digest == should_be.content_digest
    assert len(now) == len(should_be) == len(np.unique(now.key)) < len(whole)
    assert verify(open_store(place.store)).problems == []
    assert [path for path in place.store.rglob("*") if path.name.startswith((TEMP_PREFIX, GONE_PREFIX))] == []
