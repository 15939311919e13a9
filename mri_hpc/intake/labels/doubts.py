"""Doubts: what in a source looks other than it was meant, found before anything is stored."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal

from mri_hpc.base.errors import UserError

Accepted = Literal["burnt-in", "classes", "folders", "ids", "same-ids", "shorter", "sources"]
"""Kinds of doubts that a user can lift, by saying that all is as it is meant: names of classes, folders and
whom they stand for, ids that look like one person's (they are of several, or with same-ids of one each),
where the source lies; what looks like text in the pixels of DICOM, once a person has read it; and what has
fewer slices than are stored of it, with --replace: those that it has no longer are taken out for good."""


@dataclass(frozen=True, kw_only=True)
class Doubt:
    """One thing that looks other than it was meant."""

    kind: str
    """Word for it that scripts read."""
    count: int
    """Number of the things that it is about."""
    text: str
    """One line: what was found, and what to do next. It names no person."""
    accept: Accepted | None = None
    """Word by which the user says that it is meant so; None: it is said, and the work goes on."""

    def is_open(self, accepted: Collection[str]) -> bool:
        """Tell whether nothing may be stored before the user has decided."""
        return self.accept is not None and self.accept not in accepted


def refuse_open(doubts: Iterable[Doubt], accepted: Collection[str]) -> None:
    """Raise UserError with the first doubt that is open, if any is. accepted: words of doubts."""
    for doubt in doubts:
        if doubt.is_open(accepted):
            raise UserError(
                f"{doubt.text}; if it is meant so: --accept {doubt.accept}. Nothing is stored yet"
            )
