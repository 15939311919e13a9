"""``mri-hpc launch``: submit or resume a training run, on Slurm or on this machine."""

import argparse
import dataclasses
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from mri_hpc.base.command import HELP, parse, print_json, run_command, shown
from mri_hpc.base.errors import UserError
from mri_hpc.base.exit_status import DONE
from mri_hpc.base.marks import OFTEN, Flag
from mri_hpc.cluster.choice import name_of, scheduler_for
from mri_hpc.cluster.launching import (
    Launched,
    LaunchState,
    Plan,
    describe,
    end_job,
    sizes_of,
    submit_once,
    why_not_submitted,
)
from mri_hpc.cluster.scheduler import Scheduler, Sizes
from mri_hpc.planning import (
    RunSettings,
    is_there,
    not_taken,
    plan_of,
    refuse_more_of_finished,
    saved_settings,
    settings_after,
)
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.manifests import newest_manifest
from mri_hpc.rundir.recipes import DEFAULT, with_recipe
from mri_hpc.rundir.settings import JobSettings, TrainingSettings

NAME = "mri-hpc launch"
EXAMPLE = "mri-hpc launch --store data/store --nodes 2 --model resnet18 --wait"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Submit a training run, or resume one: on Slurm, or on this machine where there is none.

    On an existing run the saved settings are the defaults. What the run is (model, data, seed) cannot change;
    how it is operated (nodes, limits, more epochs) can.

    With --continue-from RUN a new run starts from that one's model, with its settings as the defaults.
    """

    run: Annotated[Path | None, OFTEN] = None
    """Folder of the run; by default runs/MODEL-DIGITS, so that the same command resumes the same run."""
    wait: Annotated[Flag, OFTEN] = False
    """Follow the run until it ends; exit status 0 only if it is finished."""
    dry_run: Annotated[Flag, OFTEN] = False
    """Show what would be submitted, and leave nothing behind."""
    cancel: Annotated[Flag, OFTEN] = False
    """End the run's job; the ranks save first, and launching again resumes."""
    json: Annotated[Flag, OFTEN] = False
    """Print what was done as JSON."""
    training: TrainingSettings = field(default_factory=TrainingSettings)
    """Settings of the training."""
    job: JobSettings = field(default_factory=JobSettings)
    """Settings of its job."""

    def __post_init__(self) -> None:
        if self.dry_run and self.json:
            raise UserError("--dry-run prints a script, not JSON: leave --json out")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    typed = list(sys.argv[1:] if argv is None else argv)
    return run_command(
        NAME,
        Options,
        lambda options: launch(options, typed),
        typed,
        example=EXAMPLE,
        default=lambda: _shown(typed) if HELP & {*typed} else _defaults(typed),
    )


def launch(options: Options, typed: Sequence[str]) -> int:
    """Do what the options ask for; return the exit status."""
    plan = _plan(options, typed)
    if options.cancel:
        return _cancel(plan.run, as_json=options.json)
    scheduler = scheduler_for(plan.job)
    sizes = sizes_of(scheduler, plan.job, batch_size=plan.training.batch_size)
    plan = dataclasses.replace(plan, notes=(*plan.notes, *sizes.notes))
    if options.dry_run:
        reason = why_not_submitted(plan.run)
        notes = (
            [f"nothing would be submitted now: {reason}", *not_taken(plan, reason)] if reason else plan.notes
        )
        # Beside the script, which may go to a file.
        _say_aside(notes)
        print(describe(plan, scheduler, sizes))
        return DONE
    refuse_more_of_finished(plan)
    launched = submit_once(plan, scheduler, sizes)
    if options.json:
        _say_aside(plan.notes)
    if options.json and not options.wait:
        _print_as_json(plan, sizes, launched)
    elif not options.json:
        print(_report(plan, scheduler, sizes, launched))
    if not options.wait:
        return DONE
    # Pulls in what draws on terminals; launching alone need not wait for it.
    from mri_hpc.cluster.watching import follow

    return follow(plan.run, as_json=options.json)


def _plan(options: Options, typed: Sequence[str]) -> Plan:
    def over_saved(run: RunDir) -> RunSettings:
        # The same command again: what was saved beside its identity are the defaults.
        again = parse(NAME, Options, typed, default=_saved_options(run))
        return RunSettings(training=again.training, job=again.job)

    options = _by_recipe(options, typed)
    asked = RunSettings(training=options.training, job=options.job)
    return plan_of(asked, path=options.run, over_saved=over_saved, must_exist=options.cancel)


def _by_recipe(options: Options, typed: Sequence[str]) -> Options:
    """Return the options of a new run with what its recipe sets laid below what was typed.

    Of a run that is there, or goes on from another, all is saved; beside the other a recipe may be typed.
    """
    named = _named(typed)
    if named is None or (named.run and RunDir(named.run).settings.is_file()):
        return options
    if named.continue_from and not named.recipe:
        return options
    if not (named.run or named.recipe) and is_there(RunSettings(training=options.training)):
        # A command of before there were recipes goes on with its run.
        return options
    below = _options_after(named.continue_from) if named.continue_from else Options()
    training = with_recipe(below.training, named.recipe or DEFAULT)
    if options.training.schedule_epochs and not below.training.schedule_epochs:
        # Whoever types how a cosine falls wants one.
        training = dataclasses.replace(training, decay_epochs=0)
    return parse(NAME, Options, typed, default=dataclasses.replace(below, training=training))


