"""The model of all ranks where a step is summed over them: torch's DDP, as it is wanted."""

import inspect
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

HAS_NEW_NAME = "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters
WITHOUT_BUFFERS: dict[str, Any] = {"forward_sync_buffers" if HAS_NEW_NAME else "broadcast_buffers": False}
"""Keeps DDP from copying running statistics at every step; torch renamed it in 2.15."""


def data_parallel(model: nn.Module, device: torch.device, *, deterministic: bool) -> DistributedDataParallel:
    """Wrap a model so that its gradients are averaged over ranks."""
    return DistributedDataParallel(
        model,
        device_ids=[device] if device.type == "cuda" else None,
        **WITHOUT_BUFFERS,
        gradient_as_bucket_view=True,
        # DDP rebuilds its buckets after the first step, so that with three ranks or more a resumed
        # process would add in another order than one that went on. This keeps them as they are.
        find_unused_parameters=deterministic,
    )
