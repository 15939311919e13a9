"""Weights averaged over the steps: what is validated and published where a decay is set."""

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mri_hpc.training.model import GreyClassifier

Tensors = tuple[torch.Tensor, ...] | list[torch.Tensor]


class Average:
    """A copy of a model whose weights and statistics follow the model's, each step a little."""

    def __init__(self, model: GreyClassifier, decay: float) -> None:
        self._decay = decay
        # Statistics too, as in torchvision's training scripts: those of other weights would not fit.
        self._averaged = AveragedModel(model, multi_avg_fn=self._move, use_buffers=True)

    @property
    def model(self) -> GreyClassifier:
        """The averaged one."""
        model = self._averaged.module
        assert isinstance(model, GreyClassifier)
        return model

    @property
    def num_steps(self) -> int:
        """Steps that went into the average."""
        return int(self._averaged.n_averaged)

    @num_steps.setter
    def num_steps(self, number: int) -> None:
        self._averaged.n_averaged.fill_(number)

    def follow(self, model: GreyClassifier) -> None:
        """Take in the weights after a step."""
        self._averaged.update_parameters(model)

    def _move(self, means: Tensors, values: Tensors, _num_steps: object) -> None:
        """Move tensors of one type towards those of the model."""
        if means[0].is_floating_point():
            get_ema_multi_avg_fn(decay_at(self.num_steps, self._decay))(means, values, self.num_steps)
        else:
            # Counts have no average.
            for mean, value in zip(means, values, strict=True):
                mean.copy_(value)


def decay_at(num_steps: int, decay: float) -> float:
    """Return the decay after so many steps: small at first, so that the random start is soon forgotten.

    As in TensorFlow's ExponentialMovingAverage.
    """
    return min(decay, (1 + num_steps) / (10 + num_steps))
