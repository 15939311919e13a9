"""``mri-hpc launch``: submit or resume a training run, on Slurm or on this machine."""

import argparse
import dataclasses
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from mri_hpc.base.command import parse, print_json, run_command, shown
from mri_hpc.base.command_line import OFTEN, Flag
from mri_hpc.base.errors import UserError
from mri_hpc.base.exit_status import DONE
from mri_hpc.base.settings import differences
from mri_hpc.cluster.launching import Launched, Plan, describe, end_job, standing, submit_once
from mri_hpc.cluster.sizes import Sizes, sizes_of
from mri_hpc.rundir.layout import RunDir, open_run
from mri_hpc.rundir.manifests import newest_manifest
from mri_hpc.rundir.settings import (
    JobSettings,
    TrainingSettings,
    load_job,
    load_training,
    refuse_other_identity,
)

NAME = "mri-hpc launch"
EXAMPLE = "mri-hpc launch --store data/store --nodes 2 --model resnet18 --wait"
# What a launch that was cut short leaves in the folder of a new run.
BEFORE_SETTINGS = {"attempts", "recipe.json"}
# Words in place of a path: no weights, and those that torchvision publishes.
NO_PATHS = ("", "pretrained")


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
    """What is trained."""
    job: JobSettings = field(default_factory=JobSettings)
    """How it is run."""

    def __post_init__(self) -> None:
        if self.dry_run and self.json:
            raise UserError("--dry-run prints a script, not JSON: leave --json out")


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    typed = list(sys.argv[1:] if argv is None else argv)
    return run_command(
        NAME,
        Options,
        lambda options: launch(options, typed),
        typed,
        example=EXAMPLE,
        default=lambda: _defaults(typed),
    )


def launch(options: Options, typed: Sequence[str]) -> int:
    """Do what the options ask; returns the exit status."""
    plan = plan_of(options, typed)
    if options.cancel:
        return _cancel(plan.run, as_json=options.json)
    sizes = sizes_of(plan.job, batch_size=plan.training.batch_size)
    plan = dataclasses.replace(plan, notes=(*plan.notes, *sizes.notes))
    if options.dry_run:
        reason = standing(plan.run)
        notes = (
            [f"nothing would be submitted now: {reason}", *_not_taken(plan, reason)] if reason else plan.notes
        )
        # Beside the script, which may go to a file.
        _say_aside(notes)
        print(describe(plan, sizes))
        return DONE
    _refuse_more_of_finished(plan)
    launched = submit_once(plan, sizes)
    if options.json:
        _say_aside(plan.notes)
    if options.json and not options.wait:
        _print_as_json(plan, sizes, launched)
    elif not options.json:
        print(_report(plan, sizes, launched))
    if not options.wait:
        return DONE
    # Pulls in what draws on terminals; launching alone need not wait for it.
    from mri_hpc.cluster.watching import follow

    return follow(plan.run, as_json=options.json)


def plan_of(options: Options, typed: Sequence[str]) -> Plan:
    """Which run is meant, and its settings. Raises UserError where the run cannot be or is another one."""
    if options.run is not None and RunDir(options.run).settings.is_file():
        return _plan_for_existing(RunDir(options.run.absolute()), options)
    if options.run is not None:
        _refuse_other_folder(options.run)
    training = _with_whole_paths(options.training)
    if options.cancel and options.run is not None:
        open_run(options.run)
    training = _settled(training)
    path = options.run or Path("runs") / f"{training.model}-{training.identity_digest()[:8]}"
    run = RunDir(path.absolute())
    if run.settings.is_file():
        # The same command again: what was saved beside its identity are the defaults.
        again = parse(NAME, Options, typed, default=_saved_options(run))
        return _plan_for_existing(run, again)
    if options.cancel:
        open_run(run.path)
    notes = _check_new_run(training)
    return Plan(run=run, training=training, job=options.job, is_new=True, notes=notes)


