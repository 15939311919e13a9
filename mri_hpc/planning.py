"""The plan of a launch: the run that is meant, and its settings, checked for a new run."""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mri_hpc.base.command import shown
from mri_hpc.base.errors import UserError
from mri_hpc.base.settings import differences
from mri_hpc.cluster.launching import Plan, why_not_submitted
from mri_hpc.cluster.outcome import is_over
from mri_hpc.rundir.following import (
    FOLLOW,
    NO_MORE,
    adoptions_of,
    as_list,
    has_caught_up,
    is_list,
    listed,
    why_followed,
)
from mri_hpc.rundir.layout import RunDir, open_run
from mri_hpc.rundir.ledger import Event, read_events
from mri_hpc.rundir.manifests import newest_manifest
from mri_hpc.rundir.settings import (
    FIXED,
    MAJORITY,
    JobSettings,
    TrainingSettings,
    load_job,
    load_training,
    refuse_other_identity,
)

if TYPE_CHECKING:
    import numpy as np

    from mri_hpc.storage.store import Snapshot

# What a launch that was cut short leaves in the folder of a new run.
BEFORE_SETTINGS = {"attempts", "recipe.json"}
# Words in place of a path: no weights, and those that torchvision publishes.
NO_PATHS = ("", "pretrained")


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """All settings of a run."""

    training: TrainingSettings = field(default_factory=TrainingSettings)
    """Settings of the training itself."""
    job: JobSettings = field(default_factory=JobSettings)
    """Settings of its job."""


def plan_of(
    asked: RunSettings,
    *,
    path: Path | None = None,
    over_saved: Callable[[RunDir], RunSettings] | None = None,
    must_exist: bool = False,
) -> Plan:
    """Return the run that is meant, and its settings. UserError where it cannot be or is another one.

    path: folder of the run; by default runs/MODEL-DIGITS, so that the same settings are the same run.
    over_saved: asked again where such a run is there already: what was asked, over the run's saved settings.
    Without it all of `asked` counts. must_exist: UserError for a new run.
    """
    if path is not None and RunDir(path).settings.is_file():
        return _plan_for_existing(RunDir(path.absolute()), asked)
    if path is not None:
        refuse_other_folder(path)
    training = _with_whole_paths(asked.training)
    if must_exist and path is not None:
        open_run(path)
    training = _settled(_with_sums(training, asked.job))
    folder = path or _folder_of(training)
    run = RunDir(folder.absolute())
    if run.settings.is_file():
        return _plan_for_existing(run, over_saved(run) if over_saved else asked)
    if must_exist:
        open_run(run.path)
    notes = _check_new_run(training)
    return Plan(run=run, training=training, job=asked.job, is_new=True, notes=notes)


def is_there(asked: RunSettings) -> bool:
    """Tell whether a run of before there were recipes is there, that has its name by these settings."""
    if not any(Path("runs").glob(f"{asked.training.model}-*")):
        return False
    if asked.training.snapshot == FOLLOW or asked.training.follow or is_list(asked.training.snapshot):
        # Of before there were recipes there is none.
        return False
    return RunDir(_folder_of(settled_training(asked))).settings.is_file()


def saved_settings(run: RunDir) -> RunSettings:
    """Return the settings that an existing run was last launched with."""
    return RunSettings(training=load_training(run), job=load_job(run))


def settings_after(path: Path) -> RunSettings:
    """Return settings that go on from the finished run at `path`, on what its store holds now."""
    from mri_hpc.cohort.lineage import open_finished

    parent = open_finished(path)
    before = load_training(parent)
    training = dataclasses.replace(
        before, continue_from=str(path.absolute()), weights="", snapshot="newest",
        follow=False, schedule_epochs=0,
        # As another --patient-label may be typed.
        pooling="auto" if before.pooling == "attention" else before.pooling,
    )  # fmt: skip
    return RunSettings(training=training, job=load_job(parent))


def not_taken(plan: Plan, reason: str) -> list[str]:
    """Return a line naming what was asked for in vain where nothing was submitted, and why."""
    if not plan.run.settings.is_file():
        return []
    others = {
        **differences(_with_whole_paths(load_training(plan.run)), plan.training),
        **differences(load_job(plan.run), plan.job),
    }
    words = ", ".join(f"--{name.replace('_', '-')} {asked}" for name, (_, asked) in others.items())
    way_out = "; choose another --run" if plan.run.is_finished else ""
    return [f"  not applied: {words}: {reason}{way_out}"] if words else []


def refuse_more_of_finished(plan: Plan) -> None:
    """Raise UserError where a finished run is asked to go on for longer: exit status 0 would promise that."""
    if not plan.run.is_finished or plan.is_new:
        return
    saved = load_training(plan.run)
    if plan.training.epochs > saved.epochs or plan.training.patience > saved.patience:
        raise UserError(f"{shown(plan.run.path)}: {not_taken(plan, why_not_submitted(plan.run))[0].strip()}")


