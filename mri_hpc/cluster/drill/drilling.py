"""A drill from start to end: submitted, followed, judged, and its verdict kept."""

import contextlib
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mri_hpc.base.atomic import remove_folder
from mri_hpc.base.errors import UserError
from mri_hpc.cluster.choice import name_of, scheduler_for, slurm_with
from mri_hpc.cluster.drill.course import Course
from mri_hpc.cluster.drill.folder import DrillFolder
from mri_hpc.cluster.drill.judging import judge
from mri_hpc.cluster.drill.probe import Question, first_lines
from mri_hpc.cluster.drill.terms import cost_of, job_of_drill
from mri_hpc.cluster.drill.trial import prepare
from mri_hpc.cluster.drill.verdict import DrillVerdict, Shape, keep, shape_of
from mri_hpc.cluster.launching import sizes_of, submit_once
from mri_hpc.cluster.program import Program
from mri_hpc.cluster.scheduler import Sizes
from mri_hpc.cluster.slurm import partition_of_shell
from mri_hpc.cluster.submission import job_python
from mri_hpc.intake.labels.pseudonyms import Pseudonyms, key_path, site_key
from mri_hpc.rundir.settings import JobSettings
from mri_hpc.rundir.site_file import refuse_above, site_file

RANK = "mri_hpc.cluster.drill.rank"
OF_JOBS = re.compile(
    "(MRI|NCCL|GLOO)_[A-Z0-9_]+|TORCH_HOME|XDG_(CACHE|CONFIG)_HOME|PYTHONPATH|LD_LIBRARY_PATH"
)
"""Variables that a job should have as the shell has them."""
OF_SCRIPT = "MRI_PYTHON"
"""Of these, the one that the batch script holds."""


@dataclass(frozen=True, kw_only=True)
class Drill:
    """A drill that could be submitted now."""

    folder: DrillFolder
    job: JobSettings
    sizes: Sizes
    shape: Shape
    store: Path | None
    """The user's, which the nodes have to see; None where there is none yet."""

    @property
    def cost(self) -> str:
        """For people, before it is submitted."""
        return cost_of(self.sizes, partition=self.shape.partition)


def plan_drill(runs: Path, job: JobSettings, store: Path | None) -> Drill:
    """Plan a drill of a job like this, with its folder beside the runs. UserError where none can be."""
    job = job_of_drill(job)
    scheduler = scheduler_for(job)
    if not scheduler.is_queue:
        raise UserError(
            "no Slurm answers here, and a drill is a job of Slurm: on a cluster, load Slurm's module first"
        )
    sizes = sizes_of(scheduler, job, batch_size="auto")
    refuse_above(site_file(), job, tasks_per_node=sizes.ranks_per_node, gpus_per_node=sizes.gpus_per_node)
    shape = shape_of(sizes, partition=job.partition or partition_of_shell(), python=job_python())
    return Drill(folder=DrillFolder.beside(runs), job=job, sizes=sizes, shape=shape, store=store)


def run_drill(drill: Drill, say: Callable[[str], None]) -> DrillVerdict:
    """Submit the drill, follow it, judge it and keep the verdict; return it.

    say: called with a line for people whenever there is something new. The folder stays where there is a
    problem.
    """
    plan = prepare(drill.folder, drill.job, drill.sizes)
    question = _question(drill, os.environ)
    program = Program(module=RANK, question=first_lines(drill.folder, question))
    launched = submit_once(plan, slurm_with(program), drill.sizes)
    assert launched.job is not None
    say(f"submitted: {name_of(launched.job)}")
    Course(drill=drill.folder, question=question, job=launched.job, say=say).follow()
    judged = judge(drill.folder, question, job=launched.job)
    verdict = DrillVerdict(
        shape=drill.shape, time=round(time.time(), 3), job_id=launched.job.job_id,
        findings=judged.findings, bad_nodes=judged.bad_nodes, preemption=judged.preemption,
    )  # fmt: skip
    keep(drill.folder.path.parent, verdict)
    if not verdict.problems:
        remove_folder(drill.folder.path)
    return verdict


def _question(drill: Drill, environment: Mapping[str, str]) -> Question:
    path, key = key_path(environment), ""
    # One that cannot be read here is the doctor's to see.
    with contextlib.suppress(UserError, OSError):
        key = Pseudonyms(site_key(path, path.stat().st_gid)).fingerprint() if path.is_file() else ""
    return Question(
        python=drill.shape.python,
        token=drill.folder.token.read_text(encoding="utf-8"),
        store=str(drill.store.absolute()) if drill.store else "",
        key=key,
        gpus=drill.sizes.gpus_per_node,
        interface=drill.job.interface or "",
        ports=drill.job.port_range or "",
        variables=tuple(
            sorted(name for name in environment if OF_JOBS.fullmatch(name) and name != OF_SCRIPT)
        ),
    )
