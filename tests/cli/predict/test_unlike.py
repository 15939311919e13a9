"""``mri-hpc predict`` on what is like a run's training data and on what is not: one clear line says which."""

import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from mri_hpc import evaluate
from mri_hpc.results.answers.appearance import appearance_of
from mri_hpc.results.answers.resemblance import Resemblance, fit_space, load_resemblance, write_resemblance
from mri_hpc.run import Run
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.provenance import read_provenance
from tests.cli.predict.drawn import draw, predict, read_table, store_aside


@pytest.fixture(scope="module")
def run(trained, tmp_path_factory):
    """The run, as if 30 patients had been in its validation: it has too few for anything to be known."""
    root = tmp_path_factory.mktemp("alike")
    copy = RunDir(root / "run")
    shutil.copytree(trained[0].path, copy.path)
    for number in range(100, 240):
        draw(root / "raw" / f"{number}.png", number, number // 2 % 2)
    answer = Run(copy.path).predict(root / "raw", patient_from="file", keep_pictures=True)
    looks = appearance_of(
        np.stack([np.asarray(Image.open(io.BytesIO(one.picture))) for one in answer.images])
    )
    space = fit_space(looks[:80])
    others = space.distances(looks[80:]).reshape(30, 2).tolist()
    digest = read_provenance(copy)["model_digest"]
    write_resemblance(
        copy,
        Resemblance(
            model_digest=digest, num_images=80, space=space, validation=tuple(tuple(one) for one in others)
        ),
    )
    return copy


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Slices of patients, and single pictures, of all kinds."""
    root = tmp_path_factory.mktemp("scans")
    for number in range(6):
        draw(root / "patients" / f"P{number // 2}" / f"{number}.png", 302 + number, number // 2 % 2)
    draw(root / "one" / "picture.png", 400, 1)
    pixels = np.asarray(Image.open(root / "one" / "picture.png"))
    (root / "odd").mkdir()
    Image.fromarray(255 - pixels).save(root / "odd" / "negative.png")
    Image.fromarray(np.zeros_like(pixels)).save(root / "odd" / "no head.png")
    noise = np.random.default_rng(1).integers(0, 256, pixels.shape).astype(np.uint8)
    Image.fromarray(noise).save(root / "odd" / "noise.png")
    for number in range(2):
        (root / "mixed" / "P9").mkdir(parents=True, exist_ok=True)
        Image.fromarray(255 - pixels).save(root / "mixed" / "P9" / f"{number}.png")
        draw(root / "mixed" / "P8" / f"{number}.png", 500 + number, 0)
    (root / "words.png").write_text("no picture")
    return root


SHOWN = {
    "one patient's slices": ("patients/P0", "0 of 1 patients are not like the training data."),
    "several patients": ("patients", "0 of 3 patients are not like the training data."),
    "a single picture": ("one/picture.png", "0 of 1 pictures are not like the training data."),
    "a picture of no head": ("odd/no head.png", "1 of 1 pictures is not like the training data."),
    "a negative": ("odd/negative.png", "1 of 1 pictures is not like the training data."),
    "noise": ("odd/noise.png", "1 of 1 pictures is not like the training data."),
}


@pytest.mark.parametrize("what", SHOWN)
def test_whatever_is_given_it_is_said_whether_it_is_like_the_training_data(what, run, scans, capsys):
    path, said = SHOWN[what]
    status, out, err = predict(run.path, scans / path, capsys=capsys)
    assert (status, err) == (0, "")
    assert f"anything else is given one of these names. {said}" in out
    # A column of the table, beside the picture or the patient.
    assert ("  not like  " in out) == said.startswith("1")


def test_rubbish_is_one_clear_line(run, scans, capsys):
    status, out, err = predict(run.path, scans / "words.png", capsys=capsys)
    assert (status, out) == (2, "")
    assert err.splitlines()[0].endswith("words.png: text, not a picture")
    assert "none of the files given could be judged" in err.splitlines()[1]
    assert len(err.splitlines()) == 2


def test_every_output_says_of_each_patient_whether_it_is_like_the_training_data(run, scans, tmp_path, capsys):
    status, out, _err = predict(run.path, scans / "mixed", "--out", tmp_path / "out", capsys=capsys)
    assert (status, "1 of 2 patients is not like the training data." in out) == (0, True)
    patients = {row["patient"]: row for row in read_table(tmp_path / "out" / "patients.csv")}
    assert {name: row["not_like_training"] for name, row in patients.items()} == {"P8": "no", "P9": "yes"}
    assert [patients["P9"][name] for name in ("like_scores", "share", "share_low", "share_high")] == [""] * 4
    images = read_table(tmp_path / "out" / "predictions.csv")
    assert {(row["patient"], row["not_like_training"]) for row in images} == {("P8", "no"), ("P9", "yes")}
    pages = {page.stem: page.read_text() for page in (tmp_path / "out" / "pages").iterdir()}
    assert '<h2 id="unlike">Not like the training data</h2>' in pages["P9"]
    assert "No decision: nothing is promised for a patient who is not like the training data" in pages["P9"]
    assert "Validation patients do not show how often this is right" in pages["P9"]
    assert '<h2 id="unlike">' not in pages["P8"]
    assert "No sign that this is not like the training data" in pages["P8"]
    document = json.loads(predict(run.path, scans / "mixed", "--json", capsys=capsys)[1])
    found = {one["patient"]: one for one in document["patients"]}
    assert found["P8"]["training_data"]["is_unlike"] is False
    assert found["P9"]["training_data"]["p"] == pytest.approx(1 / 31)
    assert found["P9"]["like_scores"] is None


def test_a_page_of_pictures_without_a_patient_names_those_that_are_unlike(run, scans, tmp_path, capsys):
    given = [scans / "odd" / "negative.png", scans / "one" / "picture.png"]
    assert predict(run.path, *given, "--out", tmp_path / "out", capsys=capsys)[0] == 0
    page = (tmp_path / "out" / "pages" / "images.html").read_text()
    assert page.count("%; not like the training data</figcaption>") == 1
    assert "1 of 2 pictures is not like the training data." in page


def test_a_run_finds_it_out_as_it_ends_and_says_where_it_has_too_few_patients(trained, tmp_path, capsys):
    run, raw = trained
    found = load_resemblance(run)
    assert isinstance(found, Resemblance)
    assert found.num_images > 30
    assert 0 < len(found.validation) < 9
    document = json.loads(predict(run.path, raw, "--json", capsys=capsys)[1])
    few = f"it needs 9 validation patients, and the run has {len(found.validation)}"
    assert {one["training_data"]["words"] for one in document["patients"]} == {
        f"Whether this is like the training data is not known: {few}"
    }
    assert predict(run.path, raw, "--out", tmp_path / "out", capsys=capsys)[0] == 0
    assert "not_like_training" not in read_table(tmp_path / "out" / "patients.csv")[0]


def test_evaluate_finds_it_out_for_a_run_of_before_where_its_store_is_there(trained, tmp_path, capsys):
    root, copy = trained[1].parent, RunDir(tmp_path / "before")
    shutil.copytree(trained[0].path, copy.path)
    as_it_ended = copy.resemblance.read_bytes()
    copy.resemblance.unlink()
    assert evaluate.main([str(copy.path), "--json"]) == 0
    assert not copy.resemblance.exists()
    store_aside(root).rename(root / "store")
    try:
        assert evaluate.main([str(copy.path), "--json"]) == 0
    finally:
        (root / "store").rename(store_aside(root))
    capsys.readouterr()
    assert copy.resemblance.read_bytes() == as_it_ended


def test_a_run_of_before_says_how_to_find_it_out(trained, tmp_path, capsys):
    copy = RunDir(tmp_path / "before")
    shutil.copytree(trained[0].path, copy.path)
    copy.resemblance.unlink()
    status, out, _err = predict(copy.path, trained[1], capsys=capsys)
    assert status == 0
    assert f"is not known: the run has no resemblance.json; mri-hpc evaluate {copy.path} makes it" in out
