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
from mri_hpc.rundir.layout import RunDir

EXAMPLE = "mri-hpc doctor"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Look whether this machine, its file systems and its cluster carry the work. Status 2 where they do not.

    Nothing is submitted, and nothing is changed without --yes; a folder of small files is made, and removed,
    to try the file system.
    """

    folder: Annotated[Path, POSITIONAL] = Path()
    """Folder under which stores and runs will lie; by default the one where you are."""
    only: tuple[str, ...] = ()
    """Names of checks to make; by default all."""
    list: Flag = False
    """Name the checks and make none."""
    json: Flag = False
    """Print as JSON."""
    bundle: Path | None = None
    """Run about which a help desk gets one archive: answers, settings, ledger, ends of logs; no names."""
    fix: Flag = False
    """Show what of it doctor could change, in this clone, the run and your configuration folder."""
    yes: Flag = False
    """Write the archive, or make the changes, which without it are only shown."""

    def __post_init__(self) -> None:
        if self.yes and not (self.fix or self.bundle):
            raise UserError("--yes goes with --bundle RUN or --fix: doctor alone changes nothing")
        if self.fix and (self.bundle or self.json):
            raise UserError("--fix shows changes, for people: leave --bundle and --json out")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run_command("mri-hpc doctor", Options, doctor, argv, example=EXAMPLE)


def doctor(options: Options) -> None:
    """Print what each check finds; Verdict where there is a problem."""
    # What asks Slurm and tries file systems is not needed for --help.
    from mri_hpc.cluster.doctor.checks import CHECKS, examine
    from mri_hpc.cluster.doctor.finding import Level, Site, in_words
    from mri_hpc.cluster.doctor.fixes import clone_of

    if options.list:
        _list(options)
        return
    names = [check.name for check in CHECKS]
    for name in options.only:
        if name not in names:
            raise UserError(f"no check {name!r}{nearest(name, names) or '; see: mri-hpc doctor --list'}")
    if not options.folder.is_dir():
        raise UserError(f"{options.folder} is not a folder: give one under which stores and runs will lie")
    folder = options.folder.absolute()
    site = Site(
        folder=folder, environment=os.environ, clone=clone_of(folder),
        run=folder if RunDir(folder).settings.is_file() else None,
    )  # fmt: skip
    wanted = [check for check in CHECKS if check.name in options.only or not options.only]
    if options.bundle:
        from mri_hpc.cluster.bundle.making import make_bundle

        make_bundle(options.bundle, site, wanted, is_written=options.yes, as_json=options.json)
        return
    found = []
    for check, findings in examine(site, wanted):
        found += [(check, finding) for finding in findings]
        if not options.json:
            print(check.title)
            for finding in findings:
                print("\n".join(in_words(finding)), flush=True)
    if options.json:
        print_json([
            {"check": check.name, "level": one.level, "says": one.says, "do": one.cure}
            for check, one in found
        ])  # fmt: skip
    problems = [finding for _check, finding in found if finding.level is Level.PROBLEM]
    if options.fix:
        from mri_hpc.cluster.doctor.fixing import are_all_made, fixes_of, make, show

        fixes = fixes_of((finding for _check, finding in found), site)
        if not options.yes:
            show(fixes)
        elif make(fixes) and are_all_made(problems, fixes):
            return
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
