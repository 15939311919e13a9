"""A small job of one process without a GPU, such as a link of a chain, which Slurm starts at its time."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from mri_hpc.cluster import sbatch_options, slurm
from mri_hpc.cluster.jobs import Job, slurm_job

SIGNAL_AHEAD_S = 60
"""By which the process is told to end before its time is up."""


def submit_small(
    words: Sequence[str], *, name: str, output: Path, begin_in_s: int, options: Sequence[str]
) -> Job:
    """Hand a command to Slurm; it begins no sooner than in so many seconds, and one of a name at a time.

    words: of the command, which starts in this folder. options: of sbatch, as --slurm has them. UserError
    with Slurm's words where it is refused.
    """
    more = sbatch_options.typed_options(options)
    own: dict[str, str | bool] = {
        "job-name": name, "output": str(output), "open-mode": "append", "ntasks": "1", "requeue": True,
        "signal": f"B:TERM@{SIGNAL_AHEAD_S}", "begin": f"now+{begin_in_s}", "dependency": "singleton",
        "chdir": str(Path.cwd()),
    }  # fmt: skip
    wanted = {"cpus-per-task": "1", **more, **own}
    given = [f"--{key}" if value is True else f"--{key}={value}" for key, value in wanted.items()]
    # The process itself is told, and not a shell that would end before it.
    script = f"#!/bin/bash\nexec {shlex.join(words)}\n"
    job_id = slurm.sbatch(
        given, script, without=sbatch_options.weaker_variables([*wanted, *sbatch_options.GPU_OPTIONS])
    )
    return slurm_job(job_id, sbatch_options.cluster_named(more) or slurm.cluster_at_hand())
