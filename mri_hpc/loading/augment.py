"""Grey images as the network sees them: standardised, and in training moved a little at random."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch.nn.functional import affine_grid, grid_sample

from mri_hpc.intake.decoding.recipe import DEEP_STEP
from mri_hpc.loading.distortion import distortion_of
from mri_hpc.loading.order import uniform

ROTATION_DEGREES = 15.0
SCALE = 0.1
SHIFT = 0.05
CONTRAST = 0.15
BRIGHTNESS = 0.15
FLIP_PROBABILITY = 0.5

LEAST_DEVIATION = 1e-3
"""Grey levels; an image of one grey becomes zeros."""
WHITE = 255.0
IMAGENET_MEAN = 0.449
"""Of the colours of ImageNet's images, taken together; white is 1."""
IMAGENET_DEVIATION = 0.226

Normalisation = Literal["image", "imagenet"]
"""image: by each image's own mean and deviation; imagenet: by those of all images of ImageNet."""


@dataclass(frozen=True, kw_only=True)
class Draw:
    """Parameters of augmentation for each image of a batch."""

    theta: np.ndarray
    """Affine maps from output to input, in units of half the image: float32, (b, 2, 3)."""
    contrast: np.ndarray
    """Factors: float32, (b,)."""
    brightness: np.ndarray
    """Shifts, in standard deviations of the image: float32, (b,)."""


def draw(keys: np.ndarray, seed: int, epoch: int, *, flips: bool = True) -> Draw:
    """Draw parameters for each image in an epoch: f(seed, epoch, key). keys: uint64, (b,).

    flips: whether left and right may be exchanged; the other draws are the same with and without.
    """
    flip, turn, scale, right, down, contrast, brightness = (
        uniform(keys, seed, epoch, number) * 2 - 1 for number in range(7)
    )
    angle = np.deg2rad(ROTATION_DEGREES) * turn
    size = 1 + SCALE * scale
    mirror = np.where(flips & (flip < 2 * FLIP_PROBABILITY - 1), -1.0, 1.0)
    theta = np.empty((len(keys), 2, 3), np.float32)
    theta[:, 0, 0], theta[:, 0, 1] = mirror * size * np.cos(angle), -size * np.sin(angle)
    theta[:, 1, 0], theta[:, 1, 1] = mirror * size * np.sin(angle), size * np.cos(angle)
    # A shift by SHIFT of the image is one by 2 · SHIFT in coordinates that run from -1 to 1.
    theta[:, 0, 2], theta[:, 1, 2] = 2 * SHIFT * right, 2 * SHIFT * down
    return Draw(
        theta=theta,
        contrast=(1 + CONTRAST * contrast).astype(np.float32),
        brightness=(BRIGHTNESS * brightness).astype(np.float32),
    )


def grey_levels(images: torch.Tensor) -> torch.Tensor:
    """Return stored images, uint8 or uint16, with 255 as their white: float32, of their shape."""
    return images.float() / DEEP_STEP if images.dtype == torch.uint16 else images.float()


def standardised(images: torch.Tensor, how: Normalisation) -> torch.Tensor:
    """Standardise images as a network is shown them.

    image: with mean 0 and deviation 1 each, whatever the scanner's scale. imagenet: black and white are the
    same in all images, and near what a network that was trained on photographs expects.
    images: uint8, uint16 or float32, (b, H, W), in grey levels; returns float32, (b, H, W).
    """
    images = grey_levels(images)
    if how == "imagenet":
        return (images / WHITE - IMAGENET_MEAN) / IMAGENET_DEVIATION
    deviation, mean = torch.std_mean(images, dim=(1, 2), keepdim=True, correction=0)
    return (images - mean) / deviation.clamp(min=LEAST_DEVIATION)


def augmented(
    images: torch.Tensor,
    keys: np.ndarray,
    seed: int,
    epoch: int,
    how: Normalisation,
    *,
    flips: bool = True,
    distorts: bool = False,
) -> torch.Tensor:
    """Augment and standardise images for a training step. images: uint8 or uint16; keys: uint64, (b,).

    distorts: whether they are bent, curved, blurred and partly covered too.
    """
    drawn = draw(keys, seed, epoch, flips=flips)
    theta, contrast, brightness = (
        torch.from_numpy(values).to(images.device, non_blocking=True)
        for values in (drawn.theta, drawn.contrast, drawn.brightness)
    )
    distortion = distortion_of(keys, seed, epoch).to(images.device) if distorts else None
    grid = affine_grid(theta, [len(images), 1, *images.shape[1:]], align_corners=False)
    if distortion:
        grid = distortion.bent(grid)
    # The border, not zero: what lies around a slice is as dark as its edge, whatever the scale.
    moved = grid_sample(
        grey_levels(images)[:, None], grid, mode="bilinear", padding_mode="border", align_corners=False
    )[:, 0]
    if distortion:
        moved = distortion.blurred(distortion.curved(moved))
    # After standardising by the image, which would undo both.
    changed = standardised(moved, "image") * contrast[:, None, None] + brightness[:, None, None]
    if distortion:
        changed = distortion.covered(changed)
    if how == "image":
        return changed
    deviation, mean = torch.std_mean(moved, dim=(1, 2), keepdim=True, correction=0)
    return standardised(changed * deviation + mean, how)
