"""Patients outside their sets that a promise on average allows, by the order of their probabilities.

The least probability of a set is the k-th smallest of those that n patients have of their own class. Of new
patients the part below it is at most a draw of a beta distribution (k, n + 1 - k), on average k / (n + 1),
whatever the model (split conformal prediction; Vovk and others 2005; Lei and others 2018). Where the same
patients chose the model among M, the part below that of the chosen one is at most the largest of M such
draws, however alike they are: on average at most the integral from 0 to 1 of min(1, M times the probability
that one is above a). `tools/benchmarks/promised_sets.py` counts how often the promise is kept.
"""

from bisect import bisect_right

from mri_hpc.results.statistics.intervals import HALVINGS, binomial

COVERAGE = 0.9
"""Part of the patients, on average, whose class is to be in their set."""


def part_outside(num: int, missed: int, choices: int = 1) -> float:
    """Bound the part of new patients below a threshold with `missed` of `num` patients below it, on average.

    choices: models among which these patients chose.
    """
    # From 0 to a the least of the two is 1; the rest is a sum of beta integrals.
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if choices * binomial(missed, num, middle) >= 1:
            low = middle
        else:
            high = middle
    return low + choices * _sum_of_binomials(missed, num + 1, low) / (num + 1)


def _sum_of_binomials(most: int, num: int, chance: float) -> float:
    """Sum the probabilities of at most 0, of at most 1, up to that of at most `most` hits."""
    if chance <= 0:
        return most + 1.0
    # k hits count in most + 1 - k of these sums, and k of num have num * chance / k times the probability of
    # k - 1 of num - 1.
    below = num * chance * binomial(most - 1, num - 1, chance) if most else 0.0
    return (most + 1) * binomial(most, num, chance) - below


def most_outside(num: int, choices: int = 1, coverage: float = COVERAGE) -> int | None:
    """Return how many of `num` patients may lie below the threshold; None where not even none keeps it."""
    # Not the last digit of a sum: 10 % of 9 + 1 patients is one.
    allowed = 1 - coverage + 1e-9
    # More than that part of n + 1 patients not even one model keeps.
    candidates = range(min(num, int(allowed * (num + 1)) + 1))
    kept = bisect_right(candidates, allowed, key=lambda missed: part_outside(num, missed, choices))
    return kept - 1 if kept else None


def least_patients(choices: int = 1, coverage: float = COVERAGE) -> int:
    """Return how many patients a promise needs where none of them is outside."""
    num = 1
    while part_outside(num, 0, choices) > 1 - coverage + 1e-9:
        num += 1
    return num
