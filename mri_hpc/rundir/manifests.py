"""Which checkpoints of a run are complete, without opening their weights."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mri_hpc.base.sealed_json import CHECKSUM, seal, unseal
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.progress import Progress

MANIFEST = "manifest.json"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a complete checkpoint says about itself. Lies beside the state that it describes."""

    progress: Progress
    attempt: str
    """The attempt that wrote it, as ``submission.restart``."""
    written_s: float
    """Unix time."""
    weights_digest: str
    """sha256 over names, dtypes, shapes and bytes of the weights."""
    files: Mapping[str, str]
    """File name → sha256 of its bytes."""
    conditions: Mapping[str, Any]
    """What bit-equality rests on: ranks, threads a rank, device model, versions, collective algorithm."""

    def to_json(self) -> bytes:
        """The manifest as it lies on disk."""
        return seal(self.to_values())

    def to_values(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return {**asdict(self), "progress": _finite(self.progress.to_dict())}


@dataclass(frozen=True, kw_only=True)
class Unreadable:
    """A manifest that is there, and does not say what its checkpoint is."""

    reason: str
    is_of_another_version: bool = False
    """Whether it is whole, and its fields are not those of this version; else it is damaged."""


def open_manifest(checkpoint: Path) -> Manifest | Unreadable | None:
    """The manifest of a checkpoint folder, or why it cannot be read; None where there is none."""
    try:
        document = (checkpoint / MANIFEST).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        values = _unsealed(document)
    except ValueError:
        return Unreadable(reason=f"{MANIFEST}: its bytes are not those that were written")
    return _of_this_version(values) or Unreadable(
        reason=f"written by another version of mri_hpc{_version(values)}", is_of_another_version=True
    )


def read_manifest(checkpoint: Path) -> Manifest | None:
    """The manifest of a checkpoint folder; None where there is none, or none that can be read."""
    found = open_manifest(checkpoint)
    return found if isinstance(found, Manifest) else None


def checkpoint_folders(run: RunDir) -> list[Path]:
    """Folders of checkpoints by step, newest first, complete or not."""
    if not run.checkpoints.is_dir():
        return []
    named_by_step = [folder for folder in run.checkpoints.iterdir() if folder.name.isdigit()]
    return sorted(named_by_step, key=lambda folder: int(folder.name), reverse=True)


def newest_manifest(run: RunDir) -> Manifest | None:
    """The manifest of the newest complete checkpoint; None before the first."""
    manifests = map(read_manifest, checkpoint_folders(run))
    return next((manifest for manifest in manifests if manifest), None)


def _unsealed(document: bytes) -> dict[str, Any]:
    """The values of a manifest; ValueError where it is damaged."""
    values = json.loads(document)
    if not isinstance(values, dict):
        raise ValueError("it is no object")
    # Earlier versions wrote none.
    return unseal(document) if CHECKSUM in values else values


def _of_this_version(values: Mapping[str, Any]) -> Manifest | None:
    """The manifest of these values; None where fields are missing or unknown."""
    try:
        progress = values["progress"]
        stopping = progress["early_stopping"]
        best = math.inf if stopping["best_loss"] is None else stopping["best_loss"]
        whole = {**progress, "early_stopping": {**stopping, "best_loss": best}}
        manifest = Manifest(**{**values, "progress": Progress.from_dict(whole)})
    except (KeyError, TypeError):
        return None
    # A field of Progress that is missing would be its default, and the run another one from there.
    return manifest if manifest.to_values() == values else None


def _version(values: Mapping[str, Any]) -> str:
    """Which version wrote it, in brackets; empty where it does not say."""
    conditions = values.get("conditions")
    version = conditions.get("mri_hpc") if isinstance(conditions, dict) else None
    return f" ({version})" if version else ""


def _finite(progress: dict[str, Any]) -> dict[str, Any]:
    """JSON has no infinity: before the first validation the best loss is null."""
    stopping = progress["early_stopping"]
    best = stopping["best_loss"] if math.isfinite(stopping["best_loss"]) else None
    return {**progress, "early_stopping": {**stopping, "best_loss": best}}
