"""Masks as volumes: turned as their image is, and held against its geometry."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mri_hpc.base.errors import BadSource
from mri_hpc.intake.decoding.masks import BRAIN, LESION, NO_MASK
from mri_hpc.intake.decoding.samples import Box
from mri_hpc.intake.decoding.volumes.geometry import corners_mm
from mri_hpc.intake.decoding.volumes.volume import Volume

APART_MM = 1.0
"""Most that corners of a mask may lie off those of its image."""
HALF = 128
ROUNDED = 0.75
"""In steps of integers: what stands for 0 lies less above the exact place of 0, and the next one more."""
EMPTY = "its {kind} mask is empty"


@dataclass(frozen=True, kw_only=True, eq=False)
class UprightMasks:
    """The masks of one volume, as its voxels lie when they are the right way up."""

    brain: np.ndarray | None = None
    """bool, (i, j, k); None where there is none."""
    lesion: np.ndarray | None = None
    """As brain."""


def kinds_of(masks: Sequence[Volume], patterns: Sequence[str]) -> Mapping[str, Volume]:
    """Return the masks of a volume by their kind; BadSource without one of the brain that there has to be.

    patterns: of a recipe, one for each kind.
    """
    # Of two kinds that of lesions may be missing: of those who have none.
    kinds = [pattern.partition(":")[0] for pattern in patterns]
    if BRAIN in kinds and not masks:
        raise BadSource(f"{NO_MASK} ({BRAIN})")
    return dict(zip(kinds, masks, strict=False))


def in_two_values(mask: Volume) -> Volume:
    """Return a mask of 0 and 255, so that it can be laid anew as its image is."""
    # nibabel stretches floats over the whole type of a header: labels 0, 1 and 4 are -32768, -16384 and 32767
    # of int16. The integer that stands for 0 may be half a step off, and a bit more as slopes are rounded.
    least = mask.zero + (0 if mask.voxels.dtype.kind == "f" else ROUNDED)
    is_marked = np.nan_to_num(mask.voxels, nan=mask.zero) > least
    return replace(mask, voxels=is_marked.astype(np.uint8) * np.uint8(255))


def held_against(upright: Volume, masks: Mapping[str, Volume]) -> UprightMasks:
    """Return masks as they lie in a volume; BadSource where one has another shape, or lies elsewhere.

    upright: the image; masks: of two values, and the right way up, too.
    """
    found = {}
    for kind, mask in masks.items():
        if mask.voxels.shape != upright.voxels.shape:
            shapes = " and ".join(" x ".join(map(str, one.voxels.shape)) for one in (mask, upright))
            raise BadSource(f"its {kind} mask has other voxels than it has ({shapes})")
        shape = upright.voxels.shape
        apart = corners_mm(mask.affine, shape) - corners_mm(upright.affine, shape)
        most_mm = float(np.linalg.norm(apart, axis=0).max())
        if not most_mm <= APART_MM:
            raise BadSource(f"its {kind} mask lies elsewhere: corners up to {most_mm:.1f} mm apart")
        found[kind] = mask.voxels >= HALF
    if BRAIN in found and not found[BRAIN].any():
        raise BadSource(EMPTY.format(kind=BRAIN))
    return UprightMasks(brain=found.get(BRAIN), lesion=found.get(LESION))


def box_of(lesion: np.ndarray) -> Box:
    """Return the box around a lesion in a slice, as in Label. lesion: bool, (h, w), not all of it False."""
    ends = []
    for axis in (0, 1):
        there = np.flatnonzero(lesion.any(axis=axis))
        length = lesion.shape[1 - axis]
        ends.append((int(there[0]) / length, (int(there[-1]) + 1) / length))
    (left, right), (top, bottom) = ends
    return (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
