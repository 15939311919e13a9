"""``mri-hpc status``: the state of a run, and what it has lost."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from mri_hpc.base.command import print_json, run_command
from mri_hpc.base.errors import UserError
from mri_hpc.base.exit_status import DONE
from mri_hpc.base.marks import POSITIONAL, Flag
from mri_hpc.rundir.folds import FOLDS, is_of_folds, kind_of, runs_in
from mri_hpc.rundir.layout import open_run

EXAMPLE = "mri-hpc status runs/resnet18-1a2b3c4d --watch"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Show how a run stands: state, progress, speed, restarts and their causes, what was lost, digests."""

    run: Annotated[Path, POSITIONAL]
    """Folder of the run, or of folds."""
    watch: Flag = False
    """Show it again every second, until the run has ended, or Ctrl-C."""
    json: Flag = False
    """Print one JSON document."""

    def __post_init__(self) -> None:
        if self.watch and self.json:
            raise UserError("--watch shows the run again and again, not as one JSON document: leave one out")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run_command("mri-hpc status", Options, show, argv, example=EXAMPLE)


def show(options: Options) -> int:
    """Print the state of a run, or of those of all folds; raises UserError where there is none."""
    if is_of_folds(options.run):
        return _show_folds(options)
    run = open_run(options.run)
    # What draws on terminals is not needed for --help.
    from rich.console import Console

    from mri_hpc.cluster.run_picture import picture
    from mri_hpc.cluster.watching import Watcher, print_next, watch
    from mri_hpc.rundir.summary import State

    if options.watch:
        try:
            watch(run)
        except KeyboardInterrupt:
            return DONE
    view = Watcher(run).look()
    if options.json:
        print_json({"run": str(run.path.absolute()), "epochs": view.epochs, **view.summary.to_dict()})
    else:
        Console().print(picture(run, view))
        if view.summary.state == State.FINISHED:
            print_next(run)
    return DONE


def _show_folds(options: Options) -> int:
    """Print the runs of all folds as a table."""
    if options.watch:
        raise UserError(f"--watch shows one run: name one, such as {runs_in(options.run)[0].path}")
    from rich.console import Console

    from mri_hpc.cluster.folds_picture import NOT_LAUNCHED, folds_picture
    from mri_hpc.cluster.watching import Watcher

    runs, kind = runs_in(options.run), kind_of(options.run) or FOLDS
    views = [(run, Watcher(run).look() if run.settings.is_file() else None) for run in runs]
    if options.json:
        of_runs = [
            {"run": str(run.path.absolute()), "epochs": view.epochs, **view.summary.to_dict()}
            if view
            else {"run": str(run.path.absolute()), "state": NOT_LAUNCHED.replace(" ", "_")}
            for run, view in views
        ]
        print_json({"folder": str(options.run.absolute()), kind.several: of_runs})
    else:
        Console().print(folds_picture(views, kind.one))
    return DONE


if __name__ == "__main__":
    sys.exit(main())
