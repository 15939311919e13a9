"""Weights from files of others and of ours: reading them, and fitting them to a network."""

import logging
import pickle
import re
import struct
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn
from torchvision.models.vision_transformer import VisionTransformer, interpolate_embeddings

from mri_hpc.base.errors import UserError
from mri_hpc.loading.augment import Normalisation
from mri_hpc.training.first_layer import COLOURS, Colours, first_layer, folded
from mri_hpc.training.published_names import as_torchvision_names, preferred

WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "teacher")
"""Names under which checkpoints of others keep their weights."""
OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")
"""Names of layers in torchvision's files of densenets, which are older than its rule against dots in them."""
MOST_NAMED = 3
NOT_WEIGHTS = (
    SafetensorError, RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError,
    AssertionError, ArithmeticError, MemoryError, struct.error,
)  # fmt: skip
"""Errors of torch, and of safetensors, where the bytes are something else."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Start:
    """Weights to start from, by the names that the network gives them."""

    origin: str
    """The user's words for them."""
    tensors: Mapping[str, torch.Tensor]


def read_start(path: Path, network: nn.Module, *, origin: str) -> Start:
    """Read the weights of a file, without what others put before their names. Raises UserError.

    origin: what the user typed, for messages.
    """
    found = {OLD_DENSENET.sub(r"\1\2", name): tensor for name, tensor in _read(path, origin).items()}
    found = dict(as_torchvision_names(found, network))
    prefix = _prefix(found, network.state_dict(), first_layer(network)[0])
    return Start(origin=origin, tensors={name.removeprefix(prefix): t for name, t in found.items()})


def start_from(
    network: nn.Module, start: Start, *, model: str, head: Sequence[str], how: Normalisation, colours: Colours
) -> None:
    """Load the weights; the head stays as it is where theirs is of other classes.

    network: one that sees grey. model: its name, for messages. head: names of the tensors of its last layer.
    Raises UserError where they are not of this model.
    """
    wanted = network.state_dict()
    found = _as_the_network_is(network, start.tensors, how, colours)
    fits = all(name in found and found[name].shape == wanted[name].shape for name in head)
    left = [] if fits else head
    # Files of old versions of torch do not count batches.
    needed = [n for n in wanted if n not in left and (n in found or not n.endswith("num_batches_tracked"))]
    missing = [name for name in needed if name not in found]
    other = [name for name in needed if name in found and found[name].shape != wanted[name].shape]
    unknown = [name for name in found if name not in wanted]
    if missing or other or _of_deeper_network(network, unknown, head):
        shapes = [f"{n} {_size(found[n])} instead of {_size(wanted[n])}" for n in other]
        faults = {"missing": missing, "of another shape": shapes, "unknown": unknown}
        _refuse(f"{start.origin} does not fit --model {model}", len(wanted), faults)
    load_weights(network, {**wanted, **{name: found[name] for name in needed}}, of=start.origin)
    log.info("%s: %d of %d tensors taken", start.origin, len(needed), len(wanted))
    log.info("left at random, a head of other classes: %s", ", ".join(left) or "none")
    log.info("not used: %s", ", ".join(unknown) or "none")


def load_weights(network: nn.Module, weights: Mapping[str, torch.Tensor], *, of: Path | str) -> None:
    """Load all weights of a network. Raises UserError where they are those of another model.

    of: where they come from, to be named.
    """
    state = network.state_dict()
    shapes = {name: tensor.shape for name, tensor in state.items()}
    if shapes != {name: tensor.shape for name, tensor in weights.items()}:
        raise UserError(f"{of} holds the weights of another model than {type(network).__name__} of this run")
    # Into the dictionary that the network made: it carries the versions of layers, which some ask for.
    state.update(weights)
    network.load_state_dict(state)


def check_numbers(start: Start, network: nn.Module) -> None:
    """Raise UserError where a tensor that the network would take is not made of plain, finite numbers."""
    odd = [
        name
        for name, tensor in start.tensors.items()
        if name in network.state_dict() and not _is_plain_and_finite(tensor)
    ]
    if odd:
        raise UserError(
            f"{start.origin}: {len(odd)} of its tensors are not made of finite numbers ({_some(odd)}): "
            f"the training that wrote them had failed, or they were saved incompletely; use another file"
        )


