"""``mri-hpc report``: one HTML page about a run."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from mri_hpc.base.atomic import replace_bytes
from mri_hpc.base.command import print_json, run_command
from mri_hpc.base.marks import POSITIONAL, Flag
from mri_hpc.rundir.layout import open_run


@dataclass(frozen=True, kw_only=True)
class Options:
    """One HTML page about a run, RUN/report.html: figures with intervals, curves, patients, restarts,
    provenance. Research use only."""

    run: Annotated[Path, POSITIONAL]
    """Folder of the run; one that is not finished gets a page of what there is."""
    json: Flag = False
    """Print JSON."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run_command(
        "mri-hpc report", Options, report, argv, example="mri-hpc report runs/resnet18-1a2b3c4d"
    )


def report(options: Options) -> None:
    """Write the page, and say where it is."""
    # Drawing takes half a second to import, which --help need not wait for.
    from mri_hpc.results.control_run import keep_controls
    from mri_hpc.results.page import make_page

    run = open_run(options.run)
    if run.predictions.exists():
        keep_controls(run)
    page = make_page(run).encode()
    replace_bytes(run.report, page)
    if options.json:
        print_json(
            {"run": str(run.path), "finished": run.is_finished, "report": str(run.report), "bytes": len(page)}
        )
    else:
        unfinished = "" if run.is_finished else " (not finished: no results yet)"
        print(f"{run.report}: {len(page) / 1000:.0f} kB{unfinished}")


if __name__ == "__main__":
    sys.exit(main())
