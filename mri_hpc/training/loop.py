"""The training loop."""

import math
import time

from mri_hpc.loading.batches import Batches
from mri_hpc.rundir.progress import Progress
from mri_hpc.rundir.settings import TrainingSettings
from mri_hpc.training.agreed_stop import AgreedStop
from mri_hpc.training.deadline import Way
from mri_hpc.training.evaluation import answer
from mri_hpc.training.following import Following
from mri_hpc.training.journal import StepsUnderWay, diverged
from mri_hpc.training.learner import Learner
from mri_hpc.training.ranks import Ranks
from mri_hpc.training.witness import Witness


def train(
    settings: TrainingSettings,
    progress: Progress,
    learner: Learner,
    batches: Batches,
    *,
    ranks: Ranks,
    stop: AgreedStop,
    journal: Witness | None,
    following: Following | None = None,
) -> Progress:
    """Train until the run is over or the ranks agree to stop; returns how far it got.

    journal: on rank 0, which writes. following: of a run whose snapshot changes: where nothing new is to be
    learnt, training ends as well. Raises UserError on all ranks where a loss is no number, or what would
    be saved holds one that is not finite.
    """
    steps = StepsUnderWay(is_late=ranks.device.type == "cuda")
    ends = settings.epochs, settings.patience, settings.whole_decay_epochs
    while not progress.is_over(*ends):
        if following:
            progress = following.at_epoch_start(progress)
            if following.has_caught_up:
                if journal and journal.save(progress, reason="caught up"):
                    following.note_caught_up(progress)
                return progress
        # Ranks that stop amid the audit of newer images have not decided yet that none come before the end.
        progress = progress if stop.agreed else progress.with_decay(*ends)
        began = time.monotonic()
        progress = _take_steps(progress, learner, batches, steps, stop, journal)
        trained = time.monotonic()
        if not stop.agreed:
            learner.copy_statistics_from_first()
            answers = answer(learner, batches, "validation", stop=stop, ranks=ranks)
        is_saved = not stop.agreed or stop.agreed.way != Way.RELY
        if is_saved and ranks.largest(int(not learner.is_finite())):
            raise diverged(f"weights, or the optimizer's state, are not finite after step {progress.step}")
        if stop.agreed:
            if journal:
                journal.stop_agreed(progress)
            if journal and is_saved:
                journal.save(progress, reason="stop")
            return progress
        validation_loss = ranks.from_rank(answers.mean_loss if answers else None)
        if not math.isfinite(validation_loss):
            raise diverged(f"the validation loss of epoch {progress.epoch + 1} is {validation_loss}")
        before, progress = progress, progress.after_epoch(validation_loss, settings.min_improvement)
        if journal and answers:
            validation_s = time.monotonic() - trained
            journal.epoch(before, answers, training_s=trained - began, validation_s=validation_s)
            journal.save_epoch(progress, before, answers, is_last=progress.is_over(*ends))
    return progress


def _take_steps(
    progress: Progress,
    learner: Learner,
    batches: Batches,
    steps: StepsUnderWay,
    stop: AgreedStop,
    journal: Witness | None,
) -> Progress:
    """Train on what is left of the epoch, or until the ranks agree to stop; return how far it got."""
    steps.start()
    for batch in stop.watch(batches.training(progress), phase="training"):
        loss = learner.train_step(batch, progress, gives_up=stop.gives_up_step)
        if loss is None:
            break
        progress = progress.after_step(batch.step_keys)
        done = steps.add(progress, loss, num_images=len(batch.step_keys))
        if journal:
            journal.steps(done)
            journal.save_if_due(progress, steps)
    done = steps.rest()
    if journal:
        journal.steps(done)
    return progress
