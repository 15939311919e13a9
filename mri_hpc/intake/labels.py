"""Labels: all that is known about a source beside its pixels, from folders or from a table."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from mri_hpc.base.errors import UserError

SPLITS = ("train", "validation", "test")
PLANES = ("axial", "coronal", "sagittal")

SPLIT_WORDS = {
    "train": 0, "training": 0, "val": 1, "valid": 1, "validation": 1, "test": 2, "testing": 2,
}  # fmt: skip
PLANE_WORDS = {
    "ax": 0, "axial": 0, "tra": 0, "transversal": 0, "cor": 1, "coronal": 1, "sag": 2, "sagittal": 2,
}  # fmt: skip
NO_BOX = (math.nan,) * 4
MOST_CLASSES = 2**15 - 1
"""As many as a store can number."""


@dataclass(frozen=True, kw_only=True)
class Label:
    """All that is known about one source beside its pixels."""

    label: str = ""
    """Class name; empty where unknown."""
    patient: str = ""
    """Patient id as given; empty where unknown."""
    study: str = ""
    """Study id as given; empty where unknown."""
    fold: int = -1
    """Fold given by the data; -1 none."""
    split: int = -1
    """Index into SPLITS; -1 none."""
    plane: int = -1
    """Index into PLANES; -1 unknown."""
    plane_inferred: bool = False
    """Guessed, rather than recorded by a scanner."""
    box: tuple[float, float, float, float] = NO_BOX
    """Centre x, centre y, width, height as fractions of the source picture; NaN none."""


class Labels(Protocol):
    """Says of each source what is known beside its pixels."""

    def of(self, path: str) -> Label:
        """Return a source's label, by the path of its first file below the root; BadSource: there is none."""
        ...


def check_patients_stay(labels: Iterable[tuple[Label, str]], where: str) -> None:
    """Raise UserError where a patient has two folds, or two splits. labels: each with its origin to name."""
    first: dict[str, tuple[Label, str]] = {}
    for label, origin in labels:
        if not label.patient:
            continue
        before, before_origin = first.setdefault(label.patient, (label, origin))
        for what in ("fold", "split"):
            if getattr(before, what) != getattr(label, what):
                raise UserError(
                    f"{where}: a patient is in {what} {_shown(before, what)} ({before_origin}) and in {what} "
                    f"{_shown(label, what)} ({origin}); a patient is never in two: give one {what}"
                )


def _shown(label: Label, what: str) -> str:
    value: int = getattr(label, what)
    if value < 0:
        return "none"
    return SPLITS[value] if what == "split" else str(value)
