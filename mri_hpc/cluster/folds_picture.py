"""The picture of a folder of folds for people: one row a run."""

from collections.abc import Sequence

from rich.table import Table

from mri_hpc.cluster.run_picture import View
from mri_hpc.rundir.layout import RunDir

NOT_LAUNCHED = "not launched"


def folds_picture(views: Sequence[tuple[RunDir, View | None]], one: str = "fold") -> Table:
    """Draw a table of the runs of all folds. Without a view, the run was never launched.

    one: word for what the runs differ in.
    """
    table = Table(box=None, pad_edge=False, show_edge=False)
    for title in (one, "state", "epochs", "step", "saved", "restarts", "steps lost", "best val. loss"):
        table.add_column(title, no_wrap=True, justify="left" if title in (one, "state") else "right")
    for run, view in views:
        if view is None:
            table.add_row(run.path.name, NOT_LAUNCHED)
            continue
        summary = view.summary
        best = summary.best_validation_loss
        counts = (summary.step, summary.saved_step, summary.restarts, summary.steps_lost)
        table.add_row(
            run.path.name,
            summary.state.replace("_", " "),
            f"{summary.epoch}/{view.epochs}",
            *map(str, counts),
            "" if best is None else f"{best:.4f}",
        )
    return table
