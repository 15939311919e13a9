"""``mri-hpc launch``: submit or resume a training run, on Slurm or on this machine."""

import argparse
import dataclasses
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from mri_hpc.base.command import HELP, parse, print_json, run_command, shown
from mri_hpc.base.errors import UserError
from mri_hpc.base.exit_status import DONE
from mri_hpc.base.marks import OFTEN, Bare, Flag
from mri_hpc.cluster.choice import name_of, scheduler_for
from mri_hpc.cluster.defaults import default_job
from mri_hpc.cluster.launching import (
    Launched,
    LaunchState,
    Plan,
    ask_about_runs,
    describe,
    end_job,
    sizes_of,
    submit_once,
    why_not_submitted,
)
from mri_hpc.cluster.scheduler import Scheduler, Sizes
from mri_hpc.folding import BY_LABELS, Folds, plan_curve, plan_folds
from mri_hpc.planning import (
    RunSettings,
    is_there,
    lines_on_following,
    not_taken,
    nothing_new,
    plan_of,
    refuse_more_of_finished,
    saved_settings,
    settings_after,
)
from mri_hpc.rundir.folds import SHARES, is_of_folds, kind_of, write_folds
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.manifests import newest_manifest
from mri_hpc.rundir.recipes import DEFAULT, with_recipe
from mri_hpc.rundir.settings import JobSettings, TrainingSettings
from mri_hpc.rundir.site_file import refuse_above, site_file, take_variables

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
    """Follow the run until it ends; status 0 only if it is finished, or at Ctrl-C, which ends this alone."""
    dry_run: Annotated[Flag, OFTEN] = False
    """Show what would be submitted, and leave nothing behind."""
    cancel: Annotated[Flag, OFTEN] = False
    """End the run's job; the ranks save first, and launching again resumes."""
    json: Annotated[Flag, OFTEN] = False
    """Print what was done as JSON."""
    folds: Annotated[int | None, OFTEN, Bare(value=BY_LABELS)] = None
    """Make a run for each fold that the labels name; INT: of so many into which a hash deals the patients."""
    learning_curve: Flag = False
    """Make runs on 25, 50, 75 and 100 % of the training patients: what more patients would bring."""
    training: TrainingSettings = field(default_factory=TrainingSettings)
    """Settings of the training."""
    job: JobSettings = field(default_factory=JobSettings)
    """Settings of its job."""

    def __post_init__(self) -> None:
        if self.dry_run and self.json:
            raise UserError("--dry-run prints a script, not JSON: leave --json out")
        if self.learning_curve and self.folds is not None:
            raise UserError("--folds and --learning-curve both make several runs: give one of them")
        if self.training.follow and (self.learning_curve or self.folds is not None):
            raise UserError("runs that are compared are of one snapshot: leave --follow out")


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
    take_variables(site_file())
    is_several = options.folds is not None or options.learning_curve
    if is_several or (options.run and is_of_folds(options.run)):
        return _launch_folds(options, typed)
    plan = _plan(options, typed)
    if options.cancel:
        return _cancel(plan.run, as_json=options.json)
    scheduler = scheduler_for(plan.job)
    plan, sizes = _with_sizes(plan, scheduler)
    if options.dry_run:
        _show_plan(plan, scheduler, sizes)
        return DONE
    refuse_more_of_finished(plan)
    if reason := nothing_new(plan):
        _say_nothing_new(plan, reason, as_json=options.json)
        return DONE
    launched = submit_once(plan, scheduler, sizes)
    if options.json:
        _say_aside([*plan.notes, *_drill_lines(plan, scheduler, sizes)])
    if options.json and not options.wait:
        print_json(_as_json(plan, sizes, launched))
    elif not options.json:
        print(_report(plan, scheduler, sizes, launched))
    if not options.wait:
        return DONE
    # Pulls in what draws on terminals; launching alone need not wait for it.
    from mri_hpc.cluster.watching import follow

    return follow(plan.run, as_json=options.json)


