"""Geometry: how the voxels of a volume lie in the patient, and the volume turned the right way up.

Right way up is RAS+: the first axis runs to the patient's right, the second to the front, the third upwards.
Axes are exchanged and reversed, so that voxels are moved and never mixed: an oblique volume stays as oblique
as it was, up to OBLIQUE_DEGREES. For example, sagittal voxels run backwards, downwards and to the right:

    affine columns    (0, -1, 0)  (0, 0, -1)  (4, 0, 0)
    order             2, 0, 1: the third axis comes first
    flipped           no, yes, yes
"""

import itertools
import math
from dataclasses import dataclass, replace

import numpy as np

from mri_hpc.base.errors import BadSource
from mri_hpc.intake.decoding.volumes.volume import Volume

OBLIQUE_DEGREES = 30.0
"""Most that an axis of voxels may be off its axis of the patient: at 45 nothing tells which one is meant."""
SHEARED_DEGREES = 2.0
"""Most that two axes of voxels may be off a right angle."""
REMEDY = "(a new store resamples it by --oblique resample)"
NO_PLACE = "header that places no voxels (axes of no length, or in one plane)"


@dataclass(frozen=True, kw_only=True)
class Axes:
    """Axes of voxels beside those of the patient: right, front, up."""

    order: tuple[int, int, int]
    """The axis of voxels that runs nearest to each."""
    are_flipped: tuple[bool, bool, bool]
    """True where it runs the other way."""
    oblique_degrees: float
    """The most that one is off its axis of the patient."""
    sheared_degrees: float
    """The most that two are off a right angle."""


def spacing_mm(affine: np.ndarray) -> tuple[float, float, float]:
    """Compute the distance of voxels along each axis."""
    first, second, third = (math.hypot(*column) for column in affine[:3, :3].T.tolist())
    return first, second, third


def corners_mm(affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Compute where the middles of the voxels at the eight corners of a volume lie: (3, 8)."""
    far = np.array(shape) - 1
    corners = np.array([(*(far * bits), 1) for bits in itertools.product((0, 1), repeat=3)], np.float64)
    places: np.ndarray = affine[:3] @ corners.T
    return places


def axes_of(affine: np.ndarray) -> Axes:
    """Find the axis of voxels nearest to each of the patient; BadSource where the affine places no voxels."""
    lengths = np.array(spacing_mm(affine))
    if not np.isfinite(affine).all() or not lengths.all():
        raise BadSource(NO_PLACE)
    # Of each axis of voxels, a column: its cosines with those of the patient.
    cosines = affine[:3, :3] / lengths
    if abs(np.linalg.det(cosines)) < 1e-3:
        raise BadSource(NO_PLACE)
    order = max(itertools.permutations(range(3)), key=lambda order: _agreement(cosines, order))
    along = [float(cosines[axis, column]) for axis, column in enumerate(order)]
    between = [float(cosines[:, a] @ cosines[:, b]) for a, b in itertools.combinations(range(3), 2)]
    return Axes(
        order=(order[0], order[1], order[2]),
        are_flipped=(along[0] < 0, along[1] < 0, along[2] < 0),
        oblique_degrees=max(math.degrees(math.acos(min(1.0, abs(cosine)))) for cosine in along),
        sheared_degrees=max(math.degrees(math.asin(min(1.0, abs(cosine)))) for cosine in between),
    )


def right_way_up(volume: Volume) -> Volume:
    """Turn a volume to RAS+, without copying a voxel; BadSource where it is too oblique, or sheared."""
    axes = axes_of(volume.affine)
    check_upright(axes)
    return turned(volume, axes)


def check_upright(axes: Axes) -> None:
    """Raise BadSource, with the angle, where axes are too oblique, or sheared."""
    if axes.sheared_degrees > SHEARED_DEGREES:
        raise BadSource(
            f"sheared by {axes.sheared_degrees:.1f} degrees: slices do not lie above each other {REMEDY}"
        )
    if axes.oblique_degrees > OBLIQUE_DEGREES:
        raise BadSource(
            f"oblique by {axes.oblique_degrees:.1f} degrees, more than {OBLIQUE_DEGREES:g}: in between "
            f"planes {REMEDY}"
        )


def turned(volume: Volume, axes: Axes) -> Volume:
    """Exchange and reverse the axes of a volume, as they lie in the patient; a view of the same voxels."""
    steps = tuple(slice(None, None, -1 if is_flipped else 1) for is_flipped in axes.are_flipped)
    affine = volume.affine.astype(np.float64)
    for axis, is_flipped in zip(axes.order, axes.are_flipped, strict=True):
        if is_flipped:
            affine[:, 3] += (volume.voxels.shape[axis] - 1) * affine[:, axis]
            affine[:, axis] *= -1
    return replace(
        volume,
        voxels=volume.voxels.transpose(axes.order)[steps],
        affine=affine[:, [*axes.order, 3]],
        acquired=axes.order.index(volume.acquired),
    )


def _agreement(cosines: np.ndarray, order: tuple[int, ...]) -> float:
    """Return how near axes of voxels, in this order, run to those of the patient, either way."""
    return sum(abs(float(cosines[axis, column])) for axis, column in enumerate(order))
