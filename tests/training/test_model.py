"""The network by its name, and weights from files."""

import argparse
import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.nn.functional import interpolate
from torchvision.models import VisionTransformer, get_model

from mri_hpc.base.errors import UserError
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.settings import TrainingSettings
from mri_hpc.training import prediction
from mri_hpc.training.first_layer import colours_of, first_layer, see_grey
from mri_hpc.training.model import (
    WITH_AUXILIARY_HEADS,
    build,
    check_weights,
    head_of,
    load_for_prediction,
    weights_digest,
)
from mri_hpc.training.pretrained import known_models
from mri_hpc.training.weights import load_weights, read_start, start_from


def settings(**values):
    return TrainingSettings(**{"model": "squeezenet1_1", **values})


def save_theirs(path, model="squeezenet1_1", num_classes=1000, *, prefix="", seed=0):
    """A file of torchvision's own network of that name; returns its tensors."""
    torch.manual_seed(seed)
    theirs = get_model(model, weights=None, num_classes=num_classes).state_dict()
    torch.save({prefix + name: tensor for name, tensor in theirs.items()}, path)
    return theirs


def same_but(ours, theirs, *others):
    """Whether all tensors are equal, but those whose names begin like this."""
    return all(torch.equal(ours[name], theirs[name]) for name in theirs if not name.startswith(others))


def test_an_unknown_model_is_refused_naming_the_nearest():
    with pytest.raises(UserError, match=r"--model 'resnet81' is no classifier .*did you mean 'resnet18'\?"):
        build(settings(model="resnet81"), 3, (32, 32))


@pytest.mark.parametrize("model", ["googlenet", "mobilenet_v3_small", "shufflenet_v2_x0_5"])
def test_grey_images_give_one_logit_a_class(model):
    network = build(settings(model=model), 3, (64, 64))
    images = torch.rand(2, 64, 64)
    assert network(images).shape == (2, 3)
    assert network.train()(images).shape == (2, 3)


def test_images_too_small_for_a_model_are_refused_with_their_size():
    with pytest.raises(UserError, match=r"--model alexnet cannot take images of 32 × 32 pixels"):
        build(settings(model="alexnet"), 3, (32, 32))


def test_weights_at_the_start_are_a_function_of_the_seed():
    digests = [weights_digest(build(settings(seed=s), 3, (32, 32)).state_dict()) for s in (1, 1, 2)]
    assert digests[0] == digests[1] != digests[2]


def test_a_digest_tells_names_shapes_and_values_apart():
    tensor = torch.arange(6.0)
    weights = [
        {"a": tensor},
        {"b": tensor},
        {"a": tensor.reshape(2, 3)},
        {"a": tensor + 1},
        {"a": tensor.double()},
    ]
    assert len({weights_digest(w) for w in weights}) == 5
    assert weights_digest({"a": tensor, "b": tensor + 1}) == weights_digest({"b": tensor + 1, "a": tensor})


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("prefix", ["", "module.", "model.backbone."])
def test_weights_of_another_number_of_classes_are_taken_all_but_the_head(tmp_path, suffix, prefix, caplog):
    theirs = get_model("squeezenet1_1", weights=None, num_classes=10).state_dict()
    path = tmp_path / f"weights{suffix}"
    named = {prefix + name: tensor for name, tensor in theirs.items()} | {"extra": torch.zeros(1)}
    save_file(named, path) if suffix == ".safetensors" else torch.save({"state_dict": named}, path)
    with caplog.at_level("INFO"):
        ours = build(settings(weights=str(path)), 3, (32, 32)).network.state_dict()
    assert same_but(ours, theirs, "classifier", "features.0.weight")
    assert ours["classifier.1.weight"].shape[0] == 3
    assert f"--weights {path}: 50 of 52 tensors taken" in caplog.text
    assert "a head of other classes: classifier.1.weight, classifier.1.bias" in caplog.text
    assert "not used: extra" in caplog.text


def test_weights_of_another_model_are_refused_with_what_is_missing_and_what_is_not_known(tmp_path, caplog):
    path = tmp_path / "weights.pth"
    theirs = save_theirs(path, "shufflenet_v2_x0_5")
    with caplog.at_level("INFO"), pytest.raises(UserError) as caught:
        build(settings(weights=str(path)), 3, (32, 32))
    assert str(caught.value) == (
        f"--weights {path} does not fit --model squeezenet1_1: of 52 tensors, 50 missing "
        f"(features.0.weight, features.0.bias, features.3.squeeze.weight and 47 more); 338 unknown "
        f"(conv1.0.weight, conv1.1.weight, conv1.1.bias and 335 more); "
        f"name the --model that the weights are of"
    )
    assert all(name in caplog.text for name in theirs)


