"""Names that others give to the layers of a network, as torchvision gives them."""

import math
import re
from collections.abc import Mapping

import torch
from torch import nn
from torchvision.models import ResNet
from torchvision.models.vision_transformer import VisionTransformer

Tensors = Mapping[str, torch.Tensor]

LAYER = r"encoder.layers.encoder_layer_\1."

TIMM_TRANSFORMER = (
    (r"patch_embed\.proj\.", "conv_proj."),
    (r"cls_token$", "class_token"),
    (r"pos_embed$", "encoder.pos_embedding"),
    (r"norm\.", "encoder.ln."),
    (r"head\.", "heads.head."),
    (r"blocks\.(\d+)\.norm([12])\.", LAYER + r"ln_\2."),
    (r"blocks\.(\d+)\.attn\.qkv\.(weight|bias)$", LAYER + r"self_attention.in_proj_\2"),
    (r"blocks\.(\d+)\.attn\.proj\.", LAYER + "self_attention.out_proj."),
    (r"blocks\.(\d+)\.mlp\.fc1\.", LAYER + "mlp.0."),
    (r"blocks\.(\d+)\.mlp\.fc2\.", LAYER + "mlp.3."),
    # They change what the network computes, and it lacks them: as layers of its parts they are refused.
    (r"(blocks|reg_token|register_tokens|dist_token|norm_pre|fc_norm|patch_embed)\b", r"encoder.\1"),
)  # fmt: skip
"""Beginnings of names in timm's vision transformers, also those of DINO, DINOv2, DeiT and MAE; first wins."""
SCALED = (("ls1.gamma", "gamma_1", "attn.proj"), ("ls2.gamma", "gamma_2", "mlp.fc2"))
"""Names of the scale of a block's outputs, and the layer that gives these outputs."""
RESNET_BY_NUMBER = {"0": "conv1", "1": "bn1", **{str(n + 3): f"layer{n}" for n in range(1, 5)}}
"""Layers of a resnet that was made a sequence, as RadImageNet's `backbone.N`."""
LESS_WANTED = re.compile(r"(^|\.)(encoder_k|student)\.")
"""Of two networks in one file, MoCo's that follows and DINO's that learns: the other one is published."""


def preferred(prefixes: list[str]) -> list[str]:
    """Sort prefixes of names so that those of the network which is published stand first."""
    return sorted(prefixes, key=lambda prefix: bool(LESS_WANTED.search(prefix)))


def as_torchvision_names(tensors: Tensors, network: nn.Module) -> Tensors:
    """Rename tensors of timm's transformers and of numbered resnets; all others stay as they are.

    What a layer's scale multiplies is multiplied here, so that the outputs are the same.
    """
    if isinstance(network, VisionTransformer):
        return _of_transformer(tensors)
    if isinstance(network, ResNet):
        return _of_numbered_resnet(tensors)
    return tensors


def _of_transformer(tensors: Tensors) -> Tensors:
    prefix = _prefix_of(tensors, "patch_embed.proj.weight")
    if prefix is None:
        return tensors
    own = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
    others = {name: t for name, t in tensors.items() if not name.startswith(prefix)}
    renamed = {_by_rule(name): tensor for name, tensor in _scaled(own).items()}
    return {**others, **_with_position_of_class(renamed)}


def _of_numbered_resnet(tensors: Tensors) -> Tensors:
    prefix = _prefix_of(tensors, "4.0.conv1.weight")
    if prefix is None:
        return tensors
    return {_by_number(name, prefix): tensor for name, tensor in tensors.items()}


def _prefix_of(tensors: Tensors, end: str) -> str | None:
    """Find what stands before names of the network that has a layer of that name; None where none has."""
    found = [n.removesuffix(end) for n in tensors if n == end or n.endswith(f".{end}")]
    return preferred(found)[0] if found else None


def _by_rule(name: str) -> str:
    for pattern, ours in TIMM_TRANSFORMER:
        if re.match(pattern, name):
            return re.sub(f"^{pattern}", ours, name)
    return name


def _by_number(name: str, prefix: str) -> str:
    number, dot, rest = name.removeprefix(prefix).partition(".")
    if name.startswith(prefix) and number in RESNET_BY_NUMBER:
        return f"{RESNET_BY_NUMBER[number]}{dot}{rest}"
    return name


def _scaled(tensors: Tensors) -> Tensors:
    """Multiply the layers whose outputs a block scales by that scale, which is left out."""
    found = dict(tensors)
    for name in tensors:
        for *ends, layer in SCALED:
            block = next((name.removesuffix(end) for end in ends if name.endswith(f".{end}")), None)
            parts = [f"{block}{layer}.{part}" for part in ("weight", "bias")]
            if block and all(part in found and _can_scale(found[name], found[part]) for part in parts):
                gamma = found.pop(name).double()
                for part in parts:
                    found[part] = _times(found[part], gamma)
    return found


def _can_scale(gamma: torch.Tensor, outputs: torch.Tensor) -> bool:
    are_plain = all(t.layout is torch.strided and t.is_floating_point() for t in (gamma, outputs))
    return are_plain and gamma.dim() == 1 and outputs.dim() > 0 and len(gamma) == len(outputs)


def _times(outputs: torch.Tensor, gamma: torch.Tensor) -> torch.Tensor:
    scaled = outputs.double() * gamma.reshape(-1, *[1] * (outputs.dim() - 1))
    return scaled.to(torch.promote_types(outputs.dtype, torch.float32))


def _with_position_of_class(tensors: Tensors) -> Tensors:
    """Add a position of zeros for the class where only those of patches are there, as in DeiT III."""
    name = "encoder.pos_embedding"
    positions = tensors.get(name)
    if positions is None or positions.dim() != 3 or positions.layout is not torch.strided:
        return tensors
    count = positions.shape[1]
    if count < 2 or math.isqrt(count) ** 2 != count:
        return tensors
    return {**tensors, name: torch.cat([torch.zeros_like(positions[:, :1]), positions], 1)}
