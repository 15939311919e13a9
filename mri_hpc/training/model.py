"""The network: any torchvision classifier by its name, for images of one grey channel."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import safetensors.torch
import torch
import torchvision
from safetensors import SafetensorError, safe_open
from torch import nn
from torch.nn.functional import interpolate

from mri_hpc.base.documents import refuse_newer
from mri_hpc.base.errors import UserError
from mri_hpc.base.settings import nearest
from mri_hpc.loading.augment import Normalisation
from mri_hpc.loading.order import seed_of
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.settings import MOST_SEEN, TrainingSettings
from mri_hpc.training.first_layer import OF_CHANNELS, colours_of, first_layer, see_grey
from mri_hpc.training.pretrained import find, known_models
from mri_hpc.training.weights import Start, check_numbers, load_weights, read_start, start_from

PRETRAINED = "pretrained"
"""In place of a file: what torchvision publishes."""
HEADS = ("fc", "classifier", "head", "heads")
"""Torchvision's names for the part of a network that ends in its outputs."""
WITH_AUXILIARY_HEADS = ("inception_v3", "googlenet")
MODEL_STREAM = 1
"""Sets the seed of the weights apart from those of steps."""
USUAL_SHAPE = (MOST_SEEN, MOST_SEEN)
PATCH = 16
FORMAT, MIRRORED_FORMAT, PLAIN_FORMAT = 3, 2, 1
"""Newest format of a model; that of models without INPUT_SIZE, and without ANSWERS too, which 0.1.0 reads."""
ANSWERS, MIRRORED = "answers", "mirrored"
"""Key of how a model answers; its value where that is about an image and its mirror image together."""
INPUT_SIZE = "input_size"
"""Key of the side to which smaller images are enlarged for the network."""
MODEL_FORMAT = "mri_hpc_format"
"""Key of the format among what a model says of itself; others mean something else by "format" there."""


