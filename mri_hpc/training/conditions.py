"""Conditions that bit-equality rests on: recorded with each checkpoint, compared when a run goes on."""

import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision

from mri_hpc.base.version import CHECKOUT, version
from mri_hpc.training.pinned_collectives import COLLECTIVES, described
from mri_hpc.training.ranks import Ranks

OF_RANKS = frozenset({"ranks", "hosts", COLLECTIVES})
"""Conditions on which only sums over ranks rest."""


def conditions(ranks: Ranks, *, threads: int, deterministic: bool) -> dict[str, Any]:
    """Look up the conditions of this attempt, as plain values for JSON; all ranks must ask."""
    own = device_model(ranks.device), threads, described(ranks.backend, os.environ)
    devices, all_threads, collectives = zip(*ranks.from_all(own), strict=True)
    return {
        "ranks": ranks.world_size,
        "hosts": ranks.num_hosts,
        "threads": _all_that_occur(all_threads),
        "device": _all_that_occur(devices),
        COLLECTIVES: _all_that_occur(collectives),
        "deterministic": deterministic,
        **versions(),
    }


def without_effect(sums: str) -> frozenset[str]:
    """Return the conditions on which nothing rests where steps are summed in this way: of the settings."""
    return frozenset() if sums == "ddp" else OF_RANKS


def versions() -> dict[str, str]:
    """Look up the versions of this code and of the libraries that compute."""
    nccl = torch.cuda.nccl.version() if torch.cuda.is_available() else ()
    return {
        "mri_hpc": code_version(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "numpy": np.__version__,
        "cudnn": str(torch.backends.cudnn.version() or ""),
        "nccl": ".".join(map(str, nccl)),
    }


def code_version(checkout: Path = CHECKOUT) -> str:
    """Return the version of mri_hpc, and the commit where it runs from a checkout."""
    commit = _commit(checkout / ".git")
    return f"{version()} ({commit[:12]})" if commit else version()


def device_model(device: torch.device) -> str:
    """Name of the GPU, or of the processor and the instructions that torch uses of it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_processor()} ({torch.backends.cpu.get_cpu_capability()})"


def changes(
    before: Mapping[str, Any], now: Mapping[str, Any], *, but: frozenset[str] = frozenset()
) -> dict[str, tuple[Any, Any]]:
    """Find conditions that differ: name → (before, now). Those not recorded before are left out.

    but: names on which nothing rests.
    """
    names = sorted(({*before} & {*now}) - but)
    return {n: (before[n], now[n]) for n in names if before[n] != now[n]}


def _all_that_occur(values: Sequence[Any]) -> Any:
    """Give what all ranks have; all that occur where they differ, in one line."""
    found = sorted(set(values))
    return found[0] if len(found) == 1 else ", ".join(map(str, found))


def _commit(git: Path) -> str:
    """Find what is checked out, as git's own files say, since nodes may lack git; empty where they do not."""
    try:
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return head
        name = head.removeprefix("ref: ")
        if (git / name).is_file():
            return (git / name).read_text().strip()
        packed = [line.split() for line in (git / "packed-refs").read_text().splitlines()]
    except OSError:
        return ""
    return next((words[0] for words in packed if words[1:] == [name]), "")


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else os.uname().machine
