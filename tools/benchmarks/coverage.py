"""How often the 95 % intervals of a report hold the truth, in data sets drawn from a known one.

Three classes; the slices of a patient resemble each other, a little or much. Three kinds of patients:
normally distributed; with heavy tails; and one in twelve who looks like another class in all slices. The
truth is what the figures become for very many patients.

    python tools/benchmarks/coverage.py --sets 300
"""

import argparse
import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mri_hpc.results.statistics.intervals import Limits
from mri_hpc.results.statistics.metrics import measure
from mri_hpc.results.statistics.patients import Outcomes

CLASSES = ("a", "b", "c")
PATIENTS_OF_THE_TRUTH = 50_000
MOST_SLICES = 24
ALIKE_EPOCHS = 0.8

Draw = Callable[[np.random.Generator, int], np.ndarray]


def normal(random: np.random.Generator, num: int) -> np.ndarray:
    """Draw what sets patients apart: (num, 3), of variance 1."""
    return random.normal(size=(num, 3))


def heavy_tailed(random: np.random.Generator, num: int) -> np.ndarray:
    """Draw from Student's t of 3 degrees, whose variance is 3."""
    return random.standard_t(3, size=(num, 3)) / np.sqrt(3)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A population of patients."""

    apart: float
    """Of the classes."""
    alike: float
    """Part of the variance that is by patient."""
    draw: Draw
    odd: float
    """Part of the patients who look like another class in all slices."""


KINDS = {
    f"{words}, apart {apart}, alike {alike}": Kind(apart=apart, alike=alike, draw=draw, odd=odd)
    for words, draw, odd in (
        ("normal", normal, 0.0),
        ("heavy tails", heavy_tailed, 0.0),
        ("odd patients", normal, 1 / 12),
    )
    for apart, alike in ((1.5, 0.3), (1.5, 0.8), (3.5, 0.3), (3.5, 0.8))
}


def slices(random: np.random.Generator, num: int, kind: Kind, epochs: int = 1) -> Outcomes:
    """Draw patients with 1 to 24 slices each, judged by the best of some epochs that are equally good.

    The best is the one of least loss on these very slices; what sets patients apart differs by epoch in a
    fifth of its variance.
    """
    label = np.arange(num) % 3
    looks = np.where(random.random(num) < kind.odd, (label + 1) % 3, label)
    cluster = np.repeat(np.arange(num), random.integers(1, MOST_SLICES + 1, num))
    person, image = kind.draw(random, num), random.normal(size=(len(cluster), 3))
    of_epochs = []
    for _ in range(epochs):
        of_person, of_image = person, image
        if epochs > 1:
            of_person = math.sqrt(ALIKE_EPOCHS) * person + math.sqrt(1 - ALIKE_EPOCHS) * kind.draw(
                random, num
            )
            own = random.normal(size=image.shape)
            of_image = math.sqrt(ALIKE_EPOCHS) * image + math.sqrt(1 - ALIKE_EPOCHS) * own
        scores = (kind.apart * np.eye(3)[looks] + np.sqrt(kind.alike) * of_person)[cluster]
        of_epochs.append(_outcomes(label[cluster], scores + np.sqrt(1 - kind.alike) * of_image, cluster, num))
    return min(of_epochs, key=_loss)


def _loss(found: Outcomes) -> float:
    return -float(np.log(found.probabilities[np.arange(len(found)), found.label]).mean())


def by_patient(found: Outcomes) -> Outcomes:
    """Pool slices to patients by the mean of their probabilities."""
    units = np.bincount(found.cluster)
    pooled = np.stack([np.bincount(found.cluster, p) / units for p in found.probabilities.T], 1)
    first = np.unique(found.cluster, return_index=True)[1]
    return Outcomes(
        classes=CLASSES,
        label=found.label[first],
        probabilities=pooled,
        cluster=np.arange(len(units)),
        num_clusters=len(units),
    )


def figures(found: Outcomes) -> dict[str, Limits]:
    """Measure all figures that there are, those of classes one by one."""
    metrics = measure(found)
    named = {metric.name: figure for metric, figure in metrics.figures.items()}
    for name, of_class in metrics.classes.items():
        named |= {f"{metric.name} of {name}": figure for metric, figure in of_class.figures.items()}
    return {
        name: Limits(f.value, f.low, f.high)
        for name, f in named.items()
        if f.value is not None and f.low is not None and f.high is not None
    }


def main() -> None:
    """Print, for each figure, of how many intervals in 100 the truth was held, and their mean width."""
    arguments = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    arguments.add_argument("--sets", type=int, default=300, help="data sets of each kind")
    arguments.add_argument("--patients", type=int, nargs="+", default=[20, 50, 200])
    arguments.add_argument(
        "--epochs", type=int, default=1, help="of which the best on the same patients is judged"
    )
    given = arguments.parse_args()
    print("patients  unit     figure             held of 100: least, mean, most   kind of the least")
    for num in given.patients:
        for unit, turn in (("slice", lambda found: found), ("patient", by_patient)):
            held: dict[str, list[tuple[float, str]]] = defaultdict(list)
            for words, kind in KINDS.items():
                for name, share in shares_held(kind, num, turn, given.sets, given.epochs).items():
                    held[name.partition(" of ")[0]].append((100 * share, words))
            for name, found in held.items():
                shares = [share for share, _words in found]
                print(
                    f"{num:>8}  {unit:<7}  {name:<18} {min(shares):>5.1f} {np.mean(shares):>5.1f} "
                    f"{max(shares):>5.1f}               {min(found)[1]}",
                    flush=True,
                )


def shares_held(
    kind: Kind, num: int, turn: Callable[[Outcomes], Outcomes], sets: int, epochs: int
) -> dict[str, float]:
    """Count by figure the share of data sets of `num` patients whose interval holds the truth."""
    truth = figures(turn(slices(np.random.default_rng(1), PATIENTS_OF_THE_TRUTH, kind)))
    hits: dict[str, list[bool]] = defaultdict(list)
    for number in range(sets):
        drawn = turn(slices(np.random.default_rng((2, number)), num, kind, epochs))
        for name, (_value, low, high) in figures(drawn).items():
            hits[name].append(low <= truth[name][0] <= high)
    return {name: sum(of_sets) / len(of_sets) for name, of_sets in hits.items()}


def _outcomes(label: np.ndarray, scores: np.ndarray, cluster: np.ndarray, num: int) -> Outcomes:
    powers = np.exp(scores - scores.max(1, keepdims=True))
    return Outcomes(
        classes=CLASSES,
        label=label,
        probabilities=powers / powers.sum(1, keepdims=True),
        cluster=cluster,
        num_clusters=num,
    )


if __name__ == "__main__":
    main()
