"""Witnesses of a training: rank 0 tells one of them what is done."""

from collections.abc import Iterable
from typing import Protocol

from mri_hpc.rundir.progress import Progress
from mri_hpc.training.evaluation import Answers
from mri_hpc.training.journal import StepDone, StepsUnderWay


class Witness(Protocol):
    """Takes down what a training does, and makes it durable, or not; on rank 0 only."""

    def steps(self, steps: Iterable[StepDone]) -> None:
        """Take down steps whose losses are known."""

    def save_if_due(self, progress: Progress, steps: StepsUnderWay) -> None:
        """Save after a step, where it is time."""

    def epoch(self, before: Progress, answers: Answers, *, training_s: float, validation_s: float) -> None:
        """Take down a validation. before: progress when the epoch was trained but not yet counted."""

    def save_epoch(self, progress: Progress, before: Progress, answers: Answers, *, is_last: bool) -> None:
        """Save after an epoch that was validated, and show the validation once that is durable."""

    def save(self, progress: Progress, *, reason: str) -> bool:
        """Save now; False where a newer attempt owns the run."""

    def stop_agreed(self, progress: Progress) -> None:
        """Take down that the ranks agreed to stop."""
