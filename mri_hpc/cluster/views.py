"""A run at one moment: from its folder, and from its scheduler."""

import contextlib
import dataclasses
import time
from collections.abc import Sequence

from mri_hpc.base.errors import UserError
from mri_hpc.cluster.choice import ask_about, name_of, scheduler_of, standing_of
from mri_hpc.cluster.jobs import Job
from mri_hpc.cluster.launching import live_job
from mri_hpc.cluster.outcome import OWN_WORDS, words_of_job
from mri_hpc.cluster.requeue import CAUSE_OF_STATE
from mri_hpc.cluster.scheduler import Phase, Standing
from mri_hpc.rundir import server_clock
from mri_hpc.rundir.decisions import Cause
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.ledger import Event, read_events
from mri_hpc.rundir.manifests import newest_manifest
from mri_hpc.rundir.metrics_log import read_metrics, skim_metrics
from mri_hpc.rundir.probe import read_probe
from mri_hpc.rundir.provenance import read_provenance
from mri_hpc.rundir.settings import load_training, skim_epochs
from mri_hpc.rundir.settled_batch import settled
from mri_hpc.rundir.summary import (
    State,
    Summary,
    clock_values,
    steps_an_epoch,
    summarise,
    summarise_briefly,
)
from mri_hpc.rundir.wall_clock import account

ENDED = {State.FINISHED, State.CAUGHT_UP, State.CANCELLED, State.FAILED, State.GAVE_UP, State.STOPPED}


@dataclasses.dataclass(frozen=True, kw_only=True)
class View:
    """A run at one moment."""

    summary: Summary
    epochs: int
    """Most epochs that it may take."""
    total_steps: int | None
    """Steps of all epochs; None until one epoch has shown how many it has."""

    @property
    def has_ended(self) -> bool:
        """Tell whether nothing more will happen by itself."""
        return State(self.summary.state) in ENDED


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Heard:
    """Of a run, what does not lie in its folder."""

    job: Job | None
    """The job that may run it."""
    standing: Standing | None
    ahead_s: float | None
    """As of `_still_so`."""
    asks_why: bool = False
    """Ask the scheduler why a job that is gone could not begin: a question for each such run."""


class Watcher:
    """An observer of one run."""

    def __init__(self, run: RunDir) -> None:
        self._run = run
        self._ahead_s: float | None = None

    def look(self) -> View:
        """Look at the run now."""
        if self._ahead_s is None:
            # Once: it writes to the folder.
            self._ahead_s = server_clock.measure(self._run.attempts)
        # First the job, then the ledger: a job that goes in between has written there why.
        job = live_job(self._run)
        standing = _standing(job) if job else None
        return _look(self._run, _Heard(job=job, standing=standing, ahead_s=self._ahead_s, asks_why=True))


def look_at(runs: Sequence[RunDir]) -> list[View]:
    """Look at each run as its Watcher does, except that Slurm is asked once."""
    return [_look(run, heard) for run, heard in zip(runs, _hear_of(runs), strict=True)]


def glance_at(runs: Sequence[RunDir]) -> list[View]:
    """Look at runs for a table: without wall clocks, many times faster; Slurm is asked once."""
    return [_glance(run, heard) for run, heard in zip(runs, _hear_of(runs), strict=True)]


def _hear_of(runs: Sequence[RunDir]) -> list[_Heard]:
    """Hear of all runs before the first is read, which takes longer than Slurm's answers count."""
    jobs = [live_job(run) for run in runs]
    ask_about(job for job in jobs if job)
    standings = [_standing(job) if job else None for job in jobs]
    clocks: dict[int, float | None] = {}
    heard = []
    for run, job, standing in zip(runs, jobs, standings, strict=True):
        # Once for each file system: it writes to the folder.
        device = run.path.stat().st_dev
        if clocks.get(device) is None:
            clocks[device] = server_clock.measure(run.attempts)
        heard.append(_Heard(job=job, standing=standing, ahead_s=clocks[device]))
    return heard


def _standing(job: Job) -> Standing | None:
    """Return how the job stands; None where Slurm is away: the run's own files are still there."""
    try:
        return standing_of(job)
    except UserError:
        return None


