"""The arithmetic of a process: deterministic or not, and the type in which a network computes."""

import gc
import os
from pathlib import Path

import torch

from mri_hpc.base.errors import UserError
from mri_hpc.base.memory import give_back, keep_freed
from mri_hpc.rundir.settings import TrainingSettings
from mri_hpc.training.ranks import Ranks


def use_device(*, deterministic: bool, threads: int) -> None:
    """Choose torch's arithmetic and memory for this process, before the device is first used."""
    torch.set_num_threads(threads)
    torch.backends.cudnn.benchmark = not deterministic
    if deterministic:
        # cuBLAS reads it when CUDA starts.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    if not torch.cuda.is_available():
        # Large tensors of a step lie there.
        keep_freed()


def free_memory(device: torch.device) -> None:
    """Free the memory of learners that are held by no name any more, also for other processes."""
    # They hold themselves, by way of what watches their gradients.
    gc.collect()
    give_back()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def has_matrix_unit() -> bool:
    """Tell whether this processor multiplies matrices of bf16 by a unit of its own."""
    return "amx_bf16" in Path("/proc/cpuinfo").read_text()


def by_matrix_unit(settings: TrainingSettings, ranks: Ranks) -> bool:
    """Tell whether all ranks compute by that unit, with channels last; all of them must ask."""
    # One arithmetic for all ranks: DDP refuses parameters that do not lie alike.
    on_gpu = ranks.device.type == "cuda"
    return settings.matrix_unit and not on_gpu and all(ranks.from_all(has_matrix_unit()))


def dtype_of(precision: str, device: torch.device, *, matrix_unit: bool = False) -> torch.dtype:
    """Choose the type in which a device computes. Raises UserError where it cannot do as asked.

    matrix_unit: that there is one, and that it is to be used.
    """
    on_gpu = device.type == "cuda"
    if precision == "fp16" and not on_gpu:
        raise UserError("--precision fp16 needs a GPU, and torch finds none here: use auto, bf16 or fp32")
    if precision == "auto":
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False) if on_gpu else matrix_unit
        precision = "bf16" if has_bf16 else "fp32"
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
