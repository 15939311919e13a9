"""A network that sees grey says what torchvision's own says of the same image in colour."""

import pytest
import torch
from torchvision.models import get_model, get_model_weights
from torchvision.transforms.functional import normalize

from mri_hpc.loading.augment import standardised
from mri_hpc.loading.order import seed_of
from mri_hpc.rundir.settings import TrainingSettings
from mri_hpc.training.first_layer import colours_of, folded
from mri_hpc.training.model import MODEL_STREAM, build

TOLERANCE = 1e-5
"""Largest difference of a logit, as a share of the deviation of all: some rounding errors of float32."""
SHIFTED = {"transform_input": True, "aux_logits": False, "init_weights": False}


def made_by_torchvision(model, side, **options):
    """A network of torchvision's whose outputs depend on all of its weights, which random ones do not."""
    torch.manual_seed(1)
    network = get_model(model, weights=None, **options)
    with torch.no_grad():
        for weights in network.parameters():
            if weights.numel() > 1 and (weights.min() == weights.max() or weights.abs().max() < 1e-4):
                weights += 0.3 * torch.randn_like(weights)
        if any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules()):
            network.train()(torch.randn(4, 3, side, side))
    return network.eval()


def in_colour(images, model):
    """The tripled image, as torchvision normalises it for the model."""
    transforms = get_model_weights(model).DEFAULT.transforms()
    return normalize(images[:, None].expand(-1, 3, -1, -1) / 255, transforms.mean, transforms.std)


@pytest.mark.parametrize(
    ("model", "side", "options"),
    [
        ("resnet18", 64, {}),
        ("efficientnet_b0", 64, {}),
        ("convnext_tiny", 64, {}),
        ("densenet121", 64, {}),
        ("mobilenet_v3_small", 64, {}),
        ("vit_b_16", 224, {}),
        ("googlenet", 64, SHIFTED),
    ],
)
def test_logits_of_grey_images_are_those_of_the_colour_model_on_the_tripled_image(
    model, side, options, tmp_path, record_property
):
    theirs = made_by_torchvision(model, side, **options)
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    ours = build(
        TrainingSettings(model=model, weights=str(tmp_path / "weights.pth")), 1000, (side, side)
    ).eval()
    torch.manual_seed(2)
    images = torch.randint(0, 256, (2, side, side), dtype=torch.uint8)
    with torch.inference_mode():
        wanted = theirs(in_colour(images, model))
        found = ours(standardised(images, ours.normalisation))
    assert wanted.std() > 0.05
    difference = float((found - wanted).abs().max() / wanted.std())
    record_property("difference", difference)
    assert difference < TOLERANCE


@pytest.mark.parametrize("model", ["resnet18", "efficientnet_v2_l"])
def test_the_first_layer_is_exact_also_at_the_border_of_the_image(model):
    torch.manual_seed(3)
    weight, images = torch.randn(4, 3, 7, 7, dtype=torch.float64), torch.randint(0, 256, (2, 16, 16))
    grey = standardised(images, "imagenet").double()[:, None]
    wanted = torch.conv2d(in_colour(images.double(), model), weight, stride=2, padding=3)
    both = torch.cat([grey, torch.ones_like(grey)], 1)
    found = torch.conv2d(both, folded(weight, "imagenet", colours_of(model)), stride=2, padding=3)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)


def test_with_each_images_own_normalisation_all_colours_see_the_same_grey():
    torch.manual_seed(4)
    weight, grey = torch.randn(4, 3, 3, 3, dtype=torch.float64), torch.randn(2, 1, 8, 8, dtype=torch.float64)
    wanted = torch.conv2d(grey.expand(-1, 3, -1, -1), weight, padding=1)
    found = torch.conv2d(grey, folded(weight, "image", colours_of("resnet18")), padding=1)
    torch.testing.assert_close(found, wanted)


def test_random_weights_say_of_grey_images_what_they_would_say_in_colour():
    model = build(TrainingSettings(model="shufflenet_v2_x0_5", seed=3), 5, (64, 64)).eval()
    torch.manual_seed(seed_of(3, MODEL_STREAM))
    theirs = get_model("shufflenet_v2_x0_5", weights=None, num_classes=5).eval()
    assert (model.normalisation, model.network.conv1[0].weight.shape[1]) == ("image", 1)
    images = torch.randn(2, 64, 64)
    with torch.inference_mode():
        found, wanted = model(images), theirs(images[:, None].expand(-1, 3, -1, -1))
    assert (found - wanted).abs().max() < TOLERANCE * wanted.std()