def test_a_larger_model_of_the_same_names_is_refused_with_the_shapes(tmp_path):
    path = tmp_path / "weights.pth"
    save_theirs(path, "shufflenet_v2_x1_0")
    with pytest.raises(
        UserError, match=r"another shape \(stage2\.0\.branch1\.2\.weight 58 × 24 × 1 × 1 instead"
    ):
        build(settings(model="shufflenet_v2_x0_5", weights=str(path)), 3, (32, 32))


def test_a_deeper_model_whose_layers_begin_the_same_is_refused_and_layers_beside_it_are_not(tmp_path):
    deeper = get_model("resnet34").state_dict()
    torch.save(deeper, tmp_path / "w.pth")
    deep = settings(model="resnet18", weights=str(tmp_path / "w.pth"))
    with pytest.raises(
        UserError, match=r"does not fit --model resnet18.*96 unknown \(layer1\.2\.conv1\.weight"
    ):
        build(deep, 3, (64, 64))
    beside = {"queue": torch.zeros(2), "projector.0.weight": torch.zeros(2), "fc.0.weight": torch.zeros(2)}
    torch.save(get_model("resnet18").state_dict() | beside, tmp_path / "w.pth")
    build(deep, 3, (64, 64))


@pytest.mark.parametrize(
    "odd", [torch.full((64,), torch.nan), torch.ones(64, device="meta"), torch.ones(64) * 1j]
)
def test_weights_that_are_no_finite_numbers_are_refused(tmp_path, odd):
    torch.save(get_model("resnet18").state_dict() | {"bn1.bias": odd}, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"1 of its tensors are not made of finite numbers \(bn1\.bias\)"):
        build(settings(model="resnet18", weights=str(tmp_path / "w.pth")), 3, (64, 64))


def test_a_run_whose_parent_is_gone_before_its_first_step_says_what_to_put_back(tmp_path):
    with pytest.raises(
        UserError, match=r"a/model\.safetensors, from which this run starts, is gone: put it back"
    ):
        build(TrainingSettings(continue_from=str(tmp_path / "a")), 3, (64, 64))


def test_weights_that_lack_one_layer_are_refused(tmp_path):
    path = tmp_path / "weights.pth"
    theirs = save_theirs(path)
    del theirs["features.3.squeeze.weight"]
    torch.save(theirs, path)
    with pytest.raises(UserError, match=r"of 52 tensors, 1 missing \(features\.3\.squeeze\.weight\); name"):
        build(settings(weights=str(path)), 3, (32, 32))


def test_weights_without_any_head_leave_it_at_random(tmp_path, caplog):
    path = tmp_path / "weights.pth"
    theirs = save_theirs(path, "shufflenet_v2_x0_5", prefix="encoder_q.")
    body = {f"encoder_q.{name}": t for name, t in theirs.items() if not name.startswith("fc.")}
    torch.save({"state_dict": body | {"fc.0.weight": torch.zeros(2)}}, path)
    with caplog.at_level("INFO"):
        ours = build(settings(model="shufflenet_v2_x0_5", weights=str(path)), 3, (32, 32)).network
    assert same_but(ours.state_dict(), theirs, "fc", "conv1.0.weight")
    assert "left at random, a head of other classes: fc.weight, fc.bias" in caplog.text


def test_weights_of_as_many_classes_are_taken_with_their_head(tmp_path):
    theirs = save_theirs(tmp_path / "w.pth", num_classes=3)
    ours = build(settings(weights=str(tmp_path / "w.pth")), 3, (32, 32)).network.state_dict()
    assert same_but(ours, theirs, "features.0.weight")


def test_the_way_weights_are_to_be_checked_before_a_run_refuses_what_the_run_would(tmp_path):
    path = tmp_path / "weights.pth"
    save_theirs(path, "shufflenet_v2_x0_5")
    check_weights(settings(model="shufflenet_v2_x0_5", weights=str(path)))
    with pytest.raises(UserError, match="does not fit --model squeezenet1_1: of 52"):
        check_weights(settings(weights=str(path)))
    with pytest.raises(UserError, match=r"absent\.pth does not exist"):
        check_weights(settings(weights=str(tmp_path / "absent.pth")))