def _shown(typed: Sequence[str]) -> Options:
    """Return the options whose values --help shows."""
    return _defaults(typed) or Options(training=with_recipe(TrainingSettings(), DEFAULT))


def _named(typed: Sequence[str]) -> argparse.Namespace | None:
    """Read what decides on the defaults, before anything else is looked at; None where it cannot be read."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--continue-from", "--continue_from", type=Path)
    parser.add_argument("--recipe")
    try:
        return parser.parse_known_args(list(typed))[0]
    except argparse.ArgumentError:
        # The full parser says what is wrong.
        return None


def _defaults(typed: Sequence[str]) -> Options | None:
    """Return the options of the run that the command line names, or continues; None for neither."""
    named = _named(typed)
    if named is None:
        return None
    if named.run and RunDir(named.run).settings.is_file():
        return _saved_options(RunDir(named.run))
    return _options_after(named.continue_from) if named.continue_from else None


def _saved_options(run: RunDir) -> Options:
    """Return the options that an existing run was last launched with."""
    saved = saved_settings(run)
    return Options(run=run.path, training=saved.training, job=saved.job)


def _options_after(path: Path) -> Options:
    """Return the options of a new run that goes on from the finished one at `path`."""
    settings = settings_after(path)
    return Options(training=settings.training, job=settings.job)


def _cancel(run: RunDir, *, as_json: bool) -> int:
    """End the run's job, wait for its ranks to save, and print what is kept."""
    outcome = "nothing to cancel" if run.is_finished else end_job(run)
    manifest = newest_manifest(run)
    if as_json:
        state = "finished" if run.is_finished else "cancelled"
        step = manifest.progress.step if manifest else 0
        print_json({"run": str(run.path), "state": state, "said": outcome, "saved_step": step})
        return DONE
    if run.is_finished:
        print(f"{shown(run.path)} is finished: {outcome}\n{_what_next('report', 'report', run)}")
        return DONE
    kept = f"saved at step {manifest.progress.step}" if manifest else "nothing was saved yet"
    print(f"{shown(run.path)}: {outcome}; {kept}\n{_what_next('resume', 'launch', '--run', run)}")
    return DONE


def _report(plan: Plan, scheduler: Scheduler, sizes: Sizes, launched: Launched) -> str:
    """Report what was done, and name the commands that watch and stop it."""
    run, name = plan.run, shown(plan.run.path)
    if launched.state is LaunchState.FINISHED:
        passed_over = not_taken(plan, why_not_submitted(run))
        return "\n".join([f"{name} is finished.", *passed_over, _what_next("report", "report", run)])
    assert launched.job is not None
    watch = [
        f"  logs    {shown(run.attempts)}/{launched.submission}.*/rank*.log",
        _what_next("watch", "status", run, "--watch"),
        _what_next("stop", "launch", "--run", run, "--cancel"),
    ]
    if launched.state is LaunchState.LIVE:
        named = f"{name} is already in the hands of {name_of(launched.job)}; nothing was submitted."
        going_on = "the run goes on as it is; cancel it, then launch again with them"
        return "\n".join([named, *not_taken(plan, going_on), *watch])
    manifest = newest_manifest(run)
    beginning = f"resumes at step {manifest.progress.step}" if manifest else "starts"
    device = f"{sizes.gpus_per_node} GPU(s) a node" if sizes.gpus_per_node else "no GPU"
    where = f"{sizes.ranks} rank(s) on {scheduler.where(sizes)}, {device}"
    done = f"{name} {beginning}: {name_of(launched.job)}, {where}."
    return "\n".join([done, *(f"  {note}" for note in plan.notes), *watch])


def _say_aside(lines: Sequence[str]) -> None:
    """Print lines beside what a script or a file takes from stdout."""
    for line in lines:
        print(line, file=sys.stderr)


def _print_as_json(plan: Plan, sizes: Sizes, launched: Launched) -> None:
    job = launched.job
    print_json({
        "run": str(plan.run.path), "state": launched.state, "submission": launched.submission,
        "cluster": job.cluster if job else "", "job_id": job.job_id if job else "", "ranks": sizes.ranks,
    })  # fmt: skip


def _what_next(label: str, command: str, *arguments: str | RunDir) -> str:
    """Write a line that names a command to copy."""
    words = [str(shown(a.path)) if isinstance(a, RunDir) else a for a in arguments]
    return f"  {label:<7} {shlex.join(['python', '-m', f'mri_hpc.{command}', *words])}"


if __name__ == "__main__":
    sys.exit(main())
