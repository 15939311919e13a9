"""The state of a run as people see it: from its folder, and from its scheduler."""

import contextlib
import dataclasses
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mri_hpc.base.command import print_json, shown
from mri_hpc.base.errors import UserError
from mri_hpc.base.exit_status import DONE, USER_CAN_FIX
from mri_hpc.cluster.choice import name_of, scheduler_of, standing_of
from mri_hpc.cluster.jobs import Job, job_of
from mri_hpc.cluster.requeue import CAUSE_OF_STATE
from mri_hpc.cluster.scheduler import Phase, Standing
from mri_hpc.rundir.decisions import Action, Cause
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.ledger import Event, read_events
from mri_hpc.rundir.manifests import newest_manifest
from mri_hpc.rundir.metrics_log import read_metrics
from mri_hpc.rundir.provenance import read_provenance
from mri_hpc.rundir.settings import load_training
from mri_hpc.rundir.settled_batch import settled
from mri_hpc.rundir.summary import Restart, State, Summary, clock_values, steps_an_epoch, summarise
from mri_hpc.rundir.wall_clock import account

REFRESH_S = 1.0
BAR_WIDTH = 20
# Of those that are shown one by one.
MOST_RESTARTS = 5
ENDED = {State.FINISHED, State.CANCELLED, State.FAILED, State.GAVE_UP, State.STOPPED}
COLOURS = {
    State.PENDING: "yellow", State.STARTING: "yellow", State.RUNNING: "green",
    State.REQUEUED: "yellow", State.STOPPED: "red", State.FINISHED: "bold green",
    State.CANCELLED: "magenta", State.FAILED: "bold red", State.GAVE_UP: "bold red",
}  # fmt: skip


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
        # First the job, then the ledger: a job that goes in between has written there why.
        newest = self._run.newest_attempt()
        job = job_of(self._run, newest.submission) if newest else None
        if job and self._is_due(job):
            self._job, self._asked_s = job, time.time()
            try:
                self._standing = standing_of(job)
            except UserError:
                # Slurm is away: the run's own files are still there.
                self._standing = None
        settings = settled(self._run, load_training(self._run))
        metrics, events = read_metrics(self._run), read_events(self._run)
        summary = summarise(
            events, metrics, newest_manifest(self._run), time.time(),
            epochs=settings.epochs, settings=settings, is_finished=self._run.is_finished,
        )  # fmt: skip
        if job:
            is_outdated = bool(events) and events[-1].time > self._asked_s
            summary = _with_standing(summary, None if is_outdated else self._standing, job)
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

    def _is_due(self, job: Job) -> bool:
        """Tell whether to ask how the job stands; of a newer one nothing is known."""
        every_s = 0.0 if job.failure else scheduler_of(job).ask_every_s
        is_rare = every_s > 0 and job == self._job
        return not is_rare or time.time() - self._asked_s >= every_s


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
    if view.summary.state == State.FINISHED:
        if not as_json:
            folder = shlex.quote(str(shown(run.path)))
            print(f"  next    python -m mri_hpc.evaluate {folder}, python -m mri_hpc.report {folder}")
        return DONE
    state = view.summary.state.replace("_", " ")
    print(
        f"mri-hpc launch: {shown(run.path)}: {state}; {view.summary.reason or 'no reason known'}",
        file=sys.stderr,
    )
    for line in view.summary.last_words:
        print(f"  {line}", file=sys.stderr)
    return USER_CAN_FIX


def watch_silently(run: RunDir) -> View:
    """Wait until the run has ended; return its last view."""
    watcher = Watcher(run)
    view = watcher.look()
    while not view.has_ended:
        time.sleep(REFRESH_S)
        view = watcher.look()
    return view


def picture(run: RunDir, view: View) -> Group:
    """Draw the run for people: heading, bar, table."""
    summary = view.summary
    heading = Text.assemble(
        (run.path.name, "bold"), "  ", (summary.state.replace("_", " "), COLOURS[State(summary.state)])
    )
    if summary.reason and summary.state != State.FINISHED:
        heading.append(f"  {summary.reason}", style="dim")
    bar = Table.grid(padding=(0, 1))
    is_finished = summary.state == State.FINISHED
    # Early stopping ends before the last epoch: then all is done as well.
    total = 0 if is_finished else view.total_steps or 0
    fraction = 1.0 if is_finished else summary.step / total if total else 0.0
    has_left = summary.time_left_s is not None and summary.state == State.RUNNING
    bar.add_row(
        _bar(fraction),
        f"epoch {summary.epoch} of " + ("at most " if is_finished else "") + str(view.epochs),
        f"step {summary.step}" + (f" of {total}" if total else ""),
        f"about {duration(summary.time_left_s)} left" if has_left else "",
    )
    # One column between: a digest then fits a terminal of 80.
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in _rows(summary):
        # Not as markup: logs are full of brackets.
        table.add_row(name, Text(value))
    return Group(heading, bar, table)


def _bar(fraction: float) -> Text:
    """Draw a bar of one width that shows what is done and what is left also without colour."""
    done = min(BAR_WIDTH, int(fraction * BAR_WIDTH))
    return Text.assemble(("█" * done, "green"), ("░" * (BAR_WIDTH - done), "dim"))


def duration(seconds: float | None) -> str:
    """Write seconds for people: ``1 h 05 min``, ``3 min``, ``12 s``."""
    if seconds is None:
        return "unknown"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"