def test_a_file_that_holds_no_weights_is_refused(tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(UserError, match=r"is not a file of weights"):
        build(settings(weights=str(path)), 3, (32, 32))
    for absent in (tmp_path / "absent.pth", tmp_path):
        with pytest.raises(UserError, match=f"^--weights {absent} does not exist, or is no file"):
            build(settings(weights=str(absent)), 3, (32, 32))


def test_a_file_that_could_run_anything_is_refused_and_the_way_to_save_it_named(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": {}, "options": argparse.Namespace(lr=1)}, path)
    with pytest.raises(UserError, match=r"save its weights alone with torch\.save\(torch\.load\(FILE, "):
        build(settings(weights=str(path)), 3, (32, 32))


def test_the_names_of_layers_in_torchvisions_own_files_of_densenets_are_known(tmp_path):
    path = tmp_path / "densenet121.pth"
    theirs = get_model("densenet121", weights=None).state_dict()
    older = {re.sub(r"(denselayer\d+\.)(norm|conv)(\d)", r"\1\2.\3", name): t for name, t in theirs.items()}
    assert older.keys() != theirs.keys()
    torch.save(older, path)
    ours = build(settings(model="densenet121", weights=str(path)), 3, (32, 32)).network.state_dict()
    assert same_but(ours, theirs, "classifier", "features.conv0.weight")


def test_a_network_that_asks_for_the_versions_of_its_layers_takes_back_its_own_weights(tmp_path):
    network = build(settings(model="mnasnet0_5", seed=1), 3, (32, 32)).network
    save_file(network.state_dict(), tmp_path / "own.safetensors")
    other = build(settings(model="mnasnet0_5"), 3, (32, 32)).network
    load_weights(other, dict(network.state_dict()), of=Path("checkpoint"))
    started = build(settings(model="mnasnet0_5", weights=str(tmp_path / "own.safetensors")), 3, (32, 32))
    digests = [weights_digest(n.state_dict()) for n in (network, other, started.network)]
    assert digests == digests[:1] * 3


def test_weights_of_another_model_are_no_checkpoint_of_this_one():
    network = build(settings(), 3, (32, 32)).network
    other = build(settings(), 4, (32, 32)).network
    with pytest.raises(
        UserError, match=r"^4/model\.safetensors holds the weights of another model than Squeeze"
    ):
        load_weights(network, other.state_dict(), of=Path("4/model.safetensors"))


def test_a_model_file_that_no_run_wrote_is_refused(tmp_path):
    run = RunDir(tmp_path)
    save_file({"a": torch.zeros(1)}, run.model)
    with pytest.raises(UserError, match="is not the model that a run wrote"):
        load_for_prediction(run)


@pytest.fixture
def without_initialising(monkeypatch):
    """Networks are made without their first weights, whose memory is then never touched: that is quick."""
    for name in dir(torch.nn.init):
        if name.endswith("_") and not name.startswith("_"):
            monkeypatch.setattr(torch.nn.init, name, lambda *_args, **_options: None)


def test_of_every_model_the_head_is_found_and_the_layer_that_sees_the_image(without_initialising):
    for model in known_models():
        options = {"aux_logits": False, "init_weights": False} if model in WITH_AUXILIARY_HEADS else {}
        # Regnets compute their widths with tensors.
        with torch.device("cpu" if model.startswith("regnet") else "meta"):
            network = get_model(model, weights=None, num_classes=7, **options)
        assert head_of(network)[0].shape[0] == 7, model
        seeing = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d) and m.in_channels == 3]
        assert seeing == [first_layer(network)[1]], model


def statistics(model):
    return {n: b.clone() for n, b in model.named_buffers() if "running" in n or "num_batches" in n}


@pytest.mark.parametrize(
    ("model", "layer"), [("resnet18", "fc"), ("densenet121", "classifier"), ("squeezenet1_1", "classifier.1")]
)
def test_of_a_frozen_model_a_step_changes_the_head_only(model, layer, tmp_path):
    save_theirs(tmp_path / "w.pth", model)
    frozen = build(settings(model=model, weights=str(tmp_path / "w.pth"), freeze=True), 3, (32, 32))
    before = {name: tensor.clone() for name, tensor in frozen.network.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in frozen.parameters() if p.requires_grad], lr=0.1)
    frozen.train()(torch.rand(4, 32, 32)).square().sum().backward()
    optimizer.step()
    after = frozen.network.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {f"{layer}.weight", f"{layer}.bias"}


