"""resemblance.json: the appearance of a run's training images, and how far from them validation patients lie.

A patient's distance is the median over the patient's images. It is held against those of validation patients:
where only few of them lie as far, the patient is not like the training data. Patients who are drawn as those
of validation were are called so in at most 1 of 10 cases, whatever the distance measures: it is a conformal
p-value (Bates and others, Annals of Statistics 51, 2023). This holds on average over validation patients and
new ones, not for each set of them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from mri_hpc.base.atomic import replace_bytes
from mri_hpc.base.command import counted
from mri_hpc.base.documents import with_format
from mri_hpc.base.sealed_json import seal
from mri_hpc.results.answers.appearance import NUM_PIXELS, NUM_STATISTICS
from mri_hpc.results.answers.planted_changes import Direction, fit_direction
from mri_hpc.rundir.kept import read_of_model
from mri_hpc.rundir.layout import RunDir

FORMAT = 2
"""Of those whose distances take in odds that an image was turned or resized; all others have 1."""
ALARM = 0.1
"""Largest p-value of a patient who is not like the training data."""
FEWEST = math.ceil(1 / ALARM) - 1
"""Validation patients, of fewer than whom no p-value is so small."""
NUM_COMPONENTS = 16
"""Principal components of the small pixels that are kept. Chosen among 16 and 32 on Cheng's folds: 16 and 32
find the same but for darker images (99 and 92 to 98 of 100)."""
LEAST_DEVIATION = 1e-3
"""Of a statistic that hardly varies; grey values go from 0 to 1."""
NOT_LIKE = "not like the training data"

Row = tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Steps:
    """Unit in which what lies far is counted."""

    middle: float
    """Median."""
    length: float
    """From there to what one in ten reaches."""

    def steps(self, values: np.ndarray) -> np.ndarray:
        """Count values in it."""
        return np.asarray((values - self.middle) / self.length)


@dataclass(frozen=True, kw_only=True)
class Changes:
    """Odds that an image was turned or resized, and how they compare with distances."""

    direction: Direction
    of_distance: Steps
    of_odds: Steps


@dataclass(frozen=True, kw_only=True)
class Space:
    """Middle of the training images, and the directions in which they vary."""

    statistics_mean: Row
    statistics_deviation: Row
    pixels_mean: Row
    components: tuple[Row, ...]
    """Principal components of small pixels: (k, NUM_PIXELS)."""
    components_deviation: Row
    rest_mean: float
    """Of the logarithm of what the components leave of the small pixels."""
    rest_deviation: float
    whitening: tuple[Row, ...]
    """Makes the distance of a Mahalanobis distance: (NUM_STATISTICS + k + 1,) squared."""
    changes: Changes | None = None
    """Odds that an image was turned or resized; None where too few training patients tell them."""

    def __post_init__(self) -> None:
        num = NUM_STATISTICS + len(self.components) + 1
        if (
            [len(self.statistics_mean), len(self.statistics_deviation)] != [NUM_STATISTICS] * 2
            or {len(self.pixels_mean), *map(len, self.components)} != {NUM_PIXELS}
            or len(self.components_deviation) != len(self.components)
            or [len(row) for row in self.whitening] != [num] * num
        ):
            raise ValueError("its parts do not fit each other")

    def distances(self, appearance: np.ndarray) -> np.ndarray:
        """Return how far images lie from the training images: float64, (n,). appearance: (n, f).

        Where odds of a change are known, the larger of both, each in steps from the middle of images of
        patients whom it was not learnt from to that which one in ten of these reaches.
        """
        far = np.sqrt(((self._standardised(appearance) @ np.array(self.whitening)) ** 2).sum(1))
        if not self.changes:
            return np.asarray(far)
        odds = self.changes.direction.odds(appearance)
        return np.maximum(self.changes.of_distance.steps(far), self.changes.of_odds.steps(odds))

    def _standardised(self, appearance: np.ndarray) -> np.ndarray:
        statistics, pixels = appearance[:, :NUM_STATISTICS], appearance[:, NUM_STATISTICS:]
        components = np.array(self.components).reshape(-1, NUM_PIXELS)
        along, rest = _projected(pixels - np.array(self.pixels_mean), components)
        return np.column_stack(
            [
                (statistics - np.array(self.statistics_mean)) / np.array(self.statistics_deviation),
                along / np.array(self.components_deviation),
                (rest - self.rest_mean) / self.rest_deviation,
            ]
        )


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Tells whether one patient, or one picture, is like the training data."""

    num: int
    """Validation patients that it is held against."""
    num_as_far: int
    """Those who lie as far from the training images, or farther."""
    reason: str = ""
    """Reason for which nothing is known; empty where something is."""

    @property
    def is_known(self) -> bool:
        """Tell whether it could have been called unlike."""
        return not self.reason

    @property
    def p(self) -> float | None:
        """Return the conformal p-value."""
        return (1 + self.num_as_far) / (self.num + 1) if self.is_known else None

    @property
    def is_unlike(self) -> bool:
        """Tell whether it is called not like the training data."""
        return self.p is not None and self.p <= ALARM

    @property
    def words(self) -> str:
        """Say it in one sentence."""
        if not self.is_known:
            return f"Whether this is like the training data is not known: {self.reason}"
        lie = "lies" if self.num_as_far == 1 else "lie"
        of = f"{self.num_as_far} of {counted(self.num, 'validation patient')} {lie} as far from it"
        if not self.is_unlike:
            return (
                f"No sign that this is {NOT_LIKE}, by grey values, edges, extent and coarse shape: {of}; "
                "1 in 10 patients like those would be called unlike by mistake"
            )
        return (
            f"This is {NOT_LIKE}, by grey values, edges, extent or coarse shape: {of}; "
            "1 in 10 patients like those is called so by mistake"
        )

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return {
            "is_unlike": self.is_unlike if self.is_known else None,
            "p": self.p,
            "validation_patients": self.num,
            "as_far": self.num_as_far,
            "words": self.words,
        }


