"""Volumes of a patient as NIfTI files: what is stored, in its place in the patient."""

import gzip
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mri_hpc.base.atomic import publish_new_bytes
from mri_hpc.base.errors import UserError
from mri_hpc.intake.labels.label import PLANES
from mri_hpc.intake.labels.pseudonyms import key_path
from mri_hpc.storage.store import Snapshot, Store, StoredVolume
from mri_hpc.store_actions.made import note_made

ENDS = (".nii.gz", ".nii")
COMPRESSION = 6


@dataclass(frozen=True, kw_only=True)
class VolumeFile:
    """A file that was written."""

    file: str
    plane: str
    study: str
    """Name in the store; empty where unknown."""
    slices: int
    """Slices in the file."""
    black: int
    """Slices among them that are not stored, and black in the file."""
    side: str
    """known or unknown."""


def write_volumes(store: Store, patient: str, out: Path, *, with_face: bool) -> list[VolumeFile]:
    """Write the volumes of a patient, one a file, for the owner alone; UserError where that may not be.

    patient: name in the store, or the id as in the labels.
    """
    end = next((end for end in ENDS if out.name.endswith(end) and out.name != end), None)
    if end is None:
        raise UserError(f"{out} is to be a NIfTI file: give it a name that ends with .nii.gz or .nii")
    if not out.parent.is_dir():
        raise UserError(f"{out.parent} is no folder: make it, or name another file")
    snapshot = store.current()
    rows = _rows_of(store, snapshot, patient)
    volumes = list(store.volumes_of(snapshot, rows))
    if not volumes:
        raise UserError(_why_none(store, snapshot, rows, patient))
    if not with_face:
        raise UserError(
            "a head shows a face, and nothing here tells one that does not (a brain cut out, thick slices): "
            "where whoever will see the file may see it, type --with-face"
        )
    paths = [out] if len(volumes) == 1 else [_numbered(out, end, n + 1) for n in range(len(volumes))]
    if there := next((path for path in paths if path.exists()), None):
        raise UserError(f"{there} is there already: remove it, or name another file")
    files = []
    for volume, path in zip(volumes, paths, strict=True):
        files.append(_write(volume, path, snapshot))
        keys = snapshot.key[rows].tolist()
        note_made(store, path, "store export --nifti", snapshot=snapshot.digest, keys=keys)
    return files


def _rows_of(store: Store, snapshot: Snapshot, patient: str) -> np.ndarray:
    name = snapshot.persons.name(store.name_of(patient, key_path(os.environ)))
    rows = np.flatnonzero(snapshot.is_of(np.array([name.encode()])))
    if not len(rows):
        raise UserError(
            f"{store.path} has no image of a patient {patient!r}: give the id as in the labels, or the name "
            "that mri-hpc store sheet prints"
        )
    return rows


def _why_none(store: Store, snapshot: Snapshot, rows: np.ndarray, patient: str) -> str:
    if not np.isfinite(snapshot.position[rows]).any():
        return (
            f"{store.path} has no volume of {patient}: its {len(rows)} images are pictures, of no place in mm"
        )
    return (
        f"the slices of {patient} were stored by a version that did not note where their pixels lie: "
        "preprocess them into a new --store"
    )


def _numbered(out: Path, end: str, number: int) -> Path:
    return out.with_name(f"{out.name.removesuffix(end)}-{number}{end}")


def _write(volume: StoredVolume, path: Path, snapshot: Snapshot) -> VolumeFile:
    from mri_hpc.intake.decoding.volumes.headers import nifti_bytes

    height, width = snapshot.image_shape
    data = nifti_bytes(
        volume.voxels,
        volume.affine,
        is_side_known=volume.is_side_known,
        description=f"mri_hpc: as stored, {width}x{height}, window {volume.low:g} to {volume.high:g}, "
        f"{snapshot.bits} bits",
    )
    if path.name.endswith(".gz"):
        # Neither a name nor a time.
        data = gzip.compress(data, COMPRESSION, mtime=0)
    if not publish_new_bytes(path, data, is_private=True):
        raise UserError(f"{path} is there already: remove it, or name another file")
    return VolumeFile(
        file=str(path),
        plane=PLANES[volume.plane],
        study=volume.study,
        slices=volume.voxels.shape[2],
        black=volume.voxels.shape[2] - volume.num_stored,
        side="known" if volume.is_side_known else "unknown",
    )


def lines(files: Sequence[VolumeFile]) -> list[str]:
    """Say what was written, a line a file."""
    return [
        f"{one.file}: {one.slices} {one.plane} slices as stored"
        + (f", {one.black} of them not stored and black" if one.black else "")
        + (f", study {one.study}" if one.study else "")
        + ("" if one.side == "known" else "; side unknown: left and right are not told")
        for one in files
    ]
