"""The learning rate as a function of the step."""

import math

FLOOR = 0.01
"""Of the highest rate; where the cosine ends."""


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
