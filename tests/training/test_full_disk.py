"""A disk that is full while a checkpoint is written: one clear line, and what was saved stays."""

import errno
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from mri_hpc.base.command import run_command
from mri_hpc.rundir.layout import Attempt, RunDir
from mri_hpc.rundir.place import Place
from mri_hpc.rundir.progress import Progress
from mri_hpc.rundir.settings import TrainingSettings
from mri_hpc.training import checkpoint, state_files
from mri_hpc.training.learner import Learner
from mri_hpc.training.model import build
from mri_hpc.training.ranks import Ranks
from tests.training.little_room import files_up_to

FIRST = Attempt(submission=1, restart=0)
ALONE = Ranks(place=Place(), device=torch.device("cpu"), backend="none", num_hosts=1)


@dataclass(frozen=True, kw_only=True)
class NoOptions:
    """Save."""


@pytest.fixture(scope="module")
def learner():
    """One whose weights take 3 MB, and whose optimizer takes 6."""
    settings = TrainingSettings(model="squeezenet1_1")
    network = build(settings, 2, (32, 32))
    learner = Learner(network, settings, ALONE, weights_of_classes=np.ones(2, np.float32), steps_per_epoch=1)
    learner.model(torch.randn(2, 32, 32)).sum().backward()
    learner.optimizer.step()
    return learner


@pytest.mark.parametrize("room", [0, 1_000_000, 4_000_000])
def test_a_checkpoint_that_does_not_fit_is_one_clear_line_and_those_before_stay(
    room, learner, tmp_path, capsys
):
    run = RunDir(tmp_path / "run")
    run.claim_attempt(FIRST)
    checkpoint.save(run, FIRST, learner.state(Progress(step=3), {}))

    def save(_options):
        with files_up_to(room):
            checkpoint.save(run, FIRST, learner.state(Progress(step=5), {}))

    assert run_command("mri-hpc train", NoOptions, save, [], example="") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"mri-hpc train: File too large: {run.checkpoints}/5; raise the limit")
    assert [entry.name for entry in run.checkpoints.iterdir()] == ["3"]
    assert checkpoint.damage(run.checkpoints / "3") == ""
    checkpoint.save(run, FIRST, learner.state(Progress(step=5), {}))
    assert checkpoint.damage(run.checkpoints / "5") == ""


def test_another_fault_of_the_writer_stays_what_it_is(tmp_path, monkeypatch):
    def broken(state, file):
        raise RuntimeError("a bug")

    monkeypatch.setattr(state_files.torch, "save", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        state_files.write_state(tmp_path / "state.pt", {})


def test_a_full_disk_says_to_make_room(learner, tmp_path, monkeypatch, capsys):
    run = RunDir(tmp_path / "run")
    run.claim_attempt(FIRST)

    def full(state, file):
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        finally:
            # As torch's writer does.
            raise RuntimeError("unexpected pos 640 vs 598")

    monkeypatch.setattr(state_files.torch, "save", full)

    def save(_options):
        return checkpoint.save(run, FIRST, learner.state(Progress(step=5), {}))

    assert run_command("mri-hpc train", NoOptions, save, [], example="") == 2
    wanted = (
        f"mri-hpc train: No space left on device: {run.checkpoints}/5; make room there, then run it again\n"
    )
    assert capsys.readouterr().err == wanted
