"""Savers: they make states of training durable for the attempt that owns the run."""

from typing import Protocol

from mri_hpc.rundir.layout import Attempt, RunDir
from mri_hpc.training import checkpoint
from mri_hpc.training.checkpoint import Saved
from mri_hpc.training.state import TrainingState


class Saver(Protocol):
    """Keeps the newest states and that of the best epoch, on rank 0.

    Both methods raise OSError where a state cannot be written, as on a full disk: those before stay as they
    are.
    """

    def save(self, state: TrainingState) -> None:
        """Take a state to be saved; from here on the learner may go on."""

    def wait(self) -> Saved | None:
        """Wait until the last state is durable; None where a newer attempt owns the run, and it is not."""


class WaitingSaver:
    """Saves at once, while the training waits."""

    def __init__(self, run: RunDir, attempt: Attempt, *, keep: int) -> None:
        """keep: number of newest checkpoints that stay."""
        self._run, self._attempt, self._keep = run, attempt, keep
        self._saved: Saved | None = None

    def save(self, state: TrainingState) -> None:
        """Publish the checkpoint of this state, and remove those that are not kept."""
        self._saved = checkpoint.save(self._run, self._attempt, state)
        if self._saved:
            checkpoint.prune(self._run, self._attempt, progress=state.progress, keep=self._keep)

    def wait(self) -> Saved | None:
        """Give what has become of the last state."""
        return self._saved
