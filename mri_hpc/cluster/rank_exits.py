"""Exit statuses of the ranks of an attempt, which each writes down itself."""

import contextlib
import json
import operator
from pathlib import Path

from mri_hpc.base.atomic import replace_bytes
from mri_hpc.base.documents import parse, with_format, without_format
from mri_hpc.base.errors import UserError
from mri_hpc.rundir import server_clock
from mri_hpc.rundir.layout import Attempt, RunDir

FORMAT = 1


def record_exit(run: RunDir, attempt: Attempt, rank: int, status: int) -> None:
    """Write down the exit status of a rank: the job step's own is that of whichever rank died worst."""
    text = json.dumps(with_format(FORMAT, {"status": status, "time": server_clock.now(run.attempts)}))
    replace_bytes(_exit_file(run, attempt, rank), text.encode())


def read_exits(run: RunDir, attempt: Attempt) -> dict[int, tuple[int, float]]:
    """Read rank → (status, Unix time), of the ranks that came to write it down, legibly."""
    exits = {}
    for file in run.attempt_folder(attempt).glob("rank*.exit.json"):
        # The end of the job is decided on with them or without.
        with contextlib.suppress(ValueError, KeyError, TypeError, UserError):
            values = without_format(parse(file.read_bytes()), of=file, reads=FORMAT)
            rank = int(file.name.removeprefix("rank").removesuffix(".exit.json"))
            exits[rank] = operator.index(values["status"]), float(values["time"])
    return exits


def _exit_file(run: RunDir, attempt: Attempt, rank: int) -> Path:
    return run.attempt_folder(attempt) / f"rank{rank}.exit.json"