def test_statistics_of_a_frozen_part_stay_whatever_mode_is_asked_for():
    model = build(settings(model="resnet18"), 3, (32, 32)).train()
    model.freeze_all_but_head()
    before = statistics(model)
    for mode in (True, False, True):
        model.train(mode)(torch.rand(2, 32, 32))
    assert before.keys() == statistics(model).keys()
    assert all(torch.equal(before[name], now) for name, now in statistics(model).items())
    assert model.training


def test_a_model_that_is_not_frozen_learns_everywhere():
    model = build(settings(model="resnet18"), 3, (32, 32)).train()
    before = statistics(model)
    model(torch.rand(2, 32, 32)).sum().backward()
    assert all(p.requires_grad and p.grad is not None for p in model.parameters())
    assert any(not torch.equal(before[name], now) for name, now in statistics(model).items())


def publish_own(path, **chosen):
    """What a finished run leaves, of a model with these settings."""
    model = build(settings(**chosen), 3, (32, 32)).eval()
    described = {"model": chosen.get("model", "squeezenet1_1"), "normalisation": model.normalisation}
    metadata = described | {"classes": json.dumps(["a", "b", "c"]), "image_shape": json.dumps([32, 32])}
    path.mkdir(exist_ok=True)
    save_file(model.network.state_dict(), RunDir(path).model, metadata)
    return model


@pytest.mark.parametrize("how", ["image", "imagenet"])
def test_a_finished_model_predicts_as_it_was_trained(tmp_path, how):
    model = publish_own(tmp_path, normalise=how)
    again = load_for_prediction(RunDir(tmp_path)).model
    assert again.normalisation == how
    images = torch.rand(2, 32, 32)
    assert torch.equal(again(images), model(images))


@pytest.mark.parametrize(
    ("shape", "seen"),
    [
        ((32, 32), (48, 48)),
        ((40, 20), (64, 32)),
        ((96, 96), (144, 144)),
        ((200, 200), (224, 224)),
        ((256, 256), (256, 256)),
    ],
)
def test_images_are_enlarged_for_the_network_up_to_the_usual_size(shape, seen):
    model = build(settings(enlarge=1.5), 3, shape).eval()
    sizes = []
    model.network.register_forward_pre_hook(lambda _network, given: sizes.append(tuple(given[0].shape[2:])))
    images = torch.rand(2, *shape)
    answers = model(images)
    assert sizes == [seen]
    larger = interpolate(images[:, None], size=seen, mode="bilinear")
    torch.testing.assert_close(answers, model.network(larger))


@pytest.mark.parametrize("factor", [0.5, 4.5, float("nan")])
def test_a_factor_that_would_shrink_images_or_show_blur_alone_is_refused(factor):
    with pytest.raises(UserError, match="--enlarge must be between 1 and 4"):
        settings(enlarge=factor)


def test_a_network_that_cannot_take_enlarged_images_says_how_to_leave_them_as_they_are():
    with pytest.raises(UserError, match=r"cannot take images of 48 × 48 pixels .*, or --enlarge 1, by which"):
        build(settings(model="vit_b_32", enlarge=1.5), 3, (32, 32))


def test_a_network_of_tokens_is_made_for_images_as_it_sees_them():
    model = build(settings(model="vit_b_16", enlarge=2), 3, (32, 32))
    assert model.network.image_size == 64


@pytest.mark.parametrize(
    ("chosen", "written_as"), [({}, "1"), ({"mirror_answers": True}, "2"), ({"enlarge": 1.5}, "3")]
)
def test_a_model_file_says_all_that_its_answers_need_in_the_oldest_format_that_can(
    tmp_path, chosen, written_as
):
    model, run = build(settings(**chosen), 3, (32, 32)).eval(), RunDir(tmp_path)
    prediction.publish(
        run, SimpleNamespace(classes=("a", "b", "c"), image_shape=(32, 32)), {}, model.network.state_dict(),
        model_name="squeezenet1_1", normalisation=model.normalisation,
        is_mirrored=model.answers_mirrored, input_size=model.input_size, origin={},
    )  # fmt: skip
    with safe_open(run.model, framework="pt") as file:
        assert file.metadata()["mri_hpc_format"] == written_as
    images = torch.rand(2, 32, 32)
    torch.testing.assert_close(load_for_prediction(run).model.answer(images), model.answer(images))