def _is_plain_and_finite(tensor: torch.Tensor) -> bool:
    is_plain = tensor.layout is torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
    return is_plain and not tensor.is_complex() and bool(torch.isfinite(tensor).all())


def _of_deeper_network(network: nn.Module, unknown: Sequence[str], head: Sequence[str]) -> bool:
    """Tell whether there are layers within the network's parts that it lacks, as resnet34's in resnet18.

    Heads differ in how many layers they have, and what stands beside the parts is something else.
    """
    parts = {name for name, _ in network.named_children()} - {name.partition(".")[0] for name in head}
    return any(name.partition(".")[0] in parts for name in unknown)


def _as_the_network_is(
    network: nn.Module, tensors: Mapping[str, torch.Tensor], how: Normalisation, colours: Colours
) -> Mapping[str, torch.Tensor]:
    """Return the tensors with a first layer for grey, and positions for images of the network's size."""
    found = dict(tensors)
    name = f"{first_layer(network)[0]}.weight"
    if name in found and found[name].dim() == 4 and found[name].shape[1] == COLOURS:
        found[name] = folded(found[name], how, colours)
    if isinstance(network, VisionTransformer) and "encoder.pos_embedding" in found:
        size, patch = network.image_size, network.patch_size
        try:
            return interpolate_embeddings(size, patch, found)
        except ValueError:
            # Of no square image: the shape that is found is named with the others.
            pass
    return found


def _prefix(found: Mapping[str, Any], wanted: Iterable[str], first: str) -> str:
    """Find the prefix of names in a file (module., model., backbone.): with it, most are known."""
    known, end = set(wanted), f"{first}.weight"
    prefixes = ["", *preferred([name.removesuffix(end) for name in found if name.endswith(f".{end}")])]
    return max(prefixes, key=lambda prefix: len(known & {name.removeprefix(prefix) for name in found}))


def _refuse(what: str, num_wanted: int, faults: Mapping[str, list[str]]) -> None:
    for fault, names in faults.items():
        log.info("%s: %s: %s", what, fault, ", ".join(names) or "none")
    parts = [f"{len(names)} {fault} ({_some(names)})" for fault, names in faults.items() if names]
    raise UserError(
        f"{what}: of {num_wanted} tensors, {'; '.join(parts)}; name the --model that the weights are of"
    )


def _some(names: list[str]) -> str:
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _size(tensor: torch.Tensor) -> str:
    return " × ".join(map(str, tensor.shape)) or "a number"


def _read(path: Path, origin: str) -> Mapping[str, torch.Tensor]:
    if not path.is_file():
        raise UserError(
            f"{origin} does not exist, or is no file: give a .pth or .safetensors file, or pretrained"
        )
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        with warnings.catch_warnings():
            # About other protocols of pickles, which are read or refused below.
            warnings.simplefilter("ignore")
            # weights_only: a pickle could run anything.
            values = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UserError(
            f"{origin} is not a file of weights, or holds other things beside them, which could run "
            f"anything and are not read: where you trust it, save its weights alone with "
            f"torch.save(torch.load(FILE, weights_only=False)['state_dict'], NEW), or of a whole model "
            f"with torch.save(model.state_dict(), NEW)"
        ) from None
    except NOT_WEIGHTS as error:
        reason = str(error).strip().split("\n")[0] or "it is cut short"
        raise UserError(
            f"{origin} is not a file of weights (a state_dict as .pth, or .safetensors): {reason}"
        ) from None
    wrapper = next((name for name in WRAPPERS if isinstance(values, dict) and name in values), None)
    values = values[wrapper] if wrapper else values
    if not isinstance(values, dict):
        raise UserError(f"{origin} holds a {type(values).__name__}, not a state_dict")
    return {str(name): value for name, value in values.items() if isinstance(value, torch.Tensor)}
