"""Batch norm's running statistics, moved by the micro-batches of a step in their order, whoever held them."""

from collections.abc import Iterable

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


class RunningStatistics:
    """The running means and variances of a model, in one tensor.

    Torch moves them with each forward pass. Here each pass leaves the statistics of its own images in their
    place, and they are moved once all are known.
    """

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        """Take them over. Those of frozen layers stay as they are."""
        self._none = torch.empty(0, device=device)
        self._tensors: list[torch.Tensor] = []
        """Means and variances, as the model has them."""
        self._counts: list[torch.Tensor] = []
        """Passes that went into those of each layer."""
        momenta = []
        for norm in model.train().modules():
            if isinstance(norm, _BatchNorm) and norm.training and norm.track_running_stats:
                mean, variance, count = norm.running_mean, norm.running_var, norm.num_batches_tracked
                assert mean is not None and variance is not None and count is not None and norm.momentum
                self._tensors += [mean, variance]
                self._counts.append(count)
                momenta += [torch.full_like(tensor, norm.momentum) for tensor in (mean, variance)]
                # With it, what a pass leaves is that of its images, to the bit.
                norm.momentum = 1.0
        self._momentum = self._joined(momenta)
        self._before, self._counts_before = self._none, self._counts

    @property
    def size(self) -> int:
        """Numbers that a micro-batch has of them."""
        return len(self._momentum)

    def begin(self) -> None:
        """Remember them as they are before a step."""
        self._before = self._joined(self._tensors)
        self._counts_before = [count.clone() for count in self._counts]

    def of_micro_batch(self) -> torch.Tensor:
        """Return the statistics that the last forward pass has left: float32, (size,)."""
        return self._joined(self._tensors)

    def move(self, found: torch.Tensor) -> None:
        """Move them by those of all micro-batches of the step: float32, (micro-batches, size)."""
        moved = self._before
        for of_one in found:
            moved = moved * (1 - self._momentum) + of_one * self._momentum
        sizes = [tensor.numel() for tensor in self._tensors]
        for tensor, new in zip(self._tensors, moved.split(sizes), strict=True):
            tensor.copy_(new)
        for count, before in zip(self._counts, self._counts_before, strict=True):
            count.copy_(before + len(found))

    def _joined(self, tensors: Iterable[torch.Tensor]) -> torch.Tensor:
        return torch.cat([self._none, *tensors])
