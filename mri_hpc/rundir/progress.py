"""Progress of a run: the whole resume state beside weights and optimizer, as integers and one digest."""

import hashlib
import math
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # Whoever decides on the end of a job reads manifests, and has seconds.
    import numpy as np

SINCE_0_1_0 = {"is_new": True}
"""Mark of a field that checkpoints of 0.1.0 lack: its default means what was so before there was one."""


@dataclass(frozen=True, kw_only=True)
class EarlyStopping:
    """The best validation loss so far, and the number of epochs since without a better one."""

    best_loss: float = math.inf
    best_epoch: int = -1
    best_step: int = -1
    """Steps done when the best loss was measured: the name of its checkpoint."""
    epochs_without_improvement: int = 0

    def after_epoch(self, epoch: int, step: int, loss: float, min_improvement: float) -> "EarlyStopping":
        """Return the state after validating `epoch`. A loss that is not a number is no improvement."""
        if loss < self.best_loss - min_improvement:
            return EarlyStopping(best_loss=loss, best_epoch=epoch, best_step=step)
        return replace(self, epochs_without_improvement=self.epochs_without_improvement + 1)


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Steps and epochs that the optimizer has consumed, and the digest of the samples that they held."""

    step: int = 0
    """Optimizer steps done since the run began."""
    epoch: int = 0
    """Epoch under way; epochs done."""
    step_in_epoch: int = 0
    """Steps done in this epoch."""
    snapshot: str = ""
    """Digest of the snapshot that is being trained on."""
    samples_digest: str = ""
    """Chained sha256 over the keys of every batch so far, in order."""
    early_stopping: EarlyStopping = field(default_factory=EarlyStopping)
    decay_epoch: int = field(default=-1, metadata=SINCE_0_1_0)
    """Epoch from whose start on the rate falls to its end; -1: not yet, or by a cosine."""

    def after_step(self, step_keys: "np.ndarray") -> "Progress":
        """Return the progress after a step. step_keys: uint64, (B,), of the whole batch over all ranks."""
        chained = hashlib.sha256(bytes.fromhex(self.samples_digest))
        chained.update(step_keys.astype("<u8").tobytes())
        return replace(
            self,
            step=self.step + 1,
            step_in_epoch=self.step_in_epoch + 1,
            samples_digest=chained.hexdigest(),
        )

    def after_epoch(self, validation_loss: float, min_improvement: float) -> "Progress":
        """Return the progress after validating the epoch under way: the next epoch begins."""
        stopping = self.early_stopping.after_epoch(self.epoch, self.step, validation_loss, min_improvement)
        return replace(self, epoch=self.epoch + 1, step_in_epoch=0, early_stopping=stopping)

    def with_decay(self, epochs: int, patience: int, decay_epochs: int) -> "Progress":
        """Return the progress with its decay begun where it is due: `patience` ran out, or `epochs` will.

        So that no training ends at a high rate. Asked at the start of each epoch; nothing ends a decay early.
        """
        is_due = self._is_out_of_patience(patience) or self.epoch + decay_epochs >= epochs
        if not decay_epochs or self.decay_epoch >= 0 or self.step_in_epoch or not is_due:
            return self
        return replace(self, decay_epoch=self.epoch)

    def on_snapshot(self, digest: str) -> "Progress":
        """Return the progress on another snapshot: losses on that are compared among themselves alone."""
        return replace(self, snapshot=digest, early_stopping=EarlyStopping())

    def without_rest_of_epoch(self) -> "Progress":
        """Return the progress at the start of the next epoch, where that under way cannot be ended."""
        return replace(self, epoch=self.epoch + 1, step_in_epoch=0) if self.step_in_epoch else self

    def is_over(self, epochs: int, patience: int, decay_epochs: int = 0) -> bool:
        """Tell whether training has ended: epochs are done, or `patience` ran out, and with it the decay."""
        if self.epoch >= epochs:
            return True
        if decay_epochs:
            return 0 <= self.decay_epoch <= self.epoch - decay_epochs
        return self._is_out_of_patience(patience)

    def model_step(self, published_epoch: str) -> int:
        """Return the steps done when the weights were saved that are the model, if training ended now.

        published_epoch: best, that of the least validation loss; or last, where a held rate has fallen: few
        validation patients cannot choose one of before that by luck.
        """
        is_last = published_epoch == "last" and self.decay_epoch >= 0
        best = self.early_stopping.best_step
        return self.step if is_last or best < 0 else best

    def model_epoch(self, published_epoch: str) -> int:
        """Return the number, from 1, of the epoch whose weights are the model, if training ended now."""
        is_last = self.model_step(published_epoch) == self.step
        return self.epoch if is_last else self.early_stopping.best_epoch + 1

    def _is_out_of_patience(self, patience: int) -> bool:
        return self.early_stopping.epochs_without_improvement >= patience

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)
