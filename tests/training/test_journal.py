"""What rank 0 writes down: durable before what rests on it, and once, wherever an attempt dies."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from mri_hpc.base.stop_flag import StopFlag
from mri_hpc.rundir.allotment import Allotment
from mri_hpc.rundir.layout import Attempt, RunDir
from mri_hpc.rundir.ledger import Kind, read_events
from mri_hpc.rundir.metrics_log import read_metrics
from mri_hpc.rundir.place import Place
from mri_hpc.rundir.progress import Progress
from mri_hpc.rundir.settings import TrainingSettings
from mri_hpc.training import journal as journal_module
from mri_hpc.training.agreed_stop import AgreedStop
from mri_hpc.training.journal import Journal, StepDone
from mri_hpc.training.learner import Learner
from mri_hpc.training.model import build
from mri_hpc.training.ranks import Ranks
from mri_hpc.training.saver import WaitingSaver
from mri_hpc.training.start_times import StartTimes
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
