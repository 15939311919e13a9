"""drift.json: how images that came since the run before differ from those that it had learnt from.

Kept with the run, so that its page is the same once the store has grown, or is gone.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any

from mri_hpc.base.atomic import replace_bytes
from mri_hpc.base.documents import with_format
from mri_hpc.rundir.kept import read_of_predictions
from mri_hpc.rundir.layout import RunDir

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Group:
    """Patients of one side, by one measure."""

    num: int
    quantiles: tuple[float, ...]
    """5, 25, 50, 75 and 95 % of the patients have at most so much; of classes, the share of each."""


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One thing by which both sides are compared, a value a patient."""

    name: str
    """brightness, contrast, extent, slices, classes or confidence."""
    title: str
    """In words."""
    before: Group
    since: Group
    distance: float | None
    """From 0, alike, to 1, nothing in common; None where there are too few patients."""
    p: float | None
    """That chance gives as much, adjusted for the number of measures."""
    is_drifted: bool
    sentence: str


@dataclass(frozen=True, kw_only=True)
class Drift:
    """All measures, or why there are none."""

    before: str
    """Name of the folder of the run before."""
    reason: str = ""
    """None of what follows is known, for this reason."""
    predictions: str = ""
    """sha256 of the predictions.csv that it stands beside."""
    rule: int = 0
    """Version of how drift is found; 0: of before there were versions."""
    classes: tuple[str, ...] = ()
    measures: tuple[Measure, ...] = ()
    num_both: int = 0
    """Patients with images on both sides, who are left out of those since."""

    @property
    def sentence(self) -> str:
        """The finding in plain words."""
        drifted = [one.title for one in self.measures if one.is_drifted]
        untold = [one.title for one in self.measures if one.distance is None]
        rest = f". Of too few patients to be told: {_listed(untold)}" if untold else ""
        if drifted:
            return (
                f"What came since differs from what {self.before} had learnt from in {_listed(drifted)}: its "
                f"figures need not hold for such patients{rest}"
            )
        if len(untold) == len(self.measures):
            return "Too few patients came since to tell whether they differ"
        return (
            f"No drift was found between what {self.before} had learnt from and what came since; a small one "
            f"may have gone unnoticed{rest}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        if self.reason:
            return {"before": self.before, "reason": self.reason}
        return {"sentence": self.sentence, **asdict(self)}


def _listed(words: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def read_drift(run: RunDir) -> Drift | None:
    """Read what was kept; None where nothing was, or of other predictions, or it is damaged.

    It can be made again then. Raises NewerFormat.
    """
    return read_of_predictions(run.drift, run, Drift, reads=FORMAT)


def write_drift(run: RunDir, found: Drift) -> None:
    """Publish it, in place of what was there."""
    replace_bytes(run.drift, json.dumps(with_format(FORMAT, asdict(found)), indent=1).encode() + b"\n")
