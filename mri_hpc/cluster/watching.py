"""The state of a run as people see it: from its folder, and from its scheduler."""

import contextlib
import dataclasses
import shlex
import sys
import time
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.live import Live

from mri_hpc.base.command import print_json, shown
from mri_hpc.base.errors import UserError
from mri_hpc.base.exit_status import DONE, USER_CAN_FIX
from mri_hpc.cluster.choice import name_of, scheduler_of, standing_of
from mri_hpc.cluster.jobs import Job, job_of
from mri_hpc.cluster.outcome import OWN_WORDS, words_of_job
from mri_hpc.cluster.requeue import CAUSE_OF_STATE
from mri_hpc.cluster.run_picture import ENDED, View, picture
from mri_hpc.cluster.scheduler import Phase, Standing
from mri_hpc.rundir import server_clock
from mri_hpc.rundir.decisions import Cause
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.ledger import Event, read_events
from mri_hpc.rundir.manifests import newest_manifest
from mri_hpc.rundir.metrics_log import read_metrics
from mri_hpc.rundir.provenance import read_provenance
from mri_hpc.rundir.settings import load_training
from mri_hpc.rundir.settled_batch import settled
from mri_hpc.rundir.summary import State, Summary, clock_values, steps_an_epoch, summarise
from mri_hpc.rundir.wall_clock import account

REFRESH_S = 1.0


class Watcher:
    """An observer of one run, which asks its scheduler only as often as that wants."""

    def __init__(self, run: RunDir) -> None:
        self._run = run
        self._job: Job | None = None
        self._asked_s = 0.0
        """Unix time at which the scheduler was last asked."""
        self._standing: Standing | None = None

    def look(self) -> View:
        """Look at the run now."""
        now = server_clock.now(self._run.attempts)
        # First the job, then the ledger: a job that goes in between has written there why.
        newest = self._run.newest_attempt()
        job = job_of(self._run, newest.submission) if newest else None
        if job and self._is_due(job, now):
            self._job, self._asked_s = job, now
            try:
                self._standing = standing_of(job)
            except UserError:
                # Slurm is away: the run's own files are still there.
                self._standing = None
        settings = settled(self._run, load_training(self._run))
        metrics, events = read_metrics(self._run), read_events(self._run)
        summary = summarise(
            events, metrics, newest_manifest(self._run), now,
            epochs=settings.epochs, settings=settings, is_finished=self._run.is_finished,
        )  # fmt: skip
        if job:
            is_outdated = bool(events) and events[-1].time > self._asked_s
            summary = _with_standing(summary, None if is_outdated else self._standing, job, self._run)
        if events and summary.state == State.STOPPED:
            # Its end was not seen: its clock stops with its last sign.
            clock = account(events, metrics, _last_sign_s(self._run, events))
            summary = dataclasses.replace(summary, **clock_values(clock))
        an_epoch = steps_an_epoch(metrics)
        return View(
            summary=_with_final_digests(self._run, summary),
            epochs=settings.epochs,
            total_steps=an_epoch * settings.epochs if an_epoch else None,
        )

    def _is_due(self, job: Job, now: float) -> bool:
        """Tell whether to ask how the job stands; of a newer one nothing is known."""
        every_s = 0.0 if job.failure else scheduler_of(job).ask_every_s
        is_rare = every_s > 0 and job == self._job
        return not is_rare or now - self._asked_s >= every_s


def watch(run: RunDir, *, is_done: Callable[[View], bool] = lambda view: view.has_ended) -> View:
    """Show the run until `is_done`, on a terminal as a picture, else in lines; return the last view."""
    watcher, console = Watcher(run), Console(stderr=False)
    view = watcher.look()
    if not console.is_terminal:
        return _watch_in_lines(watcher, view, is_done)
    with Live(picture(run, view), console=console, auto_refresh=False) as live:
        while not is_done(view):
            time.sleep(REFRESH_S)
            view = watcher.look()
            live.update(picture(run, view), refresh=True)
    return view


def follow(run: RunDir, *, as_json: bool) -> int:
    """Follow a run until it ends; return 0 only if it is finished. Ctrl-C ends the following alone."""
    try:
        view = watch_silently(run) if as_json else watch(run)
    except KeyboardInterrupt:
        print("\nfollowing ended; the run goes on", file=sys.stderr)
        return DONE
    if as_json:
        print_json({"run": str(run.path), **view.summary.to_dict()})
    elif view.summary.state == State.FINISHED:
        print_next(run)
    return status_of(run, view)


def status_of(run: RunDir, view: View) -> int:
    """Return 0 only if the run is finished; else say why not."""
    if view.summary.state == State.FINISHED:
        return DONE
    state = view.summary.state.replace("_", " ")
    print(
        f"mri-hpc launch: {shown(run.path)}: {state}; {view.summary.reason or 'no reason known'}",
        file=sys.stderr,
    )
    for line in view.summary.last_words:
        print(f"  {line}", file=sys.stderr)
    return USER_CAN_FIX


def print_next(run: RunDir) -> None:
    """Say what to type next to those who see that a run is finished."""
    folder = shlex.quote(str(shown(run.path)))
    print(f"  next    python -m mri_hpc.evaluate {folder}, python -m mri_hpc.report {folder}")


def watch_silently(run: RunDir) -> View:
    """Wait until the run has ended; return its last view."""
    watcher = Watcher(run)
    view = watcher.look()
    while not view.has_ended:
        time.sleep(REFRESH_S)
        view = watcher.look()
    return view


def _with_standing(summary: Summary, standing: Standing | None, job: Job, run: RunDir) -> Summary:
    """Replace the state that comes from the ledger by the job's, where the job says more."""
    summary = dataclasses.replace(summary, job_id=summary.job_id or job.job_id)
    if State(summary.state) in ENDED or standing is None:
        return summary
    if standing.phase is Phase.GONE:
        return _with_end(summary, job, run)
    # A job that runs, and whose ranks have written nothing so far, is starting them.
    state = State.RUNNING if summary.state == State.RUNNING else State.STARTING
    if standing.phase is Phase.PENDING:
        state = State.PENDING if summary.state == State.PENDING else State.REQUEUED
    return dataclasses.replace(summary, state=state.value, reason=standing.wait, last_words=())


def _with_end(summary: Summary, job: Job, run: RunDir) -> Summary:
    """Sum up a run whose job is gone without a word in the ledger."""
    end = ""
    with contextlib.suppress(UserError):
        end = "" if job.failure else scheduler_of(job).end(job)
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
    if not why and not job.failure:
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


def _watch_in_lines(watcher: Watcher, view: View, is_done: Callable[[View], bool]) -> View:
    printed = ""
    while True:
        line = _line(view)
        if line != printed:
            print(line, flush=True)
            printed = line
        if is_done(view):
            return view
        time.sleep(REFRESH_S)
        view = watcher.look()


def _line(view: View) -> str:
    """Write the values of which each change is worth a line of its own."""
    summary = view.summary
    parts = [summary.state, f"epoch={summary.epoch}/{view.epochs}", f"saved_step={summary.saved_step}"]
    if summary.validation_loss is not None:
        parts.append(f"validation_loss={summary.validation_loss:.4f}")
    parts.append(f"restarts={summary.restarts}")
    return " ".join(parts)
