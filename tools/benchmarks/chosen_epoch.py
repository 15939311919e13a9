"""How often intervals hold the truth where the patients that they are of chose the epoch.

Networks and patients as of calibration.py: epochs differ from patient to patient by luck. Validation patients
choose the epoch of the least log loss; many others tell the truth about it. Beside it, the intervals of as
many patients who chose nothing.

    python tools/benchmarks/chosen_epoch.py --sets 400
"""

import argparse

import numpy as np
from calibration import loss, patients

from mri_hpc.results.statistics.metrics import ACCURACY, BALANCED_ACCURACY, MEAN_AUROC, Metric, measure

OTHERS = 20_000
METRICS: tuple[Metric, ...] = (BALANCED_ACCURACY, ACCURACY, MEAN_AUROC)


def held(num: int, *, apart: float, tails: bool, sets: int) -> np.ndarray:
    """Count in per cent how often limits hold the truth: float64, (2, metrics), those who chose first."""
    random, found = np.random.default_rng((num, int(10 * apart), tails)), np.zeros((2, len(METRICS)))
    truths = [measure(epoch).figures for epoch in patients(random, OTHERS, apart, tails)]
    for _ in range(sets):
        epochs = patients(random, num, apart, tails)
        chosen = int(np.argmin([loss(epoch) for epoch in epochs]))
        others = patients(random, num, apart, tails)[chosen]
        for who, outcomes in enumerate((epochs[chosen], others)):
            figures = measure(outcomes).figures
            for number, metric in enumerate(METRICS):
                figure, true = figures[metric], truths[chosen][metric].value
                assert figure.low is not None and figure.high is not None and true is not None
                found[who, number] += figure.low <= true <= figure.high
    return 100 * found / sets


def main() -> None:
    """Print how many of 100 intervals hold the truth."""
    arguments = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    arguments.add_argument("--sets", type=int, default=400, help="data sets of each kind")
    sets = arguments.parse_args().sets
    print(f"{'kind, patients':<24}", *(f"{metric.title}: chose, not" for metric in METRICS), sep="  ")
    for words, apart, tails in (("hard", 1.5, False), ("easy", 3.0, False), ("easy, heavy tails", 3.0, True)):
        for num in (20, 50, 200):
            chose, did_not = held(num, apart=apart, tails=tails, sets=sets)
            of = "  ".join(f"{a:.0f}, {b:.0f}" for a, b in zip(chose, did_not, strict=True))
            print(f"{f'{words}, {num}':<24}  {of}", flush=True)


if __name__ == "__main__":
    main()