def _plan_for_existing(run: RunDir, settings: RunSettings) -> Plan:
    saved = load_training(run)
    asked = _with_whole_paths(settings.training)
    # These two words mean "as it was when the run was made".
    if asked.snapshot == "newest":
        asked = dataclasses.replace(asked, snapshot=saved.snapshot)
    if asked.schedule_epochs == 0 and not asked.decay_epochs:
        asked = dataclasses.replace(asked, schedule_epochs=saved.schedule_epochs)
    if asked.flip == "auto":
        mirror = asked.mirror_answers and saved.mirror_answers
        asked = dataclasses.replace(asked, flip=saved.flip, mirror_answers=mirror)
    if asked.pooling == "auto":
        asked = dataclasses.replace(asked, pooling=saved.pooling)
    # One rule under two words.
    if {asked.patient_label, saved.patient_label} == {"auto", MAJORITY}:
        asked = dataclasses.replace(asked, patient_label=saved.patient_label)
    asked = _as_summed(run, saved, asked, settings.job)
    if asked.follow and saved.snapshot != FOLLOW:
        raise UserError(
            f"{shown(run.path)} is of one snapshot, and a run follows its store from its beginning on: leave "
            "--follow out, or start a new run with it"
        )
    refuse_other_identity(run, asked)
    has_begun = asked.probe and not saved.probe and newest_manifest(run) is not None
    notes = ("--probe: the run has begun, and is not probed any more",) if has_begun else ()
    return Plan(run=run, training=asked, job=settings.job, is_new=False, notes=notes)


def _as_summed(
    run: RunDir, saved: TrainingSettings, asked: TrainingSettings, job: JobSettings
) -> TrainingSettings:
    """Return what is asked with the parts that the run's steps have; UserError where it has none."""
    if not job.takes_any_number or asked.sums != "ddp":
        return asked
    if saved.sums == "ddp":
        raise UserError(
            f"--nodes {job.nodes}: steps of {shown(run.path)} are summed over its ranks, so that another "
            f"number of them is another arithmetic: give one number, or start a new run"
        )
    parts = asked.micro_batches or saved.micro_batches
    return dataclasses.replace(asked, sums=saved.sums, micro_batches=parts)


def _folder_of(training: TrainingSettings) -> Path:
    return Path("runs") / f"{training.model}-{training.identity_digest()[:8]}"


def _with_whole_paths(training: TrainingSettings) -> TrainingSettings:
    """Return settings whose paths mean the same in whatever folder a rank, or a later launch, starts."""
    return dataclasses.replace(
        training,
        store=_whole(training.store),
        weights=_whole(training.weights),
        continue_from=_whole(training.continue_from),
    )


def _whole(path: str) -> str:
    return path if path in NO_PATHS else str(Path(path).absolute())


def settled_training(asked: RunSettings) -> TrainingSettings:
    """Return the settings of a new run as they mean the same in any folder, and later. Raises UserError."""
    return _settled(_with_sums(_with_whole_paths(asked.training), asked.job))


def _with_sums(training: TrainingSettings, job: JobSettings) -> TrainingSettings:
    """Return the settings of a new run with the parts of a step, where its attempts may differ in ranks."""
    if training.sums == "ddp" and not job.takes_any_number:
        if training.micro_batches:
            raise UserError("--micro-batches goes with --nodes LOW-HIGH, or with --sums fixed-1")
        return training
    most_ranks = job.node_range.most * (job.tasks_per_node or job.gpus_per_node or 1)
    parts = training.micro_batches or most_ranks * training.accumulate
    return dataclasses.replace(training, sums=FIXED, micro_batches=parts)


def _settled(training: TrainingSettings) -> TrainingSettings:
    """Return the settings with "newest", epochs, flips and pooling settled: as what they mean now."""
    from mri_hpc.cohort.sides import sided_classes

    training = _with_snapshots(training)
    epochs = 0 if training.decay_epochs else training.schedule_epochs or training.epochs
    snapshot = snapshot_of(training)
    flip = training.flip
    if flip == "auto":
        flip = "off" if sided_classes(snapshot.classes) else "on"
    mirror = training.mirror_answers and flip == "on" and training.augment
    pooling = training.pooling
    if pooling == "auto":
        pooling = "attention" if training.patient_label in ("auto", MAJORITY) else "mean"
    return dataclasses.replace(
        training, schedule_epochs=epochs, flip=flip, mirror_answers=mirror, pooling=pooling,
        snapshot=training.snapshot if training.snapshot != "newest" else snapshot.digest,
    )  # fmt: skip


