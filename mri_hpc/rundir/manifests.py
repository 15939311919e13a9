"""Manifests of checkpoints: they show which are complete, without opening weights."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from mri_hpc.base.documents import convert, parse, with_format, without_format
from mri_hpc.base.errors import UserError
from mri_hpc.base.sealed_json import CHECKSUM, seal, unseal
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.progress import SINCE_0_1_0, EarlyStopping, Progress

FORMAT = 1
MANIFEST = "manifest.json"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Description of a complete checkpoint. Lies beside the state that it describes."""

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
    """Conditions of bit-equality: ranks, threads a rank, device model, versions, collective algorithm."""

    def to_json(self) -> bytes:
        """Return the manifest as it lies on disk."""
        return seal(with_format(FORMAT, self.to_values()))

    def to_values(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**asdict(self), "progress": _finite(self.progress.to_dict())}


@dataclass(frozen=True, kw_only=True)
class Unreadable:
    """A manifest that is there and cannot be used."""

    reason: str
    is_of_another_version: bool = False
    """True for one that is whole, and lacks parts or has a newer format; a damaged one has False."""


def open_manifest(checkpoint: Path) -> Manifest | Unreadable | None:
    """Open the manifest of a checkpoint folder, or the reason why not; None where there is none."""
    values = _open_values(checkpoint)
    if values is None or isinstance(values, Unreadable):
        return values
    try:
        return convert(values, Manifest)
    except ValueError:
        return _of_another_version(values)


def _open_values(checkpoint: Path) -> dict[str, Any] | Unreadable | None:
    """Open the values of a manifest that has every part, or the reason why not; None without one."""
    try:
        document = (checkpoint / MANIFEST).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        values = _unsealed(document)
    except ValueError:
        return Unreadable(reason=f"{MANIFEST}: its bytes are not those that were written")
    try:
        return _of_this_version(without_format(values, of=Path(MANIFEST), reads=FORMAT))
    except UserError as error:
        # What to do about it, the ranks say.
        return Unreadable(reason=str(error).partition(":")[0], is_of_another_version=True)
    except (ValueError, KeyError, TypeError):
        return _of_another_version(values)


def _of_another_version(values: Mapping[str, Any]) -> Unreadable:
    return Unreadable(
        reason=f"written by another version of mri_hpc{_version(values)}", is_of_another_version=True
    )


def read_manifest(checkpoint: Path) -> Manifest | None:
    """Read the manifest of a checkpoint folder; None where there is none, or none that can be read."""
    found = open_manifest(checkpoint)
    return found if isinstance(found, Manifest) else None


def checkpoint_folders(run: RunDir) -> list[Path]:
    """List the folders of checkpoints by step, newest first, complete or not."""
    if not run.checkpoints.is_dir():
        return []
    named_by_step = [folder for folder in run.checkpoints.iterdir() if folder.name.isdigit()]
    return sorted(named_by_step, key=lambda folder: int(folder.name), reverse=True)


def newest_manifest(run: RunDir) -> Manifest | None:
    """Read the manifest of the newest complete checkpoint; None before the first."""
    manifests = map(read_manifest, checkpoint_folders(run))
    return next((manifest for manifest in manifests if manifest), None)


def newest_step(run: RunDir) -> int:
    """Read the step of the newest complete checkpoint; 0 before the first.

    Fast, as deciding on the end of a job has to be: without the library that makes objects of manifests.
    """
    opened = map(_open_values, checkpoint_folders(run))
    return next((values["progress"]["step"] for values in opened if isinstance(values, dict)), 0)


def _unsealed(document: bytes) -> dict[str, Any]:
    """Return the values of a manifest; ValueError where it is damaged."""
    values = parse(document)
    # Earlier versions wrote none.
    return unseal(document) if CHECKSUM in values else values


def _of_this_version(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values, with a number as best loss; ValueError, KeyError or TypeError without all parts."""
    progress = values["progress"]
    stopping = progress["early_stopping"]
    # A default in place of one would make another run of it from there.
    if _parts(Progress) - {*progress} or _parts(EarlyStopping) - {*stopping}:
        raise ValueError("a part of the progress is missing")
    if type(progress["step"]) is not int:
        raise ValueError(f"step is {progress['step']!r}")
    best = math.inf if stopping["best_loss"] is None else stopping["best_loss"]
    whole = {**progress, "early_stopping": {**stopping, "best_loss": best}}
    return {**values, "progress": whole}


def _parts(kind: type[Progress | EarlyStopping]) -> set[str]:
    """Return what every checkpoint has of it."""
    return {f.name for f in fields(kind) if f.metadata != SINCE_0_1_0}


def _version(values: Mapping[str, Any]) -> str:
    """Return the version that wrote it, in brackets; empty where there is none in it."""
    conditions = values.get("conditions")
    version = conditions.get("mri_hpc") if isinstance(conditions, dict) else None
    return f" ({version})" if version else ""


def _finite(progress: dict[str, Any]) -> dict[str, Any]:
    """Replace an infinite best loss, as before the first validation, by None: JSON has no infinity."""
    stopping = progress["early_stopping"]
    best = stopping["best_loss"] if math.isfinite(stopping["best_loss"]) else None
    return {**progress, "early_stopping": {**stopping, "best_loss": best}}
