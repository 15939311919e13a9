"""``mri-hpc doctor``: whether this machine, its file systems and its cluster carry the work."""

import argparse
import contextlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from mri_hpc.base.command import print_json, run_command
from mri_hpc.base.errors import UserError, Verdict
from mri_hpc.base.marks import OFTEN, POSITIONAL, Flag
from mri_hpc.base.settings import nearest
from mri_hpc.cluster.defaults import default_job
from mri_hpc.rundir.layout import RunDir, open_run
from mri_hpc.rundir.settings import JobSettings, load_job, load_training
from mri_hpc.rundir.site_file import site_file, take_variables

NAME = "mri-hpc doctor"
EXAMPLE = "mri-hpc doctor"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Look whether this machine, its file systems and its cluster carry the work. Status 2 where they do not.

    Nothing is submitted, and nothing is changed without --yes; a folder of small files is made, and removed,
    to try the file system. With --drill --yes a job of at most two minutes is submitted, of the shape that
    launch would give it.
    """

    folder: Annotated[Path, POSITIONAL] = Path()
    """Folder under which stores and runs will lie; by default the one where you are."""
    only: Annotated[tuple[str, ...], OFTEN] = ()
    """Names of checks to make; by default all."""
    list: Annotated[Flag, OFTEN] = False
    """Name the checks and make none."""
    json: Annotated[Flag, OFTEN] = False
    """Print as JSON."""
    bundle: Annotated[Path | None, OFTEN] = None
    """Run about which a help desk gets one archive: answers, settings, ledger, ends of logs; no names."""
    fix: Annotated[Flag, OFTEN] = False
    """Show which findings doctor could make good, in this clone, the run and your configuration folder."""
    drill: Annotated[Flag, OFTEN] = False
    """Say what a drill costs: a short job that is interrupted, comes back, and names nodes that fail."""
    yes: Annotated[Flag, OFTEN] = False
    """Submit the drill, write the archive, or make the changes, which without it are only shown."""
    run: Annotated[Path | None, OFTEN] = None
    """Run whose job is drilled: its settings are the defaults of those below; without it, a new one's."""
    store: Path = Path("data/store")
    """Store that the nodes of a drill have to see, where it is there already."""
    job: JobSettings = field(default_factory=JobSettings)
    """Settings of a drill's job."""

    def __post_init__(self) -> None:
        if self.yes and not (self.fix or self.bundle or self.drill):
            raise UserError("--yes goes with --bundle RUN, --fix or --drill: doctor alone changes nothing")
        if self.fix and (self.bundle or self.json):
            raise UserError("--fix shows changes, for people: leave --bundle and --json out")
        if self.drill and (self.fix or self.bundle):
            raise UserError("--drill submits a job: leave --fix and --bundle out")
        if not self.drill and (self.run or self.job != JobSettings()):
            raise UserError(
                "--run and the settings of a job are those of a drill: give --drill, or leave them out"
            )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    typed = list(sys.argv[1:] if argv is None else argv)
    return run_command(
        NAME,
        Options,
        lambda options: doctor(options, typed),
        typed,
        example=EXAMPLE,
        default=lambda: _defaults(typed),
    )


def _defaults(typed: Sequence[str]) -> Options | None:
    """Return those of a drill: of the run that the command line names, else the site's; None without one."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--drill", action="store_true")
    try:
        named = parser.parse_known_args(list(typed))[0]
    except argparse.ArgumentError:
        # The full parser says what is wrong.
        return None
    if not named.drill:
        return None
    if named.run is None:
        return Options(drill=True, job=default_job(site_file(), typed=typed))
    run = open_run(named.run)
    return Options(drill=True, run=named.run, store=Path(load_training(run).store), job=load_job(run))


def doctor(options: Options, typed: Sequence[str] = ()) -> None:
    """Print what each check, or the drill, finds; Verdict where there is a problem.

    typed: the command line, to be shown with what to type next.
    """
    if options.drill:
        _drill(options, typed)
        return
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
        folder=folder, environment=_with_variables_of_site(os.environ), clone=clone_of(folder),
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


def _with_variables_of_site(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment with what the site file sets where the shell has not, as for other commands."""
    taken = dict(environment)
    # What is wrong with a damaged one, its own check says.
    with contextlib.suppress(UserError):
        take_variables(site_file(environment), taken)
    return taken


def _drill(options: Options, typed: Sequence[str]) -> None:
    """Say what a drill costs, or make it; Verdict where it finds a problem."""
    from mri_hpc.cluster.drill.command import drill

    take_variables(site_file())
    runs = options.run.absolute().parent if options.run else options.folder / "runs"
    again = [*NAME.split(), *typed]
    drill(runs, options.job, options.store, again=again, may_submit=options.yes, as_json=options.json)


def _list(options: Options) -> None:
    from mri_hpc.cluster.doctor.checks import CHECKS

    if options.json:
        print_json([{"check": check.name, "title": check.title} for check in CHECKS])
        return
    for check in CHECKS:
        print(f"{check.name:<12}{check.title}")


if __name__ == "__main__":
    sys.exit(main())