def _defaults(typed: Sequence[str]) -> Options | None:
    """The options of the run that the command line names, or continues; None where it names neither."""
    # Before anything else in the command line is looked at.
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--continue-from", "--continue_from", type=Path)
    try:
        named = parser.parse_known_args(list(typed))[0]
    except argparse.ArgumentError:
        # The full parser says what is wrong.
        return None
    if named.run and RunDir(named.run).settings.is_file():
        return _saved_options(RunDir(named.run))
    return _options_after(named.continue_from) if named.continue_from else None


def _saved_options(run: RunDir) -> Options:
    """The options that an existing run was last launched with."""
    return Options(run=run.path, training=load_training(run), job=load_job(run))


def _options_after(path: Path) -> Options:
    """The options of a new run that goes on from the finished one at `path`, on what its store holds now."""
    from mri_hpc.cohort.lineage import open_finished

    parent = open_finished(path)
    training = dataclasses.replace(
        load_training(parent), continue_from=str(path.absolute()), weights="", snapshot="newest",
        schedule_epochs=0,
    )  # fmt: skip
    return Options(training=training, job=load_job(parent))


def _plan_for_existing(run: RunDir, options: Options) -> Plan:
    saved = load_training(run)
    asked = _with_whole_paths(options.training)
    # These two words mean "as it was when the run was made".
    if asked.snapshot == "newest":
        asked = dataclasses.replace(asked, snapshot=saved.snapshot)
    if asked.schedule_epochs == 0:
        asked = dataclasses.replace(asked, schedule_epochs=saved.schedule_epochs)
    refuse_other_identity(run, asked)
    return Plan(run=run, training=asked, job=options.job, is_new=False)


def _with_whole_paths(training: TrainingSettings) -> TrainingSettings:
    """Paths that mean the same in whatever folder a rank, or a later launch, starts."""
    return dataclasses.replace(
        training,
        store=_whole(training.store),
        weights=_whole(training.weights),
        continue_from=_whole(training.continue_from),
    )


def _whole(path: str) -> str:
    return path if path in NO_PATHS else str(Path(path).absolute())


def _settled(training: TrainingSettings) -> TrainingSettings:
    """The settings with "newest" and "the epochs of the run" replaced by what they mean now."""
    # Reading a store pulls in numpy and h5py: not for --help.
    from mri_hpc.storage.snapshot.catalogue import resolve

    snapshot = resolve(Path(training.store), training.snapshot).digest
    epochs = training.schedule_epochs or training.epochs
    return dataclasses.replace(training, snapshot=snapshot, schedule_epochs=epochs)


def _check_new_run(training: TrainingSettings) -> tuple[str, ...]:
    """What is to be said of the run's data. Raises UserError for what would fail the ranks hours later."""
    from mri_hpc.cohort.lineage import check_lineage, check_weights_of_run
    from mri_hpc.cohort.splits import split_lines, split_of
    from mri_hpc.storage.snapshot.catalogue import resolve
    from mri_hpc.training.model import check_model_name, check_weights

    snapshot = resolve(Path(training.store), training.snapshot)
    if len(snapshot.classes) == 1:
        name = f"{shown(Path(training.store))} holds one class only ({snapshot.classes[0]})"
        raise UserError(f"{name}: a classifier needs two")
    code = split_of(snapshot, training.val_fold, training.test_fold, training.from_train)
    check_model_name(training.model)
    lineage = check_lineage(training, snapshot, code) if training.continue_from else []
    if training.weights:
        check_weights(training, len(snapshot.classes), snapshot.image_shape)
        lineage = check_weights_of_run(training, snapshot, code)
    return (*lineage, *split_lines(snapshot, code))


