"""Checkpoints: complete or not there, checked, fenced, and few."""

import numpy as np
import pytest
import torch

from mri_hpc.base.stop_flag import StopFlag
from mri_hpc.rundir.allotment import Allotment
from mri_hpc.rundir.layout import Attempt, RunDir
from mri_hpc.rundir.manifests import MANIFEST, checkpoint_folders, newest_manifest
from mri_hpc.rundir.place import Place
from mri_hpc.rundir.progress import EarlyStopping, Progress
from mri_hpc.rundir.settings import TrainingSettings
from mri_hpc.training import checkpoint
from mri_hpc.training.agreed_stop import AgreedStop
from mri_hpc.training.background_saver import BackgroundSaver
from mri_hpc.training.journal import Journal, StepsUnderWay
from mri_hpc.training.learner import Learner
from mri_hpc.training.model import build, weights_digest
from mri_hpc.training.ranks import Ranks
from mri_hpc.training.saver import Fate, Order, Outcome, WaitingSaver
from mri_hpc.training.start_times import StartTimes
from mri_hpc.training.step_loss import StepLoss
from mri_hpc.training.use_meter import UseMeter

FIRST = Attempt(submission=1, restart=0)
LATER = Attempt(submission=1, restart=1)


@pytest.fixture
def run(tmp_path):
    run = RunDir(tmp_path / "run")
    run.claim_attempt(FIRST)
    return run


ALONE = Ranks(place=Place(), device=torch.device("cpu"), backend="none", num_hosts=1)


def learner(seed=0):
    settings = TrainingSettings(model="squeezenet1_1", seed=seed)
    network = build(settings, 2, (32, 32))
    return Learner(network, settings, ALONE, weights_of_classes=np.ones(2, np.float32), steps_per_epoch=1)


def save(run, step, *, attempt=FIRST, seed=0, **progress):
    state = learner(seed).state(Progress(step=step, **progress), {"ranks": 1})
    return checkpoint.save(run, attempt, state)


def order(state):
    """To save a state, with nothing that goes with it."""
    return Order(
        state=state, began_s=0.0, is_checked=True, before=lambda: None, after=lambda *_of_it: None
    )  # fmt: skip


def names(run):
    return [folder.name for folder in checkpoint_folders(run)]


def test_a_checkpoint_gives_back_weights_and_optimizer_to_the_bit(run):
    trained = learner()
    loss = trained.model(torch.randn(2, 32, 32)).square().sum()
    loss.backward()
    trained.optimizer.step()
    saved = checkpoint.save(run, FIRST, trained.state(Progress(step=1), {"ranks": 1}))
    other = learner(seed=1)
    state = checkpoint.load(run, 1)
    assert (state.progress, state.conditions) == (Progress(step=1), {"ranks": 1})
    other.restore(state, of=checkpoint.weights_file(run, 1))
    assert weights_digest(other.weights()) == saved.manifest.weights_digest
    states = [one.state(Progress(), {}).rest["optimizer"]["state"] for one in (trained, other)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][p]["exp_avg"], states[1][p]["exp_avg"]) for p in states[0])


def test_an_attempt_that_was_superseded_saves_nothing(run):
    run.claim_attempt(LATER)
    assert save(run, 3) is None
    assert names(run) == []
    assert save(run, 3, attempt=LATER).manifest.attempt == "1.1"


def test_the_same_step_and_progress_is_not_written_again(run):
    first, again = save(run, 3), save(run, 3, seed=1)
    assert again.manifest == first.manifest


def test_the_checkpoint_of_a_step_whose_epoch_was_validated_since_replaces_the_one_before(run):
    save(run, 3, epoch=0, step_in_epoch=3)
    save(run, 3, epoch=1)
    assert newest_manifest(run).progress.epoch == 1


def test_a_damaged_checkpoint_of_the_same_progress_is_replaced(run):
    save(run, 3)
    (run.checkpoints / "3" / checkpoint.OPTIMIZER).write_bytes(b"")
    assert checkpoint.damage(run.checkpoints / "3").startswith("optimizer.pt: its bytes are not")
    save(run, 3)
    assert checkpoint.damage(run.checkpoints / "3") == ""


