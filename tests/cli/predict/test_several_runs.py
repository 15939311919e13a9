"""``mri-hpc predict`` of several runs: their mean, how far they disagree, and what can no longer be said."""

import json
import shutil

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch

from mri_hpc.base.sealed_json import seal, unseal
from mri_hpc.results.answers import judging
from mri_hpc.run import Run
from mri_hpc.rundir.folds import write_folds
from mri_hpc.rundir.layout import RunDir
from mri_hpc.training.model import weights_digest
from mri_hpc.training.state_files import write_weights
from tests.cli.predict.drawn import CLASSES, predict, read_table


def renamed(run, classes):
    """Change the classes that a model answers."""
    with safetensors.safe_open(run.model, "pt") as file:
        metadata = file.metadata()
    weights = safetensors.torch.load_file(run.model)
    write_weights(run.model, weights, {**metadata, "classes": json.dumps(classes)})


@pytest.fixture(scope="module")
def other(trained, tmp_path_factory):
    """The run, as if another seed had made it surer of one class."""
    run = RunDir(tmp_path_factory.mktemp("seeds") / "other")
    shutil.copytree(trained[0].path, run.path)
    with safetensors.safe_open(run.model, "pt") as file:
        metadata = file.metadata()
    weights = safetensors.torch.load_file(run.model)
    last = next(name for name, values in weights.items() if values.shape == (len(CLASSES),))
    weights[last] = weights[last] + torch.tensor([1.5, 0.0])
    write_weights(run.model, weights, metadata)
    provenance = json.loads(run.provenance.read_bytes())
    digest = weights_digest(weights)
    run.provenance.write_text(json.dumps({**provenance, "model_digest": digest}))
    for path in (run.calibration, run.resemblance):
        path.write_bytes(seal({**unseal(path.read_bytes()), "model_digest": digest}))
    return run


@pytest.fixture(scope="module")
def scans(trained):
    """Images of three patients."""
    return [trained[1] / name for name in ("glioma/P00", "pituitary/P01", "glioma/P02")]


def asked(*arguments, capsys):
    status, out, err = predict(*arguments, "--json", capsys=capsys)
    assert status == 0, err
    return json.loads(out)


def test_the_mean_of_the_runs_is_given_with_the_lowest_and_the_highest(
    trained, other, tmp_path, scans, capsys
):
    run, _raw = trained
    alone = [asked(path, *scans, capsys=capsys) for path in (run.path, other.path)]
    both = asked(run.path, *scans, "--also", other.path, capsys=capsys)
    assert both["also"] == [str(other.path)]
    assert both["model_digests"] == [one["model_digest"] for one in alone]
    for kind in ("images", "patients"):
        for found, *members in zip(both[kind], *(one[kind] for one in alone), strict=True):
            for name in CLASSES:
                chances = [one["probabilities"][name] for one in members]
                assert chances[0] != chances[1]
                assert found["probabilities"][name] == pytest.approx(np.mean(chances))
                assert found["lowest_and_highest"][name] == pytest.approx([min(chances), max(chances)])
    assert predict(run.path, *scans, "--also", other.path, "--out", tmp_path, capsys=capsys)[0] == 0
    rows = read_table(tmp_path / "patients.csv")
    assert {row["model_digest"] for row in rows} == {" ".join(both["model_digests"])}
    for row, found in zip(rows, both["patients"], strict=True):
        low, high = found["lowest_and_highest"]["glioma"]
        assert float(row["low:glioma"]) == pytest.approx(low)
        assert float(row["high:glioma"]) == pytest.approx(high)
        page = (tmp_path / "pages" / f"{row['patient']}.html").read_text()
        assert f"<td>{100 * low:.1f}–{100 * high:.1f}</td>" in page
        assert all(digest in page for digest in both["model_digests"])
        assert "the mean of what 2 runs say" in page
    out = predict(run.path, *scans, "--also", other.path, capsys=capsys)[1]
    low, high = (100 * end for end in both["patients"][0]["lowest_and_highest"]["glioma"])
    assert f"{100 * both['patients'][0]['probabilities']['glioma']:.1f} ({low:.1f}–{high:.1f})" in out
    assert "Probabilities are the mean of 2 runs, each with its own calibration" in out
    assert "No threshold is given: it is one run's" in out


