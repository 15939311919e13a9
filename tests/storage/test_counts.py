"""Counts after a change are those of counting all, whatever has changed."""

from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mri_hpc.storage.adding.known import Known
from mri_hpc.storage.disk.columns import rows_among
from mri_hpc.storage.disk.commits import ADD, Rejection, commit_id
from mri_hpc.storage.disk.layout import open_store
from mri_hpc.storage.snapshot import change as changes
from mri_hpc.storage.snapshot.change import change_since
from mri_hpc.storage.snapshot.counts import count_images, counts_after, reasons_after
from mri_hpc.storage.snapshot.folding import fold
from mri_hpc.storage.snapshot.table import CHANGED
from mri_hpc.storage.store import Store
from mri_hpc.testing.invariants import plain_counts
from tests.storage.test_folding import HISTORY, build


def with_twins_and_rejections(world):
    """The same, with sources of the same bytes, slices and splits, and with sources that were rejected."""
    for header in world.headers.values():
        header.columns["split"][:] = header.columns["crc"] % 3 - 1
        header.columns["slice_index"][:] = header.columns["key"] % 3 % 2 - 1
        header.columns["plane"][:] = header.columns["key"] % 5 % 3 - 1
        header.columns["source_hash"] //= 3
    for number, commit in enumerate(world.commits):
        if commit.kind == ADD:
            rejected = [
                Rejection(
                    key=f"{key:016x}", reason=(CHANGED, "empty file")[key % 2], size=1, mtime_ns=number,
                    source_hash=f"{key // 3 + number % 2:016x}",
                )
                for key in (number % 5 + 1, number % 3 + 7)
            ]  # fmt: skip
            name = commit_id(commit.chunk, rejected)
            world.commits[number] = replace(commit, id=name, rejected=rejected)
    return world


ADDED = ("add", [4, 5], 0, 0)
"""Of patients p and q."""


@settings(max_examples=100, deadline=None)
@example([ADDED, ("retract", [], ["p"])], 1, False).via("a patient is retracted")
@example([ADDED, ("retract", [4], [])], 1, False).via("an image is retracted")
@example([ADDED, ("add", [1, 7], 0, 0)], 1, False).via("sources that were rejected are stored")
@example([ADDED, ("relabel", 4, "r", 1, 0)], 1, False).via("an image gets another patient")
@example([ADDED, ("same", "p", "q", True, False, 0)], 1, False).via("two patients become one")
@example(
    [ADDED, ("same", "p", "q", True, False, 0), ("retract", [], ["p"]), ("same", "p", "q", False, False, 0)],
    3,
    False,
).via("images that were withheld come back")
@given(HISTORY, st.integers(0, 9), st.booleans())
def test_counts_after_a_change_are_those_of_counting_all(history, number, is_turned):
    world = with_twins_and_rejections(build(history))
    some = (world.commits[::-1] if is_turned else world.commits)[:number]
    before, now = fold(None, some, world.headers.__getitem__), world.now()
    new = [commit for commit in world.commits if commit.id.encode() not in set(before.commits.tolist())]
    assert asdict(count_images(now)) == plain_counts(now)
    change = change_since(before, new, world.headers.__getitem__)
    if any(commit.number for commit in new):
        assert change is None
        return
    assert asdict(counts_after(count_images(before), change)) == plain_counts(now)
    assert list(counts_after(count_images(before), change).classes) == list(now.classes)
    assert reasons_after(before.rejections, change) == now.rejections
    patients = [b"p", b"q", b"r", b"nobody"]
    assert change.patients_of(patients) == set(patients) & set(now.patient_names.tolist())


def test_slices_of_one_volume_are_no_twins_and_may_be_of_several_classes():
    world = build([("add", [1, 2, 3, 4, 5, 6], 0, 0)])
    columns = next(iter(world.headers.values())).columns
    order = np.argsort(columns["key"])

    def counted(**values):
        for name, wanted in values.items():
            columns[name][order] = wanted
        found = count_images(world.now())
        assert asdict(found) == plain_counts(world.now())
        return found.twins, found.several.bytes_of_classes

    # Three slices along one axis, three along another.
    volume = {"source_hash": 9, "slice_index": [0, 1, 2] * 2, "plane": [0] * 3 + [1] * 3}
    assert counted(**volume, label=[0, 1, 0, 0, 1, 1]) == (0, 0)
    # The same volume twice, of which one slice has another class.
    assert counted(plane=0) == (3, 1)
    # A picture is the same whatever plane is said of it.
    assert counted(slice_index=-1, plane=[0, 1, 2, 0, 1, 2], source_hash=[1, 1, 2, 2, 3, 3])[0] == 3


def test_much_that_has_changed_is_counted_with_all_the_rest(monkeypatch):
    world = build([("add", [1, 2, 3], 0, 0), ("add", [4, 5, 6], 0, 0)])
    before = fold(None, world.commits[:1], world.headers.__getitem__)
    assert change_since(before, world.commits[1:], world.headers.__getitem__).keys.tolist() == [4, 5, 6]
    monkeypatch.setattr(changes, "MANY", 2)
    assert change_since(before, world.commits[1:], world.headers.__getitem__) is None
    # Of as many as there are it is a part only.
    monkeypatch.setattr(changes, "PART", 1)
    assert change_since(before, world.commits[1:], world.headers.__getitem__) is not None


@pytest.mark.parametrize("wanted", [[], [7], [0, 7, 7 + 2**16, 2**64 - 1]])
def test_rows_among_are_those_of_wanted_values_in_whichever_part(wanted):
    column = np.array([7, 2**64 - 1, 7 + 2**16, 8, 0, 7, 2**63], "<u8")
    rows = rows_among(np.array_split(column, 3), np.array(wanted, "<u8"))
    assert rows.tolist() == np.flatnonzero(np.isin(column, np.array(wanted, "<u8"))).tolist()


def test_sources_whose_bytes_were_stored_before_are_found_at_once_and_again(filled):
    known = Known(open_store(filled), np.empty(0, "<u8"))
    held = Store.open(filled).current().source_hash[3:5].tolist()
    for _unit in range(2):
        assert known.num_stored_before([held[0], 12345, held[1], held[0]]) == 3
        assert known.num_stored_before([]) == 0
