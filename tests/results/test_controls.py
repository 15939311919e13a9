"""Controls learn from the run's training images, are judged as the network is, and said first if they win."""

import json

import numpy as np
import pytest
from PIL import Image

from mri_hpc import evaluate, report
from mri_hpc.cohort.splits import rows_of, split_of
from mri_hpc.results.runs import control_run
from mri_hpc.results.runs.control_models import as_features
from mri_hpc.results.runs.controls import shuffle
from mri_hpc.results.statistics.patients import Outcomes
from mri_hpc.rundir.predictions import Prediction
from mri_hpc.rundir.settings import JobSettings, TrainingSettings, save_settings
from mri_hpc.storage.store import Store

CLASSES = ("bright", "dark")


@pytest.fixture
def run(make_run, preprocess, tmp_path):
    """A run over pictures whose classes differ in brightness alone; its network is right in two of three."""
    source, store = tmp_path / "raw", tmp_path / "store"
    draw = np.random.default_rng(0)
    for number in range(120):
        label = number // 2 % 2
        path = source / CLASSES[label] / f"p{number // 2:03d}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = draw.integers(0, 90, (40, 40)) + (10 if label else 150)
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    assert preprocess(source, store, "--size", "32")[0] == 0
    snapshot = Store.open(store).resolve()
    split = rows_of(split_of(snapshot))
    rows = [
        Prediction(
            key=f"{int(snapshot.key[row]):016x}",
            patient=snapshot.text("patient", int(row)),
            split=name,
            label=snapshot.text("label", int(row)),
            probabilities=(0.7, 0.3) if (snapshot.label[row] == 0) == (number % 3 > 0) else (0.3, 0.7),
        )
        for name in ("validation", "test")
        for number, row in enumerate(getattr(split, name))
    ]
    stated = {"snapshot": snapshot.digest, "content_digest": snapshot.content_digest}
    made = make_run(classes=CLASSES, rows=rows, provenance=stated)
    settings = TrainingSettings(store=str(store), snapshot=snapshot.digest)
    save_settings(made, settings, JobSettings())
    return made


def evaluated(run, capsys, *options):
    capsys.readouterr()
    assert evaluate.main([str(run.path), *options]) == 0
    return capsys.readouterr().out


def test_a_network_that_grey_values_beat_is_said_so_in_the_first_line(run, capsys, tmp_path, monkeypatch):
    words = "The network does not clearly beat a control that has learnt nothing of disease"
    assert evaluated(run, capsys).startswith(words)
    found = json.loads(evaluated(run, capsys, "--json"))
    controls = found["controls"]
    assert controls["controls"]["grey values"]["patient"]["accuracy"]["value"] == 1
    assert not controls["network_clearly_beats_best"]
    assert controls["reach"]["trained_images"] == controls["reach"]["of_trained_images"] > 0
    assert report.main([str(run.path)]) == 0
    page = run.report.read_text()
    assert page.index(words) < page.index("<h1>")
    assert "Shuffled labels" in page
    # Patients who chose the epoch judge no difference; the controls, which they did not choose, keep limits.
    chose = json.loads(evaluated(run, capsys, "--json", "--split", "validation"))["controls"]
    assert chose["network_clearly_beats_best"] is None
    assert chose["controls"]["grey values"]["network_better_by"]["low"] is None
    assert chose["controls"]["grey values"]["patient"]["accuracy"]["low"] > 0
    said = " ".join(evaluated(run, capsys, "--split", "validation").split())
    assert not said.startswith("The network") and "nothing is clear: " in said
    # What was kept stands once the store is gone, and evaluate works where nothing was kept.
    (tmp_path / "store").rename(tmp_path / "gone")
    assert json.loads(evaluated(run, capsys, "--json")) == found
    run.controls.unlink()
    assert "Controls: none, as the store could not be read (it is not where it was)." in " ".join(
        evaluated(run, capsys).split()
    )
    assert not run.controls.exists()
    # Answers of other predictions are none of these; a part is drawn of whole patients, and said.
    (tmp_path / "gone").rename(tmp_path / "store")
    monkeypatch.setattr(control_run, "MOST_TRAINED", 20)
    reach = json.loads(evaluated(run, capsys, "--json"))["controls"]["reach"]
    assert reach["trained_images"] == 20 and reach["trained_patients"] == 10
    run.predictions.write_bytes(run.predictions.read_bytes().replace(b"0.7", b"0.70"))
    monkeypatch.setattr(control_run, "MOST_TRAINED", 30)
    assert json.loads(evaluated(run, capsys, "--json"))["controls"]["reach"]["trained_images"] == 30


def test_shuffled_labels_give_chance_whatever_the_answers_are():
    label = np.repeat(np.arange(3), 40)
    chance = shuffle(
        Outcomes(
            classes=("a", "b", "c"),
            label=label,
            probabilities=np.eye(3)[label],
            cluster=np.arange(120),
            num_clusters=120,
        )
    )
    assert chance.mean == pytest.approx(1 / 3, abs=0.01)
    assert 0.2 < chance.low < chance.mean < chance.high < 0.46


def test_facts_become_numbers_and_one_that_is_not_known_says_so():
    train = {"plane": np.array(["axial", "", "axial"]), "position": np.array([1.0, np.nan, 3.0])}
    asked = {"plane": np.array(["coronal", "axial"]), "position": np.array([np.nan, 9.0])}
    learnt, seen = as_features(train, asked)
    assert learnt.tolist() == [[0, 1, 0, 1], [1, 0, 1, 2], [0, 1, 0, 3]]
    assert seen.tolist() == [[0, 0, 1, 2], [0, 1, 0, 9]]
