"""``mri-hpc report --pictures``: pictures of patients on a page of their own, heat maps if they earn it."""

import csv
import json
import re
import shutil
import stat

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from mri_hpc import preprocess
from mri_hpc.cohort.splits import rows_of, split_of
from mri_hpc.report import main
from mri_hpc.results.pages.pictures import select
from mri_hpc.results.runs.heat_score import centre_of_head, compare, energy_of, hits_of, measures_of
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.predictions import Prediction
from mri_hpc.rundir.settings import JobSettings, TrainingSettings, save_settings
from mri_hpc.rundir.where_it_looks import Compared, Estimate, WhereItLooks, write_where_it_looks
from mri_hpc.storage.store import Store
from mri_hpc.training.evaluation import Answers
from mri_hpc.training.heat_maps import HeatMaps, NoFeatureMap
from mri_hpc.training.model import GreyClassifier, build, weights_digest
from mri_hpc.training.prediction import publish
from tests.harness.pages import hard_to_hear

CLASSES = ("glioma", "pituitary")
BOX = (0.25, 0.25, 0.3, 0.3)


class BrightAndDark(nn.Module):
    """Tells by how bright bright parts are, and how dark the dark ones; in place, as some networks work."""

    def __init__(self):
        super().__init__()
        self.parts, self.head = nn.Conv2d(1, 2, 1, bias=False), nn.Linear(2, 2)
        self.parts.weight.data = torch.tensor([1.0, -1.0]).reshape(2, 1, 1, 1)
        self.head.weight.data = torch.eye(2)

    def forward(self, images):
        return self.head(nn.functional.relu(self.parts(images), inplace=True).mean((2, 3)))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run that is finished but for its training, and its store: 12 test patients, each with a box."""
    root = tmp_path_factory.mktemp("pictured")
    table = [("path", "label", "patient", "split", "box_cx", "box_cy", "box_w", "box_h")]
    for number in range(30):
        pixels = np.random.default_rng(number).integers(0, 60, (64, 64))
        pixels[8:56, 8:56] += 60
        pixels[10:22, 10:22] += 90
        (root / "raw").mkdir(exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(root / "raw" / f"{number}.png")
        split = "test" if number < 12 else "validation" if number < 20 else "train"
        table.append((f"{number}.png", CLASSES[number % 2], f"NAMED{number:02d}", split, *BOX))
    with (root / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows(table)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MRI_KEY_FILE", str(root / "key"))
        options = [
            "--source",
            root / "raw",
            "--store",
            root / "store",
            "--size",
            64,
            "--labels",
            root / "labels.csv",
        ]
        assert preprocess.main([str(option) for option in options]) == 0
    run, store = RunDir(root / "run"), Store.open(root / "store")
    run.path.mkdir()
    settings = TrainingSettings(model="squeezenet1_1", store=str(root / "store"), normalise="image")
    save_settings(run, settings, JobSettings())
    snapshot = store.resolve()
    found = rows_of(split_of(snapshot))
    model = build(settings, len(CLASSES), snapshot.image_shape)
    publish(
        run, snapshot,
        {"validation": answers_of(snapshot, found.validation), "test": answers_of(snapshot, found.test)},
        model.network.state_dict(), model_name=settings.model, normalisation="image",
        origin={
            "classes": list(CLASSES), "snapshot": snapshot.digest,
            "model_digest": weights_digest(model.network.state_dict()), "has_patients": True,
        },
    )  # fmt: skip
    run.mark_done()
    return run


def answers_of(snapshot, rows):
    """The first class for all, so that half are wrong."""
    labels = snapshot.label[rows].astype(np.int64)
    ones = np.ones(len(rows), np.float32)
    logits = np.stack([ones, np.linspace(0, 0.5, len(rows))], 1).astype(np.float32)
    return Answers(keys=snapshot.key[rows], labels=labels, losses=ones, weights=ones, logits=logits)


@pytest.fixture
def run(made, tmp_path):
    return RunDir(shutil.copytree(made.path, tmp_path / "run"))


def test_the_page_to_share_holds_no_picture_and_the_other_is_its_owners_alone(run, capsys):
    assert main([str(run.path), "--pictures"]) == 0
    shared, private = run.report.read_text(), run.private_report.read_text()
    assert hard_to_hear(shared) == hard_to_hear(private) == []
    assert "<img" not in shared
    assert "data:image" not in shared
    assert "NAMED" not in shared
    assert "NAMED" not in private
    assert private.count("data:image/png") == 4 + 4 + 6
    assert "This page holds pictures of patients." in private
    assert "This page holds pictures of patients." not in shared
    assert stat.S_IMODE(run.private.stat().st_mode) == 0o700
    assert stat.S_IMODE(run.private_report.stat().st_mode) == 0o600
    assert f"{run.private_report}: " in capsys.readouterr().out


def test_heat_maps_stay_away_from_the_page_where_they_do_not_beat_the_centre_of_the_head(run):
    assert main([str(run.path), "--pictures"]) == 0
    score = json.loads(run.where_it_looks.read_text())
    assert (score["patients"], score["images"]) == (12, 12)
    assert score["hits"]["gain"]["low"] <= 0 or score["energy"]["gain"]["low"] <= 0
    assert "do not beat a spot on the centre of the head, so none is shown" in run.report.read_text()
    assert "with the heat map of" not in run.private_report.read_text()


def test_heat_maps_that_beat_it_are_shown_with_their_score_beside_them(run, monkeypatch):
    def hot_in_the_box(_maps, images, _answers):
        heat = np.zeros(images.shape, np.float32)
        heat[:, 12:20, 12:20] = 1
        return heat

    monkeypatch.setattr(HeatMaps, "of", hot_in_the_box)
    assert main([str(run.path), "--pictures"]) == 0
    private = run.private_report.read_text()
    assert private.count("with the heat map of") == 6 + 6
    assert "lay in the box in 100 % of a patient’s slices on average" in private
    assert "<img" not in run.report.read_text()
    first = run.private_report.read_bytes()
    assert main([str(run.path), "--pictures"]) == 0
    assert run.private_report.read_bytes() == first


def test_a_score_of_another_model_is_not_on_the_page(run):
    one = Estimate(value=0.5, low=0.4, high=0.6)
    compared = Compared(network=one, centre=one, gain=one)
    write_where_it_looks(
        run, WhereItLooks(model_digest="another", patients=20, hits=compared, energy=compared)
    )
    assert main([str(run.path)]) == 0
    assert "Where it looks" not in run.report.read_text()


def test_an_image_that_was_retracted_is_on_no_page(made, tmp_path, monkeypatch):
    from mri_hpc import store as store_command

    store = shutil.copytree(made.path.parent / "store", tmp_path / "store")
    run = RunDir(shutil.copytree(made.path, tmp_path / "run"))
    key = run.predictions.read_text().split("\n")[-2].split(",")[0]
    monkeypatch.setenv("MRI_KEY_FILE", str(made.path.parent / "key"))
    assert store_command.main(["retract", str(store), "--image", key, "--yes"]) == 0
    assert main([str(run.path), "--pictures", "--store", str(store)]) == 0
    assert "1 test images are no longer in the store" in run.private_report.read_text()


def test_an_image_whose_pixels_were_replaced_is_not_shown_with_the_answer_about_those_before(
    made, tmp_path, monkeypatch
):
    root = made.path.parent
    store, raw = (
        shutil.copytree(root / "store", tmp_path / "store"),
        shutil.copytree(root / "raw", tmp_path / "raw"),
    )
    run = RunDir(shutil.copytree(made.path, tmp_path / "run"))
    Image.fromarray(np.eye(64, dtype=np.uint8) * 200).save(raw / "0.png")
    monkeypatch.setenv("MRI_KEY_FILE", str(root / "key"))
    options = ["--source", raw, "--store", store, "--labels", root / "labels.csv", "--replace"]
    assert preprocess.main([str(option) for option in options]) == 0
    assert main([str(run.path), "--pictures", "--store", str(store)]) == 0
    assert "1 test images are no longer in the store as they were tested" in run.private_report.read_text()


def test_a_store_without_pictures_is_refused(run, capsys):
    assert main([str(run.path), "--store", "x"]) == 2
    assert "--store is for --pictures" in capsys.readouterr().err


def test_a_hit_is_a_hottest_pixel_in_the_box_and_energy_the_share_of_heat_in_it():
    heat = np.zeros((3, 8, 8), np.float32)
    heat[0, 1, 6], heat[0, 6, 1] = 3, 1
    heat[1, 6, 1] = 1
    boxes = np.array([(0.8125, 0.1875, 0.25, 0.25)] * 2 + [(0.125, 0.125, 0.25, 0.25)])
    assert hits_of(heat, boxes).tolist() == [1, 0, 0]
    assert energy_of(heat, boxes).tolist() == [0.75, 0, 0]


def test_the_spot_lies_on_the_head_wherever_that_is():
    image = np.zeros((1, 40, 40), np.uint8)
    image[0, 20:36, 4:20] = 180
    spot = centre_of_head(image)[0]
    assert np.unravel_index(spot.argmax(), spot.shape) in {(27, 11), (27, 12), (28, 11), (28, 12)}


def test_each_patient_counts_once_and_the_gain_is_of_the_same_patients():
    heat, centre = np.zeros((20, 4, 4), np.float32), np.ones((20, 4, 4), np.float32)
    heat[:, 0, 0] = 1
    # Of the first patient ten slices are missed, of ten others one each is hit.
    boxes = np.array([(0.875, 0.875, 0.25, 0.25)] * 10 + [(0.125, 0.125, 0.25, 0.25)] * 10)
    patients = ["a"] * 10 + [f"b{number}" for number in range(10)]
    hits, energy = compare(measures_of(heat, boxes), measures_of(centre, boxes), patients)
    assert hits.network.value == pytest.approx(10 / 11)
    assert hits.network.high == 1
    assert energy.gain.value == pytest.approx(10 / 11 - 1 / 16)
    assert energy.gain.low < energy.gain.value < energy.gain.high


def test_one_image_of_each_patient_is_shown_and_of_wrong_ones_the_surest_first():
    rows = [
        Prediction(key=f"{n:016x}", patient=f"P{n // 2}", split="test", label="a", probabilities=(p, 1 - p))
        for n, p in enumerate((0.9, 0.2, 0.1, 0.3))
    ]
    chosen = select(("a", "b"), rows, has_box={rows[0].key})
    assert [row.key for row in chosen.wrong] == [rows[2].key, rows[1].key]
    assert [row.key for row in chosen.examples["a"]] == [rows[0].key, rows[2].key]
    assert chosen.examples["b"] == []
    assert chosen.looked_at == [rows[0]]


@pytest.mark.parametrize(
    ("model", "layer"),
    [("resnet18", "layer3"), ("shufflenet_v2_x0_5", "stage3"), ("squeezenet1_1", "features.7")],
)
def test_the_feature_map_is_the_last_that_is_fine_enough(model, layer):
    network = build(TrainingSettings(model=model, normalise="image"), 2, (64, 64))
    maps = HeatMaps(network, (64, 64))
    assert re.match(layer, maps.layer)
    images = np.random.default_rng(0).integers(0, 255, (2, 64, 64)).astype(np.uint8)
    heat = maps.of(images, np.array([0, 1]))
    assert heat.shape == images.shape
    assert heat.min() >= 0
    assert heat.max() <= 1


def test_heat_is_on_the_part_that_speaks_for_the_class_and_not_for_the_other():
    layers = BrightAndDark()
    image = np.full((16, 16), 100, np.uint8)
    image[2:5, 3:6], image[10:13, 9:12] = 200, 0
    maps = HeatMaps(GreyClassifier(layers, "image"), (16, 16))
    bright, dark = maps.of(np.stack([image, image]), np.array([0, 1]))
    assert (maps.layer, maps.side) == ("parts", 16)
    np.testing.assert_array_equal(bright > 0.5, image == 200)
    np.testing.assert_array_equal(dark > 0.5, image == 0)


def test_a_heat_map_does_not_hang_on_the_images_beside_it():
    network = build(TrainingSettings(model="squeezenet1_1", normalise="image"), 2, (64, 64))
    maps = HeatMaps(network, (64, 64))
    images = np.random.default_rng(0).integers(0, 255, (1, 64, 64)).astype(np.uint8)
    alone, together = maps.of(images, np.array([1])), maps.of(np.repeat(images, 3, 0), np.array([0, 1, 0]))
    np.testing.assert_allclose(together[1:2], alone, atol=1e-4)


def test_a_transformer_has_no_feature_map_to_show():
    network = build(TrainingSettings(model="vit_b_16", normalise="image"), 2, (64, 64))
    with pytest.raises(NoFeatureMap, match="no feature map of 4 × 4 or more near its end"):
        HeatMaps(network, (64, 64))
