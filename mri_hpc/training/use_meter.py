"""The use that rank 0 makes of its cores, memory and GPU: read where a checkpoint is saved.

No thread and no process of its own: the system counts cores and memory by itself, and a GPU is looked at
between two steps, every few seconds.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from mri_hpc.base.memory import forget_peak, held_bytes
from mri_hpc.rundir.allotment import Allotment
from mri_hpc.training.arithmetic import free_memory
from mri_hpc.training.ranks import Ranks

LOOK_EVERY_S = 5.0
"""Seconds between two looks at the GPU."""

log = logging.getLogger(__name__)


class UseMeter:
    """Measures from when it is made on; the ranks do like work, so that the first speaks for all."""

    def __init__(self, ranks: Ranks, allotment: Allotment) -> None:
        self._device, self._allotment = ranks.device, allotment
        self._ranks_on_node = ranks.most_on_a_host
        self._began_s, self._processor_s = time.monotonic(), time.process_time()
        self._ask_gpu = gpu_question(ranks.device)
        self._looked_s, self._busy, self._num_looks = self._began_s, 0.0, 0
        self._held_bytes = 0

    @contextmanager
    def without_trials(self) -> Iterator[None]:
        """Leave out memory that is taken meanwhile, by learners to throw away: the run needs none of it."""
        self._held_bytes = max(self._held_bytes, held_bytes())
        yield
        free_memory(self._device)
        forget_peak()
        if self._device.type == "cuda" and torch.cuda.is_initialized():
            torch.cuda.reset_peak_memory_stats(self._device)

    def look(self) -> None:
        """Look how busy the GPU is, if that is due; called between steps."""
        if self._ask_gpu is None or time.monotonic() - self._looked_s < LOOK_EVERY_S:
            return
        self._looked_s = time.monotonic()
        busy = self._ask_gpu()
        if busy is None:
            self._ask_gpu = None
        else:
            self._busy, self._num_looks = self._busy + busy, self._num_looks + 1

    def values(self) -> dict[str, Any]:
        """Return the use so far, as rundir.use.Use has it; what is not known is left out."""
        seconds = max(time.monotonic() - self._began_s, 1e-3)
        of_job = {"memory_limit_bytes": self._allotment.memory_bytes, "is_of_job": True}
        found = {
            "seconds": round(seconds, 3),
            "cores_used": round((time.process_time() - self._processor_s) / seconds, 3),
            "cores": self._allotment.cores,
            "memory_bytes": max(self._held_bytes, held_bytes()) * self._ranks_on_node,
            **(of_job if self._allotment.is_of_job else {}),
            **self._of_gpu(),
        }
        return {name: value for name, value in found.items() if value is not None}

    def _of_gpu(self) -> dict[str, Any]:
        if self._device.type != "cuda":
            return {}
        return {
            "has_gpu": True,
            "gpu_busy": round(self._busy / self._num_looks, 3) if self._num_looks else None,
            "gpu_bytes": torch.cuda.max_memory_reserved(self._device),
            "gpu_limit_bytes": torch.cuda.mem_get_info(self._device)[1],
        }


def gpu_question(device: torch.device) -> Callable[[], float | None] | None:
    """Return what asks the driver for the fraction of the last second in which a GPU computed.

    It gives None where the driver does not say, as of a part of a GPU; itself None without GPU or library.
    """
    if device.type != "cuda":
        return None
    try:
        # Package nvidia-ml-py, which torch asks through; sites have it or not.
        import pynvml
    except ImportError:
        log.info("how busy the GPU is cannot be asked: pip install nvidia-ml-py")
        return None

    def ask() -> float | None:
        try:
            return torch.cuda.utilization(device) / 100
        except (pynvml.NVMLError, RuntimeError) as error:
            log.info("how busy the GPU is cannot be asked: %s", error)
            return None

    return ask
