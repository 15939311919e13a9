"""Checkpoints: published whole by rank 0, checked before they are loaded, few kept."""

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch

from mri_hpc.base.atomic import TEMP_PREFIX, remove_folder, replace_folder
from mri_hpc.rundir.layout import Attempt, RunDir
from mri_hpc.rundir.manifests import (
    MANIFEST,
    Manifest,
    Unreadable,
    checkpoint_folders,
    open_manifest,
    read_manifest,
)
from mri_hpc.rundir.progress import Progress
from mri_hpc.training.model import weights_digest
from mri_hpc.training.state import TrainingState
from mri_hpc.training.state_files import go_on, write_state, write_weights

WEIGHTS = "model.safetensors"
OPTIMIZER = "optimizer.pt"


@dataclass(frozen=True, kw_only=True)
class Saved:
    """A checkpoint as it lies on disk."""

    manifest: Manifest
    num_bytes: int


def save(
    run: RunDir,
    attempt: Attempt,
    state: TrainingState,
    *,
    before_piece: Callable[[], None] = go_on,
    before_publishing: Callable[[], None] = go_on,
) -> Saved | None:
    """Publish the checkpoint of a state; None where a newer attempt owns the run and nothing was written.

    Raises OSError where it cannot be written, as on a full disk: those before stay as they are. What the two
    that are called on the way raise ends it likewise.

    A newer attempt, as it begins, removes the folder that this one is filling, and this one looks for a newer
    attempt once that folder is there: one of the two sees the other, however long a rank stood still.

    One of the same step and progress that is there and intact stays. One of other progress is replaced: that
    of the last step of an epoch, before the epoch was validated.
    """
    if is_superseded(run, attempt):
        return None
    folder = run.checkpoints / str(state.progress.step)
    there = read_manifest(folder)
    if there and there.progress == state.progress and not damage(folder):
        before_publishing()
        manifest = there
    else:
        try:
            manifest = _publish(run, attempt, state.on_processor(), before_piece, before_publishing)
        except OSError:
            if is_superseded(run, attempt):
                return None
            raise
    num_bytes = sum(file.stat().st_size for file in folder.iterdir())
    return Saved(manifest=manifest, num_bytes=num_bytes)


def load(run: RunDir, step: int) -> TrainingState:
    """Read the state after this step, on the processor."""
    folder = run.checkpoints / str(step)
    manifest = read_manifest(folder)
    assert manifest, f"{folder} is not complete"
    return TrainingState(
        weights=load_weights(run, step),
        # weights_only: no pickle that could run anything.
        rest=torch.load(folder / OPTIMIZER, map_location="cpu", weights_only=True),
        progress=manifest.progress,
        conditions=manifest.conditions,
    )


def load_weights(run: RunDir, step: int) -> dict[str, torch.Tensor]:
    """Read the weights after this step, on the processor."""
    return safetensors.torch.load_file(weights_file(run, step))


def weights_file(run: RunDir, step: int) -> Path:
    """Name the file in which the checkpoint of this step keeps its weights."""
    return run.checkpoints / str(step) / WEIGHTS


def published(run: RunDir) -> Iterator[tuple[Path, Manifest | Unreadable]]:
    """Yield checkpoints that have a manifest, newest first; that, or their files, may be damaged."""
    for folder in checkpoint_folders(run):
        if manifest := open_manifest(folder):
            yield folder, manifest


def damage(folder: Path) -> str:
    """Find damage of a checkpoint, and say what it is; empty where its files are as they were written."""
    manifest = open_manifest(folder)
    if manifest is None:
        return "it is not there, or has no manifest"
    if isinstance(manifest, Unreadable):
        return manifest.reason
    for name, digest in manifest.files.items():
        try:
            found = _file_digest(folder / name)
        except OSError as error:
            return f"{name}: {error.strerror}"
        if found != digest:
            return f"{name}: its bytes are not those that were written"
    return ""


def is_superseded(run: RunDir, attempt: Attempt) -> bool:
    """Tell whether a newer attempt owns the run: then this one may not write any more."""
    newest = run.newest_attempt()
    return newest is not None and newest > attempt


def prune(run: RunDir, attempt: Attempt, *, progress: Progress, keep: int) -> None:
    """Keep the newest checkpoints and that of the best epoch; all of them where a newer attempt owns the run.

    Those beyond the present step go: the run resumed before them because they are damaged. One whose manifest
    cannot be read stays, since it may hold more than is known, and does not count.
    """
    folders = [f for f in checkpoint_folders(run) if not isinstance(open_manifest(f), Unreadable)]
    past = [folder for folder in folders if int(folder.name) <= progress.step]
    kept = {*past[:keep], run.checkpoints / str(progress.early_stopping.best_step)}
    # After listing them: those of a newer attempt can be among them only if it shows by now.
    if is_superseded(run, attempt):
        return
    for folder in folders:
        if folder not in kept:
            remove_folder(folder)


def sweep(run: RunDir) -> None:
    """Remove what attempts left behind that were killed while they wrote."""
    if run.checkpoints.is_dir():
        for litter in run.checkpoints.glob(f"{TEMP_PREFIX}*"):
            remove_folder(litter)


def _publish(
    run: RunDir,
    attempt: Attempt,
    state: TrainingState,
    before_piece: Callable[[], None],
    before_publishing: Callable[[], None],
) -> Manifest:
    """Write and publish the folder. Raises OSError also where a newer attempt owns the run."""
    folder = run.checkpoints / str(state.progress.step)

    def fill(temp: Path) -> None:
        files = {
            WEIGHTS: write_weights(temp / WEIGHTS, state.weights, before_piece=before_piece),
            OPTIMIZER: write_state(temp / OPTIMIZER, state.rest, before_piece=before_piece),
        }
        manifest = Manifest(
            progress=state.progress,
            attempt=str(attempt),
            written_s=round(time.time(), 3),
            weights_digest=weights_digest(state.weights),
            files=files,
            conditions=state.conditions,
        )
        (temp / MANIFEST).write_bytes(manifest.to_json())
        if is_superseded(run, attempt):
            raise OSError(f"{folder}: a newer attempt owns the run")

    folder.parent.mkdir(exist_ok=True)
    replace_folder(folder, fill, check=before_publishing)
    manifest = read_manifest(folder)
    assert manifest, f"{folder} was published without its manifest"
    return manifest


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
