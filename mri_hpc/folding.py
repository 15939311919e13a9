"""The plans of `launch --folds`: one ordinary run for each fold, in a folder of their own."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mri_hpc.base.errors import UserError
from mri_hpc.cluster.launching import Plan
from mri_hpc.planning import RunSettings, plan_of, refuse_other_folder, settled_training, snapshot_of
from mri_hpc.rundir.folds import is_of_folds, read_folds, run_of
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.settings import TrainingSettings

BY_LABELS = 0
"""In place of a number of folds: those that the labels name."""


@dataclass(frozen=True, kw_only=True)
class Folds:
    """Runs of all folds, as they would be submitted now."""

    folder: Path
    folds: tuple[int, ...]
    plans: tuple[Plan, ...]
    """One a fold, in their order."""


def plan_folds(
    asked: RunSettings, num: int | None, *, path: Path | None, over_saved: Callable[[RunDir], RunSettings]
) -> Folds:
    """Plan a run of each fold. UserError where they cannot be, or are others than the folder's.

    num: folds to deal patients into; BY_LABELS: those that the labels name; None: as the folder has them.
    path: folder of the folds; by default runs/MODEL-folds-DIGITS. over_saved: as of `plan_of`.
    """
    if path is not None and RunDir(path).settings.is_file():
        raise UserError(f"{path} is one run, and --folds makes several: choose another --run")
    _refuse_other_splits(asked.training)
    if path is not None and not is_of_folds(path):
        refuse_other_folder(path)
    base = asked
    if num is not None and not (path and is_of_folds(path)):
        # Of no fold yet: its digest names the folder of all.
        base = dataclasses.replace(asked, training=settled_training(_tested_on(0, num, asked.training)))
        path = path or Path("runs") / _name(base.training)
    assert path is not None
    folder = path.absolute()
    folds = read_folds(folder) if is_of_folds(folder) else _folds_of(base.training, num or BY_LABELS)
    launched = [run for run in (run_of(folder, fold) for fold in folds) if run.settings.is_file()]
    plans = []
    for fold in folds:
        run = run_of(folder, fold)
        like = run if run.settings.is_file() else next(iter(launched), None)
        settings = over_saved(like) if like else base
        training = _tested_on(fold, settings.training.hash_folds if num is None else num, settings.training)
        plans.append(plan_of(dataclasses.replace(settings, training=training), path=run.path))
    return Folds(folder=folder, folds=folds, plans=tuple(plans))


def _tested_on(fold: int, num: int, training: TrainingSettings) -> TrainingSettings:
    """Return settings by which one fold is tested, and a hash takes validation from the others."""
    return dataclasses.replace(
        training, test_fold=fold, val_fold=None, from_train="validation", hash_folds=num
    )


def _refuse_other_splits(training: TrainingSettings) -> None:
    """Raise UserError where the command line says by itself who is tested."""
    if training.test_fold is not None or training.hash_folds or training.from_train in ("test", "both"):
        raise UserError(
            "--folds tests on each fold in turn, and takes validation from the others by a hash: leave "
            "--val-fold, --test-fold, --hash-folds and --from-train out"
        )


def _folds_of(training: TrainingSettings, num: int) -> tuple[int, ...]:
    """Return the folds there are; UserError where there are none, or the labels say otherwise."""
    from mri_hpc.cohort.splits import folds_named, splits_named

    if num < 2 and num != BY_LABELS:
        raise UserError(f"--folds must be at least 2, got {num}")
    snapshot = snapshot_of(training)
    named = folds_named(snapshot)
    if num == BY_LABELS and len(named) < 2:
        raise UserError(
            "the labels name no folds: say how many a hash is to deal the patients into, such as --folds 5"
        )
    if num != BY_LABELS and named:
        raise UserError(
            f"the labels name folds {', '.join(map(str, named))}: leave the number out after --folds"
        )
    if num != BY_LABELS and splits_named(snapshot):
        raise UserError(
            "the labels name splits, and a hash would train on those named for test: --folds takes folds "
            "from the labels (CSV column fold)"
        )
    return named if num == BY_LABELS else tuple(range(1, num + 1))


def _name(training: TrainingSettings) -> str:
    return f"{training.model}-folds-{training.identity_digest()[:8]}"
