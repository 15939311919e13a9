"""``mri-hpc doctor``: whether this machine, its file systems and its cluster carry the work."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from mri_hpc.base.command import print_json, run_command
from mri_hpc.base.errors import UserError, Verdict
from mri_hpc.base.marks import POSITIONAL, Flag
from mri_hpc.base.settings import nearest

EXAMPLE = "mri-hpc doctor"
MARKS = {"fine": "ok", "note": "note", "problem": "NOT OK"}


@dataclass(frozen=True, kw_only=True)
class Options:
    """Look whether this machine, its file systems and its cluster carry the work. Status 2 where they do not.

    Nothing is submitted or changed; a folder of small files is made, and removed, to try the file system.
    """

    folder: Annotated[Path, POSITIONAL] = Path()
    """Folder under which stores and runs will lie; by default the one where you are."""
    only: tuple[str, ...] = ()
    """Names of checks to make; by default all."""
    list: Flag = False
    """Name the checks and make none."""
    json: Flag = False
    """Print as JSON."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run_command("mri-hpc doctor", Options, doctor, argv, example=EXAMPLE)


def doctor(options: Options) -> None:
    """Print what each check finds; Verdict where there is a problem."""
    # What asks Slurm and tries file systems is not needed for --help.
    from mri_hpc.cluster.doctor.checks import CHECKS, examine
    from mri_hpc.cluster.doctor.finding import Level, Site

    if options.list:
        _list(options)
        return
    names = [check.name for check in CHECKS]
    for name in options.only:
        if name not in names:
            raise UserError(f"no check {name!r}{nearest(name, names) or '; see: mri-hpc doctor --list'}")
    if not options.folder.is_dir():
        raise UserError(f"{options.folder} is not a folder: give one under which stores and runs will lie")
    site = Site(folder=options.folder.absolute(), environment=os.environ)
    wanted = [check for check in CHECKS if check.name in options.only or not options.only]
    found = []
    for check, findings in examine(site, wanted):
        found += [(check, finding) for finding in findings]
        if not options.json:
            print(check.title)
            for finding in findings:
                print(f"  {MARKS[finding.level]:7} {finding.says}", flush=True)
                if finding.cure:
                    print(f"  {'':7}   do: {finding.cure}", flush=True)
    if options.json:
        print_json([
            {"check": check.name, "level": one.level, "says": one.says, "do": one.cure}
            for check, one in found
        ])  # fmt: skip
    problems = [finding for _check, finding in found if finding.level is Level.PROBLEM]
    if problems:
        raise Verdict(
            f"{len(problems)} of {len(found)} findings have to be seen to, the first: {problems[0].says}"
        )


def _list(options: Options) -> None:
    from mri_hpc.cluster.doctor.checks import CHECKS

    if options.json:
        print_json([{"check": check.name, "title": check.title} for check in CHECKS])
        return
    for check in CHECKS:
        print(f"{check.name:<12}{check.title}")


if __name__ == "__main__":
    sys.exit(main())
