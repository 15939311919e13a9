"""The state of training after a step: what the learner gives, a saver keeps, and the learner takes back."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from mri_hpc.rundir.progress import Progress

PIECE = 1 << 20
"""Numbers that are looked at together: what is noted of them meanwhile takes as many bytes."""


@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """All that the next step depends on, and what must be known of it: what a checkpoint holds.

    One that the learner gives is a view of its tensors: it holds until the next step.
    """

    weights: Mapping[str, torch.Tensor]
    """Weights and statistics to validate and publish, averaged or the last."""
    rest: Mapping[str, Any]
    """All else that the next step depends on, as torch.save takes it: optimizer, scaler, average."""
    progress: Progress
    conditions: Mapping[str, Any]
    """Conditions of bit-equality, of the attempt that did the step."""

    def on_processor(self) -> "TrainingState":
        """Give the state with all tensors on the processor: views of those that are there."""
        return self.changed(torch.Tensor.cpu)

    def changed(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "TrainingState":
        """Give the state with other tensors in their places, in an order that is always the same."""
        weights = {name: change(tensor) for name, tensor in self.weights.items()}
        return replace(self, weights=weights, rest=_changed(self.rest, change))

    def is_finite(self) -> bool:
        """Tell whether all numbers of a state on the processor are finite; by one thread in little memory."""
        return all(_is_finite(tensor) for tensor in (*self.weights.values(), *_tensors(self.rest)))


def _changed(value: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    if torch.is_tensor(value):
        return change(value)
    if isinstance(value, dict):
        return {name: _changed(one, change) for name, one in value.items()}
    if isinstance(value, list):
        return [_changed(one, change) for one in value]
    # As it is, and not another that is equal: torch.save writes the same object once.
    return value


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if torch.is_tensor(value):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _tensors(one)
    elif isinstance(value, list):
        for one in value:
            yield from _tensors(one)


def _is_finite(tensor: torch.Tensor) -> bool:
    if not tensor.is_floating_point():
        return True
    if tensor.dtype is torch.bfloat16:
        # numpy has none. A number is finite where the bits of its exponent are not all set.
        bits = tensor.detach().view(torch.int16).numpy().reshape(-1)
        return all(((bits[at : at + PIECE] & 0x7F80) != 0x7F80).all() for at in range(0, len(bits), PIECE))
    numbers = tensor.detach().numpy().reshape(-1)
    return all(np.isfinite(numbers[at : at + PIECE]).all() for at in range(0, len(numbers), PIECE))
