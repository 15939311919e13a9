"""The optimizer: which parameters decay, and at which rate each group learns."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from mri_hpc.rundir.progress import Progress
from mri_hpc.rundir.settings import TrainingSettings
from mri_hpc.training.model import GreyClassifier, head_of

MOMENTUM = 0.9
FLOOR = 0.01
"""Of the highest rate; where it ends."""


def optimizer_of(
    model: GreyClassifier, settings: TrainingSettings, *, is_fused: bool = False
) -> torch.optim.Optimizer:
    """Make the optimizer of all parameters that are learnt; each group carries its highest rate.

    is_fused: move a tensor in one pass over its numbers, which rounds otherwise.
    """
    # None leaves it to torch, as before.
    fused = is_fused or None
    head = {id(p) for p in head_of(model.network)}
    learnt = [p for p in model.parameters() if p.requires_grad]
    groups = [
        *_groups([p for p in learnt if id(p) not in head], settings.lr, settings),
        *_groups([p for p in learnt if id(p) in head], settings.head_lr or settings.lr, settings),
    ]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=settings.lr, momentum=MOMENTUM, fused=fused)
    return torch.optim.AdamW(groups, lr=settings.lr, fused=fused)


def set_rates(
    optimizer: torch.optim.Optimizer,
    settings: TrainingSettings,
    progress: Progress,
    *,
    steps_per_epoch: int,
) -> float:
    """Give each group its rate of the next step; returns that of the rest, or of a head that learns alone."""
    if settings.decay_epochs:
        share = share_of_held_rate(
            progress, steps_per_epoch=steps_per_epoch, warmup_epochs=settings.warmup_epochs,
            decay_epochs=settings.whole_decay_epochs,
        )  # fmt: skip
    else:
        share = share_of_cosine(
            progress.step, steps_per_epoch=steps_per_epoch, warmup_epochs=settings.warmup_epochs,
            schedule_epochs=settings.schedule_epochs or settings.epochs,
        )  # fmt: skip
    for group in optimizer.param_groups:
        group["lr"] = group["highest_lr"] * share
    return float(optimizer.param_groups[0]["lr"])


def as_parameters_lie(optimizer: torch.optim.Optimizer) -> None:
    """Have each tensor of a state that was loaded lie in memory as its parameter does.

    A fused optimizer goes over both number by number, as they lie, and does not look whether they lie alike.
    """
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            is_of_each = torch.is_tensor(value) and value.shape == parameter.shape
            if is_of_each and value.stride() != parameter.stride():
                state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def learnt_parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    """Return all parameters that the optimizer moves."""
    return [p for group in optimizer.param_groups for p in group["params"]]


def _groups(
    parameters: Sequence[nn.Parameter], highest_lr: float, settings: TrainingSettings
) -> list[dict[str, Any]]:
    decaying = [p for p in parameters if p.dim() > 1]
    # Decay of biases and normalisation only hurts (arXiv 1812.01187).
    others = [p for p in parameters if p.dim() <= 1]
    groups = ((decaying, settings.weight_decay), (others, 0.0))
    return [
        {"params": params, "weight_decay": decay, "highest_lr": highest_lr}
        for params, decay in groups
        if params
    ]


def share_of_cosine(step: int, *, steps_per_epoch: int, warmup_epochs: float, schedule_epochs: int) -> float:
    """Return the rate of a step, from 0, as a share of the highest.

    Linear warm-up, cosine down to FLOOR, constant from there.
    """
    warmup_steps = min(warmup_epochs, schedule_epochs) * steps_per_epoch
    if step < warmup_steps:
        return _warming(step, warmup_steps)
    all_steps = schedule_epochs * steps_per_epoch
    done = min((step - warmup_steps) / max(all_steps - warmup_steps, 1), 1.0)
    return FLOOR + (1 - FLOOR) * (1 + math.cos(math.pi * done)) / 2


def share_of_held_rate(
    progress: Progress, *, steps_per_epoch: int, warmup_epochs: float, decay_epochs: int
) -> float:
    """Return the rate of the next step as a share of the highest: linear warm-up, held, decay down to FLOOR.

    The decay is 1 - sqrt, as in Hägele et al. 2024 (arXiv 2405.18392).
    """
    warmup_steps = warmup_epochs * steps_per_epoch
    # Not all steps so far: an epoch on another snapshot counts as one, however many steps it had.
    step = progress.epoch * steps_per_epoch + progress.step_in_epoch
    share = _warming(step, warmup_steps) if step < warmup_steps else 1.0
    if progress.decay_epoch < 0:
        return share
    epochs_done = progress.epoch - progress.decay_epoch + progress.step_in_epoch / steps_per_epoch
    return share * (FLOOR + (1 - FLOOR) * (1 - math.sqrt(epochs_done / decay_epochs)))


def _warming(step: int, warmup_steps: float) -> float:
    return (step + 1) / (warmup_steps + 1)