def _launch_folds(options: Options, typed: Sequence[str]) -> int:
    """Do for the runs of all folds, or shares, what the options ask for; return the worst exit status."""
    options = _by_recipe(options, typed)
    folds = _folds(options, typed)
    if options.cancel:
        return _cancel_folds(folds, as_json=options.json)
    scheduler = scheduler_for(folds.plans[0].job)
    plans = [_with_sizes(plan, scheduler) for plan in folds.plans]
    ask_about_runs(plan.run for plan in folds.plans)
    if options.dry_run:
        for plan, sizes in plans:
            _show_plan(plan, scheduler, sizes)
        return DONE
    for plan, _ in plans:
        refuse_more_of_finished(plan)
    write_folds(folds.folder, folds.folds, folds.kind)
    documents: list[dict[str, Any]] = []
    try:
        status = _run_folds(plans, scheduler, options, documents, one=folds.kind.one)
    except KeyboardInterrupt:
        print(
            "\nfollowing ended; what runs goes on, and the same command goes on with the rest",
            file=sys.stderr,
        )
        return DONE
    if options.json:
        print_json({"folder": str(folds.folder), folds.kind.several: documents})
    elif status == DONE and all(plan.run.is_finished for plan, _ in plans):
        print(_what_next("join", "report", RunDir(folds.folder)))
    return status


def _folds(options: Options, typed: Sequence[str]) -> Folds:
    """Plan the runs of all folds, or of all shares of the training patients."""
    asked, over_saved = RunSettings(training=options.training, job=options.job), _over_saved(typed)
    is_curve = options.run is not None and kind_of(options.run) is SHARES and options.folds is None
    if options.learning_curve or is_curve:
        return plan_curve(asked, path=options.run, over_saved=over_saved)
    return plan_folds(asked, options.folds, path=options.run, over_saved=over_saved)


def _run_folds(
    plans: Sequence[tuple[Plan, Sizes]],
    scheduler: Scheduler,
    options: Options,
    documents: list[dict[str, Any]],
    *,
    one: str,
) -> int:
    """Submit what is missing, and with --wait follow all; return the worst exit status.

    A machine without a queue has one run at a time: the next one starts when that before has ended,
    or, without --wait, with the next launch. documents: what is to be printed as JSON is added here.
    one: word for what the runs differ in.
    """
    from mri_hpc.cluster.watching import status_of, watch, watch_silently

    def submit(plan: Plan, sizes: Sizes) -> Launched:
        launched = submit_once(plan, scheduler, sizes)
        if options.json:
            _say_aside(plan.notes)
            documents.append(_as_json(plan, sizes, launched))
        else:
            print(_report(plan, scheduler, sizes, launched), flush=True)
        return launched

    status = DONE
    if scheduler.is_queue:
        for plan, sizes in plans:
            submit(plan, sizes)
    for number, (plan, sizes) in enumerate(plans):
        is_busy = scheduler.is_queue or submit(plan, sizes).state is not LaunchState.FINISHED
        if is_busy and options.wait:
            view = watch_silently(plan.run) if options.json else watch(plan.run)
            if options.json:
                documents[number].update(view.summary.to_dict())
            status = max(status, status_of(plan.run, view))
        elif is_busy and not scheduler.is_queue and number + 1 < len(plans):
            _say_aside(
                [f"  next    this machine runs one {one} at a time: type the same again, or add --wait"]
            )
            break
    return status


def _cancel_folds(folds: Folds, *, as_json: bool) -> int:
    """End the jobs of all folds, and print what is kept of each; return the worst exit status."""
    runs = [plan.run for plan in folds.plans if not plan.is_new]
    ask_about_runs(runs)
    if not runs:
        raise UserError(f"{shown(folds.folder)}: no {folds.kind.one} was launched, nothing to cancel")
    if as_json:
        print_json({"folder": str(folds.folder), folds.kind.several: [_cancelled(run) for run in runs]})
        return DONE
    return max(_cancel(run, as_json=False) for run in runs)


