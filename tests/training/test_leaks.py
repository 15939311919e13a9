"""No run begins to train on slices that it is judged on."""

from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image

from mri_hpc.base.errors import UserError
from mri_hpc.base.stop_flag import StopFlag, StopRequest
from mri_hpc.cohort.kept_twins import kept_twins, leaking
from mri_hpc.cohort.splits import TEST, TRAIN, VALIDATION, split_of
from mri_hpc.cohort.twins import TwinGroup
from mri_hpc.planning import RunSettings, plan_of
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.place import Place
from mri_hpc.rundir.settings import TrainingSettings
from mri_hpc.storage.store import Store
from mri_hpc.training.agreed_stop import AgreedStop
from mri_hpc.training.leaks import refuse_leaks
from mri_hpc.training.ranks import Ranks
from tests.cohort.heads import head

SPLITS = ("train", "train", "validation", "test")


class NoteOfMeetings(Ranks):
    """One of several ranks; the others say nothing."""

    is_alone = False
    met: ClassVar[list[int]] = []
    said = ""

    def largest(self, value):
        self.met.append(value)
        # Rank 0 has done after a while.
        return value or int(self.rank > 0 and len(self.met) == 8)

    def from_rank(self, value, rank=0):
        return self.said or value


@pytest.fixture
def make_store(tmp_path, preprocess):
    """Makes a store of heads, in splits that folders name; two patients may share a slice."""

    def make(*, twin_in):
        for number in range(8):
            image = head(number)
            for label in ("a", "b"):
                path = tmp_path / "raw" / SPLITS[number % 4] / label / f"p{label}{number}" / "1.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image if label == "a" else head(50 + number)).save(path)
        path = tmp_path / "raw" / twin_in / "a" / "twin" / "1.png"
        path.parent.mkdir(parents=True)
        # Of patient pa0, who is trained on.
        Image.fromarray(np.ascontiguousarray(np.rot90(255 - head(0)))).save(path)
        assert preprocess(tmp_path / "raw", tmp_path / "store", "--size", 128, "--ids", "as-given")[0] == 0
        return Store(tmp_path / "store")

    return make


@pytest.fixture
def refuse(tmp_path):
    def ask(store, *, rank=0, world_size=1, kind=Ranks, flag=None, **settings):
        snapshot = store.resolve()
        place = Place(rank=rank, world_size=world_size)
        ranks = kind(place=place, device=torch.device("cpu"), backend="gloo", num_hosts=1)
        stop = AgreedStop(flag or StopFlag(), ranks)
        training = TrainingSettings(store=str(store.path), **settings)
        refuse_leaks(RunDir(tmp_path / "run"), training, snapshot, split_of(snapshot), ranks=ranks, stop=stop)
        return stop

    return ask


def test_a_run_whose_test_split_holds_a_slice_it_trains_on_does_not_begin(make_store, refuse):
    store = make_store(twin_in="test")
    with pytest.raises(UserError) as failure:
        refuse(store)
    told = str(failure.value)
    assert told.startswith("1 slice is both trained on and judged on, such as ")
    assert "(inverted, rotated by 90)" in told or "(inverted, rotated by 270)" in told
    assert told.endswith("--allow-leaks")
    assert "\n" not in told
    assert len(kept_twins(store, store.resolve())) == 1


def test_where_leaks_are_allowed_nobody_looks_for_them(make_store, refuse):
    store = make_store(twin_in="test")
    refuse(store, allow_leaks=True)
    assert kept_twins(store, store.resolve()) is None


def test_twins_of_training_images_alone_are_no_leak(make_store, refuse):
    store = make_store(twin_in="train")
    refuse(store)
    assert len(kept_twins(store, store.resolve())) == 1


def test_a_slice_that_is_in_validation_and_test_alone_is_no_leak():
    group = TwinGroup(rows=(0, 1), twins=())
    assert leaking([group], np.array([VALIDATION, TEST])) == []
    for code in ([TRAIN, TEST], [TRAIN, VALIDATION]):
        assert leaking([group], np.array(code)) == [group]


def test_launch_says_what_an_audit_has_found_and_leaves_the_rest_to_the_job(make_store, refuse):
    store = make_store(twin_in="validation")
    asked = RunSettings(training=TrainingSettings(store=str(store.path)))
    plan_of(asked, path=store.path.parent / "new")
    with pytest.raises(UserError, match="both trained on and judged on"):
        refuse(store)
    with pytest.raises(UserError, match="or accept that: --allow-leaks"):
        plan_of(asked, path=store.path.parent / "new")
    accepted = RunSettings(training=TrainingSettings(store=str(store.path), allow_leaks=True))
    notes = plan_of(accepted, path=store.path.parent / "new").notes
    assert any("its figures will be too good" in note for note in notes)
    assert accepted.training.identity_digest() == asked.training.identity_digest()


def test_ranks_that_wait_meet_rank_0_at_each_part_and_hear_what_it_found(make_store, refuse, monkeypatch):
    store = make_store(twin_in="test")
    monkeypatch.setattr(NoteOfMeetings, "met", [])
    with pytest.raises(UserError, match="both trained on"):
        refuse(store, world_size=2, kind=NoteOfMeetings)
    # By turns: is anybody asked to stop, is this the last part.
    asked, last = NoteOfMeetings.met[::2], NoteOfMeetings.met[1::2]
    assert set(asked) == {0}
    assert last[-1] == 1
    assert set(last[:-1]) == {0}
    monkeypatch.setattr(NoteOfMeetings, "met", [])
    monkeypatch.setattr(NoteOfMeetings, "said", UserError("2 slices"))
    with pytest.raises(UserError, match="2 slices"):
        refuse(store, rank=1, world_size=2, kind=NoteOfMeetings)
    assert len(NoteOfMeetings.met) == 8


def test_a_signal_while_twins_are_looked_for_stops_the_ranks_and_keeps_nothing(make_store, refuse):
    store, flag = make_store(twin_in="test"), StopFlag()
    flag.take(StopRequest(signal_name="SIGTERM", received_s=0.0))
    stop = refuse(store, flag=flag)
    assert (stop.agreed.signal, stop.agreed.phase) == ("SIGTERM", "audit")
    assert kept_twins(store, store.resolve()) is None
