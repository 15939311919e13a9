"""Progress of a run: the whole resume state beside weights and optimizer, as integers and one digest."""

import hashlib
import math
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # Whoever decides on the end of a job reads manifests, and has seconds.
    import numpy as np


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

    def is_over(self, epochs: int, patience: int) -> bool:
        """Tell whether training has ended: epochs are done, or `patience` of them brought no improvement."""
        return self.epoch >= epochs or self.early_stopping.epochs_without_improvement >= patience

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)
