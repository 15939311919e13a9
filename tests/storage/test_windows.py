"""Windows of groups, folded: a pure function of the commits that bring them."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from mri_hpc.intake.decoding.window import Window
from mri_hpc.storage.disk.commits import Commit, GroupWindow, publish_commit, read_commit
from mri_hpc.storage.disk.layout import StoreDir
from mri_hpc.storage.snapshot.retractions import of_commits
from mri_hpc.storage.snapshot.windows import commits_in_conflict, fold_windows, outvoted, window_that_holds

FIRST, SECOND = Window(low=0, high=3968), Window(low=0, high=4096)
NOBODY = of_commits([])


def brought(name, window, images, group="GA", patient="PA"):
    one = GroupWindow(group=group, patient=patient, low=window.low, high=window.high, images=images)
    return Commit(id=name, kind="add", windows=[one])


COMMITS = [
    brought("d", FIRST, {"01": 11, "02": 12}),
    brought("9", SECOND, {"02": 22, "03": 23, "04": 14}),
    brought("4", FIRST, {"04": 14}),
    brought("7", SECOND, {"05": 5}, group="GB", patient=""),
]


def test_the_least_id_holds_and_what_the_other_window_made_is_known():
    windows = fold_windows(None, COMMITS, NOBODY)
    assert window_that_holds(windows, "GA") == FIRST
    assert window_that_holds(windows, "GB") == SECOND
    assert window_that_holds(windows, "GC") is window_that_holds(windows, "A") is None
    assert commits_in_conflict(windows) == ({"9"}, {"d", "9", "4"})
    # Image 4 has the same pixels in either.
    assert outvoted(windows, COMMITS) == {2: {22}, 3: {23}}


def test_neither_the_order_nor_when_they_were_folded_matters():
    whole = fold_windows(None, COMMITS, NOBODY)
    for order in itertools.permutations(COMMITS):
        for cut in range(len(order) + 1):
            base = SimpleNamespace(windows=fold_windows(None, order[:cut], NOBODY))
            assert np.array_equal(fold_windows(base, order[cut:], NOBODY), whole)


def test_windows_of_a_retracted_patient_go():
    retraction = Commit(id="retract-1", kind="retract", retracted_patients=["PA"])
    windows = fold_windows(
        SimpleNamespace(windows=fold_windows(None, COMMITS, NOBODY)), [], of_commits([retraction])
    )
    assert windows["group"].tolist() == [b"GB"]


def test_a_commit_comes_back_with_its_windows(tmp_path):
    store = StoreDir(tmp_path / "store")
    store.make()
    (window,) = COMMITS[0].windows
    publish_commit(store, chunk="", images=0, rejected=(), versions={}, windows=[window])
    (name,) = store.commit_ids()
    assert list(read_commit(store, name).windows) == [window]


@pytest.mark.parametrize("windows", [[], None])
def test_a_commit_without_windows_is_written_as_before_they_existed(tmp_path, windows):
    store = StoreDir(tmp_path / "store")
    store.make()
    given = {} if windows is None else {"windows": windows}
    publish_commit(store, chunk="", images=0, rejected=(), versions={}, **given)
    (name,) = store.commit_ids()
    assert "windows" not in store.commit(name).read_text()
    assert list(read_commit(store, name).windows) == []
