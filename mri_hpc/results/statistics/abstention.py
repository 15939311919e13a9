"""Error among the units of which the model is most sure, as if it abstained from all others."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from mri_hpc.results.statistics.figure_of_merit import PERCENT, Figure, figure_of
from mri_hpc.results.statistics.intervals import of_proportion
from mri_hpc.results.statistics.patients import Outcomes

SHARES = (1.0, 0.9, 0.75, 0.5)


@dataclass(frozen=True, kw_only=True)
class MostSure:
    """The part of the units whose most probable class has the largest probabilities."""

    share: float
    """Of all units: more than was asked for where several are equally sure."""
    num: int
    least: float
    """Probability of the most probable class, of the one among them that is least sure."""
    error: Figure

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return {"share": self.share, "n": self.num, "least": self.least, "error": self.error.to_dict()}


def most_sure(outcomes: Outcomes) -> tuple[MostSure, ...]:
    """Measure the error of all units, and of ever fewer; parts that ties make the same are given once."""
    sureness = outcomes.probabilities.max(axis=1)
    parts = [_part(outcomes, sureness, share) for share in SHARES]
    return tuple({part.num: part for part in parts}.values())


def _part(outcomes: Outcomes, sureness: np.ndarray, share: float) -> MostSure:
    least = np.sort(sureness)[len(outcomes) - math.ceil(share * len(outcomes))]
    is_in = sureness >= least
    error = of_proportion((outcomes.predicted != outcomes.label)[is_in], outcomes.cluster[is_in])
    num = int(is_in.sum())
    return MostSure(
        share=num / len(outcomes),
        num=num,
        least=float(least),
        error=figure_of(error, reason="", scale=PERCENT),
    )
