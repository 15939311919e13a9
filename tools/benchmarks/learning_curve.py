"""Of 100 intervals of a learning curve's slope, how many hold the truth, in simulations.

    python tools/benchmarks/learning_curve.py --sets 2000
    python tools/benchmarks/learning_curve.py --sets 400 --more     of what 100 more patients would bring

Three classes; four runs on 25, 50, 75 and 100 % of 120 patients. Patients are more or less hard for all runs
(deviation 1.5) and for each (1); trainings differ by luck. --more: where balanced accuracy grows from 60 % by
a line, or nears 95, 90, 90 and 80 % by inverse power laws. What was measured: docs/measurements.md.
"""

import argparse
from collections.abc import Callable
from statistics import NormalDist

import numpy as np

from mri_hpc.results.runs.learning_curve import fit, foretell
from mri_hpc.results.statistics.intervals import quantile_of_t

COUNTS = np.array((30.0, 60.0, 90.0, 120.0))
CENTRED = np.log2(COUNTS) - np.log2(COUNTS).mean()
LUCKS = (0.0, 0.2, 0.4)
"""Deviation of trainings on the scale on which 1.8 is that of all patients."""


def main() -> None:
    """Print a line for each number of judged patients, and each luck."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--sets", type=int, default=2000)
    parser.add_argument(
        "--more", action="store_true", help="of what more patients than there are would bring"
    )
    options = parser.parse_args()
    if options.more:
        _foretold(options.sets)
        return
    sets = options.sets
    print("judged patients | luck of a training, points | over patients alone | with luck | no interval")
    for num in (20, 30, 50, 100, 200):
        for luck in LUCKS:
            print(_line(num, luck, sets), flush=True)


def _line(num: int, luck: float, sets: int) -> str:
    random = np.random.default_rng((num, round(10 * luck)))
    alone, held, none = 0, 0, 0
    for _ in range(sets):
        label = random.integers(0, 3, num)
        heights = 1.6 + 0.3 * CENTRED
        seen = heights + random.normal(0, luck, len(COUNTS))
        noise = random.normal(0, 1.5, num) + random.normal(0, 1, (len(COUNTS), num))
        is_right = seen[:, None] + noise > 0
        spread = float(np.sqrt(1.5**2 + 1 + luck**2))
        means = [NormalDist(0, spread).cdf(height) for height in heights.tolist()]
        truth = float(CENTRED @ means / (CENTRED**2).sum())
        found = fit(COUNTS, is_right, label)
        if found.value is None or found.low is None or found.high is None:
            none += 1
            continue
        held += found.low <= truth <= found.high
        alone += abs(found.value - truth) <= _margin_alone(is_right, label)
    points = 100 * luck * NormalDist(0, 1.8).pdf(1.6)
    shares = [f"{100 * count / (sets - none):.0f}" for count in (alone, held)]
    return " | ".join([str(num), f"{points:.0f}", *shares, str(none)])


def _margin_alone(is_right: np.ndarray, label: np.ndarray) -> float:
    """Return half the interval over patients within their classes, trainings taken as they are."""
    of_patient = (CENTRED / (CENTRED**2).sum()) @ is_right
    parts = [of_patient[label == number] for number in np.unique(label)]
    variance = sum(part.var(ddof=1) / len(part) for part in parts) / len(parts) ** 2
    return float(quantile_of_t(len(label) - 3) * np.sqrt(variance))


LAWS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "a line": lambda n: 0.6 + 0.075 * np.log2(n / 30),
    "exponent 0.3": lambda n: 0.95 - 0.35 * (n / 30) ** -0.3,
    "exponent 0.5": lambda n: 0.9 - 0.3 * (n / 30) ** -0.5,
    "exponent 1": lambda n: 0.9 - 0.3 * (n / 30) ** -1.0,
    "exponent 1.5": lambda n: 0.8 - 0.2 * (n / 30) ** -1.5,
}
MORE = 100


def _foretold(sets: int) -> None:
    """Print how many intervals of the gain hold the truth, of the line alone and as it is given."""
    print("truth | judged patients | luck | line alone | as given | half of line | half as given, points")
    for name, law in LAWS.items():
        for num in (50, 200):
            for luck in (0.0, 0.3):
                print(f"{name} | {num} | {luck} | {_gains(law, num, luck, sets)}", flush=True)


def _gains(law: Callable[[np.ndarray], np.ndarray], num: int, luck: float, sets: int) -> str:
    random, most = np.random.default_rng(num), COUNTS.max()
    of_height = NormalDist(0, float(np.sqrt(1.5**2 + 1 + luck**2)))
    heights = np.array([of_height.inv_cdf(mean) for mean in law(COUNTS).tolist()])
    truth = float(np.diff(law(np.array([most, most + MORE])))[0])
    doublings = float(np.log2((most + MORE) / most))
    held, half = np.zeros(2), np.zeros(2)
    for _ in range(sets):
        label = random.integers(0, 3, num)
        seen = heights + random.normal(0, luck, len(COUNTS))
        is_right = seen[:, None] + random.normal(0, 1.5, num) + random.normal(0, 1, (len(COUNTS), num)) > 0
        line, gain = fit(COUNTS, is_right, label), foretell(COUNTS, is_right, label, MORE)
        assert (
            line.low is not None and line.high is not None and gain.low is not None and gain.high is not None
        )
        limits = np.array([[line.low * doublings, line.high * doublings], [gain.low, gain.high]])
        held += (limits[:, 0] <= truth) & (truth <= limits[:, 1])
        half += (limits[:, 1] - limits[:, 0]) / 2
    return " | ".join(
        [*(f"{100 * one / sets:.0f}" for one in held), *(f"{100 * one / sets:.1f}" for one in half)]
    )


if __name__ == "__main__":
    main()
