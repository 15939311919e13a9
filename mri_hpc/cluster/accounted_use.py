"""Use that a run of a job made of its nodes, as Slurm's accounting has it."""

import re
from typing import Any

from mri_hpc.cluster import slurm, slurm_answers
from mri_hpc.rundir.layout import Attempt, RunDir
from mri_hpc.rundir.ledger import Kind, record

UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
BATCH = (".batch", ".extern")


def record_use(run: RunDir, attempt: Attempt, job_id: str) -> None:
    """Record the use that all ranks of an attempt made, where the accounting knows; nothing where not."""
    found = parse_uses(slurm.past_uses(job_id), attempt.restart)
    if found:
        limit = slurm.memory_of_node()
        of_memory = {"memory_limit_bytes": limit} if limit else {}
        record(run, attempt, Kind.ACCOUNTED, **found, **of_memory, is_of_job=True)


def parse_uses(text: str, restart: int) -> dict[str, Any]:
    """Parse lines of slurm.USE_FIELDS: the use of the ranks of one run of the job, from 0; empty: unknown."""
    runs: list[list[dict[str, str]]] = []
    for line in text.splitlines():
        row = dict(zip(slurm.USE_FIELDS, line.split("|"), strict=False))
        if "." not in row["JobID"]:
            runs.append([])
        elif runs and not row["JobID"].endswith(BATCH) and row.get("JobName") != slurm.QUESTION_STEP:
            runs[-1].append(row)
    if restart >= len(runs) or not runs[restart]:
        return {}
    # The ranks are the only step that the batch script starts beside its questions, or the last.
    return _use_of_step(runs[restart][-1])


def _use_of_step(row: dict[str, str]) -> dict[str, Any]:
    seconds, processor_s = _number(row.get("ElapsedRaw", "")), seconds_of(row.get("TotalCPU", ""))
    ranks, cores = _number(row.get("NTasks", "")), _number(row.get("AllocCPUS", ""))
    if not seconds or not ranks or not processor_s:
        # A step that has just ended, or of a site that counts nothing.
        return {}
    nodes, memory = _number(row.get("NNodes", "")) or 1, _bytes(row.get("MaxRSS", ""))
    busy = re.search(r"gres/gpuutil=(\d+)", row.get("TRESUsageInAve", ""))
    found = {
        "seconds": float(seconds),
        "cores_used": round(processor_s / seconds / ranks, 3),
        "cores": round(cores / ranks, 3) if cores else None,
        "memory_bytes": memory * -(-ranks // nodes) if memory else None,
        "gpu_busy": int(busy[1]) / 100 if busy else None,
    }
    return {name: value for name, value in found.items() if value is not None}


def seconds_of(text: str) -> float | None:
    """Parse ``[[days-]hours:]minutes:seconds[.fraction]`` as seconds; None where it is none of these."""
    whole, _point, fraction = text.partition(".")
    seconds = slurm_answers.seconds_of(whole)
    return None if seconds is None else seconds + (float(f"0.{fraction}") if fraction.isdigit() else 0.0)


def _number(text: str) -> int | None:
    return int(text) if text.isdigit() else None


def _bytes(text: str) -> int | None:
    """Parse a number with a unit of Slurm's: ``582340K``, ``1.5G``."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)", text)
    return round(float(match[1]) * UNITS[match[2]]) if match else None
