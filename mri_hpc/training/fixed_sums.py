"""Sums over the micro-batches of a step, alike to the bit whichever rank held which.

A sum of floating-point numbers depends on its order, and so on the number of ranks. Each micro-batch's
gradient is therefore rounded by itself, to whole numbers of 2**-44; these are added as int64, which is exact
in any order, on a rank and between ranks. The same exchange carries losses and batch norm's statistics, as
they are, which all ranks take in by the number of the micro-batch.

Others that were weighed: Adding floats along a fixed tree keeps every digit, but holds the gradients of all
micro-batches apart until they meet: up to 4 bytes a weight for each of them on one rank, and as many sent to
all. This holds and sends 8, whatever their number; DDP sends 4. A scale that goes by the largest number loses
less of small ones, but is known only when all micro-batches are computed, which are held apart until then.
2**-44 is 6e-14: a 175,000th of what Adam adds to the root of a squared gradient before it divides.
"""

import torch
import torch.distributed as dist
from torch import nn

from mri_hpc.training.ranks import Ranks
from mri_hpc.training.running_statistics import RunningStatistics

UNIT = 2.0**-44
MOST = 2.0**62
"""Units of a sum; twice as much is no int64."""


class FixedSums:
    """Gradient, loss and batch norm's statistics of a step over all its micro-batches."""

    def __init__(self, model: nn.Module, ranks: Ranks, num_micro_batches: int) -> None:
        """Take over the running statistics of a model, which only `finish` moves from here on."""
        self._ranks, self._num = ranks, num_micro_batches
        self._learnt = [p for p in model.parameters() if p.requires_grad]
        self._statistics = RunningStatistics(model, ranks.device)
        sizes = [p.numel() for p in self._learnt]
        of_each = 1 + self._statistics.size
        # In one piece, for one exchange.
        self._all = torch.zeros(
            sum(sizes) + 1 + num_micro_batches * of_each, dtype=torch.int64, device=ranks.device
        )
        *gradients, self._num_too_large, exact = self._all.split([*sizes, 1, num_micro_batches * of_each])
        self._gradients = [
            flat.as_strided(p.shape, p.stride(), flat.storage_offset())
            for flat, p in zip(gradients, self._learnt, strict=True)
        ]
        self._exact = exact.view(num_micro_batches, of_each)
        self._scale = 1.0

    @property
    def rounds(self) -> int:
        """Micro-batches of a step that the ranks with most of them hold."""
        return -(-self._num // self._ranks.world_size)

    def begin(self, scale: float) -> None:
        """Begin a step. scale: a power of two by which its gradients are too large."""
        self._all.zero_()
        self._scale = scale
        self._statistics.begin()

    def add(self, number: int, loss: torch.Tensor) -> None:
        """Take in the gradient that a micro-batch has left with the parameters, and its statistics."""
        factor, extremes = 1 / (UNIT * self._scale), list[torch.Tensor]()
        for parameter, sum_ in zip(self._learnt, self._gradients, strict=True):
            if parameter.grad is not None:
                # Exact, as by a power of two; rounded once.
                units = parameter.grad.mul_(factor).round_()
                extremes += units.aminmax()
                sum_ += units.to(torch.int64)
                parameter.grad = None
        # Not NaN either.
        self._num_too_large += ~(torch.stack(extremes).abs().max() <= MOST / self._num)
        exact = torch.cat([loss.reshape(1), self._statistics.of_micro_batch()])
        self._exact[number] = exact.view(torch.int32)

    def finish(self) -> torch.Tensor:
        """Give each parameter the gradient of the step, and move the statistics; return the step's loss.

        Where some micro-batch had a gradient that is too large, or not finite, none of the step is a number.
        """
        if not self._ranks.is_alone:
            dist.all_reduce(self._all)
        factor = torch.full((), UNIT * self._scale, device=self._ranks.device)
        factor = factor.masked_fill(self._num_too_large[0] > 0, torch.nan)
        for parameter, sum_ in zip(self._learnt, self._gradients, strict=True):
            parameter.grad = sum_.to(parameter.dtype).mul_(factor)
        exact = self._exact.to(torch.int32).view(torch.float32)
        self._statistics.move(exact[:, 1:])
        return exact[:, 0].sum()
