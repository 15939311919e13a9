"""The volume: what every format of scanners is read as, before it is turned and cut into slices."""

import datetime
from dataclasses import dataclass, field

import numpy as np

MOST_VOXELS = 2**27
"""Of one volume."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Volume:
    """One volume as its source holds it."""

    voxels: np.ndarray
    """(i, j, k) grey values, integers or finite floats, in the byte order of this machine, any strides."""
    affine: np.ndarray
    """float64, (4, 4): from an index to millimetres, RAS+: to the right, to the front, upwards."""
    acquired: int
    """Axis of voxels along which slices were acquired."""
    is_side_known: bool
    """False: left and right are not told, as of Analyze, or of NIfTI with both codes 0."""
    zero: float = 0.0
    """Number among voxels that stands for 0, as the intercept has it; of integers it may lie between two."""
    name: str = ""
    """Begins the frame of each slice where a source holds several volumes: t003, e2."""
    statements: frozenset[str] | None = None
    """Statements of all files of its source on their de-identification; None of formats without such."""
    date: datetime.date | None = field(default=None, repr=False)
    """Day on which its source was taken, as it says: in memory alone. None where it does not."""
    notes: tuple[str, ...] = ()
    """Remarks for whoever stores it: counted by volumes, so the same words for all."""
