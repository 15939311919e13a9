"""A table of many runs, for people: one row each, and below it what keeps them from running."""

from collections.abc import Sequence

from mri_hpc.cluster.views import View
from mri_hpc.rundir.summary import State

NOT_LAUNCHED = "not launched"
MOST_NAMES = 5
"""Of runs that one line names."""
AT_THE_LEFT = 2
"""Columns of words; those of numbers end below each other."""


def runs_table(views: Sequence[tuple[str, View | None]], one: str = "run") -> str:
    """Draw a table of runs by their names. Without a view, a run was never launched.

    one: word for what the runs differ in.
    """
    titles = (one, "state", "epochs", "step", "saved", "restarts", "steps lost", "best val. loss")
    rows = [titles, *(_row(name, view) for name, view in views)]
    widths = [max(len(row[column]) for row in rows if column < len(row)) for column in range(len(titles))]
    lines = ["  ".join(_cells(row, widths)).rstrip() for row in rows]
    return "\n".join([*lines, *_reasons(views)])


def _row(name: str, view: View | None) -> tuple[str, ...]:
    if view is None:
        return name, NOT_LAUNCHED
    summary, best = view.summary, view.summary.best_validation_loss
    counts = (summary.step, summary.saved_step, summary.restarts, summary.steps_lost)
    return (
        name,
        summary.state.replace("_", " "),
        f"{summary.epoch}/{view.epochs}",
        *map(str, counts),
        "" if best is None else f"{best:.4f}",
    )


def _cells(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    """Return the texts of a row as wide as their columns."""
    return [
        text.ljust(width) if column < AT_THE_LEFT else text.rjust(width)
        for column, (text, width) in enumerate(zip(row, widths, strict=False))
    ]


def _reasons(views: Sequence[tuple[str, View | None]]) -> list[str]:
    """Return a line for each reason why runs wait, or have ended without being finished, naming them."""
    by_reason: dict[str, list[str]] = {}
    for name, view in views:
        if view and view.summary.reason and view.summary.state != State.FINISHED:
            by_reason.setdefault(view.summary.reason, []).append(name)
    return [f"{_named(names)}: {reason}" for reason, names in by_reason.items()]


def _named(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
