"""``mri-hpc report``: one HTML page about a run, or about several that are folds and seeds of one study."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from mri_hpc.base.access import make_private, replace_private
from mri_hpc.base.atomic import replace_bytes
from mri_hpc.base.command import print_json, run_command
from mri_hpc.base.errors import UsageError, UserError
from mri_hpc.base.marks import POSITIONAL, Flag
from mri_hpc.rundir.folds import is_of_folds, runs_at
from mri_hpc.rundir.layout import RunDir, open_run

JOINED = "joined.html"
"""Page of runs that were named one by one, beside the first of them."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """One HTML page about a run, RUN/report.html: figures with intervals, curves, patients, restarts,
    provenance. Research use only."""

    run: Annotated[Path, POSITIONAL]
    """Folder of the run, or of folds; one that is not finished gets a page of what there is."""
    more: Annotated[tuple[Path, ...], POSITIONAL] = ()
    """Others of other folds or seeds, joined with the first on one page, joined.html beside it."""
    pictures: Flag = False
    """Also write RUN/private/report.html, with pictures of patients: examples, wrong answers, and where the
    model looks, if boxes of findings show that it is worth a look. Needs the store."""
    store: Path | None = None
    """Folder of the store, with --pictures; by default where it lay in training."""
    json: Flag = False
    """Print JSON."""

    def __post_init__(self) -> None:
        # A word that was meant as the value of an option must not pass for one more run.
        for path in self.more:
            if not (is_of_folds(path) or RunDir(path).settings.is_file()):
                raise UsageError(f"unrecognized: {str(path)!r} is no folder of a run or of folds")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run_command(
        "mri-hpc report", Options, report, argv, example="mri-hpc report runs/resnet18-1a2b3c4d"
    )


def report(options: Options) -> None:
    """Write the page, or both pages, and say where they are."""
    if options.store and not options.pictures:
        raise UserError("--store is for --pictures: the page without pictures needs no store")
    if options.more or is_of_folds(options.run):
        if options.pictures:
            raise UserError("--pictures is for the page of one run: name that run alone")
        _report_joined([options.run, *options.more], as_json=options.json)
        return
    run = open_run(options.run)
    # The score of heat maps is on either page, so pictures come first.
    private = _write_private(run, options.store) if options.pictures else None
    # Drawing takes half a second to import, which --help need not wait for.
    from mri_hpc.results.control_run import keep_controls
    from mri_hpc.results.page import make_page
    from mri_hpc.results.resemblance_run import keep_resemblance

    if run.predictions.exists():
        keep_controls(run)
        keep_resemblance(run)
    page = make_page(run).encode()
    replace_bytes(run.report, page)
    if options.json:
        pictured = {"private_report": str(run.private_report)} if private is not None else {}
        print_json(
            {
                "run": str(run.path),
                "finished": run.is_finished,
                "report": str(run.report),
                "bytes": len(page),
                **pictured,
            }
        )
    else:
        unfinished = "" if run.is_finished else " (not finished: no results yet)"
        print(f"{run.report}: {len(page) / 1000:.0f} kB{unfinished}")
        if private is not None:
            print(
                f"{run.private_report}: {private / 1000:.0f} kB, with pictures of patients: do not share it"
            )


def _write_private(run: RunDir, store: Path | None) -> int:
    """Write the page with pictures where its owner alone gets at it; returns its bytes."""
    from mri_hpc.picturing import make_pictures
    from mri_hpc.results.page import make_page

    pictures = make_pictures(run, store)
    page = make_page(run, pictures).encode()
    make_private(run.private)
    replace_private(run.private_report, page)
    return len(page)


def _report_joined(folders: Sequence[Path], *, as_json: bool) -> None:
    """Write the page of several runs, and say where it is."""
    from mri_hpc.results.joined_page import make_joined_page
    from mri_hpc.results.joining import join

    joined = join([run for folder in folders for run in runs_at(folder)])
    first = folders[0].resolve()
    path = RunDir(folders[0]).report if len(folders) == 1 else folders[0].absolute().parent / JOINED
    name = first.name if len(folders) == 1 else f"{first.name} and {len(folders) - 1} more"
    page = make_joined_page(joined, name).encode()
    replace_bytes(path, page)
    if as_json:
        print_json({"report": str(path), "bytes": len(page), **joined.to_dict()})
        return
    print(f"{path}: {len(page) / 1000:.0f} kB, {len(joined.parts)} runs")
    for line in joined.lines():
        print(f"  {line}")


if __name__ == "__main__":
    sys.exit(main())
