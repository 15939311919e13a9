"""What rank 0 writes down: durable before what rests on it, and once, wherever an attempt dies."""

import dataclasses
import os
import threading
from concurrent.futures import wait
from pathlib import Path

import numpy as np
import pytest
import torch

from mri_hpc.base.stop_flag import StopFlag
from mri_hpc.rundir.allotment import Allotment
from mri_hpc.rundir.layout import Attempt, RunDir
from mri_hpc.rundir.ledger import Kind, read_events
from mri_hpc.rundir.manifests import checkpoint_folders
from mri_hpc.rundir.metrics_log import read_metrics
from mri_hpc.rundir.place import Place
from mri_hpc.rundir.progress import EarlyStopping, Progress
from mri_hpc.rundir.settings import TrainingSettings
from mri_hpc.training import checkpoint
from mri_hpc.training import journal as journal_module
from mri_hpc.training.agreed_stop import AgreedStop
from mri_hpc.training.background_saver import BackgroundSaver, _Write
from mri_hpc.training.deadline import Outlook
from mri_hpc.training.journal import Journal, StepDone, StepsUnderWay
from mri_hpc.training.learner import Learner
from mri_hpc.training.model import build
from mri_hpc.training.ranks import Ranks
from mri_hpc.training.saver import WaitingSaver
from mri_hpc.training.start_times import StartTimes
from mri_hpc.training.state import TrainingState
from mri_hpc.training.step_loss import StepLoss
from mri_hpc.training.use_meter import UseMeter

ALONE = Ranks(place=Place(), device=torch.device("cpu"), backend="none", num_hosts=1)
SETTINGS = TrainingSettings(model="squeezenet1_1")


@pytest.fixture(scope="module")
def learner():
    network = build(SETTINGS, 2, (32, 32))
    return Learner(network, SETTINGS, ALONE, weights_of_classes=np.ones(2, np.float32), steps_per_epoch=4)


@pytest.fixture
def attempt(tmp_path, learner):
    """Makes the journal of an attempt that goes on from a step."""
    run = RunDir(tmp_path / "run")

    def begin(restart, resumed=0):
        own = Attempt(submission=1, restart=restart)
        run.claim_attempt(own)
        stop = AgreedStop(StopFlag(), ALONE)
        return Journal(
            run, own, SETTINGS, learner, WaitingSaver(run, own, keep=1),
            resumed=Progress(step=resumed), conditions={}, stop=stop, times=StartTimes(),
            meter=UseMeter(ALONE, Allotment()),
        )  # fmt: skip

    begin.run = run
    return begin


def train(journal, first, last):
    for step in range(first, last + 1):
        loss = StepLoss(tensor=torch.tensor([1 / step]), wait=lambda: None, lr=0.1)
        journal.steps([StepDone(progress=Progress(step=step), loss=loss, num_images=4, seconds=0.5)])


def lost(run):
    return [
        (e.attempt, e.values["steps"], e.values["seconds"]) for e in read_events(run) if e.kind == Kind.LOST
    ]


def test_the_metrics_before_a_checkpoint_are_durable_before_it_is_published(attempt, monkeypatch):
    done = []
    fsync, rename = os.fsync, Path.rename

    def synced(descriptor):
        done.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    def renamed(path, target):
        done.append(str(target.relative_to(attempt.run.path)))
        return rename(path, target)

    journal = attempt(0)
    train(journal, 1, 2)
    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "rename", renamed)
    journal.save(Progress(step=2), reason="interval")
    journal.close()
    assert done.index("metrics.jsonl") < done.index("checkpoints/2")


@pytest.fixture
def beside(attempt, learner, monkeypatch):
    """A journal whose saves are written beside the training, at every step; with what writes them."""
    # On a busy machine too.
    monkeypatch.setattr(_Write, "is_starved", lambda self: False)
    run, own = attempt.run, Attempt(submission=1, restart=0)
    run.claim_attempt(own)
    saver = BackgroundSaver(run, own, keep=2)
    settings = dataclasses.replace(SETTINGS, checkpoint_interval_s=0.0)
    journal = Journal(
        run, own, settings, learner, saver, resumed=Progress(), conditions={},
        stop=AgreedStop(StopFlag(), ALONE), times=StartTimes(), meter=UseMeter(ALONE, Allotment()),
    )  # fmt: skip
    yield journal, saver
    journal.close()


def save(journal, step):
    journal.save_if_due(Progress(step=step), StepsUnderWay(is_late=False))


def wait_for_writer(saver):
    """Wait until it has ended, and take nothing up."""
    assert saver._write
    wait([saver._write.future])