def test_images_are_read_once_for_all_runs_and_each_run_says_what_it_says_alone(
    trained, other, scans, monkeypatch
):
    paths = [trained[0].path, other.path]
    alone = [Run(path).predict(scans) for path in paths]
    read, samples = [], judging._samples
    monkeypatch.setattr(judging, "_samples", lambda *one: [read.append(one[0].path), samples(*one)][1])
    both = Run(paths[0]).predict(scans, also=paths[1:])
    assert len(read) == len(set(read)) == len(both.images)
    for member, own in zip(both.members, alone, strict=True):
        assert member.model_digest == own.model_digest
        for image, wanted in zip(member.images, own.images, strict=True):
            assert np.array_equal(image.probabilities, wanted.probabilities)
            assert (image.name, image.distance) == (wanted.name, wanted.distance)
    assert not np.array_equal(
        both.members[0].images[0].probabilities, both.members[1].images[0].probabilities
    )


def test_like_scores_are_of_patients_whom_no_run_was_trained_on(trained, other, tmp_path, scans, capsys):
    run, _raw = trained
    both = asked(run.path, *scans, "--also", other.path, capsys=capsys)
    assert all(one["like_scores"] is not None for one in both["patients"])
    fold = RunDir(tmp_path / "fold")
    shutil.copytree(other.path, fold.path)
    text = fold.predictions.read_text()
    swapped = {"validation": "test", "test": "validation"}
    lines = [
        ",".join(swapped.get(cell, cell) for cell in line.split(","))
        for line in text.splitlines(keepends=True)
    ]
    fold.predictions.write_text("".join(lines))
    found = asked(run.path, *scans, "--also", fold.path, capsys=capsys)
    assert {json.dumps(one["like_scores"]) for one in found["patients"]} == {"null"}
    assert "no patient was in the validation of all of them" in found["calibration"]
    provenance = json.loads(fold.provenance.read_bytes())
    shutil.copy(other.predictions, fold.predictions)
    fold.provenance.write_text(json.dumps({**provenance, "snapshot": "0" * 32}))
    found = asked(run.path, *scans, "--also", fold.path, capsys=capsys)
    assert {json.dumps(one["like_scores"]) for one in found["patients"]} == {"null"}


def test_names_are_kept_back_of_several_runs_too(trained, other, scans, capsys):
    run, _raw = trained
    status, out, _err = predict(run.path, *scans, "--also", other.path, "--json", capsys=capsys, names=())
    assert (status, "P00" in out, "glioma/P00" in out) == (0, False, False)


def test_a_folder_of_folds_stands_for_all_of_them(trained, other, tmp_path, scans, capsys):
    write_folds(tmp_path / "cv", (1, 2))
    for fold, run in ((1, trained[0]), (2, other)):
        shutil.copytree(run.path, tmp_path / "cv" / f"fold-{fold}")
    found = asked(tmp_path / "cv", *scans, capsys=capsys)
    assert (found["run"], found["also"]) == (
        str(tmp_path / "cv" / "fold-1"),
        [str(tmp_path / "cv" / "fold-2")],
    )


def test_runs_that_do_not_fit_are_refused_with_what_differs(trained, other, tmp_path, scans, capsys):
    run, _raw = trained
    strange = RunDir(tmp_path / "strange")
    shutil.copytree(other.path, strange.path)
    renamed(strange, ["glioma", "meningioma"])
    status, _out, err = predict(run.path, *scans, "--also", strange.path, capsys=capsys)
    assert status == 2
    assert f"{run.path} answers glioma, pituitary, and {strange.path} answers glioma, meningioma" in err
    status, _out, err = predict(run.path, *scans, "--also", run.path, capsys=capsys)
    assert (status, "is given twice" in err) == (2, True)
    status, _out, err = predict(run.path, "--also", other.path, *scans, capsys=capsys)
    assert (status, "is no folder of a run or of folds" in err) == (2, True)
