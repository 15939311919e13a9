"""Launching: a run is submitted once, to Slurm or to a supervisor, and ended when its user asks for it."""

import contextlib
import dataclasses
import math
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal

from mri_hpc.base.atomic import publish_new_bytes, remove_folder
from mri_hpc.base.errors import UserError
from mri_hpc.cluster.choice import ask_about, name_of, phase_of, scheduler_of
from mri_hpc.cluster.jobs import Job, job_of, publish_job
from mri_hpc.cluster.outcome import explain_vanished, is_cancelled, is_over
from mri_hpc.cluster.scheduler import Phase, Scheduler, Sizes
from mri_hpc.rundir import server_clock
from mri_hpc.rundir.decisions import Cause
from mri_hpc.rundir.layout import Attempt, RunDir
from mri_hpc.rundir.ledger import Kind, read_events, record
from mri_hpc.rundir.settings import (
    JobSettings,
    TrainingSettings,
    load_job,
    load_training,
    refuse_other_identity,
    save_settings,
)

# The longest that another launch may take from claiming a submission to publishing its job.
CLAIM_TIMEOUT_S = 120.0
# Longer than ranks are given to save.
CANCEL_WAIT_S = 45.0
# How often a scheduler is asked meanwhile: somebody waits for it.
CANCEL_ASK_S = 5.0
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


class LaunchState(StrEnum):
    """Outcomes of launching."""

    SUBMITTED = "submitted"
    LIVE = "live"  # a job runs it already
    FINISHED = "finished"


@dataclass(frozen=True, kw_only=True)
class Launched:
    """The outcome of launching, and the job that has the run."""

    state: LaunchState
    submission: int = 0
    job: Job | None = None


def sizes_of(
    scheduler: Scheduler, job: JobSettings, *, batch_size: int | Literal["auto"], micro_batches: int = 0
) -> Sizes:
    """Work out the sizes that the settings come to, here and now. UserError where these cannot be.

    batch_size: of all ranks together; auto is found by the ranks. micro_batches: of a whole step, where that
    is cut alike for any number of ranks.
    """
    sizes = scheduler.sizes(job)
    if 0 < micro_batches < sizes.ranks:
        raise UserError(
            f"{sizes.ranks} ranks are too many for the {micro_batches} micro-batches of a step: ask for "
            f"fewer, or for a new run with --micro-batches {sizes.ranks}"
        )
    if batch_size != "auto" and batch_size < 2 * sizes.ranks:
        raise UserError(
            f"--batch-size {batch_size} gives {sizes.ranks} ranks less than 2 images each: "
            f"ask for at least {2 * sizes.ranks}, or for fewer ranks"
        )
    return sizes


def submit_once(plan: Plan, scheduler: Scheduler, sizes: Sizes) -> Launched:
    """Submit the run unless it is finished or a job has it; of several launches at once one submits.

    Raises UserError where a job that was cancelled has not ended.
    """
    run = plan.run
    is_folder_here = run.path.exists()
    while True:
        if run.is_finished:
            return Launched(state=LaunchState.FINISHED)
        newest = run.newest_attempt()
        submission = newest.submission if newest else 0
        job = _job_of_submission(run, submission) if submission else None
        if job and _has_run(run, submission, job):
            if _ends_following(plan):
                # It may have gone while it was told.
                continue
            if plan.is_new:
                # Another launch made the run meanwhile: it must be the same one.
                refuse_other_identity(run, plan.training)
            return Launched(state=LaunchState.LIVE, submission=submission, job=job)
        claimed = Attempt(submission=submission + 1, restart=0)
        run.attempts.mkdir(parents=True, exist_ok=True)
        try:
            run.attempt_folder(claimed).mkdir()
        except FileExistsError:
            continue
        return _submit(plan, scheduler, sizes, claimed, is_folder_here=is_folder_here)


def _ends_following(plan: Plan) -> bool:
    """Tell a run that has its ranks to follow its store no more, if that is asked; False where it knows."""
    if plan.is_new or plan.training.follow:
        return False
    saved = load_training(plan.run)
    if saved.follow:
        # Rank 0 looks there at each epoch's start, and whoever decides on the ranks' end.
        save_settings(plan.run, dataclasses.replace(saved, follow=False), load_job(plan.run))
    return saved.follow


def why_not_submitted(run: RunDir) -> str:
    """Say why launching the run would submit nothing; empty where it would. UserError as by `phase_of`."""
    if run.is_finished:
        return "the run is finished and never starts again"
    job = live_job(run)
    return f"the run is in the hands of {name_of(job)}" if job and phase_of(job) is not Phase.GONE else ""


def ask_about_runs(runs: Iterable[RunDir]) -> None:
    """Ask how the jobs of these runs stand, all at once; not about those that are over by the ledger."""
    ask_about(filter(None, map(live_job, runs)))


def live_job(run: RunDir) -> Job | None:
    """Return the job that may run the run now; None where its own files tell that none does."""
    newest = run.newest_attempt()
    if newest is None or run.is_finished or is_over(run, newest.submission):
        return None
    return job_of(run, newest.submission)


def describe(plan: Plan, scheduler: Scheduler, sizes: Sizes) -> str:
    """Show what would be submitted: the batch script, or the supervisor's and the ranks' command lines."""
    newest = plan.run.newest_attempt()
    submission = newest.submission + 1 if newest else 1
    return scheduler.describe(plan.run, submission, plan.job, sizes)


