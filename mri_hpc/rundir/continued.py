"""continued.json: what a run that goes on from another answers otherwise, on test patients of both.

Kept with the run, so that its page is the same once the other is gone.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any

from mri_hpc.base.atomic import replace_bytes
from mri_hpc.base.documents import with_format
from mri_hpc.rundir.kept import read_of_predictions
from mri_hpc.rundir.layout import RunDir

FORMAT = 1
MOST_NAMED = 200
"""Patients that are named at most of those who were gained, and of those who were forgotten."""


@dataclass(frozen=True, kw_only=True)
class Changed:
    """A patient, or an image that counts by itself, about whom the answer became right, or wrong."""

    name: str
    """Pseudonym, or key."""
    label: str
    before: str
    now: str


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A figure of the run less that of the one before, in pairs."""

    title: str
    value: float | None
    low: float | None
    high: float | None
    """95 % interval; None where none holds."""
    reason: str
    """It has no value, or no interval, for this reason."""


@dataclass(frozen=True, kw_only=True)
class ChangedGroup:
    """Units of one class, site or time of arrival."""

    column: str
    """class, site, or arrived."""
    value: str
    """Empty where it is not known."""
    num: int
    num_gained: int
    num_forgotten: int
    difference: Difference
    """Of the part that is answered rightly, in points."""


@dataclass(frozen=True, kw_only=True)
class Continued:
    """A run beside the one that it goes on from, or why they are not held against each other."""

    before: str
    """Name of the folder of that run."""
    reason: str = ""
    """None of what follows is known, for this reason."""
    predictions: str = ""
    """sha256 of the predictions.csv that it stands beside."""
    unit: str = "patient"
    """patient or slice."""
    num: int = 0
    """Units that both were tested by."""
    num_gained: int = 0
    """Wrong before, and right now."""
    num_forgotten: int = 0
    """Right before, and wrong now."""
    gained: tuple[Changed, ...] = ()
    forgotten: tuple[Changed, ...] = ()
    differences: tuple[Difference, ...] = ()
    groups: tuple[ChangedGroup, ...] = ()
    """By class, and by site and time of arrival where there are several."""
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return {"before": self.before, "reason": self.reason} if self.reason else asdict(self)


def read_continued(run: RunDir) -> Continued | None:
    """Read what was kept; None where nothing was, or of other predictions, or it is damaged.

    It can be made again then. Raises NewerFormat.
    """
    return read_of_predictions(run.continued, run, Continued, reads=FORMAT)


def write_continued(run: RunDir, found: Continued) -> None:
    """Publish it, in place of what was there."""
    document = json.dumps(with_format(FORMAT, asdict(found)), indent=1)
    replace_bytes(run.continued, document.encode() + b"\n")
