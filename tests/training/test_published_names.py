"""Weights under the names of others do in the network what they do in that of the others."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import gelu, scaled_dot_product_attention
from torchvision.models import VisionTransformer, resnet18

from mri_hpc.base.errors import UserError
from mri_hpc.training.first_layer import Colours, see_grey
from mri_hpc.training.weights import read_start, start_from

COLOURS = Colours(mean=(0.485, 0.456, 0.406), deviation=(0.229, 0.224, 0.225))
RESNET = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}


class Scale(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return x * self.gamma


class Block(nn.Module):
    """As timm names and computes it."""

    def __init__(self, width, is_scaled):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(width, 3 * width), "proj": nn.Linear(width, width)})
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 24), "fc2": nn.Linear(24, width)})
        self.ls1 = Scale(width) if is_scaled else nn.Identity()
        self.ls2 = Scale(width) if is_scaled else nn.Identity()

    def forward(self, x):
        b, n, width = x.shape
        q, k, v = self.attn["qkv"](self.norm1(x)).reshape(b, n, 3, 2, width // 2).permute(2, 0, 3, 1, 4)
        seen = scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, width)
        x = x + self.ls1(self.attn["proj"](seen))
        return x + self.ls2(self.mlp["fc2"](gelu(self.mlp["fc1"](self.norm2(x)))))


class Theirs(nn.Module):
    """A vision transformer with the names of timm's."""

    def __init__(self, *, width=16, patches=16, is_scaled=False, class_has_position=True):
        super().__init__()
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, 8, 8)})
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, patches + class_has_position, width))
        self.blocks = nn.ModuleList(Block(width, is_scaled) for _ in range(2))
        self.norm, self.head = nn.LayerNorm(width, eps=1e-6), nn.Linear(width, 3)
        self.class_has_position = class_has_position

    def forward(self, images):
        x = self.patch_embed["proj"](images).flatten(2).transpose(1, 2)
        first = self.cls_token.expand(len(x), -1, -1)
        x = torch.cat([first, x], 1) + self.pos_embed if self.class_has_position else \
            torch.cat([first, x + self.pos_embed], 1)  # fmt: skip
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


def theirs(**options):
    torch.manual_seed(0)
    network = Theirs(**options)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    return network.eval()


def ours(path, network=None, head=("heads.head.weight", "heads.head.bias")):
    """A network that sees grey, and starts from that file."""
    network = network or VisionTransformer(
        image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=24, num_classes=3
    )
    see_grey(network, "image", COLOURS)
    start = read_start(path, network, origin="--weights w")
    start_from(network, start, model="of a test", head=head, how="image", colours=COLOURS)
    return network.eval()


def same_outputs(network, other, size=32):
    """Whether both answer alike to grey images, to 1e-5; the other one is shown them in colour."""
    grey = torch.randn(4, 1, size, size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        found, wanted = network(grey), other(grey.expand(-1, 3, -1, -1))
    return torch.allclose(found, wanted, rtol=1e-5, atol=1e-5) and float(wanted.std()) > 0.01


@pytest.mark.parametrize("options", [{}, {"is_scaled": True}, {"class_has_position": False}], ids=str)
def test_a_transformer_with_timms_names_answers_as_it_does_there(tmp_path, options):
    given = theirs(**options)
    save_file(given.state_dict(), tmp_path / "w.safetensors")
    assert same_outputs(ours(tmp_path / "w.safetensors"), given)


def test_of_two_networks_in_one_file_that_which_is_published_is_taken(tmp_path):
    given, other = theirs(is_scaled=True), Theirs(is_scaled=True)
    tensors = {f"teacher.backbone.{n}": t for n, t in given.state_dict().items()}
    save_file(
        tensors | {f"student.backbone.{n}": t for n, t in other.state_dict().items()},
        tmp_path / "w.safetensors",
    )
    assert same_outputs(ours(tmp_path / "w.safetensors"), given)


def test_a_teacher_is_found_in_what_was_saved_around_it(tmp_path):
    given = theirs()
    torch.save({"teacher": {f"backbone.{n}": t for n, t in given.state_dict().items()}}, tmp_path / "w.pt")
    assert same_outputs(ours(tmp_path / "w.pt"), given)


@pytest.mark.parametrize(
    "name", ["reg_token", "register_tokens", "dist_token", "norm_pre.weight", "fc_norm.weight",
             "blocks.0.attn.q_norm.weight", "patch_embed.norm.weight"],
)  # fmt: skip
def test_a_transformer_with_more_than_the_network_computes_is_refused_by_that_name(tmp_path, name):
    torch.save({**theirs().state_dict(), name: torch.ones(16)}, tmp_path / "w.pth")
    with pytest.raises(UserError, match=rf"1 unknown \(encoder\..*{name.split('.')[-1]}"):
        ours(tmp_path / "w.pth")


def test_scales_that_are_not_of_the_layer_they_stand_by_are_refused_by_name(tmp_path):
    tensors = theirs(is_scaled=True).state_dict()
    torch.save({**tensors, "blocks.1.ls2.gamma": torch.ones(5)}, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"unknown \(encoder\.blocks\.1\.ls2\.gamma"):
        ours(tmp_path / "w.pth")


def test_patches_of_another_size_are_refused_with_both_sizes(tmp_path):
    tensors = {**theirs().state_dict(), "patch_embed.proj.weight": torch.zeros(16, 3, 7, 7)}
    torch.save(tensors, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"conv_proj\.weight 16 × 1 × 7 × 7 instead of 16 × 1 × 8 × 8"):
        ours(tmp_path / "w.pth")


@pytest.fixture(scope="module")
def resnet():
    torch.manual_seed(0)
    return resnet18(num_classes=3).eval()


def test_a_resnet_whose_layers_have_numbers_answers_as_it_does_there(tmp_path, resnet):
    number = {name: number for number, name in RESNET.items()}
    tensors = {}
    for name, tensor in resnet.state_dict().items():
        part, _, rest = name.partition(".")
        tensors[f"backbone.{number[part]}.{rest}" if part in number else name] = tensor
    torch.save(tensors, tmp_path / "w.pt")
    head = ("fc.weight", "fc.bias")
    assert same_outputs(ours(tmp_path / "w.pt", resnet18(num_classes=3), head), resnet, 64)


@pytest.mark.parametrize("taken, left", [("encoder_q", "encoder_k"), ("teacher", "student")])
def test_of_two_resnets_in_one_file_that_which_is_published_is_taken(tmp_path, resnet, taken, left):
    other = resnet18(num_classes=3).state_dict()
    tensors = {f"module.{left}.{n}": t for n, t in other.items()}
    torch.save(
        tensors | {f"module.{taken}.{n}": t for n, t in resnet.state_dict().items()}, tmp_path / "w.pt"
    )
    head = ("fc.weight", "fc.bias")
    assert same_outputs(ours(tmp_path / "w.pt", resnet18(num_classes=3), head), resnet, 64)
