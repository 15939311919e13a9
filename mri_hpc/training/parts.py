"""The parts of a training, made of a run's settings: its images, its batches and its learner."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mri_hpc.cohort.splits import Split, rows_of, set_apart, split_by
from mri_hpc.loading.batches import Batches
from mri_hpc.rundir.settings import TrainingSettings
from mri_hpc.storage.store import Reader, Snapshot, Store
from mri_hpc.training.class_weights import class_weights
from mri_hpc.training.learner import Learner
from mri_hpc.training.model import build
from mri_hpc.training.ranks import Ranks
from mri_hpc.training.step_way import StepWay


@dataclass(frozen=True, kw_only=True)
class Cohort:
    """The images of a run, and what each is for."""

    snapshot: Snapshot
    code: np.ndarray
    """int8, (n,): the split of every image; of validation, whoever chooses nothing, too."""
    split: Split


def open_cohort(settings: TrainingSettings, wanted: str, ranks: Ranks) -> Cohort:
    """Open a snapshot of the run's store, by its digest or as the newest, and its splits."""
    store = Store.open(Path(settings.store))
    if wanted == "newest":
        # It must mean the same to all.
        wanted = ranks.from_rank(store.resolve().digest if ranks.is_first else None)
    return cohort_of(settings, store.resolve(wanted))


def cohort_of(settings: TrainingSettings, snapshot: Snapshot) -> Cohort:
    """Return the images of a snapshot, and what each is for. Raises UserError where a split is empty."""
    code = split_by(snapshot, settings)
    apart = set_apart(snapshot, code, settings.calibration_share)
    return Cohort(snapshot=snapshot, code=code, split=rows_of(apart))


def make_batches(cohort: Cohort, reader: Reader, settings: TrainingSettings, ranks: Ranks) -> Batches:
    """Make the batches of one rank. settings: with a number for the batch size."""
    assert settings.batch_size != "auto"
    return Batches(
        reader,
        keys=cohort.snapshot.key,
        labels=cohort.snapshot.label,
        split=cohort.split,
        batch_size=settings.batch_size,
        seed=settings.seed,
        rank=ranks.rank,
        world_size=ranks.world_size,
        device=ranks.device,
        accumulate=settings.accumulate,
        micro_batches=settings.micro_batches,
    )


def make_learner(
    cohort: Cohort,
    batches: Batches,
    settings: TrainingSettings,
    ranks: Ranks,
    *,
    going_on: Path | None = None,
    way: StepWay = StepWay.PLAIN,
) -> Learner:
    """Make the learner of a run at step 0. going_on: weights that the run has saved, to be restored next."""
    snapshot = cohort.snapshot
    return Learner(
        build(settings, len(snapshot.classes), snapshot.image_shape, going_on=going_on),
        settings,
        ranks,
        weights_of_classes=weights_of_classes(cohort, settings),
        steps_per_epoch=batches.steps_per_epoch,
        way=way,
    )


def weights_of_classes(cohort: Cohort, settings: TrainingSettings) -> np.ndarray:
    """Return each class's weight in the loss, by the training images: float32, (classes,); UserError."""
    labels = np.asarray(cohort.snapshot.label)[cohort.split.train]
    return class_weights(labels, cohort.snapshot.classes, settings.class_weights)
