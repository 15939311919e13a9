"""How often a promised sensitivity is kept, where the same patients choose the epoch and give the threshold.

The score of a patient is what all epochs agree on and what is the epoch's own, in the odds. Epochs are
equally good: what sets the chosen one apart, that of least loss over all validation patients, is luck alone.

    python tools/benchmarks/promises.py --draws 4000
"""

import argparse
import itertools
import math
from statistics import NormalDist

import numpy as np

from mri_hpc.results.statistics.sensitivity_bound import least_patients, most_missed

SENSITIVITY = 0.95
APART = 3.0
"""Of patients with the finding and those without, in deviations of the log odds."""


def share_kept(num: int, *, epochs: int, alike: float, without: int, choices: int, draws: int) -> float:
    """Return the share of draws in which all other patients are found as often as promised, 0 to 1.

    num, without: validation patients with the finding, and without it. alike: correlation of the scores of a
    patient in two epochs. choices: those that the threshold counts in.
    """
    random, kept = np.random.default_rng((num, epochs, int(100 * alike), without, choices)), 0
    missed = most_missed(num, SENSITIVITY, choices)
    assert missed is not None
    has_finding = np.arange(num + without) < num
    sign = np.where(has_finding, 1.0, -1.0)
    for _ in range(draws):
        shared = random.normal(size=len(sign))
        own = random.normal(size=(epochs, len(sign)))
        scores = sign * APART / 2 + math.sqrt(alike) * shared + math.sqrt(1 - alike) * own
        chosen = scores[np.logaddexp(0, -sign * scores).mean(axis=1).argmin()]
        threshold = np.sort(chosen[has_finding])[missed]
        kept += NormalDist(APART / 2, 1.0).cdf(threshold) <= 1 - SENSITIVITY
    return kept / draws


def main() -> None:
    """Print the share of promises kept, in per cent, without and with the choice counted in."""
    arguments = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    arguments.add_argument(
        "--draws", type=int, default=4000, help="draws of validation patients of each kind"
    )
    draws = arguments.parse_args().draws
    print("with finding  epochs  alike   kept of 100: not counted in   counted in")
    numbers = sorted({least_patients(SENSITIVITY), 110, least_patients(SENSITIVITY, 10), 200, 400})
    for num, (epochs, alike) in itertools.product(
        numbers, [(1, 0.0), *((10, r) for r in (0.0, 0.5, 0.8, 0.95))]
    ):
        shares = [
            100 * share_kept(num, epochs=epochs, alike=alike, without=num, choices=choices, draws=draws)
            if most_missed(num, SENSITIVITY, choices) is not None
            else math.nan
            for choices in (1, epochs)
        ]
        print(f"{num:>12}  {epochs:>6}  {alike:>5}  {shares[0]:>26.1f}  {shares[1]:>11.1f}", flush=True)


if __name__ == "__main__":
    main()
