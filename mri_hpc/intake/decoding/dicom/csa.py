"""The private header of Siemens (CSA): how many slices a mosaic holds, and which way they run."""

import math
import warnings
from dataclasses import dataclass
from typing import Any

from mri_hpc.base.errors import BadSource

DAMAGED_CSA = "Siemens mosaic with a damaged private header: how its slices lie is not told"


@dataclass(frozen=True, kw_only=True)
class Mosaic:
    """The slices of a mosaic."""

    count: int
    """0 where it is not told."""
    normal: tuple[float, ...]
    """Direction, L, P, S, in which they follow each other; empty where it is not told."""


def read_csa(data: bytes) -> Mosaic:
    """Read what it says of a mosaic; BadSource where it is damaged."""
    with warnings.catch_warnings():
        # It says of its other parts that they are experimental.
        warnings.simplefilter("ignore")
        from nibabel.nicom import csareader

    try:
        read: Any = csareader.read
        tags = read(data)["tags"]
        counts = tags.get("NumberOfImagesInMosaic", {}).get("items", ())
        normal = tuple(float(part) for part in tags.get("SliceNormalVector", {}).get("items", ()))
        count = int(counts[0]) if len(counts) else 0
    except (csareader.CSAError, ValueError, TypeError, KeyError, IndexError, ArithmeticError):
        raise BadSource(DAMAGED_CSA) from None
    is_whole = len(normal) == 3 and all(map(math.isfinite, normal))
    return Mosaic(count=count, normal=normal if is_whole else ())
