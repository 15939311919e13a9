"""Savers: they make states of training durable for the attempt that owns the run."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from mri_hpc.rundir.layout import Attempt, RunDir
from mri_hpc.rundir.progress import Progress
from mri_hpc.training import checkpoint
from mri_hpc.training.checkpoint import Saved
from mri_hpc.training.state import TrainingState
from mri_hpc.training.state_files import go_on


class Fate(StrEnum):
    """Fates of a state that was to be saved."""

    SAVED = "saved"
    SUPERSEDED = "superseded"  # a newer attempt owns the run: nothing was written
    UNSOUND = "unsound"  # it holds numbers that are not finite: nothing was written
    FAILED = "failed"  # it could not be written, as on a full disk: those before stay as they are


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Outcome of a state that was to be saved."""

    fate: Fate
    progress: Progress
    error: OSError | None = None
    """Of one that failed."""
    order: "Order | None" = None
    """To save one that failed, which holds until the next one is begun."""


@dataclass(frozen=True, kw_only=True)
class Spent:
    """Seconds that a save has taken."""

    held_s: float
    """While the training waited."""
    written_s: float | None = None
    """From then until it was durable, where the training went on meanwhile."""
    work_s: float | None = None
    """The same without those in which the writer waited for a core: what a stop has to reckon with."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """A state to save, and what goes with it."""

    state: TrainingState
    began_s: float
    """By the monotonic clock: since when the training waits."""
    is_checked: bool
    """It is known to be finite; else whoever writes it looks."""
    before: Callable[[], None]
    """Makes durable what comes before the checkpoint; called by whoever writes it."""
    after: Callable[[Saved, Spent], None]
    """Notes that it is durable; called by whoever has written it."""


class Saver(Protocol):
    """Keeps the newest states and that of the best epoch, on rank 0; one state at a time."""

    def begin(self, order: Order) -> Outcome | None:
        """Take a state to be saved; from here on the learner may go on. None may be under way.

        What has become of it where it was written at once, which raises OSError where it cannot be.
        """

    def ended(self) -> Outcome | None:
        """Return, once, what has become of the state that was under way; None while it is."""

    def wait(self) -> Outcome | None:
        """Wait for the state under way; returns what has become of it, as `ended`."""

    def save(self, order: Order) -> Outcome:
        """Save a state while the training waits; none may be under way. Raises OSError."""

    def overtake(self) -> None:
        """Leave the state under way, if there is one: a newer one is about to be saved."""

    @property
    def under_way(self) -> tuple[Order, float] | None:
        """The state under way, and for how many seconds it has been."""


class WaitingSaver:
    """Saves at once, while the training waits."""

    def __init__(self, run: RunDir, attempt: Attempt, *, keep: int) -> None:
        """keep: number of newest checkpoints that stay."""
        self._run, self._attempt, self._keep = run, attempt, keep
        self.under_way = None

    def begin(self, order: Order) -> Outcome:
        """Save a state. Raises OSError."""
        return self.save(order)

    def ended(self) -> None:
        """Return nothing: none is ever under way."""

    def wait(self) -> None:
        """Return nothing."""

    def overtake(self) -> None:
        """Leave nothing."""

    def save(self, order: Order) -> Outcome:
        """Save a state. Raises OSError."""
        return self.write(order, lambda: Spent(held_s=time.monotonic() - order.began_s))

    def write(
        self,
        order: Order,
        spent: Callable[[], Spent],
        *,
        before_piece: Callable[[], None] = go_on,
        before_publishing: Callable[[], None] = go_on,
    ) -> Outcome:
        """Save a state. spent: tells what it took; the others as of checkpoint.save. Raises OSError."""
        state = order.state
        order.before()
        if not order.is_checked and not state.on_processor().is_finite():
            return Outcome(fate=Fate.UNSOUND, progress=state.progress)
        saved = checkpoint.save(
            self._run, self._attempt, state, before_piece=before_piece, before_publishing=before_publishing
        )
        if saved is None:
            return Outcome(fate=Fate.SUPERSEDED, progress=state.progress)
        checkpoint.prune(self._run, self._attempt, progress=state.progress, keep=self._keep)
        order.after(saved, spent())
        return Outcome(fate=Fate.SAVED, progress=state.progress)