def counted(number: int, what: str) -> str:
    """Write a number of things for people: ``1 step``, ``3 steps``."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _rows(summary: Summary) -> list[tuple[str, str]]:
    """Return the lines of the table that have a value."""
    is_running = summary.state == State.RUNNING
    best = ""
    if summary.best_validation_loss is not None:
        best = f", best {summary.best_validation_loss:.4f} in epoch {(summary.best_epoch or 0) + 1}"
    lost = f"{counted(summary.steps_lost, 'step')} done again" + (
        f" ({duration(summary.seconds_lost)})" if summary.seconds_lost else ""
    )
    rows = [
        ("continues", str(shown(Path(summary.continued_from))) if summary.continued_from else ""),
        ("batch", _batch(summary)),
        ("training loss", f"{summary.loss:.4f}" if summary.loss is not None else ""),
        (
            "validation loss",
            f"{summary.validation_loss:.4f}{best}" if summary.validation_loss is not None else "",
        ),
        ("speed", f"{summary.images_per_s:g} images/s" if is_running and summary.images_per_s else ""),
        ("saved", f"step {summary.saved_step}" if summary.saved_step else "nothing yet"),
        ("restarts", _restarts(summary)),
        ("last stop", summary.last_stop),
        ("changed", "\n".join(summary.changed)),
        ("lost", lost if summary.steps_lost else "nothing"),
        ("wall clock", _wall_clock(summary)),
        ("useful", _useful(summary)),
        ("attempt", _attempt(summary)),
        ("last event", f"{duration(summary.since_s)} ago" if summary.since_s is not None else ""),
        ("weights", summary.weights_digest),
        ("samples", summary.samples_digest),
        ("last words", "\n".join(summary.last_words)),
    ]
    return [(name, value) for name, value in rows if value]


def _batch(summary: Summary) -> str:
    if summary.batch_size is None:
        return "auto: not settled yet"
    return f"{summary.batch_size} images a step, learning rate up to {summary.highest_lr:.3g}"


def _restarts(summary: Summary) -> str:
    """Write the number of restarts, their causes, and the cost of each of the last ones."""
    causes = ", ".join(f"{cause.replace('_', ' ')} × {count}" for cause, count in summary.causes.items())
    lines = [f"{summary.restarts}" + (f" ({causes})" if causes else "")]
    hidden = len(summary.history) - MOST_RESTARTS
    if hidden > 0:
        lines.append(f"{hidden} earlier: see --json")
    return "\n".join([*lines, *map(_restart, summary.history[-MOST_RESTARTS:])])


def _restart(restart: Restart) -> str:
    when = time.strftime("%d %b %H:%M", time.localtime(restart.time))
    lost = f"{counted(restart.steps_lost, 'step')} lost" if restart.steps_lost else "no step lost"
    took = f" ({duration(restart.seconds_lost)})" if restart.seconds_lost >= 1 else ""
    down = f", down {duration(restart.seconds_down)}" if restart.decision == Action.AGAIN else ""
    return f"{when}  {restart.attempt} {restart.cause.replace('_', ' ')}: {lost}{took}{down}"


def _wall_clock(summary: Summary) -> str:
    """Write the parts of the wall clock, the largest first, in percent."""
    total = sum(summary.ledger.values())
    if total <= 0:
        return ""
    parts = sorted(summary.ledger.items(), key=lambda part: -part[1])
    percents = [(name.replace("_", " "), f"{100 * seconds / total:.1f}%") for name, seconds in parts]
    shown_parts = ", ".join(f"{name} {percent}" for name, percent in percents if percent.strip("-") != "0.0%")
    return f"{duration(total)}: {shown_parts}"


def _useful(summary: Summary) -> str:
    if summary.ettr is None or summary.ettr_without_queueing is None:
        return ""
    apart = f"{100 * summary.ettr_without_queueing:.1f} % without queueing"
    return f"{100 * summary.ettr:.1f} % of the time that it ran or waited to run, {apart}"


def _attempt(summary: Summary) -> str:
    parts = [summary.attempt]
    if summary.job_id:
        parts.append(f"Slurm job {summary.job_id}")
    if summary.ranks:
        parts.append(counted(summary.ranks, "rank"))
    if summary.host:
        parts.append(f"rank 0 on {summary.host}")
    return ", ".join(part for part in parts if part)


def _with_standing(summary: Summary, standing: Standing | None, job: Job) -> Summary:
    """Replace the state that comes from the ledger by the job's, where the job says more."""
    summary = dataclasses.replace(summary, job_id=summary.job_id or job.job_id)
    if State(summary.state) in ENDED or standing is None:
        return summary
    if standing.phase is Phase.GONE:
        return _with_end(summary, job)
    # A job that runs, and whose ranks have written nothing so far, is starting them.
    state = State.RUNNING if summary.state == State.RUNNING else State.STARTING
    if standing.phase is Phase.PENDING:
        state = State.PENDING if summary.state == State.PENDING else State.REQUEUED
    return dataclasses.replace(summary, state=state.value, reason=standing.wait, last_words=())


def _with_end(summary: Summary, job: Job) -> Summary:
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
    reason = f"{name_of(job)} {what}: launch again to resume"
    return dataclasses.replace(summary, state=State.STOPPED.value, reason=reason)


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
