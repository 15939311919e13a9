"""Promises 1 and 2 where the clock of a machine jumps by years: no work is taken away, and order stays."""

import os
import time

import pytest

from mri_hpc.base.atomic import TEMP_PREFIX, publish_new_bytes
from mri_hpc.storage.disk.layout import open_store
from mri_hpc.storage.snapshot.catalogue import current
from mri_hpc.storage.upkeep.verify import verify
from mri_hpc.store_actions.relabel import Relabel, relabel_images
from tests.harness.scenes import Place, draw_sources, start, take, wait

pytestmark = pytest.mark.usefixtures("limits")
YEARS_S = 365 * 24 * 3600.0
AHEAD, BEHIND = 7 * YEARS_S, -20 * YEARS_S


def with_clock(step, offset_s):
    """A step in whose process the clock is wrong, and on what it writes too."""

    def take_it():
        real, utime = time.time, os.utime
        time.time = lambda: real() + offset_s
        link = os.link

        def link_with_time(source, target):
            utime(source, (time.time(), time.time()))
            link(source, target)

        os.link = link_with_time
        step()

    return take_it


@pytest.fixture
def place(tmp_path):
    """Pictures, and no store yet."""
    draw_sources(tmp_path / "sources")
    found = Place(tmp_path / "place", tmp_path / "sources")
    found.root.mkdir()
    return found


def test_a_clock_that_jumps_takes_no_file_from_a_process_that_is_writing_it(place):
    take(place, [place.preprocess()])
    path = place.store / "chunks" / f"{'0' * 32}.h5"
    gate, go = os.pipe()
    writer = start(place, lambda: publish_new_bytes(path, b"x", check=lambda _temp: os.read(gate, 1)))
    try:
        temps = wait_for_names(path.parent, 1)
        for offset_s in (AHEAD, BEHIND):
            for step in (place.preprocess(), place.compact()):
                take(place, [with_clock(step, offset_s)])
        left = temporary(path.parent)
    finally:
        os.write(go, b"1")
        status = wait(place, writer)
    assert (status, left) == (0, temps)
    assert path.read_bytes() == b"x"
    assert temporary(path.parent) == []


@pytest.mark.parametrize("offset_s", [AHEAD, BEHIND])
def test_what_a_killed_process_left_goes_whatever_the_clock_says(place, offset_s):
    take(place, [place.preprocess()])
    path = place.store / "chunks" / f"{'0' * 32}.h5"
    gate, _go = os.pipe()
    writer = start(place, lambda: publish_new_bytes(path, b"x", check=lambda _temp: os.read(gate, 1)))
    wait_for_names(path.parent, 1)
    os.kill(writer, 9)
    assert wait(place, writer) == -9
    assert len(temporary(path.parent)) == 1
    take(place, [with_clock(place.preprocess(), offset_s)])
    assert temporary(path.parent) == []


def temporary(folder):
    return sorted(path.name for path in folder.iterdir() if path.name.startswith(TEMP_PREFIX))


def wait_for_names(folder, count):
    deadline = time.monotonic() + 120
    while len(names := temporary(folder)) < count:
        assert time.monotonic() < deadline, names
        time.sleep(0.005)
    return names


def test_what_came_later_counts_though_the_clock_says_that_it_came_earlier(place, tmp_path):
    """All that changes a store, under clocks that go back and forth, gives what a steady clock gives."""
    steady = Place(tmp_path / "steady", place.sources)
    steady.root.mkdir()
    clocks = {
        place: [AHEAD, BEHIND, AHEAD, BEHIND, 0.0, BEHIND, AHEAD, BEHIND],
        steady: [0.0] * 8,
    }
    for at, offsets in clocks.items():
        steps = [
            at.preprocess(0, 2), at.compact(7), relabel(at, "first"), relabel(at, "second"),
            at.preprocess(1, 2), at.compact(7), at.retract(1), at.compact(),
        ]  # fmt: skip
        for step, offset_s in zip(steps, offsets, strict=True):
            take(at, [with_clock(step, offset_s)])
    ends = [current(open_store(at.store)) for at in clocks]
    assert ends[0].content_digest == ends[1].content_digest
    assert "second" in ends[0].classes
    assert "first" not in ends[0].classes
    assert verify(open_store(place.store)).problems == []


def relabel(place, label):
    """Corrects the labels of all pictures to this one."""
    table = place.sources / f"{label}.csv"
    paths = sorted(path.relative_to(place.raw) for path in place.raw.rglob("[0-9].png"))
    table.write_text("path,label\n" + "".join(f"{path},{label}\n" for path in paths))
    return lambda: relabel_images(Relabel(store=place.store, labels=table, source=place.raw))