def test_a_missing_file_is_damage_and_no_error(run):
    save(run, 3)
    (run.checkpoints / "3" / checkpoint.WEIGHTS).unlink()
    assert checkpoint.damage(run.checkpoints / "3") == "model.safetensors: No such file or directory"


def test_pruning_keeps_the_newest_and_the_best_and_nothing_beyond_the_present(run):
    for step in (1, 2, 3, 4, 5, 9):
        save(run, step)
    progress = Progress(step=5, early_stopping=EarlyStopping(best_loss=0.1, best_epoch=0, best_step=1))
    checkpoint.prune(run, FIRST, progress=progress, keep=2)
    assert names(run) == ["5", "4", "1"]


@pytest.mark.parametrize("kind", [WaitingSaver, BackgroundSaver])
def test_a_saver_keeps_as_many_as_it_was_told_to_and_says_what_became_of_the_last(run, kind):
    saver, trained = kind(run, FIRST, keep=2), learner()
    for step in (1, 2, 3):
        outcome = saver.begin(order(trained.state(Progress(step=step), {}))) or saver.wait()
        assert outcome == Outcome(fate=Fate.SAVED, progress=Progress(step=step))
    assert saver.ended() is None
    assert names(run) == ["3", "2"]
    run.claim_attempt(LATER)
    outcome = saver.begin(order(trained.state(Progress(step=4), {}))) or saver.wait()
    assert outcome.fate == Fate.SUPERSEDED
    assert names(run) == ["3", "2"]


def test_pruning_leaves_what_cannot_be_read_and_counts_it_not(run):
    for step in (1, 2, 3, 4, 9):
        save(run, step)
    for step, document in (("9", b"{}"), ("3", b"{")):
        (run.checkpoints / step / MANIFEST).write_bytes(document)
    (run.checkpoints / "8").mkdir()
    checkpoint.prune(run, FIRST, progress=Progress(step=4), keep=2)
    assert names(run) == ["9", "4", "3", "2"]


def test_what_a_killed_attempt_left_behind_is_swept(run):
    save(run, 1)
    (run.checkpoints / ".tmp-host-1-7").mkdir()
    checkpoint.sweep(run)
    assert [path.name for path in run.checkpoints.iterdir()] == ["1"]


def test_a_state_that_a_broken_loss_has_led_to_is_never_saved_by_the_clock(run):
    settings = TrainingSettings(model="squeezenet1_1", checkpoint_interval_s=0.0)
    trained = learner()
    stop = AgreedStop(StopFlag(), ALONE)
    journal = Journal(
        run, FIRST, settings, trained, WaitingSaver(run, FIRST, keep=1),
        resumed=Progress(), conditions={}, stop=stop, times=StartTimes(),
        meter=UseMeter(ALONE, Allotment()),
    )  # fmt: skip
    steps = StepsUnderWay(is_late=True)
    for number, loss in ((1, 0.5), (2, float("nan"))):
        step_loss = StepLoss(tensor=torch.tensor([loss]), wait=lambda: None, lr=0.1)
        steps.add(Progress(step=number), step_loss, num_images=4)
        journal.save_if_due(Progress(step=number), steps)
    journal.close()
    assert names(run) == ["1"]


def test_an_attempt_that_finds_itself_superseded_asks_to_stop(run):
    trained = learner()
    stop = AgreedStop(StopFlag(), ALONE)
    journal = Journal(
        run, FIRST, TrainingSettings(), trained, WaitingSaver(run, FIRST, keep=1),
        resumed=Progress(), conditions={}, stop=stop, times=StartTimes(),
        meter=UseMeter(ALONE, Allotment()),
    )  # fmt: skip
    run.claim_attempt(LATER)
    journal.save(Progress(step=1), reason="epoch")
    journal.close()
    assert stop.is_agreed("training")
    assert stop.agreed.signal == "superseded"
    assert names(run) == []
