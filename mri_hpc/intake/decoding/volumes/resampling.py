"""Resampling: an oblique or sheared volume laid anew along the axes of the patient, where that is asked for.

Each new voxel is the mean of the eight around its place, weighted by how near they lie. The spacing along an
axis of the patient stays that of the axis of voxels nearest to it; what lies outside the volume is as dark as
its darkest voxel. Sums are taken one by one, so that every machine finds the same.
"""

import itertools
from dataclasses import replace

import numpy as np

from mri_hpc.base.errors import BadSource
from mri_hpc.intake.decoding.volumes.geometry import axes_of, corners_mm, spacing_mm
from mri_hpc.intake.decoding.volumes.volume import MOST_VOXELS, Volume

RESAMPLED = "resampled: its slices lay oblique to the planes"
LARGE_WHEN_RESAMPLED = f"more than {MOST_VOXELS // 2**20} million voxels when resampled"


def resampled(volume: Volume) -> Volume:
    """Lay a volume anew along the axes of the patient: RAS+, of the same type; BadSource: far too large."""
    axes = axes_of(volume.affine)
    shape, affine = _grid(volume, axes.order)
    # From an index of the new volume to a place among the voxels of the old one.
    to_old = np.linalg.inv(volume.affine) @ affine
    found = np.full(shape, volume.voxels.min(), volume.voxels.dtype)
    down, across = np.meshgrid(np.arange(shape[1]), np.arange(shape[2]), indexing="ij")
    for number in range(shape[0]):
        places = [row[0] * number + row[1] * down + row[2] * across + row[3] for row in to_old[:3]]
        _fill(found[number], volume.voxels, places)
    return replace(
        volume,
        voxels=found,
        affine=affine,
        acquired=axes.order.index(volume.acquired),
        notes=(*volume.notes, RESAMPLED),
    )


def _grid(volume: Volume, order: tuple[int, int, int]) -> tuple[tuple[int, int, int], np.ndarray]:
    """Return shape and affine of a volume along the axes of the patient that holds all of another."""
    # To a micrometre: rounding of the header is not to add a slice.
    corners = np.round(corners_mm(volume.affine, volume.voxels.shape), 3)
    step_mm = np.array(spacing_mm(volume.affine))[list(order)]
    low, high = corners.min(axis=1), corners.max(axis=1)
    x, y, z = (int(count) + 1 for count in np.floor((high - low) / step_mm + 1e-6))
    if x * y * z > MOST_VOXELS:
        raise BadSource(LARGE_WHEN_RESAMPLED)
    affine = np.diag([*step_mm, 1.0])
    affine[:3, 3] = low
    return (x, y, z), affine


def _fill(slab: np.ndarray, voxels: np.ndarray, places: list[np.ndarray]) -> None:
    """Fill a slab of new voxels from those around their places, where these lie within the old ones."""
    is_inside = np.ones(slab.shape, bool)
    for place, length in zip(places, voxels.shape, strict=True):
        is_inside &= (place >= -1e-6) & (place <= length - 1 + 1e-6)
    if not is_inside.any():
        return
    inside = [np.clip(p[is_inside], 0, n - 1) for p, n in zip(places, voxels.shape, strict=True)]
    firsts = [
        np.minimum(p.astype(np.int64), max(0, n - 2)) for p, n in zip(inside, voxels.shape, strict=True)
    ]
    total = np.zeros(len(inside[0]))
    for bits in itertools.product((0, 1), repeat=3):
        weight = np.ones_like(total)
        neighbours = []
        for place, first, length, bit in zip(inside, firsts, voxels.shape, bits, strict=True):
            weight *= (place - first) if bit else 1 - (place - first)
            neighbours.append(np.minimum(first + bit, length - 1))
        total += weight * voxels[tuple(neighbours)]
    slab[is_inside] = np.rint(total) if voxels.dtype.kind in "iu" else total