def saved(run):
    return [event.values["step"] for event in read_events(run) if event.kind == Kind.SAVED]


def hold_until_waited_for(journal, saver, monkeypatch):
    """Have what is begun from here on not be written before somebody waits for it; returns that event."""
    asked, wait_for_saver = threading.Event(), saver.wait

    def waiting():
        if saver.under_way:
            asked.set()
        return wait_for_saver()

    def leaving():
        leave()
        asked.set()

    leave = saver.overtake
    monkeypatch.setattr(saver, "wait", waiting)
    monkeypatch.setattr(saver, "overtake", leaving)
    around = journal._saves._around
    monkeypatch.setattr(journal._saves, "_around", dataclasses.replace(around, before=asked.wait))
    return asked


FULL = OSError(28, "No space left on device")


def fail(times, monkeypatch):
    """Have the disk be full for so many saves."""
    publish = checkpoint._publish
    left = iter(range(times))

    def full(*arguments):
        if next(left, None) is None:
            return publish(*arguments)
        raise FULL

    monkeypatch.setattr(checkpoint, "_publish", full)


def test_a_save_that_failed_beside_the_training_is_made_anew_at_the_next_step(
    beside, attempt, monkeypatch, caplog
):
    journal, saver = beside
    fail(1, monkeypatch)
    save(journal, 1)
    wait_for_writer(saver)
    assert saved(attempt.run) == []
    # The very state that was not kept: it may be that of the best epoch.
    save(journal, 2)
    assert saved(attempt.run)[0] == 1
    assert "step 1 could not be saved: [Errno 28] No space left on device; once more" in caplog.text
    journal._saves.close()
    assert saved(attempt.run) == [1, 2]


def test_a_disk_that_stays_full_ends_the_attempt_at_the_next_step_and_leaves_what_was_saved(
    beside, attempt, monkeypatch
):
    journal, saver = beside
    save(journal, 1)
    journal._saves.close()
    fail(2, monkeypatch)
    save(journal, 2)
    wait_for_writer(saver)
    with pytest.raises(OSError, match="No space left"):
        save(journal, 3)
    assert [folder.name for folder in checkpoint_folders(attempt.run)] == ["1"]
    assert checkpoint.damage(attempt.run.checkpoints / "1") == ""


@pytest.mark.parametrize(("best_step", "steps"), [(5, [5]), (4, [4, 5])])
def test_the_state_of_the_last_epoch_is_waited_for_and_overtakes_none_but_the_best(
    best_step, steps, beside, attempt, monkeypatch
):
    journal, saver = beside
    monkeypatch.setattr(journal, "_draw_validation", lambda *_of_it: None)
    hold_until_waited_for(journal, saver, monkeypatch)
    save(journal, 4)
    best = EarlyStopping(best_loss=0.1, best_epoch=0, best_step=best_step)
    last = Progress(step=5, epoch=1, early_stopping=best)
    journal.save_epoch(last, Progress(step=5), None, is_last=True)
    assert saver.under_way is None and saved(attempt.run) == steps


def test_the_state_after_an_unsound_step_is_not_saved_and_the_next_one_is_tried(beside, attempt, monkeypatch):
    journal, saver = beside
    with monkeypatch.context() as unsound:
        unsound.setattr(TrainingState, "is_finite", lambda self: False)
        save(journal, 1)
        wait_for_writer(saver)
    assert journal._saves.is_due()
    save(journal, 2)
    journal._saves.close()
    assert saved(attempt.run) == [2]


def test_of_two_saves_the_second_waits_until_the_first_is_durable(beside, attempt, monkeypatch):
    journal, saver = beside
    asked = hold_until_waited_for(journal, saver, monkeypatch)
    save(journal, 1)
    assert saver.under_way and saved(attempt.run) == []
    asked.clear()
    save(journal, 2)
    assert asked.is_set() and saved(attempt.run)[0] == 1
    journal._saves.close()
    assert saved(attempt.run) == [1, 2]


def test_a_validation_is_drawn_once_its_epoch_is_durable(beside, attempt, monkeypatch):
    journal, saver = beside
    drawn = []
    monkeypatch.setattr(journal, "_draw_validation", lambda before, _answers: drawn.append(before.step))
    fail(1, monkeypatch)
    journal.save_epoch(Progress(step=4, epoch=1), Progress(step=4), None, is_last=False)
    wait_for_writer(saver)
    assert drawn == []
    save(journal, 5)
    assert drawn == [4] and saved(attempt.run)[0] == 4