@pytest.mark.parametrize("how", ["image", "imagenet"])
@pytest.mark.parametrize("option", ["weights", "continue_from"])
def test_weights_of_a_run_go_on_with_the_normalisation_they_were_trained_with(tmp_path, how, option):
    own = publish_own(tmp_path / "run", normalise=how, seed=4)
    path = RunDir(tmp_path / "run").model if option == "weights" else tmp_path / "run"
    started = build(settings(**{option: str(path)}), 3, (32, 32))
    assert started.normalisation == how
    assert weights_digest(started.network.state_dict()) == weights_digest(own.network.state_dict())
    grown = build(settings(**{option: str(path)}), 4, (32, 32)).network.state_dict()
    assert same_but(own.network.state_dict(), grown, "classifier")
    other = {"image": "imagenet", "imagenet": "image"}[how]
    with pytest.raises(
        UserError, match=f"--normalise {other} does not go with --.* with --normalise {how}: leave"
    ):
        build(settings(**{option: str(path)}, normalise=other), 3, (32, 32))


@pytest.mark.parametrize("how", ["image", "imagenet"])
def test_a_run_goes_on_from_its_own_weights_also_where_those_it_started_from_are_gone(tmp_path, how):
    theirs, saved = tmp_path / "w.pth", tmp_path / "model.safetensors"
    save_theirs(theirs)
    chosen = settings(weights=str(theirs), normalise="auto" if how == "imagenet" else how)
    begun = build(chosen, 3, (32, 32))
    save_file(begun.network.state_dict(), saved)
    theirs.unlink()
    again = build(chosen, 3, (32, 32), going_on=saved)
    assert again.normalisation == how
    assert weights_digest(again.network.state_dict()) == weights_digest(begun.network.state_dict())


def test_normalisation_fits_the_weights_unless_another_is_asked_for(tmp_path):
    save_theirs(tmp_path / "w.pth")
    for chosen, how in (
        ({}, "image"),
        ({"normalise": "imagenet"}, "imagenet"),
        ({"weights": str(tmp_path / "w.pth")}, "imagenet"),
        ({"weights": str(tmp_path / "w.pth"), "normalise": "image"}, "image"),
    ):
        assert build(settings(**chosen), 3, (32, 32)).normalisation == how


def test_positions_of_a_vision_transformer_are_interpolated_to_another_size_of_images(tmp_path):
    torch.manual_seed(0)
    theirs = VisionTransformer(
        image_size=64, patch_size=16, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=8, num_classes=3
    )
    torch.nn.init.normal_(theirs.encoder.pos_embedding)
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    ours = VisionTransformer(
        image_size=32, patch_size=16, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=8, num_classes=3
    )
    start_from_file(ours, tmp_path / "w.pth")
    found, given = ours.encoder.pos_embedding, theirs.encoder.pos_embedding
    assert found.shape == (1, 1 + 2 * 2, 8)
    # The class token has no place; the corners stay where they are.
    torch.testing.assert_close(found[:, 0], given[:, 0])
    torch.testing.assert_close(found[:, [1, 2, 3, 4]], given[:, [1, 4, 13, 16]])


def start_from_file(network, path):
    colours = colours_of("vit_b_16")
    see_grey(network, "imagenet", colours)
    start_from(
        network, read_start(path, network, origin="w"), model="", head=[], how="imagenet", colours=colours
    )


def test_bytes_of_any_kind_are_refused_without_a_traceback(tmp_path):
    path = tmp_path / "weights.pth"
    save_theirs(path)
    whole = path.read_bytes()
    noise = np.random.default_rng(0)
    broken = [whole[: int(len(whole) * share)] for share in (0, 1e-5, 0.3, 0.999)]
    broken += [
        noise.bytes(200),
        b"\x80\x02" + noise.bytes(200),
        b"\x80\x04\x95" + noise.bytes(50),
        b"PK\x03\x04",
    ]
    broken += [noise.bytes(30)[:n] for n in range(30)]
    broken += [bytes([first]) + noise.bytes(20) for first in range(256)]
    network = build(settings(), 3, (32, 32)).network
    for content in broken:
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"is not a file of weights|holds a"):
            read_start(path, network, origin=f"--weights {path}")
