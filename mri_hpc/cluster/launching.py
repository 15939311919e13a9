"""A run is submitted once, to Slurm or to a supervisor on this machine, and ended when its user says so."""

import contextlib
import os
import shlex
import time
from dataclasses import dataclass
from pathlib import Path

from mri_hpc.base.atomic import publish_new_bytes, remove_folder
from mri_hpc.base.errors import UserError
from mri_hpc.cluster import local, rank, slurm
from mri_hpc.cluster.jobs import Job, Phase, cancel, job_of, phase_of, publish_job
from mri_hpc.cluster.outcome import explain_vanished, is_cancelled
from mri_hpc.cluster.requeue import Cause
from mri_hpc.cluster.sizes import Sizes
from mri_hpc.rundir.layout import Attempt, RunDir
from mri_hpc.rundir.ledger import Kind, read_events, record
from mri_hpc.rundir.settings import JobSettings, TrainingSettings, refuse_other_identity, save_settings

# How long another launch may take from claiming a submission to saying who runs it.
CLAIM_TIMEOUT_S = 120.0
# Longer than ranks are given to save.
CANCEL_WAIT_S = 45.0
POLL_S = 0.2


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A run as it would be submitted now."""

    run: RunDir
    training: TrainingSettings
    job: JobSettings
    is_new: bool
    """The run has no settings yet."""
    notes: tuple[str, ...] = ()
    """For people: how the patients of a new run are split, and what that or this machine lacks."""


@dataclass(frozen=True, kw_only=True)
class Launched:
    """What launching came to."""

    state: str
    """submitted, live (somebody runs it already) or finished."""
    submission: int = 0
    job: Job | None = None


def submit_once(plan: Plan, sizes: Sizes) -> Launched:
    """Submit the run unless it is finished or somebody has it; of several launches at once one submits.

    Raises UserError where a job that was cancelled has not ended.
    """
    run = plan.run
    is_folder_here = run.path.exists()
    while True:
        if run.is_finished:
            return Launched(state="finished")
        newest = run.newest_attempt()
        submission = newest.submission if newest else 0
        job = _job_of_submission(run, submission) if submission else None
        if job and _has_run(run, submission, job):
            if plan.is_new:
                # Another launch made the run meanwhile: it must be the same one.
                refuse_other_identity(run, plan.training)
            return Launched(state="live", submission=submission, job=job)
        claimed = Attempt(submission=submission + 1, restart=0)
        run.attempts.mkdir(parents=True, exist_ok=True)
        try:
            run.attempt_folder(claimed).mkdir()
        except FileExistsError:
            continue
        return _submit(plan, sizes, claimed, is_folder_here=is_folder_here)


def standing(run: RunDir) -> str:
    """Why launching the run would submit nothing; empty where it would. UserError as by `phase_of`."""
    if run.is_finished:
        return "the run is finished and never starts again"
    newest = run.newest_attempt()
    job = job_of(run, newest.submission) if newest else None
    return f"the run is in the hands of {job.name}" if job and phase_of(job) is not Phase.GONE else ""


def describe(plan: Plan, sizes: Sizes) -> str:
    """What would be submitted: the batch script, or the supervisor's and the ranks' command lines."""
    newest = plan.run.newest_attempt()
    submission = newest.submission + 1 if newest else 1
    if sizes.is_slurm:
        # The one importer of submitit, which takes a while.
        from mri_hpc.cluster.submission import batch_script

        return batch_script(
            plan.run, submission, plan.job, ranks_per_node=sizes.ranks_per_node, gpus=sizes.gpus_per_node
        )
    supervisor = local.supervisor_command(
        plan.run, submission, ranks=sizes.ranks, threads=sizes.threads, gpus=sizes.gpus_per_node,
        module=rank.RANK_MODULE,
    )  # fmt: skip
    one_rank = rank.rank_command(plan.run.path, submission, rank.RANK_MODULE)
    return (
        f"# Without Slurm a supervisor on this machine starts {sizes.ranks} rank(s) of:\n"
        f"#   {shlex.join(one_rank)}\n{shlex.join(supervisor)}"
    )


def end_job(run: RunDir) -> str:
    """End the run's job for good, and wait for its ranks to save; what came of it, for people.

    Raises UserError where the job is out of reach.
    """
    newest = run.newest_attempt()
    job = _job_to_end(run, newest) if newest else None
    if newest is None or job is None or phase_of(job) is Phase.GONE:
        return "nothing of it runs"
    # Before the job hears of it: whoever decides on its end reads it here.
    _record_cancelled(run, newest)
    cancel(job)
    return (
        f"{job.name} cancelled" if _is_gone_in_time(job) else f"{job.name} told to end; its ranks still save"
    )


def _job_to_end(run: RunDir, newest: Attempt) -> Job | None:
    """Who runs the newest submission; what its launch may submit without having said so will not start."""
    job = job_of(run, newest.submission)
    started = {Attempt.parse(e.attempt).submission for e in read_events(run) if e.kind == Kind.STARTED}
    # Ranks that somebody has started by hand have no job.
    if job or newest.submission in started:
        return job
    _record_cancelled(run, newest)
    return _job_of_submission(run, newest.submission)


def _record_cancelled(run: RunDir, attempt: Attempt) -> None:
    record(run, attempt, Kind.CANCELLED, by=os.environ.get("USER", ""))


def _has_run(run: RunDir, submission: int, job: Job) -> bool:
    """Whether this job goes on with the run. One that was cancelled is waited for, where it can be seen."""
    if phase_of(job) is Phase.GONE:
        return False
    if not is_cancelled(run, submission):
        return True
    # Of a machine that cannot be asked nothing more is heard; should its ranks live, they may not write.
    if job.is_elsewhere or _is_gone_in_time(job):
        return False
    raise UserError(
        f"{job.name}, which has {run.path}, was cancelled and has not ended: launch again in a minute, "
        f"or say --cancel again"
    )


def _job_of_submission(run: RunDir, submission: int) -> Job | None:
    """Who runs a submission; waits for a launch that is under way, and gives up on one that was cut short."""
    folder = run.attempt_folder(Attempt(submission=submission, restart=0))
    while True:
        job = job_of(run, submission)
        if job or not folder.is_dir() or time.time() - folder.stat().st_mtime > CLAIM_TIMEOUT_S:
            return job
        time.sleep(POLL_S)


def _submit(plan: Plan, sizes: Sizes, claimed: Attempt, *, is_folder_here: bool) -> Launched:
    """Submit the claimed attempt and say who runs it; where it is refused, leave nothing that was not there.

    is_folder_here: the run's folder was there before.
    """
    run = plan.run
    is_made_here = plan.is_new and claimed.submission == 1 and not run.settings.is_file()
    try:
        if run.settings.is_file():
            refuse_other_identity(run, plan.training)
        else:
            publish_new_bytes(run.recipe, (Path(plan.training.store) / "recipe.json").read_bytes())
        save_settings(run, plan.training, plan.job)
        _explain_newest_start(run)
        job = _hand_over(plan, sizes, claimed)
    except (UserError, OSError) as error:
        # What was refused is to be read, and not that a folder cannot be cleaned up as well.
        with contextlib.suppress(UserError, OSError):
            if is_made_here:
                # Others, who wait for this submission, find no run and make their own.
                _take_back(run, is_folder_here=is_folder_here)
            else:
                # Others wait to hear who runs this submission: nobody.
                publish_job(run, claimed.submission, Job(cluster="", failure=str(error)))
        raise
    publish_job(run, claimed.submission, job)
    record(
        run, claimed, Kind.SUBMITTED,
        cluster=job.cluster, job_id=job.job_id, nodes=sizes.nodes, ranks=sizes.ranks,
    )  # fmt: skip
    return Launched(state="submitted", submission=claimed.submission, job=job)


def _take_back(run: RunDir, *, is_folder_here: bool) -> None:
    """Remove what launching made of a new run: its folder, or what lies in one that was there before."""
    if not is_folder_here:
        remove_folder(run.path)
        return
    # The attempts last: others wait for them, and may then make the run.
    for path in (run.submitit, run.settings, run.recipe, run.attempts):
        remove_folder(path)


def _explain_newest_start(run: RunDir) -> None:
    """Have the ledger say why the ranks that started last have gone, where nobody could."""
    signs = {Kind.STARTING, Kind.STARTED}
    started = [Attempt.parse(event.attempt) for event in read_events(run) if event.kind in signs]
    if not started:
        return
    job = job_of(run, max(started).submission)
    state = slurm.past_state(job.job_id, max(started).restart) if job and job.cluster == "slurm" else ""
    explain_vanished(run, max(started), state=state, otherwise=Cause.VANISHED)


def _hand_over(plan: Plan, sizes: Sizes, claimed: Attempt) -> Job:
    if sizes.is_slurm:
        from mri_hpc.cluster.submission import submit

        return submit(
            plan.run, claimed.submission, plan.job, ranks_per_node=sizes.ranks_per_node,
            gpus=sizes.gpus_per_node, module=rank.RANK_MODULE,
        )  # fmt: skip
    return local.start_supervisor(
        plan.run, claimed.submission, ranks=sizes.ranks, threads=sizes.threads, gpus=sizes.gpus_per_node,
        module=rank.RANK_MODULE,
    )  # fmt: skip


def _is_gone_in_time(job: Job) -> bool:
    deadline = time.monotonic() + CANCEL_WAIT_S
    while time.monotonic() < deadline:
        if phase_of(job) is Phase.GONE:
            return True
        time.sleep(POLL_S)
    return False