def test_a_validation_is_not_drawn_once_the_save_before_its_epoch_is_durable(beside, attempt, monkeypatch):
    journal, saver = beside
    drawn = []
    monkeypatch.setattr(journal, "_draw_validation", lambda before, _answers: drawn.append(before.step))
    save(journal, 4)
    wait_for_writer(saver)
    with monkeypatch.context() as full:
        fail(2, full)
        journal.save_epoch(Progress(step=4, epoch=1), Progress(step=4), None, is_last=False)
        wait_for_writer(saver)
        with pytest.raises(OSError, match="No space left"):
            save(journal, 5)
    assert (saved(attempt.run), drawn) == ([4], [])


def test_what_a_save_beside_the_training_took_is_in_the_ledger(beside, attempt):
    journal, _saver = beside
    save(journal, 1)
    journal._saves.close()
    journal.save(Progress(step=2), reason="stop")
    beside_it, waited = [e.values for e in read_events(attempt.run) if e.kind == Kind.SAVED]
    assert beside_it.keys() - waited.keys() == {"written_s", "work_s", "slowed_s"}
    assert 0 <= beside_it["work_s"] <= beside_it["written_s"]
    assert [e.kind for e in read_events(attempt.run)][-2:] == ["saved", "used"]


@pytest.mark.parametrize(
    ("left_s", "save_s", "under_way", "steps"),
    [
        # Nothing says how much time is left, or there is too little for both: the newer one comes first.
        (None, 1.0, 1, [2]),
        (2.0, 1.0, 1, [2]),
        (99.0, None, 1, [2]),
        (99.0, 1.0, 1, [1, 2]),
        # Of the state that the stop would save.
        (None, 1.0, 2, [2]),
    ],
)
def test_a_stop_finishes_the_save_under_way_or_overtakes_it_by_the_time_left(
    left_s, save_s, under_way, steps, beside, attempt, monkeypatch
):
    journal, saver = beside
    stop = journal._stop
    stop.request("SIGTERM")
    stop._agree(*stop._asked(), phase="training", outlook=Outlook(left_s=left_s, save_s=save_s))
    hold_until_waited_for(journal, saver, monkeypatch)
    save(journal, under_way)
    assert journal.save(Progress(step=2), reason="stop")
    assert saved(attempt.run) == steps
    assert saver.under_way is None
    assert [folder.name for folder in checkpoint_folders(attempt.run)] == [str(s) for s in reversed(steps)]


def test_a_save_that_failed_before_a_stop_takes_no_time_from_that_of_the_stop(beside, attempt, monkeypatch):
    journal, saver = beside
    fail(1, monkeypatch)
    save(journal, 1)
    wait_for_writer(saver)
    assert journal.save(Progress(step=2), reason="stop")
    assert saved(attempt.run) == [2]


@pytest.mark.parametrize(
    ("left_s", "save_s", "steps"),
    [
        # Who relies on the last checkpoint waits for one under way only where it may end before the kill.
        (3.0, 99.0, []),
        (300.0, 300.0, [1]),
        (None, None, [1]),
    ],
)
def test_ranks_that_leave_wait_for_the_save_under_way_where_it_may_end_before_the_kill(
    left_s, save_s, steps, beside, attempt, monkeypatch
):
    journal, saver = beside
    hold_until_waited_for(journal, saver, monkeypatch)
    save(journal, 1)
    stop = journal._stop
    stop.request("SIGTERM")
    stop._agree(*stop._asked(), phase="training", outlook=Outlook(left_s=left_s, save_s=save_s))
    journal._saves.close()
    assert saved(attempt.run) == steps


class Died(Exception):
    """Stands for a kill."""


def test_steps_are_lost_once_though_attempts_die_before_they_have_dropped_them(attempt, monkeypatch):
    run = attempt.run
    first = attempt(0)
    train(first, 1, 9)
    first.close()

    def die(*arguments, **options):
        raise Died

    for restart, resumed in ((1, 6), (2, 6), (3, 4)):
        with monkeypatch.context() as context, pytest.raises(Died):
            context.setattr(journal_module, "MetricsLog", die)
            attempt(restart, resumed)
    # The last of them found a checkpoint damaged that those before went on from.
    assert lost(run) == [("1.1", 3, 1.5), ("1.3", 2, 1.0)]
    again = attempt(4, 4)
    train(again, 5, 6)
    again.close()
    attempt(5, 4).close()
    assert lost(run)[2:] == [("1.5", 2, 1.0)]
    assert [line["step"] for line in read_metrics(run)] == [1, 2, 3, 4]