def _plan(options: Options, typed: Sequence[str]) -> Plan:
    options = _by_recipe(options, typed)
    asked = RunSettings(training=options.training, job=options.job)
    return plan_of(asked, path=options.run, over_saved=_over_saved(typed), must_exist=options.cancel)


def _over_saved(typed: Sequence[str]) -> Callable[[RunDir], RunSettings]:
    """Return what reads the command line over a run's settings."""

    def read(run: RunDir) -> RunSettings:
        # The same command again: what was saved beside its identity are the defaults.
        again = parse(NAME, Options, typed, default=_saved_options(run))
        return RunSettings(training=again.training, job=again.job)

    return read


def _with_sizes(plan: Plan, scheduler: Scheduler) -> tuple[Plan, Sizes]:
    site = site_file()
    training = plan.training
    sizes = sizes_of(
        scheduler, plan.job, batch_size=training.batch_size, micro_batches=training.micro_batches
    )
    refuse_above(site, plan.job, tasks_per_node=sizes.ranks_per_node, gpus_per_node=sizes.gpus_per_node)
    return dataclasses.replace(plan, notes=(*plan.notes, *sizes.notes)), sizes


def _show_plan(plan: Plan, scheduler: Scheduler, sizes: Sizes) -> None:
    """Print what would be submitted."""
    reason = why_not_submitted(plan.run)
    notes = [f"nothing would be submitted now: {reason}", *not_taken(plan, reason)] if reason else plan.notes
    # Beside the script, which may go to a file.
    _say_aside(notes)
    print(describe(plan, scheduler, sizes))


def _by_recipe(options: Options, typed: Sequence[str]) -> Options:
    """Return the options of a new run with what its recipe sets laid below what was typed.

    Of a run that is there, or goes on from another, all is saved; beside the other a recipe may be typed.
    """
    named = _named(typed)
    if named is None or (named.run and RunDir(named.run).settings.is_file()):
        return options
    if named.continue_from and not named.recipe:
        return options
    if not (named.run or named.recipe) and is_there(RunSettings(training=options.training, job=options.job)):
        # A command of before there were recipes goes on with its run.
        return options
    below = _options_after(named.continue_from) if named.continue_from else _of_site(typed)
    training = with_recipe(below.training, named.recipe or DEFAULT)
    if named.continue_from:
        # A network goes on to see images as it has learnt to.
        training = dataclasses.replace(training, enlarge=below.training.enlarge)
    if options.training.schedule_epochs and not below.training.schedule_epochs:
        # Whoever types how a cosine falls wants one.
        training = dataclasses.replace(training, decay_epochs=0)
    return parse(NAME, Options, typed, default=dataclasses.replace(below, training=training))


def _shown(typed: Sequence[str]) -> Options:
    """Return the options whose values --help shows."""
    named = _named(typed)
    is_new = named is None or not (
        named.continue_from or (named.run and RunDir(named.run).settings.is_file())
    )
    if is_new:
        return dataclasses.replace(_of_site(typed), training=with_recipe(TrainingSettings(), DEFAULT))
    return _defaults(typed)


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


def _defaults(typed: Sequence[str]) -> Options:
    """Return the options of the run that the command line names, or continues; for neither the site's."""
    named = _named(typed)
    if named and named.run and RunDir(named.run).settings.is_file():
        return _saved_options(RunDir(named.run))
    return _options_after(named.continue_from) if named and named.continue_from else _of_site(typed)


