"""The loss of a step, averaged over ranks while the next step may begin."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.distributed as dist

from mri_hpc.training.ranks import Ranks


@dataclass(frozen=True, kw_only=True)
class StepLoss:
    """Mean loss over the images of a step and all ranks, which may be on its way."""

    tensor: torch.Tensor
    """float32, (1,), on the processor; (2,) with the norm of the gradient where that is clipped."""
    wait: Callable[[], object]
    """Returns when the loss is there."""
    lr: float
    """The learning rate of the step; that of all but the head where the head has its own."""

    def value(self) -> float:
        """Return the loss; waits for it."""
        self.wait()
        return float(self.tensor[0])

    def gradient_norm(self) -> float | None:
        """Return the norm of the gradient, before it was clipped; None where it is not. Waits for it."""
        self.wait()
        return float(self.tensor[1]) if len(self.tensor) > 1 else None


def mean_over_ranks(loss: torch.Tensor, norm: torch.Tensor | None, lr: float, ranks: Ranks) -> StepLoss:
    """Average the loss of a step over all ranks, on its way when this returns. norm: of the gradient."""
    # The norm is the same on all ranks: with the loss it costs no exchange of its own.
    tensor = _together(loss, norm) / ranks.world_size
    work = None if ranks.is_alone else dist.all_reduce(tensor, async_op=True)
    if ranks.device.type == "cpu":
        return StepLoss(tensor=tensor, wait=work.wait if work else lambda: None, lr=lr)
    if work:
        # Makes the GPU wait for the exchange, not this thread.
        work.wait()
    return _copied(tensor, lr)


def known_to_all(loss: torch.Tensor, norm: torch.Tensor | None, lr: float) -> StepLoss:
    """Return the loss of a step that every rank has of all. norm: of the gradient."""
    tensor = _together(loss, norm)
    if tensor.device.type == "cpu":
        return StepLoss(tensor=tensor, wait=lambda: None, lr=lr)
    return _copied(tensor, lr)


def _together(loss: torch.Tensor, norm: torch.Tensor | None) -> torch.Tensor:
    return torch.stack([loss] if norm is None else [loss, norm])


def _copied(tensor: torch.Tensor, lr: float) -> StepLoss:
    # Copied now: a copy asked for at the next step would be queued behind that step, and wait for it.
    copied = tensor.to("cpu", non_blocking=True)
    arrival = torch.cuda.Event()
    arrival.record()
    return StepLoss(tensor=copied, wait=arrival.synchronize, lr=lr)