def _with_snapshots(training: TrainingSettings) -> TrainingSettings:
    """Return settings whose snapshot is newest, follow, or named by whole digests. Raises UserError."""
    from mri_hpc.storage.store import Store

    if training.follow and training.snapshot not in ("newest", FOLLOW):
        raise UserError(f"--follow takes the newest snapshot, not {training.snapshot}: leave --snapshot out")
    if training.follow:
        training = dataclasses.replace(training, snapshot=FOLLOW)
    if training.snapshot in ("newest", FOLLOW):
        changes = training.snapshot == FOLLOW
    else:
        store, wanted = Store.open(Path(training.store)), listed(training.snapshot)
        whole = {epoch: store.resolve(digest).digest for epoch, digest in wanted.items()}
        training, changes = dataclasses.replace(training, snapshot=as_list(whole)), len(whole) > 1
    if training.follow and training.decay_epochs and training.whole_decay_epochs >= training.epochs:
        raise UserError(
            f"--follow ends where the last {training.whole_decay_epochs} epochs begin, and --epochs "
            f"{training.epochs} has no others: give more, or fewer --decay-epochs"
        )
    if changes and not training.decay_epochs:
        raise UserError(
            "--follow holds the rate until the last epochs, and a cosine falls over a number of steps that "
            "nobody knows yet: give --decay-epochs, or leave --recipe and --schedule-epochs out"
        )
    return training


def _refuse_who_chose_before(training: TrainingSettings, snapshot: "Snapshot", code: "np.ndarray") -> None:
    """Raise UserError where patients who are to choose nothing chose the epoch that the run goes on from."""
    from mri_hpc.cohort.lineage import parent_of, share_validation

    parent = parent_of(training)
    if not parent or not training.calibration_share or not parent.settings.is_file():
        return
    before = load_training(parent).calibration_share
    # Weights may be of a run on other patients.
    if training.calibration_share != before and (
        training.continue_from or share_validation(training, snapshot, code)
    ):
        raise UserError(
            f"--calibration-share {training.calibration_share}: {shown(parent.path)} has {before}, so that "
            "patients who are to choose nothing have chosen its epoch: give the same, or none"
        )


def _check_new_run(training: TrainingSettings) -> tuple[str, ...]:
    """Return notes on the run's data. Raises UserError for what would fail the ranks hours later."""
    from mri_hpc.cohort.commoner import commoner_lines
    from mri_hpc.cohort.lineage import check_lineage, check_weights_of_run
    from mri_hpc.cohort.mixed_patients import mixed_lines, refuse_mixed
    from mri_hpc.cohort.splits import UNUSED, apart_line, split_by, split_lines
    from mri_hpc.results.statistics.patient_model import patient_model
    from mri_hpc.training.model_names import check_model_name

    snapshot = snapshot_of(training)
    _refuse_other_of_list(training)
    if training.follow:
        _refuse_too_little(training, snapshot)
    if len(snapshot.classes) == 1:
        name = f"{shown(Path(training.store))} holds one class only ({snapshot.classes[0]})"
        raise UserError(f"{name}: a classifier needs two")
    code = split_by(snapshot, training)
    check_model_name(training.model)
    patient_model(training.patient_label, snapshot.classes)
    if training.patient_label == "auto":
        refuse_mixed(snapshot, code)
    lineage = check_lineage(training, snapshot, code) if training.continue_from else []
    if training.weights:
        # Weights are read with torch, which takes seconds and 0.6 GB.
        from mri_hpc.training.model import check_weights

        check_weights(training, len(snapshot.classes), snapshot.image_shape)
        lineage = check_weights_of_run(training, snapshot, code)
    leaks = _leak_notes(training, snapshot, code)
    mixed = mixed_lines(snapshot, code, training.patient_label)
    _refuse_who_chose_before(training, snapshot, code)
    share = training.calibration_share
    apart = apart_line(snapshot, code, share) if share else []
    commoner = commoner_lines(snapshot, code != UNUSED)
    return (*lineage, *leaks, *split_lines(snapshot, code, training.train_share), *apart, *mixed, *commoner)


def _refuse_other_of_list(training: TrainingSettings) -> None:
    """Raise UserError where a run cannot go on from one snapshot of its list to the next."""
    from mri_hpc.cohort.newer import refuse_other
    from mri_hpc.cohort.splits import split_by
    from mri_hpc.storage.store import Store

    if not is_list(training.snapshot):
        return
    store = Store.open(Path(training.store))
    there = [(epoch, store.resolve(digest)) for epoch, digest in listed(training.snapshot).items()]
    for (_, now), (epoch, newer) in itertools.pairwise(there):
        try:
            refuse_other(now, split_by(now, training), newer, split_by(newer, training))
        except UserError as error:
            later = as_list({epoch: newer.digest[:12]})
            raise UserError(f"--snapshot ...,{later} cannot follow {now.digest[:12]}: {error}") from None


