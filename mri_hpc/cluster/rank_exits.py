"""How each rank of an attempt ended, as it wrote down itself."""

import json
import time
from pathlib import Path

from mri_hpc.base.atomic import replace_bytes
from mri_hpc.rundir.layout import Attempt, RunDir


def record_exit(run: RunDir, attempt: Attempt, rank: int, status: int) -> None:
    """Write down how a rank ended: the step's own exit status is that of whichever died worst."""
    text = json.dumps({"status": status, "time": time.time()})
    replace_bytes(_exit_file(run, attempt, rank), text.encode())


def read_exits(run: RunDir, attempt: Attempt) -> dict[int, tuple[int, float]]:
    """Return rank → (status, Unix time), for the ranks that came to say so."""
    exits = {}
    for file in run.attempt_folder(attempt).glob("rank*.exit.json"):
        values = json.loads(file.read_text())
        exits[int(file.name.removeprefix("rank").removesuffix(".exit.json"))] = (
            values["status"],
            values["time"],
        )
    return exits


def _exit_file(run: RunDir, attempt: Attempt, rank: int) -> Path:
    return run.attempt_folder(attempt) / f"rank{rank}.exit.json"
