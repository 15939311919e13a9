"""The first layer of a network for colour images, as one for grey images that says the same."""

from dataclasses import dataclass

import torch
import torchvision
from torch import nn

from mri_hpc.loading.augment import IMAGENET_DEVIATION, IMAGENET_MEAN, Normalisation

COLOURS = 3
CHANNELS: dict[Normalisation, int] = {"image": 1, "imagenet": 2}
"""Of the first layer: grey, and for imagenet a channel of ones."""
OF_CHANNELS: dict[int, Normalisation] = {channels: how for how, channels in CHANNELS.items()}
SHIFT_THEIR_INPUT = ("inception_v3", "googlenet")
"""With torchvision's weights, these map what they are given to a mean and a deviation of 0.5."""


@dataclass(frozen=True, kw_only=True)
class Colours:
    """Factors by which a network's weights take red, green and blue, where white is 1."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]


def colours_of(model: str) -> Colours:
    """Return the normalisation with which torchvision trained the model of that name."""
    if model in SHIFT_THEIR_INPUT:
        return Colours(mean=(0.5,) * COLOURS, deviation=(0.5,) * COLOURS)
    transforms = torchvision.models.get_model_weights(model).DEFAULT.transforms()
    return Colours(mean=tuple(transforms.mean), deviation=tuple(transforms.std))


def first_layer(network: nn.Module) -> tuple[str, nn.Conv2d]:
    """Name and module of the layer that sees the image."""
    return next((name, module) for name, module in network.named_modules() if isinstance(module, nn.Conv2d))


def see_grey(network: nn.Module, how: Normalisation, colours: Colours) -> None:
    """Have a network for colour images take grey ones, of CHANNELS[how] channels."""
    _name, layer = first_layer(network)
    assert layer.in_channels == COLOURS and layer.groups == 1
    layer.in_channels = CHANNELS[how]
    layer.weight = nn.Parameter(folded(layer.weight.detach(), how, colours))


def folded(weight: torch.Tensor, how: Normalisation, colours: Colours) -> torch.Tensor:
    """Make weights that see in a grey image what the given ones see in it as a colour image.

    image: all colours are shown the standardised grey. imagenet: each colour is shown grey as the weights
    take that colour, which is grey times a factor plus a constant. The constant comes in by a channel of
    ones, not by the bias: what pads the image is zero after normalising, so it plays no part in it.
    weight: (out, 3, h, w); returns (out, CHANNELS[how], h, w).
    """
    exact, dtype = weight.double(), torch.promote_types(weight.dtype, torch.float32)
    if how == "image":
        return exact.sum(1, keepdim=True).to(dtype)
    mean, deviation = (torch.tensor(v, dtype=torch.float64) for v in (colours.mean, colours.deviation))
    factor = IMAGENET_DEVIATION / deviation
    constant = (IMAGENET_MEAN - mean) / deviation
    parts = [(exact * scale[:, None, None]).sum(1) for scale in (factor, constant)]
    return torch.stack(parts, 1).to(dtype)
