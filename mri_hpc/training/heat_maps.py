"""Heat maps: the parts of an image that speak for the class which a network answers.

Grad-CAM (Selvaraju and others 2017), by torch alone: the libraries for it cost scikit-learn and scipy, or do
without numpy 2.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn
from torch.nn.functional import interpolate, relu

from mri_hpc.loading.augment import standardised
from mri_hpc.training.model import GreyClassifier

LEAST_SIDE = 4
"""Of a feature map, below which it tells quarters of the image at best."""
BATCH = 64


class NoFeatureMap(Exception):
    """The network has no layer whose map could be shown, for images of that size."""


class HeatMaps:
    """Draws heat maps of one model's answers."""

    def __init__(self, model: GreyClassifier, image_shape: tuple[int, int]) -> None:
        """Find the last feature map that is fine enough; NoFeatureMap where the network has none.

        model: finished, for prediction; nothing in it learns from here on.
        """
        self._model = model.eval().requires_grad_(False)
        self.layer, self.side = feature_map(model, image_shape)
        """Name of the layer, and side of its feature map."""

    def of(self, images: np.ndarray, answers: np.ndarray) -> np.ndarray:
        """Draw the map of each image: float32, (n, H, W), up to 1; all 0 where nothing speaks for the answer.

        images: uint8 or uint16, (n, H, W), as a recipe makes them. answers: int64, (n,), index into classes.
        """
        parts = [
            self._of_batch(images[start : start + BATCH], answers[start : start + BATCH])
            for start in range(0, len(images), BATCH)
        ]
        return np.concatenate(parts) if parts else np.zeros(images.shape, np.float32)

    def _of_batch(self, images: np.ndarray, answers: np.ndarray) -> np.ndarray:
        device = next(self._model.parameters()).device
        pixels = standardised(torch.from_numpy(images).to(device), self._model.normalisation)
        features: list[torch.Tensor] = []

        def keep(_layer: nn.Module, _given: object, found: torch.Tensor) -> torch.Tensor:
            features.append(found.detach().requires_grad_())
            # What follows may work in place.
            return features[-1].clone()

        hook = self._model.network.get_submodule(self.layer).register_forward_hook(keep)
        try:
            with torch.enable_grad():
                logits = self._model(pixels)
                chosen = logits.gather(1, torch.from_numpy(answers).to(device)[:, None]).sum()
                (gradient,) = torch.autograd.grad(chosen, features[-1])
        finally:
            hook.remove()
        weights = gradient.mean((2, 3), keepdim=True)
        heat = relu((weights * features[-1]).sum(1, keepdim=True)).detach()
        heat = interpolate(heat, size=images.shape[1:], mode="bilinear", align_corners=False)[:, 0]
        largest = heat.amax((1, 2), keepdim=True)
        return np.asarray((heat / largest.where(largest > 0, 1)).float().cpu().numpy())


def feature_map(model: GreyClassifier, image_shape: tuple[int, int]) -> tuple[str, int]:
    """Find the layer that gives the last feature map fine enough, and the side of that map, by their shapes.

    NoFeatureMap where there is none: the network is too coarse for such images, or cuts them into tokens.
    """
    shapes, stages = _shapes(model, image_shape), set(_stages(model.network))
    maps = [
        at
        for at, (name, shape) in enumerate(shapes)
        if name in stages and len(shape) == 4 and shape[2] == shape[3] >= LEAST_SIDE
    ]
    if maps:
        name, shape = shapes[maps[-1]]
        is_last = all(len(of) == 2 or of[2:] == (1, 1) for _name, of in shapes[maps[-1] + 1 :])
        # One halving before the last: what comes before that sees edges, and no findings.
        if is_last or (shape[2] < 2 * LEAST_SIDE and not _has_tokens(shapes[maps[-1] :])):
            return name, shape[2]
    height, width = image_shape
    raise NoFeatureMap(
        f"the network has no feature map of {LEAST_SIDE} × {LEAST_SIDE} or more near its end, for images of "
        f"{height} × {width} pixels"
    )


def _shapes(model: GreyClassifier, image_shape: tuple[int, int]) -> list[tuple[str, tuple[int, ...]]]:
    """List name and shape of what each layer gives, in the order in which they end."""
    found: list[tuple[str, tuple[int, ...]]] = []
    hooks = [
        layer.register_forward_hook(
            lambda _layer, _given, out, name=name: (
                found.append((name, tuple(out.shape))) if isinstance(out, torch.Tensor) else None
            )
        )
        for name, layer in model.network.named_modules()
        # It makes maps of a size that says nothing of what it sees.
        if name and not isinstance(layer, nn.AdaptiveAvgPool2d)
    ]
    try:
        with torch.inference_mode():
            model(torch.zeros(1, *image_shape, device=next(model.parameters()).device))
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _stages(network: nn.Module, prefix: str = "") -> Iterator[str]:
    """Name the layers that all of an image goes through, one after the other: none of a block's branches."""
    for name, layer in network.named_children():
        yield prefix + name
        if isinstance(layer, nn.Sequential | nn.ModuleList):
            yield from _stages(layer, f"{prefix}{name}.")


def _has_tokens(shapes: list[tuple[str, tuple[int, ...]]]) -> bool:
    return any(len(shape) == 3 for _name, shape in shapes)
