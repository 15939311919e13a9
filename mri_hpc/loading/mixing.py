"""Mixup: images of a step in pairs, each pair at one share (Zhang et al. 2018, arXiv 1710.09412)."""

from dataclasses import dataclass
from itertools import count

import numpy as np
import torch

from mri_hpc.loading.order import permutation, seed_of, uniform

MIXING_STREAM = 3
"""Sets these draws apart from those of weights and steps."""
MIXED_STEPS = 0.5
"""Part of the steps in which images are mixed; in the others they are as they are."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Mixing:
    """The way in which the images of a micro-batch are mixed."""

    share: float
    """Of the image itself, from 0 to 1; the rest is its partner's."""
    partners: torch.Tensor
    """Positions in the micro-batch: int64, (b,)."""

    def of_images(self, images: torch.Tensor) -> torch.Tensor:
        """Mix images that are standardised: float32, (b, H, W)."""
        return self.share * images + (1 - self.share) * self.of_others(images)

    def of_others(self, values: torch.Tensor) -> torch.Tensor:
        """Return what the partners have."""
        return values[self.partners.to(values.device)]


def mixing_of(alpha: float, keys: np.ndarray, *numbers: int) -> Mixing | None:
    """Draw how a micro-batch is mixed, by beta(alpha, alpha): f(numbers, keys); None where it is not.

    keys: uint64, (b,), of its images; numbers: seed, step, and what tells the micro-batch from others of the
    step. Own arithmetic, as for the order of samples.
    """
    seed = seed_of(MIXING_STREAM, *numbers)
    if not alpha or _draw(seed, 0) >= MIXED_STEPS:
        return None
    return Mixing(share=_beta(alpha, seed), partners=torch.from_numpy(permutation(keys, seed, 0)))


def _beta(alpha: float, seed: int) -> float:
    """Draw from beta(alpha, alpha), alpha at most 1: of Jöhnk's pairs (1964) the first of a sum up to 1."""
    for number in count(1):
        one, other = (_draw(seed, number, part) ** (1 / alpha) for part in range(2))
        if 0 < one + other <= 1:
            return one / (one + other)
    raise AssertionError


def _draw(*numbers: int) -> float:
    """Draw a number in [0, 1)."""
    return float(uniform(np.zeros(1, np.uint64), *numbers)[0])
