"""``mri-hpc compare``: two runs on the test patients that they share."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from mri_hpc.base.command import print_json, run_command
from mri_hpc.base.marks import POSITIONAL, Flag
from mri_hpc.rundir.layout import open_run


@dataclass(frozen=True, kw_only=True)
class Options:
    """Difference of two finished runs on the test patients that they share, in pairs, with 95 % intervals.
    Research use only."""

    first: Annotated[Path, POSITIONAL]
    """Folder of a run."""
    second: Annotated[Path, POSITIONAL]
    """Folder of the run that it is held against."""
    look_again: Flag = False
    """Show test figures although other models were judged by the same patients before; it is counted."""
    json: Flag = False
    """Print JSON."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run_command(
        "mri-hpc compare", Options, compare, argv, example="mri-hpc compare runs/resnet18-1a2b3c4d runs/new"
    )


def compare(options: Options) -> None:
    """Print by how much the first run is better than the second."""
    first, second = open_run(options.first), open_run(options.second)
    # Whoever asks for help need not wait for what counts.
    from mri_hpc.results.runs.comparison import compare_runs
    from mri_hpc.results.runs.further_look import look_at

    found = compare_runs(first, second)
    # Not before: what cannot be compared is not looked at.
    for note in look_at([first, second], is_meant=options.look_again):
        print(note, file=sys.stderr)
    if options.json:
        print_json({"first": str(first.path), "second": str(second.path), **found.to_dict()})
    else:
        from mri_hpc.results.runs.evaluation_tables import print_comparison

        print_comparison(found)


if __name__ == "__main__":
    sys.exit(main())
