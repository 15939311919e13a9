"""The scheduler of a run's settings, of a job that it has taken, or of a rank's environment."""

import math
import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from mri_hpc.base.stop_flag import StopRequest
from mri_hpc.cluster import slurm
from mri_hpc.cluster.jobs import Cluster, Job
from mri_hpc.cluster.on_slurm import Slurm
from mri_hpc.cluster.on_this_machine import ThisMachine, local_job
from mri_hpc.cluster.program import Program
from mri_hpc.cluster.scheduler import Phase, Scheduler, Standing
from mri_hpc.rundir.settings import JobSettings

SCHEDULERS: Mapping[str, Scheduler] = {Cluster.SLURM: Slurm(), Cluster.LOCAL: ThisMachine()}


def scheduler_for(settings: JobSettings) -> Scheduler:
    """Return the scheduler for a new job; UserError where a Slurm is configured that does not answer."""
    if settings.cluster == "auto":
        return SCHEDULERS[Cluster.SLURM if slurm.controller_answers() else Cluster.LOCAL]
    return SCHEDULERS[settings.cluster]


def slurm_with(program: Program) -> Scheduler:
    """Return a Slurm whose jobs run another program than training."""
    return Slurm(program)


def scheduler_of(job: Job) -> Scheduler:
    """Return the scheduler that has taken the job, which was submitted."""
    return SCHEDULERS[job.cluster]


def name_of(job: Job) -> str:
    """Name the job that runs a submission, for people."""
    return f"nothing ({job.failure})" if job.failure else scheduler_of(job).name(job)


def standing_of(job: Job, age_s: float = math.inf) -> Standing:
    """Ask how the job stands now. A supervisor on another machine counts as running.

    age_s: as by `Scheduler.standing`. Raises UserError where Slurm does not answer.
    """
    return Standing(phase=Phase.GONE) if job.failure else scheduler_of(job).standing(job, age_s)


def ask_about(jobs: Iterable[Job]) -> None:
    """Ask how all these jobs stand, each scheduler once, so that `standing_of` each need not."""
    submitted = [job for job in jobs if not job.failure]
    for name in dict.fromkeys(job.cluster for job in submitted):
        SCHEDULERS[name].ask_about([job for job in submitted if job.cluster == name])


def phase_of(job: Job, age_s: float = math.inf) -> Phase:
    """Return the phase of `standing_of`."""
    return standing_of(job, age_s).phase


def kill_time_of(environment: Mapping[str, str]) -> Callable[[StopRequest], float | None]:
    """Return a function that gives the time at which this rank may be killed after a stop signal.

    environment: the rank's. The time is a Unix time, or None where it is unknown.
    """
    is_in_a_job = slurm.place(environment) is not None and slurm.own_job_id(environment)
    scheduler = SCHEDULERS[Cluster.SLURM if is_in_a_job else Cluster.LOCAL]
    return partial(scheduler.kill_time, environment)


def this_process() -> Job:
    """Return this process as a job of this machine, by which others find out whether it still runs."""
    return local_job(os.getpid())
