"""Changes that are planted into training images, so that turned and resized heads can be told from them.

A distance from the training images adds up all ways in which they vary, and a head that is upside down, or
somewhat smaller, lies within that. What tells it is one direction: that from an image to its changed copy.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from mri_hpc.results.answers.appearance import NUM_STATISTICS, small_pixels_of

SMALLER, LARGER = (0.6, 0.9), (1.15, 1.6)
"""Sizes of a head among which copies are drawn."""
STRENGTH = 0.01
"""Of the classifier, the inverse of its regularisation. Chosen, with the small pixels alone, on Cheng's
folds: statistics beside them find more heads that are smaller and fewer that are upside down, finer pixels
fewer of both."""
FARTHEST = 5.0
"""Deviations from the mean beyond which a feature says no more."""
LEAST_CONTRAST = 0.02
"""Added to the deviation of small pixels; grey values go from 0 to 1."""
Row = tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Direction:
    """Odds that an image was turned or resized, by what sets copies of training images apart from these."""

    mean: Row
    deviation: Row
    as_it_is: Row
    """Weights of an image as it is; the last is the constant."""
    changed: tuple[Row, ...]
    """Those of each change."""

    def odds(self, appearance: np.ndarray) -> np.ndarray:
        """Return the logarithm of the odds of a change: float64, (n,). appearance: of images, (n, f)."""
        scaled = (_shapes(appearance[:, NUM_STATISTICS:]) - np.array(self.mean)) / np.array(self.deviation)
        seen = np.column_stack([np.clip(scaled, -FARTHEST, FARTHEST), np.ones(len(scaled))])
        changed = np.logaddexp.reduce(seen @ np.array(self.changed).T, axis=1)
        return np.asarray(changed - seen @ np.array(self.as_it_is))


def fit_direction(as_they_are: np.ndarray, copies: Mapping[str, np.ndarray]) -> Direction:
    """Learn to tell copies from images, by their small pixels.

    as_they_are: appearance, float64, (n, f); copies: by change, of `look_at_copies`, (m, NUM_PIXELS).
    """
    from sklearn.linear_model import LogisticRegression

    parts = [_shapes(part) for part in (as_they_are[:, NUM_STATISTICS:], *copies.values())]
    features = np.concatenate(parts)
    mean, deviation = features.mean(0), features.std(0) + 1e-6
    scaled = np.clip((features - mean) / deviation, -FARTHEST, FARTHEST)
    which = np.concatenate([np.full(len(part), number) for number, part in enumerate(parts)])
    learnt = LogisticRegression(C=STRENGTH, max_iter=500).fit(scaled, which)
    weights = np.column_stack([learnt.coef_, learnt.intercept_])
    return Direction(
        mean=_row(mean),
        deviation=_row(deviation),
        as_it_is=_row(weights[0]),
        changed=tuple(_row(one) for one in weights[1:]),
    )


def look_at_copies(images: np.ndarray, random: np.random.Generator) -> dict[str, np.ndarray]:
    """Turn and resize images about their middle, and keep small pixels: float64, (n, pixels) by change."""
    return {
        name: np.stack([small_pixels_of(change(one, random)) for one in images])
        for name, change in CHANGES.items()
    }


def _shapes(pixels: np.ndarray) -> np.ndarray:
    """Return small pixels whatever their brightness and contrast: float64, (n, NUM_PIXELS)."""
    mean, deviation = pixels.mean(1, keepdims=True), pixels.std(1, keepdims=True)
    return np.asarray((pixels - mean) / (deviation + LEAST_CONTRAST))


def _turned(quarters: int) -> Callable[[np.ndarray, np.random.Generator], np.ndarray]:
    return lambda image, _random: np.ascontiguousarray(_of_shape(np.rot90(image, quarters), image))


def _resized(smallest: float, largest: float) -> Callable[[np.ndarray, np.random.Generator], np.ndarray]:
    def resize(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
        middle = (image.shape[1] / 2 - 0.5, image.shape[0] / 2 - 0.5)
        by = cv2.getRotationMatrix2D(middle, 0, float(random.uniform(smallest, largest)))
        return np.asarray(cv2.warpAffine(image, by, image.shape[::-1], flags=cv2.INTER_AREA))

    return resize


def _of_shape(turned: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Return a turned image in the shape that the image had."""
    if turned.shape == image.shape:
        return turned
    return np.asarray(cv2.resize(np.ascontiguousarray(turned), image.shape[::-1]))


def _row(values: np.ndarray) -> Row:
    """Return numbers as they are written: seven digits."""
    return tuple(float(f"{value:.7g}") for value in values)


CHANGES: Mapping[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "turned by 90 degrees": _turned(1),
    "turned by 180 degrees": _turned(2),
    "turned by 270 degrees": _turned(3),
    "smaller": _resized(*SMALLER),
    "larger": _resized(*LARGER),
}