def _refuse_other_folder(path: Path) -> None:
    """Raise UserError where the folder of a new run holds something else."""
    if path.is_dir():
        others = [entry.name for entry in path.iterdir() if entry.name not in BEFORE_SETTINGS]
        if others:
            raise UserError(f"{path} holds other things ({min(others)}, ...): choose a new folder for --run")
    elif path.exists():
        raise UserError(f"{path} is a file: choose a new folder for --run")


def _refuse_more_of_finished(plan: Plan) -> None:
    """Raise UserError where a finished run is asked to go on for longer: exit status 0 would promise that."""
    if not plan.run.is_finished or plan.is_new:
        return
    saved = load_training(plan.run)
    if plan.training.epochs > saved.epochs or plan.training.patience > saved.patience:
        raise UserError(f"{shown(plan.run.path)}: {_not_taken(plan, standing(plan.run))[0].strip()}")


def _cancel(run: RunDir, *, as_json: bool) -> int:
    """End the run's job, wait for its ranks to save, and say what is kept."""
    said = "nothing to cancel" if run.is_finished else end_job(run)
    manifest = newest_manifest(run)
    if as_json:
        state = "finished" if run.is_finished else "cancelled"
        step = manifest.progress.step if manifest else 0
        print_json({"run": str(run.path), "state": state, "said": said, "saved_step": step})
        return DONE
    if run.is_finished:
        print(f"{shown(run.path)} is finished: {said}\n{_what_next('report', 'report', run)}")
        return DONE
    kept = f"saved at step {manifest.progress.step}" if manifest else "nothing was saved yet"
    print(f"{shown(run.path)}: {said}; {kept}\n{_what_next('resume', 'launch', '--run', run)}")
    return DONE


def _report(plan: Plan, sizes: Sizes, launched: Launched) -> str:
    """What was done, where it is to be seen, and how it is stopped."""
    run, name = plan.run, shown(plan.run.path)
    if launched.state == "finished":
        passed_over = _not_taken(plan, standing(run))
        return "\n".join([f"{name} is finished.", *passed_over, _what_next("report", "report", run)])
    assert launched.job is not None
    watch = [
        f"  logs    {shown(run.attempts)}/{launched.submission}.*/rank*.log",
        _what_next("watch", "status", run, "--watch"),
        _what_next("stop", "launch", "--run", run, "--cancel"),
    ]
    if launched.state == "live":
        named = f"{name} is already in the hands of {launched.job.name}; nothing was submitted."
        going_on = "the run goes on as it is; cancel it, then launch again with them"
        return "\n".join([named, *_not_taken(plan, going_on), *watch])
    manifest = newest_manifest(run)
    beginning = f"resumes at step {manifest.progress.step}" if manifest else "starts"
    where = f"{sizes.nodes} node(s)" if sizes.is_slurm else "this machine (no Slurm)"
    device = f"{sizes.gpus_per_node} GPU(s) a node" if sizes.gpus_per_node else "no GPU"
    done = f"{name} {beginning}: {launched.job.name}, {sizes.ranks} rank(s) on {where}, {device}."
    return "\n".join([done, *(f"  {note}" for note in plan.notes), *watch])


def _not_taken(plan: Plan, reason: str) -> list[str]:
    """A line that names what was typed and changes nothing, where nothing was submitted, and why."""
    if not plan.run.settings.is_file():
        return []
    others = {
        **differences(_with_whole_paths(load_training(plan.run)), plan.training),
        **differences(load_job(plan.run), plan.job),
    }
    words = ", ".join(f"--{name.replace('_', '-')} {asked}" for name, (_, asked) in others.items())
    way_out = "; choose another --run" if plan.run.is_finished else ""
    return [f"  not applied: {words}: {reason}{way_out}"] if words else []


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
    """A line that names a command to copy."""
    words = [str(shown(a.path)) if isinstance(a, RunDir) else a for a in arguments]
    return f"  {label:<7} {shlex.join(['python', '-m', f'mri_hpc.{command}', *words])}"


if __name__ == "__main__":
    sys.exit(main())
