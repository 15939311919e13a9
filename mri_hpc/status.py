"""``mri-hpc status``: the state of a run, and what it has lost; of many, a table."""

import contextlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from mri_hpc.base.command import print_json, run_command, shown
from mri_hpc.base.errors import UsageError, UserError
from mri_hpc.base.exit_status import DONE
from mri_hpc.base.marks import POSITIONAL, Flag
from mri_hpc.rundir.folds import is_of_folds, kind_of, runs_in
from mri_hpc.rundir.layout import RUNS_TO_NAME, RunDir, open_run, runs_below

if TYPE_CHECKING:
    from mri_hpc.cluster.views import View

EXAMPLE = "mri-hpc status runs/resnet18-1a2b3c4d --watch"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Show how a run stands: state, progress, speed, restarts and their causes, what was lost, digests."""

    run: Annotated[Path, POSITIONAL]
    """Folder of the run, of folds, of any runs, or of a chain (mri-hpc watch)."""
    more: Annotated[tuple[Path, ...], POSITIONAL] = ()
    """More runs or folds: a table, one row a run."""
    watch: Flag = False
    """Show it again every second, until the run has ended, or Ctrl-C."""
    json: Flag = False
    """Print one JSON document."""

    def __post_init__(self) -> None:
        if self.watch and self.json:
            raise UserError("--watch shows the run again and again, not as one JSON document: leave one out")
        # A word that was meant as the value of an option must not pass for one more run.
        for path in self.more:
            if not (is_of_folds(path) or RunDir(path).settings.is_file()):
                raise UsageError(f"unrecognized: {str(path)!r} is no folder of a run or of folds")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run_command("mri-hpc status", Options, show, argv, example=EXAMPLE)


def show(options: Options) -> int:
    """Print the state of a run, or a table of several; raises UserError where there is none."""
    from mri_hpc.chain.layout import is_chain

    if is_chain(options.run):
        return _show_chain(options)
    runs = [run for folder in (options.run, *options.more) for run in _runs_at(folder)]
    if [run.path for run in runs] != [options.run]:
        return _show_several(options, runs)
    run = runs[0]
    if options.watch:
        # What draws on terminals is not needed for --help.
        from mri_hpc.cluster.watching import watch

        try:
            watch(run)
        except KeyboardInterrupt:
            return DONE
    from mri_hpc.cluster.views import Watcher

    view = Watcher(run).look()
    if options.json:
        print_json(_document(run, view))
    else:
        from rich.console import Console

        from mri_hpc.cluster.run_picture import picture
        from mri_hpc.cluster.watching import print_next
        from mri_hpc.rundir.summary import State

        Console().print(picture(run, view))
        if view.summary.state == State.FINISHED:
            print_next(run)
    return DONE


def _show_chain(options: Options) -> int:
    """Print what the last links of a chain did, and when the next one comes."""
    from mri_hpc.chain.picture import describe_chain, picture_of_chain

    if options.watch or options.more:
        raise UserError(f"{shown(options.run)} is a chain of links: it is shown once, and by itself")
    if options.json:
        print_json(describe_chain(options.run))
    else:
        print(picture_of_chain(options.run))
    return DONE


def _show_several(options: Options, runs: Sequence[RunDir]) -> int:
    """Print the runs as a table."""
    from mri_hpc.cluster.runs_table import NOT_LAUNCHED, runs_table
    from mri_hpc.cluster.views import glance_at, look_at

    if options.watch:
        raise UserError(f"--watch shows one run: name one, such as {shown(runs[0].path)}")
    kind = None if options.more else kind_of(options.run)
    launched = [run for run in runs if run.settings.is_file()]
    if options.json:
        # One question for all of them, however many: a controller serves a whole site.
        looks = dict(zip(launched, look_at(launched), strict=True))
        documents = [
            _document(run, looks[run])
            if run in looks
            else {"run": str(run.path.absolute()), "state": NOT_LAUNCHED.replace(" ", "_")}
            for run in runs
        ]
        folder = {} if options.more else {"folder": str(options.run.absolute())}
        print_json({**folder, kind.several if kind else "runs": documents})
        return DONE
    views = dict(zip(launched, glance_at(launched), strict=True))
    rows = [(_name(run, options), views.get(run)) for run in runs]
    print(runs_table(rows, kind.one if kind else "run"))
    return DONE


def _runs_at(folder: Path) -> list[RunDir]:
    """List the run at a folder, or those below it and in folders of folds; UserError where there is none."""
    if is_of_folds(folder):
        return runs_in(folder)
    if not folder.exists() and (chains := _chains_in(folder.parent)):
        runs = [run.path.name for run in runs_below(folder.parent)[:RUNS_TO_NAME]]
        more = f"; runs here: {', '.join(runs)}" if runs else ""
        raise UserError(f"{folder} does not exist; chains here: {', '.join(chains)}{more}")
    folds = [run for below in _that_are(is_of_folds, folder) for run in runs_in(below)]
    return [*runs_below(folder), *folds] or [open_run(folder)]


def _chains_in(folder: Path) -> list[str]:
    from mri_hpc.chain.layout import is_chain

    return [shown(below).as_posix() for below in _that_are(is_chain, folder)]


def _that_are(kind: Callable[[Path], bool], folder: Path) -> list[Path]:
    """List what lies in a folder and is of a kind, by name, but for what is closed to this user."""
    found = []
    for below in sorted(folder.glob("*")):
        with contextlib.suppress(PermissionError):
            found += [below] if kind(below) else []
    return found


def _name(run: RunDir, options: Options) -> str:
    """Name a run in the table: by its folder within the one that was named, else as it is typed."""
    return str(shown(run.path) if options.more else run.path.relative_to(options.run))


def _document(run: RunDir, view: "View") -> dict[str, Any]:
    return {"run": str(run.path.absolute()), "epochs": view.epochs, **view.summary.to_dict()}


if __name__ == "__main__":
    sys.exit(main())
