"""The arithmetic of a process: deterministic or not, and the type in which a network computes."""

import os

import torch

from mri_hpc.base.errors import UserError


def use_device(*, deterministic: bool, threads: int) -> None:
    """Choose torch's arithmetic for this process, before the device is first used."""
    torch.set_num_threads(threads)
    torch.backends.cudnn.benchmark = not deterministic
    if deterministic:
        # cuBLAS reads it when CUDA starts.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)


def dtype_of(precision: str, device: torch.device) -> torch.dtype:
    """Choose the type in which a device computes. Raises UserError where it cannot do as asked."""
    on_gpu = device.type == "cuda"
    if precision == "fp16" and not on_gpu:
        raise UserError("--precision fp16 needs a GPU, and torch finds none here: use auto, bf16 or fp32")
    if precision == "auto":
        precision = "bf16" if on_gpu and torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
