"""How often the class of a patient is in the promised set, where the same patients choose the epoch.

Networks and patients as of calibration.py: epochs differ from patient to patient by luck. Validation patients
give the threshold; they choose nothing, or the epoch of the least log loss, which is counted in or not. The
promise is of the mean over draws of validation patients; 20,000 others tell the truth of each. Beside it, how
often the interval of the mean size, of as many test patients, holds the truth.

    python tools/benchmarks/promised_sets.py --sets 400
"""

import argparse
from collections.abc import Sequence

import numpy as np
from calibration import CLASSES, EPOCHS, loss, patients

from mri_hpc.results.answers.promised_sets import PromisedSets, is_in_set, mean_size, promise_sets
from mri_hpc.results.statistics.patients import Outcomes, PatientResult, ValidationPatients

OTHERS = 20_000
KINDS = (("hard", 1.5, False), ("easy", 3.0, False), ("easy, heavy tails", 3.0, True))


def results(outcomes: Outcomes) -> tuple[PatientResult, ...]:
    """Make results of outcomes, as predictions give them."""
    return tuple(
        PatientResult(
            patient=str(number),
            label=CLASSES[label],
            predicted=CLASSES[int(np.argmax(chances))],
            probabilities=tuple(chances),
            num_slices=1,
            num_wrong_slices=0,
            has_several_labels=False,
        )
        for number, (label, chances) in enumerate(
            zip(outcomes.label.tolist(), outcomes.probabilities.tolist(), strict=True)
        )
    )


def kept(num: int, *, apart: float, tails: bool, sets: int) -> list[tuple[float, float, float] | None]:
    """Return coverage, mean size and how often its interval holds, in per cent but for the size.

    Of patients who chose nothing, of those who chose and it is not counted in, and where it is counted in;
    None where there are too few.
    """
    random = np.random.default_rng((num, int(10 * apart), tails))
    truths = patients(random, OTHERS, apart, tails)
    found: list[list[tuple[float, float, bool]]] = [[], [], []]
    for _ in range(sets):
        epochs, tested = patients(random, num, apart, tails), patients(random, num, apart, tails)
        chosen = int(np.argmin([loss(epoch) for epoch in epochs]))
        ways = ((EPOCHS // 2, 1), (chosen, 1), (chosen, EPOCHS))
        for own, (epoch, choices) in zip(found, ways, strict=True):
            validation = ValidationPatients(patients=results(epochs[epoch]), choices=choices)
            promised = promise_sets(CLASSES, validation)
            if isinstance(promised, PromisedSets):
                own.append(one_draw(promised.threshold, truths[epoch], tested[epoch]))
    return [mean_of(own) if own else None for own in found]


def one_draw(threshold: float, truth: Outcomes, tested: Outcomes) -> tuple[float, float, bool]:
    """Return coverage and mean size of all others, and whether the interval of some holds the latter."""
    is_in = is_in_set(truth.probabilities, threshold)
    size = float(is_in.sum(1).mean())
    figure = mean_size(is_in_set(tested.probabilities, threshold).sum(1), len(CLASSES))
    # Where none is given it is as if it held.
    held = figure.low is None or figure.high is None or figure.low <= size <= figure.high
    return float(is_in[np.arange(len(truth)), truth.label].mean()), size, held


def mean_of(draws: Sequence[tuple[float, float, bool]]) -> tuple[float, float, float]:
    """Average over draws; coverage and the last in per cent."""
    coverage, size, held = np.array(draws, float).mean(0)
    return 100 * coverage, size, 100 * held


def main() -> None:
    """Print the mean coverage in per cent, the mean size, and how often its interval holds."""
    arguments = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    arguments.add_argument("--sets", type=int, default=400, help="data sets of each kind")
    sets = arguments.parse_args().sets
    print("kind, patients: coverage, size, interval of the size held; chose nothing | not counted in | in")
    for words, apart, tails in KINDS:
        for num in (9, 20, 28, 42, 50, 100, 200):
            rows = kept(num, apart=apart, tails=tails, sets=sets)
            cells = [f"{row[0]:.1f} {row[1]:.2f} {row[2]:.0f}" if row else "too few patients" for row in rows]
            print(f"{words}, {num}:  {'  |  '.join(cells)}", flush=True)


if __name__ == "__main__":
    main()
