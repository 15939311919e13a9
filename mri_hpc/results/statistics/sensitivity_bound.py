"""Sensitivities that a threshold can promise, by the order of the scores of patients with the finding.

The threshold is the k-th smallest of n scores, k the largest for which a binomial (n, 1 - sensitivity) is
below k in at most 5 % of draws: whatever the distribution of scores (order statistics; Wilks 1941). Where the
same patients chose the model, too, the 5 % are shared out to all models among which they chose (Bonferroni):
the chosen one is then among those for which the promise holds, however alike they are.
`tools/benchmarks/promises.py` counts how often it is kept.
"""

import math
from bisect import bisect_right

from mri_hpc.results.statistics.intervals import binomial

ERROR = 0.05
"""Part of the draws of patients in which a promise may fail."""


def most_missed(num: int, sensitivity: float, choices: int = 1) -> int | None:
    """Return how many of `num` patients with the finding may lie below a threshold that keeps the promise.

    choices: models among which these patients chose. None where not even one at the smallest score keeps it.
    """
    kept = bisect_right(range(num), ERROR / choices, key=lambda hits: binomial(hits, num, 1 - sensitivity))
    return kept - 1 if kept else None


def least_patients(sensitivity: float, choices: int = 1) -> int:
    """Return how many patients with the finding a promise needs where none of them is missed."""
    return math.ceil(math.log(ERROR / choices) / math.log(sensitivity) - 1e-9)


def largest_sensitivity(num: int, choices: int = 1) -> float:
    """Return what can be promised by the smallest score of `num` patients with the finding; 0 of none."""
    return float((ERROR / choices) ** (1 / num)) if num else 0.0