def _refuse_too_little(training: TrainingSettings, snapshot: "Snapshot") -> None:
    """Raise UserError where a run that follows its store has too little to begin with."""
    import numpy as np

    from mri_hpc.cohort.splits import TRAIN, split_by

    code, classes = split_by(snapshot, training), snapshot.classes
    counts = np.bincount(np.asarray(snapshot.label)[code == TRAIN], minlength=len(classes))
    there = ", ".join(f"{name} {count}" for name, count in zip(classes, counts.tolist(), strict=True))
    if len(classes) < training.start_classes or counts.min() < training.start_images:
        raise UserError(
            f"{shown(Path(training.store))} has too little to begin with ({there} training images; "
            f"--start-classes {training.start_classes}, --start-images {training.start_images} of each): "
            "launch again when more has come"
        )


def nothing_new(plan: Plan) -> str:
    """Say why a run that follows its store, and has learnt what that holds, is not launched; else empty.

    It would hold nodes for nothing.
    """
    newest, training = plan.run.newest_attempt(), plan.training
    if plan.is_new or not training.follow or plan.run.is_finished or newest is None:
        return ""
    manifest = newest_manifest(plan.run)
    if manifest is None or not is_over(plan.run, newest.submission):
        return ""
    if not has_caught_up(read_events(plan.run), str(newest)):
        return ""
    if manifest.progress.epoch + training.whole_decay_epochs >= training.epochs:
        return f"only its last {training.whole_decay_epochs} epochs are left, which are for --no-follow"
    return "" if _holds_others(training, manifest.progress.snapshot) else "the store holds nothing new"


def _holds_others(training: TrainingSettings, digest: str) -> bool:
    """Tell whether the store of a run holds other images than one of its snapshots."""
    from mri_hpc.storage.store import Store

    store = Store.open(Path(training.store))
    return store.resolve().content_digest != store.recall(digest).content_digest


def lines_on_following(plan: Plan, *, is_live: bool = False) -> list[str]:
    """Return a line on a run that takes up no newer snapshots any more, or is told so while it works.

    None where it was told to finish, and that is all there is to say: nothing newer is there, nor asked for.
    """
    if plan.is_new or plan.training.snapshot != FOLLOW:
        return []
    events = read_events(plan.run)
    reason = why_followed(events)
    if not reason:
        if not is_live or plan.training.follow:
            return []
        return ["  told    it takes the newest images at the start of an epoch, and finishes"]
    if reason == NO_MORE and not plan.training.follow and not _is_left_behind(plan.training, events):
        return []
    if plan.run.is_finished:
        return [f"  followed no more: {reason}; newer images take a new run"]
    return [f"  follows no more: {reason}; it finishes on what it has, and newer images take a new run"]


def _is_left_behind(training: TrainingSettings, events: Sequence[Event]) -> bool:
    """Tell whether the store holds other images than the last snapshot that a run has taken up."""
    adoptions = adoptions_of(events)
    try:
        return bool(adoptions) and _holds_others(training, adoptions[max(adoptions)].snapshot)
    except (OSError, UserError):
        # Only a hint is lost: where the run needs its store, its ranks say what is wrong with that.
        return False


def _leak_notes(training: TrainingSettings, snapshot: "Snapshot", code: "np.ndarray") -> list[str]:
    """Return a note on leaks that are allowed; UserError where an audit has found some that are not.

    Where no audit has seen the snapshot, the run's job does before its first step.
    """
    from mri_hpc.cohort.kept_twins import kept_twins, leak_text, leaking
    from mri_hpc.storage.store import Store

    found = leaking(kept_twins(Store(Path(training.store)), snapshot) or [], code)
    if not found:
        return []
    text = leak_text(snapshot, found)
    if training.allow_leaks:
        return [f"warning: {text}: its figures will be too good"]
    store = shown(Path(training.store))
    raise UserError(
        f"{text}: its figures would be too good; see them with mri-hpc store audit {store}, or accept that: "
        "--allow-leaks"
    )


def snapshot_of(training: TrainingSettings) -> "Snapshot":
    """Open the snapshot that settings name. Raises UserError."""
    # Reading a store pulls in numpy and h5py: not for --help.
    from mri_hpc.storage.store import Store

    first = listed(training.snapshot)[0]
    return Store.open(Path(training.store)).resolve("newest" if first == FOLLOW else first)


def refuse_other_folder(path: Path) -> None:
    """Raise UserError where the folder of a new run holds something else."""
    if path.is_dir():
        others = [entry.name for entry in path.iterdir() if entry.name not in BEFORE_SETTINGS]
        if others:
            raise UserError(f"{path} holds other things ({min(others)}, ...): choose a new folder for --run")
    elif path.exists():
        raise UserError(f"{path} is a file: choose a new folder for --run")