def _look(run: RunDir, heard: _Heard) -> View:
    settings = settled(run, load_training(run))
    metrics, events = read_metrics(run), read_events(run)
    summary = summarise(
        events, metrics, newest_manifest(run), time.time() - (heard.ahead_s or 0.0),
        epochs=settings.epochs, settings=settings, probe=read_probe(run), is_finished=run.is_finished,
    )  # fmt: skip
    summary = _with_job(summary, heard, events, run)
    if events and summary.state == State.STOPPED:
        # Its end was not seen: its clock stops with its last sign.
        clock = account(events, metrics, _last_sign_s(run, events))
        summary = dataclasses.replace(summary, **clock_values(clock))
    an_epoch = steps_an_epoch(metrics)
    return View(
        summary=_with_final_digests(run, summary),
        epochs=settings.epochs,
        total_steps=an_epoch * settings.epochs if an_epoch else None,
    )


def _glance(run: RunDir, heard: _Heard) -> View:
    metrics, events = skim_metrics(run), read_events(run)
    summary = summarise_briefly(events, metrics, newest_manifest(run), is_finished=run.is_finished)
    return View(summary=_with_job(summary, heard, events, run), epochs=skim_epochs(run), total_steps=None)


def _still_so(standing: Standing | None, events: Sequence[Event], ahead_s: float | None) -> Standing | None:
    """Return how the job stands, unless something has happened since its scheduler was asked.

    ahead_s: of this machine's clock, before that of the ledger; None, not known: nothing counts as since.
    """
    if ahead_s is None:
        return standing
    is_outdated = standing is not None and bool(events) and events[-1].time > standing.asked_s - ahead_s
    return None if is_outdated else standing


def _with_job(summary: Summary, heard: _Heard, events: Sequence[Event], run: RunDir) -> Summary:
    """Replace the state that comes from the ledger by the job's, where the job says more."""
    job, standing = heard.job, _still_so(heard.standing, events, heard.ahead_s)
    if job is None:
        return summary
    summary = dataclasses.replace(summary, job_id=summary.job_id or job.job_id)
    if State(summary.state) in ENDED or standing is None:
        return summary
    if standing.phase is Phase.GONE:
        return _with_end(summary, job, standing.end, run, asks_why=heard.asks_why)
    # A job that runs, and whose ranks have written nothing so far, is starting them.
    state = State.RUNNING if summary.state == State.RUNNING else State.STARTING
    if standing.phase is Phase.PENDING:
        state = State.PENDING if summary.state == State.PENDING else State.REQUEUED
    return dataclasses.replace(summary, state=state.value, reason=standing.wait, last_words=())


def _with_end(summary: Summary, job: Job, end: str, run: RunDir, *, asks_why: bool) -> Summary:
    """Sum up a run whose job is gone without a word in the ledger. end: the scheduler's word."""
    cause = CAUSE_OF_STATE.get(end)
    if cause is Cause.CANCELLED:
        # scancel may reach it while it waits.
        reason = f"{name_of(job)} was cancelled"
        return dataclasses.replace(summary, state=State.CANCELLED.value, reason=reason)
    what = f"ended as {end} before it could say why" if end else "is gone, and nothing says why"
    if cause is Cause.PREEMPTED:
        what = "was preempted, and Slurm did not requeue it"
    printed = words_of_job(run, job.job_id)
    own = [line.removeprefix(OWN_WORDS) for line in printed if line.startswith(OWN_WORDS)]
    why = own[-1] if own else ""
    if asks_why and not why and not job.failure:
        with contextlib.suppress(UserError):
            why = scheduler_of(job).why_not_begun(job)
    reason = f"{name_of(job)} {what}: {why or 'launch again to resume'}"
    return dataclasses.replace(
        summary, state=State.STOPPED.value, reason=reason, last_words=() if own else tuple(printed)
    )


def _last_sign_s(run: RunDir, events: Sequence[Event]) -> float:
    """Return the Unix time of the run's last sign: its newest event, or its newest step."""
    stepped_s = run.metrics.stat().st_mtime if run.metrics.exists() else 0.0
    return max(events[-1].time, stepped_s)


def _with_final_digests(run: RunDir, summary: Summary) -> Summary:
    """Put in the model's own digests, which the provenance holds, once the run is finished."""
    if summary.state != State.FINISHED:
        return summary
    provenance = read_provenance(run)
    return dataclasses.replace(
        summary,
        weights_digest=provenance.get("weights_digest") or summary.weights_digest,
        samples_digest=provenance.get("samples_digest") or summary.samples_digest,
    )
