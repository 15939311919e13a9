"""Checkpoints that an attempt takes up: the newest intact one, and that of the epoch which is published."""

import logging

from mri_hpc.base.errors import UserError
from mri_hpc.rundir.layout import Attempt, RunDir
from mri_hpc.rundir.ledger import Kind, record
from mri_hpc.rundir.manifests import Manifest, Unreadable
from mri_hpc.training import checkpoint
from mri_hpc.training.learner import Learner
from mri_hpc.training.ranks import Ranks

log = logging.getLogger(__name__)


def newest_intact(run: RunDir, attempt: Attempt, ranks: Ranks) -> Manifest | None:
    """Find the newest checkpoint whose files are as they were written; the same for all ranks.

    Raises UserError on all of them where another version wrote it.
    """
    found = ranks.from_rank(_look_for_one(run, attempt) if ranks.is_first else None)
    if isinstance(found, UserError):
        raise found
    return found


def _look_for_one(run: RunDir, attempt: Attempt) -> Manifest | UserError | None:
    if checkpoint.is_superseded(run, attempt):
        return None
    checkpoint.sweep(run)
    for folder, manifest in checkpoint.published(run):
        if isinstance(manifest, Unreadable) and manifest.is_of_another_version:
            return UserError(f"{folder}: {manifest.reason}: use that version, or start a new run")
        reason = checkpoint.damage(folder)
        if isinstance(manifest, Manifest) and not reason:
            return manifest
        log.warning("checkpoint %s is damaged (%s): passed over", folder, reason)
        record(run, attempt, Kind.DAMAGED, checkpoint=folder.name, reason=reason)
    return None


def load_published(run: RunDir, learner: Learner, step: int, ranks: Ranks) -> None:
    """Take the weights that are the model. step: from Progress.model_step."""
    # Rank 0 has written it, so the others wait for its word before they look.
    refusal = ranks.from_rank(_refusal(run, step) if ranks.is_first else None)
    if refusal:
        raise refusal
    weights = checkpoint.load_weights(run, step)
    learner.load_weights(weights, of=checkpoint.weights_file(run, step))


def _refusal(run: RunDir, step: int) -> UserError | None:
    """Advise what to do where the checkpoint of the model cannot be read; None where it can."""
    folder = run.checkpoints / str(step)
    reason = checkpoint.damage(folder)
    if not reason:
        return None
    # Most often none: the newest are kept, and the best is older.
    older = (found for found, _ in checkpoint.published(run) if int(found.name) < step)
    before = next((found for found in older if not checkpoint.damage(found)), None)
    start = f"step {before.name}" if before else "the start"
    return UserError(
        f"the model's checkpoint {folder} cannot be read ({reason}): restore it from a backup; or "
        f"remove it and those after it and launch again, to train from {start} on"
    )
