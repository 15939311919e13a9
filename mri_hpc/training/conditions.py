"""What equality to the bit rests on: recorded with each checkpoint, compared when a run goes on."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision

from mri_hpc.training.ranks import Ranks

ALGORITHM_VARIABLES = ("NCCL_ALGO", "NCCL_PROTO")


def conditions(ranks: Ranks, *, threads: int, deterministic: bool) -> dict[str, Any]:
    """The conditions of this attempt, as plain values for JSON."""
    return {
        "ranks": ranks.world_size,
        "hosts": ranks.num_hosts,
        "threads": threads,
        "device": device_model(ranks.device),
        "collectives": _collectives(ranks),
        "deterministic": deterministic,
        **versions(),
    }


def versions() -> dict[str, str]:
    """Versions of the libraries that compute."""
    return {
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "numpy": np.__version__,
        "cudnn": str(torch.backends.cudnn.version() or ""),
    }


def device_model(device: torch.device) -> str:
    """Name of the GPU, or of the processor and the instructions that torch uses of it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_processor()} ({torch.backends.cpu.get_cpu_capability()})"


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Conditions that differ: name → (before, now)."""
    names = sorted({*before, *now})
    return {n: (before.get(n), now.get(n)) for n in names if before.get(n) != now.get(n)}


def _collectives(ranks: Ranks) -> str:
    chosen = [f"{name}={os.environ[name]}" for name in ALGORITHM_VARIABLES if name in os.environ]
    return " ".join([ranks.backend, *chosen])


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else os.uname().machine
