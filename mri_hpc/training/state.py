"""The state of training after a step: what the learner gives, a saver keeps, and the learner takes back."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from mri_hpc.rundir.progress import Progress


@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """All that the next step depends on, and what must be known of it: what a checkpoint holds.

    One that the learner gives is a view of its tensors: it holds until the next step.
    """

    weights: Mapping[str, torch.Tensor]
    """Weights and statistics to validate and publish, averaged or the last; on the processor."""
    rest: Mapping[str, Any]
    """All else that the next step depends on, as torch.save takes it: optimizer, scaler, average."""
    progress: Progress
    conditions: Mapping[str, Any]
    """Conditions of bit-equality, of the attempt that did the step."""