class GreyClassifier(nn.Module):
    """A classifier of grey images, made of one of colour images."""

    def __init__(self, network: nn.Module, normalisation: Normalisation) -> None:
        """network: one that sees grey, as `normalisation` wants it."""
        super().__init__()
        self.network = network
        self.normalisation: Normalisation = normalisation
        """The way in which images are to be standardised."""
        self.answers_mirrored = False
        """True where an answer is about an image and its mirror image together."""
        self.input_size = 0
        """Side to which smaller images are enlarged; 0: none are."""
        self._is_frozen = False

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits, (b, classes). images: standardised float, (b, H, W)."""
        grey = images[:, None]
        shape = enlarged(images.shape[1:], self.input_size)
        if shape != images.shape[1:]:
            grey = interpolate(grey, size=shape, mode="bilinear", align_corners=False)
        if self.normalisation == "imagenet":
            grey = torch.cat([grey, torch.ones_like(grey)], 1)
        return self.network(grey)

    def answer(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits as forward does, of images that are judged: the mean over all that are looked at."""
        logits: torch.Tensor = self(images)
        return (logits + self(images.flip(2))) / 2 if self.answers_mirrored else logits

    def answer_with_features(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits as `answer` does, and what the last layer makes them of: (b, num_features)."""
        seen: list[torch.Tensor] = []
        hook = self._head.register_forward_pre_hook(lambda _head, inputs: seen.append(inputs[0]))
        try:
            logits = self.answer(images)
        finally:
            hook.remove()
        # Of a head that is a convolution, the mean over the image.
        flat = [features.flatten(2).mean(2) if features.dim() > 2 else features for features in seen]
        return logits, torch.stack(flat).mean(0)

    @property
    def num_features(self) -> int:
        """Features of which the last layer makes logits."""
        head = self._head
        return head.in_channels if isinstance(head, nn.Conv2d) else head.in_features

    @property
    def _head(self) -> nn.Linear | nn.Conv2d:
        head = self.network.get_submodule(_head_name(self.network))
        assert isinstance(head, nn.Linear | nn.Conv2d)
        return head

    def train(self, mode: bool = True) -> "GreyClassifier":
        """Set the mode as of every module; but the statistics of a frozen part stay as they are."""
        super().train(mode)
        if self._is_frozen:
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def freeze_all_but_head(self) -> None:
        """Have only the last layer learn, from here on; statistics of the rest stay as they are."""
        self.requires_grad_(False)
        for parameter in head_of(self.network):
            parameter.requires_grad_(True)
        self._is_frozen = True
        self.train(self.training)


def input_size(shape: Sequence[int], factor: float) -> int:
    """Return the side of images of this shape as a network sees them enlarged; 0 where they are not.

    A multiple of 16, which suits most networks that cut images into patches.
    """
    side = max(shape)
    seen = min(PATCH * round(factor * side / PATCH), MOST_SEEN)
    return seen if seen > side else 0


def enlarged(shape: Sequence[int], side: int) -> tuple[int, int]:
    """Return the height and width in which a network sees an image: at least side by its longer one."""
    height, width = shape
    factor = max(side / max(height, width), 1.0)
    return round(height * factor), round(width * factor)


def head_of(network: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of the layer that gives the outputs."""
    return list(network.get_submodule(_head_name(network)).parameters())


def check_model_name(name: str) -> None:
    """Raise UserError where torchvision has no classifier of that name, naming the nearest."""
    known = known_models()
    if name not in known:
        raise UserError(
            f"--model {name!r} is no classifier of torchvision {torchvision.__version__}"
            f"{nearest(name, known)}"
        )


def check_weights(
    settings: TrainingSettings, num_classes: int = 2, image_shape: tuple[int, int] = USUAL_SHAPE
) -> None:
    """Raise UserError where a run could not start from the weights that its settings name."""
    check_model_name(settings.model)
    if settings.weights == PRETRAINED:
        find(settings.model, is_checked=True)
    elif settings.weights:
        _at_start(settings, num_classes, image_shape)


def build(
    settings: TrainingSettings,
    num_classes: int,
    image_shape: tuple[int, int],
    *,
    going_on: Path | None = None,
) -> GreyClassifier:
    """Build the network of a run as it is at step 0, on the processor. Raises UserError where it cannot be.

    going_on: weights that the run has saved, in place of those that it started from, which may be gone.
    """
    check_model_name(settings.model)
    torch.manual_seed(seed_of(settings.seed, MODEL_STREAM))
    model = _at_start(settings, num_classes, image_shape, going_on)
    _check_size(model, settings.model, image_shape)
    model.answers_mirrored = settings.mirror_answers
    if settings.freeze:
        model.freeze_all_but_head()
    return model


@dataclass(frozen=True, kw_only=True)
class FinishedModel:
    """A finished run's model, to predict with."""

    model: GreyClassifier
    """On the processor, for prediction."""
    classes: tuple[str, ...]
    """Of its outputs, in their order."""


def load_for_prediction(run: RunDir) -> FinishedModel:
    """Load the finished model of a run; UserError before there is one, or where the file is another thing."""
    if not run.model.exists():
        raise UserError(
            f"{run.model} does not exist: the run has not finished; see: mri-hpc status {run.path}"
        )
    try:
        with safe_open(run.model, framework="pt") as file:
            metadata = file.metadata() or {}
        weights = safetensors.torch.load_file(run.model)
    except SafetensorError as error:
        raise UserError(f"{run.model} is damaged ({error}); restore it from a backup") from None
    written_as = metadata.get(MODEL_FORMAT, "1")
    if written_as.isdigit():
        refuse_newer(run.model, int(written_as), reads=FORMAT)
    if not {"model", "classes", "image_shape", "normalisation"} <= metadata.keys():
        raise UserError(f"{run.model} is not the model that a run wrote; restore it from a backup")
    classes, (height, width) = json.loads(metadata["classes"]), json.loads(metadata["image_shape"])
    how = cast(Normalisation, metadata["normalisation"])
    side = int(metadata.get(INPUT_SIZE, "0"))
    network = _network(metadata["model"], len(classes), enlarged((height, width), side))
    see_grey(network, how, colours_of(metadata["model"]))
    load_weights(network, weights, of=run.model)
    model = GreyClassifier(network, how).eval()
    model.answers_mirrored = metadata.get(ANSWERS) == MIRRORED
    model.input_size = side
    return FinishedModel(model=model, classes=tuple(classes))


def weights_digest(weights: Mapping[str, torch.Tensor]) -> str:
    """Compute the sha256, in hex, over names, dtypes, shapes and bytes of all weights, sorted by name."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def start_path(settings: TrainingSettings) -> Path | None:
    """Find the file that a run starts from; None where it starts from random weights. Raises UserError."""
    if settings.continue_from:
        model = RunDir(Path(settings.continue_from)).model
        if not model.is_file():
            raise UserError(
                f"{model}, from which this run starts, is gone: put it back there, or launch a new run "
                f"without --continue-from"
            )
        return model
    if settings.weights == PRETRAINED:
        return find(settings.model)
    return Path(settings.weights) if settings.weights else None


def _at_start(
    settings: TrainingSettings, num_classes: int, image_shape: tuple[int, int], going_on: Path | None = None
) -> GreyClassifier:
    """Build the model of a run before its first step, whatever the size of images that it can take."""
    side = input_size(image_shape, settings.enlarge)
    network = _network(settings.model, num_classes, enlarged(image_shape, side))
    path, colours = going_on or start_path(settings), colours_of(settings.model)
    origin = str(going_on or _typed(settings, path))
    start = read_start(path, network, origin=origin) if path else None
    if start and not going_on:
        check_numbers(start, network)
    how = _settled(settings, network, start)
    see_grey(network, how, colours)
    if start:
        head = _head_name(network)
        names = [f"{head}.{name}" for name, _ in network.get_submodule(head).named_parameters()]
        start_from(network, start, model=settings.model, head=names, how=how, colours=colours)
    model = GreyClassifier(network, how)
    model.input_size = side
    return model


def _typed(settings: TrainingSettings, path: Path | None) -> str:
    """Name the option by which the user asked to start from that file."""
    if settings.continue_from:
        return f"--continue-from {settings.continue_from} ({path})"
    return f"--weights {settings.weights}" + (f" ({path})" if settings.weights == PRETRAINED else "")


def _settled(settings: TrainingSettings, network: nn.Module, start: Start | None) -> Normalisation:
    """Settle the normalisation of a run, where auto is that which its weights were trained with."""
    asked = settings.normalise if settings.normalise != "auto" else None
    if start is None:
        return asked or "image"
    weight = start.tensors.get(f"{first_layer(network)[0]}.weight")
    channels = weight.shape[1] if weight is not None and weight.dim() == 4 else 0
    trained = OF_CHANNELS.get(channels)
    if asked and trained and asked != trained:
        raise UserError(
            f"--normalise {asked} does not go with {start.origin}, whose weights were trained on grey images "
            f"with --normalise {trained}: leave --normalise out"
        )
    return asked or trained or "imagenet"


def _head_name(network: nn.Module) -> str:
    """Name of the layer that gives the outputs."""
    part = next(name for name in HEADS if hasattr(network, name))
    layers = [
        name
        for name, module in network.get_submodule(part).named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    ]
    return f"{part}.{layers[-1]}".removesuffix(".")


def _network(name: str, num_classes: int, image_shape: tuple[int, int]) -> nn.Module:
    options: dict[str, Any] = {}
    if name in WITH_AUXILIARY_HEADS:
        options = {"aux_logits": False, "init_weights": True}
    elif name.startswith("vit_"):
        options = {"image_size": image_shape[0]}
    elif name.startswith("maxvit"):
        options = {"input_size": image_shape}
    try:
        return torchvision.models.get_model(name, weights=None, num_classes=num_classes, **options)
    except (ValueError, AssertionError) as error:
        raise _refusal(name, image_shape, error) from None


def _check_size(model: GreyClassifier, name: str, image_shape: tuple[int, int]) -> None:
    """Raise UserError where the network cannot take images of this shape."""
    model.eval()
    try:
        with torch.inference_mode():
            model(torch.zeros(1, *image_shape))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise _refusal(name, enlarged(image_shape, model.input_size), error) from None


def _refusal(name: str, image_shape: tuple[int, int], error: Exception) -> UserError:
    reason = str(error).strip().split("\n")[0]
    return UserError(
        f"--model {name} cannot take images of {image_shape[0]} × {image_shape[1]} pixels ({reason}): "
        f"use another model, a store with another --size, or --enlarge 1, by which images stay as they are"
    )