def _of_site(typed: Sequence[str]) -> Options:
    """Return the options of a new run for what was not typed."""
    return Options(job=default_job(site_file(), typed=typed))


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
    if as_json:
        print_json(_cancelled(run))
        return DONE
    outcome = "nothing to cancel" if run.is_finished else end_job(run)
    manifest = newest_manifest(run)
    if run.is_finished:
        print(f"{shown(run.path)} is finished: {outcome}\n{_what_next('report', 'report', run)}")
        return DONE
    kept = f"saved at step {manifest.progress.step}" if manifest else "nothing was saved yet"
    print(f"{shown(run.path)}: {outcome}; {kept}\n{_what_next('resume', 'launch', '--run', run)}")
    return DONE


def _cancelled(run: RunDir) -> dict[str, Any]:
    """End the run's job, wait for its ranks to save, and return what is kept."""
    outcome = "nothing to cancel" if run.is_finished else end_job(run)
    manifest = newest_manifest(run)
    state = "finished" if run.is_finished else "cancelled"
    step = manifest.progress.step if manifest else 0
    return {"run": str(run.path), "state": state, "said": outcome, "saved_step": step}


def _report(plan: Plan, scheduler: Scheduler, sizes: Sizes, launched: Launched) -> str:
    """Report what was done, and name the commands that watch and stop it."""
    run, name = plan.run, shown(plan.run.path)
    if launched.state is LaunchState.FINISHED:
        aside = [*not_taken(plan, why_not_submitted(run)), *lines_on_following(plan)]
        return "\n".join([f"{name} is finished.", *aside, _what_next("report", "report", run)])
    assert launched.job is not None
    watch = [
        *lines_on_following(plan, is_live=launched.state is LaunchState.LIVE),
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
    where = f"{sizes.ranks_in_words} on {scheduler.where(sizes)}, {device}"
    done = f"{name} {beginning}: {name_of(launched.job)}, {where}."
    notes = [f"  {note}" for note in plan.notes]
    return "\n".join([done, *notes, *watch, *_drill_lines(plan, scheduler, sizes)])


def _say_nothing_new(plan: Plan, reason: str, *, as_json: bool) -> None:
    """Print that a run which follows its store was not launched, and what finishes it."""
    if as_json:
        print_json({"run": str(plan.run.path), "state": "caught_up", "said": reason})
        return
    print(f"{shown(plan.run.path)} has caught up; nothing was submitted: {reason}.")
    print(_what_next("finish", "launch", "--run", plan.run, "--no-follow"))


def _drill_lines(plan: Plan, scheduler: Scheduler, sizes: Sizes) -> list[str]:
    """Name the command of a drill where none has shown that such a job runs here."""
    if not scheduler.is_queue:
        return []
    # All of these have been imported to submit.
    from mri_hpc.cluster.drill.verdict import lack_of_drill, shape_of
    from mri_hpc.cluster.slurm import partition_of_shell
    from mri_hpc.cluster.submission import job_python

    partition = plan.job.partition or partition_of_shell()
    lack = lack_of_drill(plan.run.path.parent, shape_of(sizes, partition=partition, python=job_python()))
    return [f"{_what_next('drill', 'doctor', '--drill', '--run', plan.run)}  # {lack}"] if lack else []


def _say_aside(lines: Sequence[str]) -> None:
    """Print lines beside what a script or a file takes from stdout."""
    for line in lines:
        print(line, file=sys.stderr)


def _as_json(plan: Plan, sizes: Sizes, launched: Launched) -> dict[str, Any]:
    job = launched.job
    return {
        "run": str(plan.run.path), "state": launched.state, "submission": launched.submission,
        "cluster": job.cluster if job else "", "job_id": job.job_id if job else "", "ranks": sizes.ranks,
    }  # fmt: skip


def _what_next(label: str, command: str, *arguments: str | RunDir) -> str:
    """Write a line that names a command to copy."""
    words = [str(shown(a.path)) if isinstance(a, RunDir) else a for a in arguments]
    return f"  {label:<7} {shlex.join(['python', '-m', f'mri_hpc.{command}', *words])}"


if __name__ == "__main__":
    sys.exit(main())