def end_job(run: RunDir) -> str:
    """End the run's job for good, wait for its ranks to save, and return what came of it, for people.

    Raises UserError where the job is out of reach.
    """
    newest = run.newest_attempt()
    job = _job_to_end(run, newest) if newest else None
    if newest is None or job is None or _is_gone(run, newest.submission, job):
        return "nothing of it runs"
    # Before the job hears of it: whoever decides on its end reads it here.
    _record_cancelled(run, newest)
    scheduler_of(job).cancel(job)
    end = (
        "cancelled" if _is_gone_in_time(run, newest.submission, job) else "told to end; its ranks still save"
    )
    return f"{name_of(job)} {end}"


def _job_to_end(run: RunDir, newest: Attempt) -> Job | None:
    """Return the newest submission's job; one that its launch has not published yet will not start."""
    job = job_of(run, newest.submission)
    started = {Attempt.parse(e.attempt).submission for e in read_events(run) if e.kind == Kind.STARTED}
    # Ranks that were started by hand have no job.
    if job or newest.submission in started:
        return job
    _record_cancelled(run, newest)
    return _job_of_submission(run, newest.submission)


def _record_cancelled(run: RunDir, attempt: Attempt) -> None:
    record(run, attempt, Kind.CANCELLED, by=os.environ.get("USER", ""))


def _has_run(run: RunDir, submission: int, job: Job) -> bool:
    """Tell whether this job goes on with the run; wait for one that was cancelled, where it can be seen."""
    if _is_gone(run, submission, job):
        return False
    if not is_cancelled(run, submission):
        return True
    # Of a machine that cannot be asked nothing more is heard; should its ranks live, they may not write.
    if scheduler_of(job).is_out_of_reach(job) or _is_gone_in_time(run, submission, job):
        return False
    raise UserError(
        f"{name_of(job)}, which has {run.path}, was cancelled and has not ended: launch again in a minute, "
        f"or say --cancel again"
    )


def _job_of_submission(run: RunDir, submission: int) -> Job | None:
    """Return a submission's job; wait for a launch that is under way, give up on one that was cut short."""
    folder = run.attempt_folder(Attempt(submission=submission, restart=0))
    while True:
        job = job_of(run, submission)
        if job or not folder.is_dir():
            return job
        if server_clock.now(run.attempts) - folder.stat().st_mtime > CLAIM_TIMEOUT_S:
            return None
        time.sleep(POLL_S)


def _submit(
    plan: Plan, scheduler: Scheduler, sizes: Sizes, claimed: Attempt, *, is_folder_here: bool
) -> Launched:
    """Submit the claimed attempt and publish its job; where it is refused, leave nothing new behind.

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
        job = scheduler.submit(run, claimed.submission, plan.job, sizes)
    except (UserError, OSError) as error:
        # What was refused is to be read, and not that a folder cannot be cleaned up as well.
        with contextlib.suppress(UserError, OSError):
            if is_made_here:
                # Others, who wait for this submission, find no run and make their own.
                _take_back(run, is_folder_here=is_folder_here)
            else:
                # Others wait for the job of this submission: there is none.
                publish_job(run, claimed.submission, Job(cluster="", failure=str(error)))
        raise
    publish_job(run, claimed.submission, job)
    record(
        run, claimed, Kind.SUBMITTED,
        cluster=job.cluster, job_id=job.job_id, nodes=sizes.nodes, ranks=sizes.ranks,
        **({"least_ranks": sizes.least_ranks} if sizes.free else {}),
        **({"gpus": sizes.nodes * sizes.gpus_per_node} if sizes.gpus_per_node else {}),
    )  # fmt: skip
    return Launched(state=LaunchState.SUBMITTED, submission=claimed.submission, job=job)


def _take_back(run: RunDir, *, is_folder_here: bool) -> None:
    """Remove what launching made of a new run: its folder, or what lies in one that was there before."""
    if not is_folder_here:
        remove_folder(run.path)
        return
    # The attempts last: others wait for them, and may then make the run.
    for path in (run.submitit, run.settings, run.recipe, run.attempts):
        remove_folder(path)


def _explain_newest_start(run: RunDir) -> None:
    """Record why the ranks that started last have gone, where they could not do it themselves."""
    signs = {Kind.STARTING, Kind.STARTED}
    started = [Attempt.parse(event.attempt) for event in read_events(run) if event.kind in signs]
    if not started:
        return
    newest = max(started)
    job = job_of(run, newest.submission)
    end = scheduler_of(job).past_end(job, newest.restart) if job and not job.failure else ""
    explain_vanished(run, newest, state=end, otherwise=Cause.VANISHED)


def _is_gone(run: RunDir, submission: int, job: Job, age_s: float = math.inf) -> bool:
    """Tell whether the job has ended: by the ledger, which is asked for nothing, else by its scheduler."""
    return is_over(run, submission) or phase_of(job, age_s) is Phase.GONE


def _is_gone_in_time(run: RunDir, submission: int, job: Job) -> bool:
    deadline = time.monotonic() + CANCEL_WAIT_S
    while time.monotonic() < deadline:
        if _is_gone(run, submission, job, CANCEL_ASK_S):
            return True
        time.sleep(POLL_S)
    return False
