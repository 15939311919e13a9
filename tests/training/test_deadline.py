"""How a stop goes is decided by what is left, and by what a step and a save cost."""

import threading
import time
from types import SimpleNamespace

import pytest

from mri_hpc.base.stop_flag import StopFlag, StopRequest
from mri_hpc.rundir.layout import Attempt, RunDir
from mri_hpc.rundir.ledger import Kind, record
from mri_hpc.training import deadline
from mri_hpc.training.deadline import Deadline, Outlook

FIRST = Attempt(submission=1, restart=0)
REQUEST = StopRequest(signal_name="SIGTERM", received_s=1e9)


@pytest.mark.parametrize(
    ("left_s", "save_s", "rest_of_step_s", "way"),
    [
        # Nobody knows what is left, or what a save takes.
        (None, 5.0, 60.0, "finish"),
        (None, None, 60.0, "finish"),
        (30.0, None, 20.0, "finish"),
        (30.0, None, 31.0, "give_up"),
        (-1.0, None, 0.0, "finish"),
        # Enough for both, with a margin for the save.
        (30.0, 5.0, 20.0, "finish"),
        (30.0, 5.0, 22.5, "finish"),
        (30.0, 5.0, 22.6, "give_up"),
        (30.0, 19.0, 20.0, "give_up"),
        # Between steps nothing is given up, and a save that may end in time is tried.
        (30.0, 29.0, 0.0, "finish"),
        (30.0, 30.0, 10.0, "give_up"),
        # No save ends in time.
        (30.0, 30.1, 10.0, "rely"),
        (30.0, 31.0, 0.0, "rely"),
        (-1.0, 0.1, 0.0, "rely"),
    ],
)
def test_the_way_to_stop_follows_from_what_is_left(left_s, save_s, rest_of_step_s, way):
    assert Outlook(left_s=left_s, save_s=save_s, rest_of_step_s=rest_of_step_s).way() == way


def test_the_choice_is_told_in_one_line():
    assert Outlook(save_s=2.0).why() == "saves: nothing says how much time is left"
    assert Outlook(left_s=29.96, save_s=0.42).why() == "saves: 30.0 s left, a save takes 0.4 s"
    assert Outlook(left_s=9.0, save_s=8.0, rest_of_step_s=40.0).why() == (
        "gives up the step under way and saves the state before it: 9.0 s left, a save takes 8.0 s, "
        "the rest of the step 40.0 s"
    )
    assert Outlook(left_s=-2.0, save_s=8.0).why() == (
        "relies on the last checkpoint: 0.0 s left, a save takes 8.0 s"
    )


def check_left(known, kill_s):
    """What is left is told as of the moment at which it is asked for."""
    before = time.time()
    found = known.outlook()
    assert kill_s - time.time() - 0.001 <= found.left_s <= kill_s - before + 0.001
    return found


@pytest.fixture
def run(tmp_path):
    """One that has saved three times, of which a busy disk has slowed down the last."""
    for seconds in (1.0, 4.0, 90.0):
        record(RunDir(tmp_path), FIRST, Kind.SAVED, step=1, seconds=seconds, bytes=1, reason="interval")
    return RunDir(tmp_path)


def test_the_deadline_is_asked_for_once_a_stop_is_asked_for_and_not_before(run, wait_for):
    asked, flag, kill_s = [], StopFlag(), time.time() + 30
    known = Deadline(flag, run, lambda request: asked.append(request) or kill_s)
    assert not asked
    flag.take(REQUEST)
    wait_for(lambda: asked)
    wait_for(lambda: known.outlook().left_s)
    assert asked == [REQUEST]
    check_left(known, kill_s)
    assert known.outlook(7.0).save_s == 4.0


def test_of_a_signal_that_another_rank_got_long_ago_the_deadline_is_waited_for_as_well(run, monkeypatch):
    # From when it is asked for; a busy machine may take its second for a thread.
    monkeypatch.setattr(deadline, "PATIENCE_S", 120)
    flag, kill_s = StopFlag(), time.time() + 30
    known = Deadline(flag, run, lambda _request: time.sleep(0.1) or kill_s)
    flag.take(REQUEST)
    check_left(known, kill_s)


def test_who_knows_the_deadline_is_waited_for_a_second_and_no_longer(run, monkeypatch):
    flag, silence, waited = StopFlag(), threading.Event(), []
    known = Deadline(flag, run, lambda _request: silence.wait() and None)
    flag.take(StopRequest(signal_name="SIGTERM", received_s=time.time()))
    now = time.monotonic()
    # The clock of its second stands still, and then goes on by exactly that.
    monkeypatch.setattr(
        deadline, "time", SimpleNamespace(monotonic=lambda: now + sum(waited), time=time.time)
    )
    monkeypatch.setattr(known._is_known, "wait", waited.append)
    assert known.outlook().left_s is None
    assert waited == [pytest.approx(deadline.PATIENCE_S)]
    # The second is over: the next boundary does not wait once more.
    assert known.outlook().way() == "finish"
    assert sum(waited) == pytest.approx(deadline.PATIENCE_S) == 1
    silence.set()


def test_the_time_of_the_kill_is_known_also_beside_the_ledger_of_a_newer_version(run, monkeypatch):
    with run.events.open("a") as ledger:
        ledger.write('{"format": 99}\n')
    monkeypatch.setattr(deadline, "PATIENCE_S", 120)
    flag, kill_s = StopFlag(), time.time() + 30
    known = Deadline(flag, run, lambda _request: kill_s)
    flag.take(REQUEST)
    assert check_left(known, kill_s).save_s is None
