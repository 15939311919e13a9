"""Efficiency of a run: the use of all its attempts in, what to ask for instead out."""

import math
from collections.abc import Callable, Sequence

from mri_hpc.rundir.use import Use
from mri_hpc.rundir.worth import FULL, gigabytes, memory_to_ask_for

IDLE = 0.05
"""Fraction of the time: a GPU that computes less is idle, and sites cancel its job."""
HARDLY = 0.3
"""A GPU that computes less is hardly used."""
BUSY_CORES = 0.9
"""Fraction of the cores from which on they are what is waited for."""
ROOM = 1.1
"""Cores to ask for are so many times those that were used."""
MUCH_LESS = 0.75
"""Fraction of the memory that was asked for, from which down less is worth asking for."""


def advise(uses: Sequence[Use]) -> tuple[str, ...]:
    """Return advice on what to ask for, one sentence each: what a site may cancel the job for comes first."""
    of_jobs = [use for use in uses if use.is_of_job]
    if not of_jobs:
        return ()
    advice = (_on_gpu(of_jobs), _on_memory(of_jobs), _on_cores(of_jobs))
    return tuple(sentence for sentence in advice if sentence)


def summed(uses: Sequence[Use]) -> Use | None:
    """Join attempts into one use: means by their seconds, and the most memory; None of none."""
    if not uses:
        return None
    newest = uses[-1]
    return Use(
        attempt=newest.attempt,
        seconds=round(sum(use.seconds for use in uses), 3),
        cores_used=_mean(uses, lambda use: use.cores_used),
        cores=newest.cores,
        memory_bytes=_most(uses, lambda use: use.memory_bytes),
        memory_limit_bytes=newest.memory_limit_bytes,
        has_gpu=newest.has_gpu,
        gpu_busy=_mean(uses, lambda use: use.gpu_busy),
        gpu_bytes=_most(uses, lambda use: use.gpu_bytes),
        gpu_limit_bytes=newest.gpu_limit_bytes,
        is_of_job=newest.is_of_job,
    )


def words(use: Use) -> list[str]:
    """Write a use for people, what a site looks at first."""
    parts = []
    if use.gpu_busy is not None:
        parts.append(f"GPU busy {100 * use.gpu_busy:.0f} % of the time")
    if use.gpu_bytes and use.gpu_limit_bytes:
        parts.append(f"{gigabytes(use.gpu_bytes)} of {gigabytes(use.gpu_limit_bytes)} GB of its memory")
    if use.cores_used is not None and use.cores:
        parts.append(f"{use.cores_used:.1f} of {use.cores:g} cores a rank")
    if use.memory_bytes:
        limit = f" of {gigabytes(use.memory_limit_bytes)}" if use.memory_limit_bytes else ""
        parts.append(f"{gigabytes(use.memory_bytes)}{limit} GB of memory a node")
    return parts


def _on_gpu(uses: Sequence[Use]) -> str:
    busy, whole = _mean(uses, lambda use: use.gpu_busy), summed(uses)
    if busy is None or busy >= HARDLY or whole is None:
        return ""
    found = f"the GPU was busy {100 * busy:.0f} % of the time" + (
        ": many sites cancel such jobs" if busy < IDLE else ""
    )
    if whole.cores and whole.cores_used and whole.cores_used >= BUSY_CORES * whole.cores:
        return (
            f"{found}; all {whole.cores:g} cores of a rank were: --cpus-per-task {2 * math.ceil(whole.cores)}"
        )
    return f"{found}; a new run with --probe tells whether it waits for images, or for other ranks"


def _on_memory(uses: Sequence[Use]) -> str:
    most, limit = _most(uses, lambda use: use.memory_bytes), uses[-1].memory_limit_bytes
    if not most or not limit:
        return ""
    enough = memory_to_ask_for(most)
    if most > FULL * limit:
        return f"{gigabytes(most)} of {gigabytes(limit)} GB of memory were used: --mem-gb {enough} is safer"
    if enough * 2**30 <= MUCH_LESS * limit:
        return f"--mem-gb {enough} would do: the peak was {gigabytes(most)} of {gigabytes(limit)}"
    return ""


def _on_cores(uses: Sequence[Use]) -> str:
    used, cores = _mean(uses, lambda use: use.cores_used), uses[-1].cores
    if used is None or not cores:
        return ""
    enough = max(1, math.ceil(ROOM * used))
    if enough >= cores:
        return ""
    return f"{used:.1f} of {cores:g} cores were used: --cpus-per-task {enough} would do"


def _mean(uses: Sequence[Use], value: Callable[[Use], float | None]) -> float | None:
    """Average a value over the seconds of the attempts that have it."""
    found = [(use.seconds, number) for use in uses if (number := value(use)) is not None]
    seconds = sum(weight for weight, _number in found)
    return round(sum(weight * number for weight, number in found) / seconds, 4) if seconds else None


def _most(uses: Sequence[Use], value: Callable[[Use], int | None]) -> int | None:
    return max((number for use in uses if (number := value(use)) is not None), default=None)
