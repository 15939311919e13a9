"""The optimizer: which parameters decay, and at which rate each group learns."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from mri_hpc.rundir.settings import TrainingSettings
from mri_hpc.training.model import GreyClassifier, head_of

MOMENTUM = 0.9
FLOOR = 0.01
"""Of the highest rate; where the cosine ends."""


def optimizer_of(model: GreyClassifier, settings: TrainingSettings) -> torch.optim.Optimizer:
    """Make the optimizer of all parameters that are learnt; each group carries its highest rate."""
    head = {id(p) for p in head_of(model.network)}
    learnt = [p for p in model.parameters() if p.requires_grad]
    groups = [
        *_groups([p for p in learnt if id(p) not in head], settings.lr, settings),
        *_groups([p for p in learnt if id(p) in head], settings.head_lr or settings.lr, settings),
    ]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=settings.lr, momentum=MOMENTUM)
    return torch.optim.AdamW(groups, lr=settings.lr)


def set_rates(
    optimizer: torch.optim.Optimizer, settings: TrainingSettings, *, step: int, steps_per_epoch: int
) -> float:
    """Give each group its rate of this step; returns that of the rest, or of a head that learns alone."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(
            step,
            highest=group["highest_lr"],
            steps_per_epoch=steps_per_epoch,
            warmup_epochs=settings.warmup_epochs,
            schedule_epochs=settings.schedule_epochs or settings.epochs,
        )
    return float(optimizer.param_groups[0]["lr"])


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


def learning_rate(
    step: int, *, highest: float, steps_per_epoch: int, warmup_epochs: float, schedule_epochs: int
) -> float:
    """Return the rate of a step, from 0: linear warm-up, cosine down to FLOOR, constant from there."""
    warmup_steps = min(warmup_epochs, schedule_epochs) * steps_per_epoch
    if step < warmup_steps:
        return highest * (step + 1) / (warmup_steps + 1)
    all_steps = schedule_epochs * steps_per_epoch
    done = min((step - warmup_steps) / max(all_steps - warmup_steps, 1), 1.0)
    return highest * (FLOOR + (1 - FLOOR) * (1 + math.cos(math.pi * done)) / 2)
