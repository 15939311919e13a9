"""A replay: steps of a run are done again, by as many ranks, and nothing is written into the run."""

import logging
from collections.abc import Iterable
from pathlib import Path

from mri_hpc.base.errors import UserError
from mri_hpc.rundir.interval import Interval, read_record
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.manifests import read_manifest
from mri_hpc.rundir.progress import Progress
from mri_hpc.rundir.replay import Replayed
from mri_hpc.rundir.settings import TrainingSettings, load_training
from mri_hpc.storage.store import Store
from mri_hpc.training import checkpoint
from mri_hpc.training.agreed_stop import AgreedStop
from mri_hpc.training.batch_size import settle
from mri_hpc.training.conditions import changes, conditions, without_effect
from mri_hpc.training.evaluation import Answers
from mri_hpc.training.journal import StepDone, StepsUnderWay
from mri_hpc.training.learner import Learner
from mri_hpc.training.loop import train
from mri_hpc.training.model import weights_digest
from mri_hpc.training.parts import Cohort, make_batches, make_learner, open_cohort
from mri_hpc.training.ranks import Ranks
from mri_hpc.training.step_way import STEPS, way_of

ENDED = "END_OF_REPLAY"
"""Reason for which the ranks stop, in place of a signal."""

log = logging.getLogger(__name__)


def replay(interval: Interval, ranks: Ranks, stop: AgreedStop, *, threads: int) -> Replayed:
    """Do the steps of an interval again; return what came of it, which rank 0 alone knows.

    All is read from the run, nothing written there. Raises UserError, on all ranks, where the checkpoint or
    the batch size is gone, or the store lacks the images.
    """
    run = RunDir(Path(interval.run))
    settings = load_training(run)
    folder = run.checkpoints / str(interval.start)
    damage = ranks.from_rank(checkpoint.damage(folder) if ranks.is_first else None)
    manifest = read_manifest(folder)
    if damage or manifest is None:
        if not folder.exists():
            raise UserError(f"{folder} was removed meanwhile, as a run does that goes on: run it again")
        return Replayed(damage=damage)
    progress = read_record(run).progress_from(interval.start)
    cohort = open_cohort(settings, progress.snapshot, ranks)
    settings = _settled(run, settings, cohort, ranks, stop)
    with Store(Path(settings.store)).reader(cohort.snapshot) as reader:
        batches = make_batches(cohort, reader, settings, ranks)
        going_on = checkpoint.weights_file(run, interval.start)
        way = way_of(interval.conditions)
        learner = make_learner(cohort, batches, settings, ranks, going_on=going_on, way=way)
        learner.restore(checkpoint.load(run, interval.start), of=going_on)
        now = conditions(ranks, threads=threads, deterministic=settings.deterministic)
        now.update({"arithmetic": learner.arithmetic, STEPS: way.value})
        scribe = _Scribe(learner, interval, stop, steps_per_epoch=batches.steps_per_epoch)
        log.info("replays steps %d to %d: %s", interval.start + 1, interval.end, now)
        train(
            settings, progress, learner, batches,
            ranks=ranks, stop=stop, journal=scribe if ranks.is_first else None,
        )  # fmt: skip
    return Replayed(
        steps=scribe.done, validations=scribe.validations, samples=scribe.samples, weights=scribe.weights,
        changed=changes(interval.conditions, now, but=without_effect(settings.sums)),
    )  # fmt: skip


def _settled(
    run: RunDir, settings: TrainingSettings, cohort: Cohort, ranks: Ranks, stop: AgreedStop
) -> TrainingSettings:
    """Return the settings with the batch size that the run found; UserError where that is gone."""
    snapshot = cohort.snapshot
    return settle(
        run, settings, ranks,
        stop=stop, num_training_images=len(cohort.split.train), num_classes=len(snapshot.classes),
        image_shape=snapshot.image_shape, bits=snapshot.bits, has_begun=True,
    )  # fmt: skip


class _Scribe:
    """A witness that takes down what it is told of an interval, keeps nothing, and ends it."""

    def __init__(
        self, learner: Learner, interval: Interval, stop: AgreedStop, *, steps_per_epoch: int
    ) -> None:
        self._learner, self._interval, self._stop = learner, interval, stop
        self._steps_per_epoch = steps_per_epoch
        self.done: list[dict[str, float]] = []
        self.validations: dict[int, float] = {}
        self.samples: dict[int, str] = {}
        self.weights: dict[int, str] = {}

    def steps(self, steps: Iterable[StepDone]) -> None:
        for step in steps:
            norm = step.loss.gradient_norm()
            self.done.append(
                {
                    "step": step.progress.step, "images": step.num_images, "lr": step.loss.lr,
                    "loss": step.loss.value(), **({} if norm is None else {"gradient_norm": norm}),
                }
            )  # fmt: skip

    def save_if_due(self, progress: Progress, _steps: StepsUnderWay) -> None:
        if progress.step in self._interval.kept:
            self.samples[progress.step] = progress.samples_digest
            self.weights[progress.step] = weights_digest(self._learner.weights())
        # The validation after an epoch is done again as well.
        if progress.step_in_epoch < self._steps_per_epoch:
            self._end_after(progress)

    def epoch(self, before: Progress, answers: Answers, *, training_s: float, validation_s: float) -> None:
        self.validations[before.step] = answers.mean_loss

    def save_epoch(self, progress: Progress, before: Progress, answers: Answers, *, is_last: bool) -> None:
        self._end_after(progress)

    def save(self, progress: Progress, *, reason: str) -> bool:
        return True

    def stop_agreed(self, progress: Progress) -> None:
        pass

    def _end_after(self, progress: Progress) -> None:
        if progress.step >= self._interval.end:
            self._stop.request(ENDED)
