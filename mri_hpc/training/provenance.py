"""Provenance of a finished model, as plain values for JSON."""

import contextlib
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mri_hpc.base.errors import UserError
from mri_hpc.cohort.commoner import commoner_lines
from mri_hpc.cohort.kept_twins import kept_twins, num_trained_on
from mri_hpc.cohort.splits import Split
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.progress import Progress
from mri_hpc.rundir.provenance import read_provenance
from mri_hpc.rundir.settings import TrainingSettings
from mri_hpc.storage.store import Snapshot, Store
from mri_hpc.training.attention import GatedAttention
from mri_hpc.training.conditions import versions
from mri_hpc.training.model import start_path, weights_digest


def provenance(
    snapshot: Snapshot,
    split: Split,
    settings: TrainingSettings,
    progress: Progress,
    *,
    weights: Mapping[str, torch.Tensor],
    last_weights_digest: str,
    num_parameters: int,
    conditions: Mapping[str, Any],
    attention: GatedAttention | None = None,
    snapshots: str = "",
) -> dict[str, Any]:
    """Collect what provenance.json holds.

    weights: those of the model; snapshots: those that a run has followed, as its setting would name them.
    """
    used = np.concatenate([split.train, split.validation, split.calibration, split.test])
    twins = kept_twins(Store(Path(settings.store)), snapshot)
    commoner = commoner_lines(snapshot, used)
    return {
        "classes": list(snapshot.classes),
        "image_shape": list(snapshot.image_shape),
        **({} if snapshot.bits == 8 else {"bits": snapshot.bits}),
        "snapshot": snapshot.digest,
        **({"snapshots": snapshots} if snapshots else {}),
        "content_digest": snapshot.content_digest,
        # After the last step, so that it speaks for every step; the model's may be of an earlier epoch.
        "weights_digest": last_weights_digest,
        "model_digest": weights_digest(weights),
        **({"attention_digest": weights_digest(attention.state_dict())} if attention else {}),
        "samples_digest": progress.samples_digest,
        "initial_weights_digest": _initial_digest(settings),
        "continued_from": lineage(settings),
        "batch_size": settings.batch_size,
        "lr": settings.lr,
        # For people, who count from 1.
        "best_epoch": progress.early_stopping.best_epoch + 1,
        "model_epoch": progress.model_epoch(settings.published_epoch),
        "epochs": progress.epoch,
        "steps": progress.step,
        "num_parameters": num_parameters,
        "has_patients": bool((np.asarray(snapshot.patient) >= 0).any()),
        "images_without_patient": int((np.asarray(snapshot.patient)[used] < 0).sum()),
        "images_in_no_split": len(snapshot) - len(used),
        # None: nobody has looked for them.
        "test_images_trained_on": None if twins is None else num_trained_on(twins, split),
        **({"commoner_in_a_class": commoner} if commoner else {}),
        "split_counts": {
            name: _counts(snapshot, rows)
            for name, rows in vars(split).items()
            if len(rows) or name != "calibration"
        },
        "device": conditions["device"],
        "ranks": conditions["ranks"],
        "conditions": dict(conditions),
        "versions": versions(),
    }


def _counts(snapshot: Snapshot, rows: np.ndarray) -> dict[str, Any]:
    """Count images and patients of a split, and of each class in it."""
    label, patient = np.asarray(snapshot.label)[rows], np.asarray(snapshot.patient)[rows]
    of_class = {
        name: _images_and_patients(patient[label == code]) for code, name in enumerate(snapshot.classes)
    }
    return {**_images_and_patients(patient), "classes": of_class}


def _images_and_patients(patient: np.ndarray) -> dict[str, int]:
    return {"images": len(patient), "patients": len(np.unique(patient[patient >= 0]))}


def lineage(settings: TrainingSettings) -> list[dict[str, str]]:
    """List the runs that this one goes on from, the nearest first: path, model digest and snapshot of each.

    Of a run that is gone by now the path is known, and nothing more.
    """
    if not settings.continue_from:
        return []
    parent = RunDir(Path(settings.continue_from))
    values: Mapping[str, Any] = {}
    with contextlib.suppress(OSError, UserError):
        values = read_provenance(parent)
    digests = {name: str(values.get(name, "")) for name in ("model_digest", "snapshot")}
    return [{"run": str(parent.path), **digests}, *values.get("continued_from", [])]


def _initial_digest(settings: TrainingSettings) -> str:
    """Compute the sha256 of the file of initial weights; empty where there is none, or none any more."""
    try:
        path = start_path(settings)
        if path is None:
            return ""
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, UserError):
        # The run has started from it long ago, and must not fail at its end.
        return ""
