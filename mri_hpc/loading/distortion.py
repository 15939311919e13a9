"""Distortions of training images: bent, with another curve of grey values, blurred, partly covered."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import avg_pool2d, interpolate

from mri_hpc.loading.order import uniform

KNOTS = 6
"""Along each side, that are moved; what lies between follows by bicubic splines."""
BEND = 0.03
"""Deviation by which a knot moves, in units of half the image."""
CURVE = 0.2
"""Largest logarithm of the exponent of grey values."""
BLUR = 0.3
"""Largest magnitude to which the mean of 3 × 3 pixels takes a pixel's place; below 0 it is sharpened."""
COVERED_PROBABILITY = 0.25
LEAST_COVER, MOST_COVER = 0.1, 0.3
"""Sides of what covers a part of an image, in parts of the image's own."""
FIRST_NUMBER = 10
"""Sets these draws apart from those of the moves."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Distortion:
    """The distortions of each image of a batch."""

    knots: torch.Tensor
    """Moves of knots, right and down: float32, (b, 2, KNOTS, KNOTS)."""
    exponent: torch.Tensor
    """Of grey values, in parts of the image's highest: float32, (b,)."""
    blur: torch.Tensor
    """Parts to which a pixel becomes the mean around it: float32, (b,)."""
    cover: torch.Tensor
    """Left, top, right and bottom of what is covered, in parts of the image: float32, (b, 4)."""

    def to(self, device: torch.device) -> "Distortion":
        """Return the same on a device."""
        tensors = {name: tensor.to(device, non_blocking=True) for name, tensor in vars(self).items()}
        return Distortion(**tensors)

    def bent(self, grid: torch.Tensor) -> torch.Tensor:
        """Bend a grid of places in the image, from -1 to 1: float32, (b, H, W, 2)."""
        moves = interpolate(self.knots, size=grid.shape[1:3], mode="bicubic", align_corners=False)
        return grid + moves.permute(0, 2, 3, 1)

    def curved(self, images: torch.Tensor) -> torch.Tensor:
        """Give images another curve of grey values, with the same black and highest: float32, (b, H, W)."""
        highest = images.amax((1, 2), keepdim=True).clamp(min=1.0)
        return highest * (images / highest).clamp(min=0) ** self.exponent[:, None, None]

    def blurred(self, images: torch.Tensor) -> torch.Tensor:
        """Blur or sharpen images: float32, (b, H, W)."""
        mean = avg_pool2d(images[:, None], 3, 1, 1, count_include_pad=False)[:, 0]
        return images + self.blur[:, None, None] * (mean - images)

    def covered(self, images: torch.Tensor) -> torch.Tensor:
        """Cover a part of some images by 0, the mean of a standardised one: float32, (b, H, W)."""
        height, width = images.shape[1:]
        across = (torch.arange(width, device=images.device) + 0.5) / width
        down = (torch.arange(height, device=images.device) + 0.5) / height
        left, top, right, bottom = (self.cover[:, side, None] for side in range(4))
        columns, rows = (across >= left) & (across < right), (down >= top) & (down < bottom)
        return images.masked_fill(rows[:, :, None] & columns[:, None, :], 0.0)


def distortion_of(keys: np.ndarray, seed: int, epoch: int) -> Distortion:
    """Draw the distortions of each image in an epoch: f(seed, epoch, key). keys: uint64, (b,)."""
    numbers = iter(range(FIRST_NUMBER, FIRST_NUMBER + 7 + 2 * KNOTS**2))
    drawn = np.stack([uniform(keys, seed, epoch, number) for number in numbers], 1)
    curve, blur, is_covered, width, height, left, top = drawn[:, :7].T
    across, down = (LEAST_COVER + (MOST_COVER - LEAST_COVER) * side for side in (width, height))
    across = np.where(is_covered < COVERED_PROBABILITY, across, 0.0)
    left, top = left * (1 - across), top * (1 - down)
    # Of uniform draws: in ±√3 of their deviation.
    knots = BEND * math.sqrt(3) * (2 * drawn[:, 7:] - 1)
    return Distortion(
        knots=_float(knots.reshape(-1, 2, KNOTS, KNOTS)),
        exponent=_float(np.exp(CURVE * (2 * curve - 1))),
        blur=_float(BLUR * (2 * blur - 1)),
        cover=_float(np.stack([left, top, left + across, top + down], 1)),
    )


def _float(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(values.astype(np.float32))
