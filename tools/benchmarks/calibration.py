"""How much it flatters that the same validation patients choose the epoch and the temperature.

Networks of 30 epochs are drawn, whose patients are answered a little otherwise from epoch to epoch, late ones
too surely. Validation patients choose the epoch of the least log loss and give the temperature; many others
tell the truth. Beside it, a temperature of as many patients who chose nothing.

    python tools/benchmarks/calibration.py --sets 200
"""

import argparse
from dataclasses import replace

import numpy as np

from mri_hpc.results.answers.calibration import fit
from mri_hpc.results.answers.temperature import tempered
from mri_hpc.results.statistics.patients import Outcomes
from mri_hpc.results.statistics.scores import calibration_error, log_loss_of

CLASSES = ("a", "b", "c")
EPOCHS, OTHERS = 30, 3000


def patients(random: np.random.Generator, num: int, apart: float, tails: bool) -> list[Outcomes]:
    """Draw the answers of every epoch about `num` patients, as one network would give them."""
    label = np.arange(num) % 3
    noise = random.standard_t(3, (num, 3)) if tails else random.normal(size=(num, 3))
    person = apart * np.eye(3)[label] + noise
    epochs = []
    for epoch in range(EPOCHS):
        # Late epochs are surer; each one answers a patient a little otherwise.
        scores = person + 0.5 * random.normal(size=(num, 3))
        scores *= apart * (0.8 + 1.7 * epoch / EPOCHS)
        powers = np.exp(scores - scores.max(1, keepdims=True))
        epochs.append(
            Outcomes(
                classes=CLASSES,
                label=label,
                probabilities=powers / powers.sum(1, keepdims=True),
                cluster=np.arange(num),
                num_clusters=num,
            )
        )
    return epochs


def loss(outcomes: Outcomes, temperature: float = 1.0) -> float:
    """Compute the mean log loss at a temperature."""
    meant = tempered(outcomes.probabilities, temperature)
    return float(log_loss_of(replace(outcomes, probabilities=meant)).mean())


def main() -> None:
    """Print means over data sets of log losses and calibration errors."""
    arguments = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    arguments.add_argument("--sets", type=int, default=200, help="data sets of each kind")
    sets = arguments.parse_args().sets
    print("kind               patients  fitted  log loss: stated  true  by others  none   ECE: true  none")
    for words, apart, tails in (("hard", 1.5, False), ("easy", 3.0, False), ("easy, heavy tails", 3.0, True)):
        for num in (20, 50, 200):
            rows = np.array(
                [one_set(np.random.default_rng((num, s)), num, apart, tails) for s in range(sets)]
            )
            fitted, stated, true, by_others, none, error, error_none = rows.mean(0)
            print(
                f"{words:<18} {num:>8}  {100 * fitted:>4.0f} %  {stated:>16.3f} {true:>5.3f} "
                f"{by_others:>10.3f} {none:>5.3f} {error:>11.3f} {error_none:>5.3f}",
                flush=True,
            )


def one_set(random: np.random.Generator, num: int, apart: float, tails: bool) -> tuple[float, ...]:
    """Choose epoch and temperature on some patients; measure both on others."""
    validation = patients(random, num, apart, tails)
    best = int(np.argmin([loss(epoch) for epoch in validation]))
    found, others = fit(validation[best]), fit(patients(random, num, apart, tails)[best])
    truth = patients(random, OTHERS, apart, tails)[best]
    stated = found.cross_fitted if found.is_fitted else found.log_loss
    assert stated is not None
    meant = replace(truth, probabilities=tempered(truth.probabilities, found.temperature))
    return (
        found.is_fitted, stated, loss(truth, found.temperature), loss(truth, others.temperature), loss(truth),
        calibration_error(meant), calibration_error(truth),
    )  # fmt: skip


if __name__ == "__main__":
    main()
