"""The picture of a run, as people see it on a terminal: heading, bar, table."""

import time
from pathlib import Path

from rich.console import Group
from rich.table import Table
from rich.text import Text

from mri_hpc.base.command import shown
from mri_hpc.cluster.node_answers import clock_words
from mri_hpc.cluster.resource_rows import resource_rows
from mri_hpc.cluster.views import View
from mri_hpc.rundir.decisions import Action
from mri_hpc.rundir.following import as_list
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.summary import Restart, State, Summary

BAR_WIDTH = 20
SHOWN = 12
"""Letters of a snapshot's digest: more than tell it from all others of its store."""
# Of those that are shown one by one.
MOST_RESTARTS = 5
MOST_SIZES = 12
COLOURS = {
    State.PENDING: "yellow", State.STARTING: "yellow", State.RUNNING: "green",
    State.REQUEUED: "yellow", State.STOPPED: "red", State.FINISHED: "bold green",
    State.CAUGHT_UP: "bold green", State.CANCELLED: "magenta",
    State.FAILED: "bold red", State.GAVE_UP: "bold red",
}  # fmt: skip


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


def _snapshots(summary: Summary) -> list[tuple[str, str]]:
    """Name the snapshots as launch's --snapshot takes them: a run of these has the same steps."""
    short = {epoch - 1: digest[:SHOWN] for epoch, digest in summary.snapshots.items()}
    return [
        ("snapshots", as_list(short) if short else ""),
        ("follows", summary.followed and f"no more: {summary.followed}"),
    ]


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
        ("computed", f"with a {summary.steps}" if "fused" in summary.steps else ""),
        ("saved", f"step {summary.saved_step}" if summary.saved_step else "nothing yet"),
        ("saves", summary.saving if summary.state != State.FINISHED else ""),
        ("restarts", _restarts(summary)),
        ("sizes", _sizes(summary)),
        ("last stop", summary.last_stop),
        ("nodes", "\n".join(_nodes(summary))),
        ("changed", "\n".join(summary.changed)),
        *_snapshots(summary),
        ("lost", lost if summary.steps_lost else "nothing"),
        ("wall clock", _wall_clock(summary)),
        ("useful", _useful(summary)),
        *resource_rows(summary, duration),
        ("attempt", _attempt(summary)),
        ("last event", f"{duration(summary.since_s)} ago" if summary.since_s is not None else ""),
        ("weights", summary.weights_digest),
        ("samples", summary.samples_digest),
        ("last words", "\n".join(summary.last_words)),
    ]
    return [(name, value) for name, value in rows if value]


def _nodes(summary: Summary) -> list[str]:
    """Write of which nodes something is amiss: what they do not see, and clocks that are off."""
    unseen = [f"{node} does not see {', '.join(paths)}" for node, paths in summary.unseen.items()]
    clocks = [
        f"{clock_words(node, ahead_s)} of the file server's clock" for node, ahead_s in summary.clocks.items()
    ]
    return [*unseen, *clocks]


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


def _sizes(summary: Summary) -> str:
    """Write the ranks of the attempts in turn, where they were not alike: ``1 rank, then 4, 2, 3``."""
    if len({*summary.sizes}) < 2:
        return ""
    hidden = len(summary.sizes) - MOST_SIZES
    first, *others = summary.sizes[-MOST_SIZES:]
    earlier = f"{counted(hidden, 'earlier attempt')}, then " if hidden > 0 else ""
    return f"{earlier}{counted(first, 'rank')}, then {', '.join(map(str, others))}"


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
