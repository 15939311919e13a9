"""Which checkpoints of a run are complete, without opening their weights."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

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
        values = {**asdict(self), "progress": _finite(self.progress.to_dict())}
        return json.dumps(values, indent=1, allow_nan=False).encode()


def read_manifest(checkpoint: Path) -> Manifest | None:
    """The manifest of a checkpoint folder; None where the checkpoint is not complete."""
    try:
        values = json.loads((checkpoint / MANIFEST).read_text(encoding="utf-8"))
        stopping = values["progress"]["early_stopping"]
        if stopping["best_loss"] is None:
            stopping["best_loss"] = math.inf
        return Manifest(**{**values, "progress": Progress.from_dict(values["progress"])})
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError, UnicodeDecodeError):
        return None
    except (KeyError, TypeError):
        # A document, but not one of ours.
        return None


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


def _finite(progress: dict[str, Any]) -> dict[str, Any]:
    """JSON has no infinity: before the first validation the best loss is null."""
    stopping = progress["early_stopping"]
    best = stopping["best_loss"] if math.isfinite(stopping["best_loss"]) else None
    return {**progress, "early_stopping": {**stopping, "best_loss": best}}
