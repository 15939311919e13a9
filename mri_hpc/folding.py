"""The plans of `launch --folds` and `--learning-curve`: ordinary runs, one each, in a folder of their own."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mri_hpc.base.errors import UserError
from mri_hpc.cluster.launching import Plan
from mri_hpc.planning import RunSettings, plan_of, refuse_other_folder, settled_training, snapshot_of
from mri_hpc.rundir.folds import FOLDS, SHARES, Kind, is_of_folds, kind_of, read_folds, run_of
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.settings import TrainingSettings

BY_LABELS = 0
"""In place of a number of folds: those that the labels name."""
CURVE = (25, 50, 75, 100)
"""Shares of the training patients on a learning curve, in percent."""
APART = 0.5
"""Share of the validation patients who choose no epoch on a learning curve, so that its interval holds."""


@dataclass(frozen=True, kw_only=True)
class Folds:
    """Runs of all folds, or of all shares of the training patients, as they would be submitted now."""

    folder: Path
    kind: Kind
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
    _refuse_other_kind(path, FOLDS)
    _refuse_other_splits(asked.training)
    base = asked
    if num is not None and not (path and is_of_folds(path)):
        # Of no fold yet: its digest names the folder of all.
        base = dataclasses.replace(asked, training=_tested_on(0, num, asked.training))
        base = dataclasses.replace(base, training=settled_training(base))
        path = path or Path("runs") / _name(base.training, FOLDS.several)
    assert path is not None
    folder = path.absolute()
    folds = read_folds(folder) if is_of_folds(folder) else _folds_of(base.training, num or BY_LABELS)

    def of_fold(fold: int, training: TrainingSettings) -> TrainingSettings:
        return _tested_on(fold, training.hash_folds if num is None else num, training)

    return _plans(folder, FOLDS, folds, base, of_fold, over_saved)


def plan_curve(
    asked: RunSettings, *, path: Path | None, over_saved: Callable[[RunDir], RunSettings]
) -> Folds:
    """Plan a run of each share of the training patients. UserError where they cannot be.

    path: folder of the runs; by default runs/MODEL-curve-DIGITS. over_saved: as of `plan_of`.
    """
    _refuse_other_kind(path, SHARES)
    if asked.training.train_share != 1:
        raise UserError("--learning-curve trains on one share after the other: leave --train-share out")
    base = asked
    if not (path and is_of_folds(path)):
        share = asked.training.calibration_share or APART
        # The curve pools alike on all shares, by the mean: attention would be learnt for nothing.
        pooling = "mean" if asked.training.pooling == "auto" else asked.training.pooling
        training = dataclasses.replace(asked.training, calibration_share=share, pooling=pooling)
        base = dataclasses.replace(asked, training=training)
        base = dataclasses.replace(base, training=settled_training(base))
        path = path or Path("runs") / _name(base.training, "curve")
    folder = path.absolute()
    shares = read_folds(folder) if is_of_folds(folder) else CURVE
    return _plans(folder, SHARES, shares, base, _trained_on, over_saved)


def _plans(
    folder: Path,
    kind: Kind,
    numbers: tuple[int, ...],
    base: RunSettings,
    of_number: Callable[[int, TrainingSettings], TrainingSettings],
    over_saved: Callable[[RunDir], RunSettings],
) -> Folds:
    """Plan the run of each number. base: settings of a new one; of_number: what differs in each."""
    launched = [run for run in (run_of(folder, one, kind) for one in numbers) if run.settings.is_file()]
    plans = []
    for number in numbers:
        run = run_of(folder, number, kind)
        like = run if run.settings.is_file() else next(iter(launched), None)
        settings = over_saved(like) if like else base
        training = of_number(number, settings.training)
        plans.append(plan_of(dataclasses.replace(settings, training=training), path=run.path))
    return Folds(folder=folder, kind=kind, folds=numbers, plans=tuple(plans))


def _trained_on(percent: int, training: TrainingSettings) -> TrainingSettings:
    return dataclasses.replace(training, train_share=percent / 100)


def _refuse_other_kind(path: Path | None, kind: Kind) -> None:
    """Raise UserError where a folder is one run, of others than these, or holds something else."""
    if path is None:
        return
    if RunDir(path).settings.is_file():
        raise UserError(f"{path} is one run, and {kind.option} makes several: choose another --run")
    held = kind_of(path)
    if held is None:
        refuse_other_folder(path)
    elif held is not kind:
        raise UserError(f"{path} is of {held.option}: choose another --run for {kind.option}")


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


def _name(training: TrainingSettings, word: str) -> str:
    return f"{training.model}-{word}-{training.identity_digest()[:8]}"