@dataclass(frozen=True, kw_only=True)
class NoResemblance:
    """Nothing is known of what a run's training images look like."""

    reason: str

    def verdict(self, _distances: Sequence[float]) -> Verdict:
        """Say so of one patient, or picture."""
        return Verdict(num=0, num_as_far=0, reason=self.reason)


@dataclass(frozen=True, kw_only=True)
class Resemblance:
    """Appearance of a run's training images, and how far validation patients lie from them."""

    model_digest: str
    """Of the run's model; empty where its provenance names none."""
    num_images: int
    """Training images that it was made of."""
    space: Space
    validation: tuple[Row, ...]
    """Distances of the images of each validation patient, in an order drawn by chance.

    These patients chose the epoch of the model, and nothing here: that is why they can be held against."""

    def verdict(self, distances: Sequence[float]) -> Verdict:
        """Hold one patient, or picture, against validation patients, by as many images of each.

        For a median over fewer images varies more. distances: of the patient's images.
        """
        if (num := len(self.validation)) < FEWEST:
            have = f"it needs {FEWEST} validation patients, and the run has {num}"
            return Verdict(num=num, num_as_far=0, reason=have)
        own, most = float(np.median(distances)), len(distances)
        as_far = sum(float(np.median(others[:most])) >= own for others in self.validation)
        return Verdict(num=num, num_as_far=as_far)


def fit_space(appearance: np.ndarray) -> Space:
    """Find where training images lie. appearance: float64, (n, f), n at least 2, from appearance_of."""
    from sklearn.covariance import ledoit_wolf

    statistics, pixels = appearance[:, :NUM_STATISTICS], appearance[:, NUM_STATISTICS:]
    mean = pixels.mean(0)
    components = np.linalg.svd(pixels - mean, full_matrices=False)[2][:NUM_COMPONENTS]
    along, rest = _projected(pixels - mean, components)
    plain = Space(
        statistics_mean=_row(statistics.mean(0)),
        statistics_deviation=_row(statistics.std(0) + LEAST_DEVIATION),
        pixels_mean=_row(mean),
        components=tuple(_row(one) for one in components),
        components_deviation=_row(along.std(0) + LEAST_DEVIATION),
        rest_mean=float(rest.mean()),
        rest_deviation=float(rest.std() + LEAST_DEVIATION),
        whitening=tuple(_row(one) for one in np.eye(NUM_STATISTICS + len(components) + 1)),
    )
    covariance, _shrinkage = ledoit_wolf(plain._standardised(appearance), assume_centered=True)
    # A direction that no training image varies in would be infinitely far.
    covariance += LEAST_DEVIATION * np.eye(len(covariance))
    whitening = np.linalg.cholesky(np.linalg.inv(covariance))
    return Space(**{**vars(plain), "whitening": tuple(_row(one) for one in whitening)})


def fit_with_changes(
    appearance: np.ndarray, copies: Mapping[str, np.ndarray], *, of: np.ndarray, half: np.ndarray
) -> Space:
    """Find where training images lie, and what sets turned and resized copies of them apart.

    appearance: as of `fit_space`. copies: by change, small pixels of copies, (m, NUM_PIXELS); of: int, (m,),
    the images that they are copies of. half: bool, (n,), images of about half of the patients: learnt from by
    halves, the others tell in which steps both are counted.
    """
    far, odds = [], []
    for is_in in (half, ~half):
        rows = is_in[of]
        space = fit_space(appearance[is_in])
        direction = fit_direction(appearance[is_in], {name: one[rows] for name, one in copies.items()})
        far.append(space.distances(appearance[~is_in]))
        odds.append(direction.odds(appearance[~is_in]))
    changes = Changes(
        direction=fit_direction(appearance, copies),
        of_distance=_steps(np.concatenate(far)),
        of_odds=_steps(np.concatenate(odds)),
    )
    return replace(fit_space(appearance), changes=changes)


def _steps(values: np.ndarray) -> Steps:
    middle, reached = np.quantile(values, [0.5, 1 - ALARM])
    return Steps(middle=float(middle), length=float(reached - middle + LEAST_DEVIATION))


def write_resemblance(run: RunDir, found: Resemblance) -> None:
    """Publish it, in place of the one before."""
    # A version that knows no changes reads what has none.
    number = FORMAT if found.space.changes else 1
    replace_bytes(run.resemblance, seal(with_format(number, asdict(found))))


def load_resemblance(run: RunDir) -> Resemblance | NoResemblance:
    """Read what was kept; none of a run that has none. UserError where it is damaged."""
    advice = f"mri-hpc evaluate {run.path} makes it again, where the store is still there"
    found = read_of_model(run.resemblance, run, Resemblance, reads=FORMAT, advice=f"remove it, and {advice}")
    without = f"the run has no {run.resemblance.name}; {advice.replace(' again', '')}"
    if run.record.exists():
        without = f"the model was kept without {run.resemblance.name}, and never changes; add its run anew"
    return found or NoResemblance(reason=without)


def _projected(pixels: np.ndarray, components: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return small pixels along components, (n, k), and the logarithm of what is left, (n,)."""
    along = pixels @ components.T
    rest = np.sqrt(((pixels - along @ components) ** 2).mean(1))
    return along, np.log(rest + LEAST_DEVIATION)


def _row(values: np.ndarray) -> Row:
    """Return numbers as they are written: seven digits."""
    return tuple(float(f"{value:.7g}") for value in values)
