"""``mri-hpc report RUN…``: folds and seeds of one study on one page."""

import csv
import dataclasses
import json
import statistics

import pytest

from mri_hpc.results.runs.evaluation import evaluate_split
from mri_hpc.rundir.folds import write_folds
from mri_hpc.rundir.predictions import Prediction
from mri_hpc.rundir.settings import JobSettings, TrainingSettings, save_settings
from tests.harness.pages import hard_to_hear

CLASSES = ("a", "b")
STUDY = TrainingSettings(snapshot="5e" * 32, test_fold=1, from_train="validation", hash_folds=2)


def rows_of(fold, *, wrong):
    """Twenty test patients of a fold, two slices each; the first `wrong` are answered wrongly."""
    for number in range(20):
        label, is_right = number % 2, number >= wrong
        for part in range(2):
            yield Prediction(
                key=f"{fold:08x}{number * 2 + part:08x}",
                patient=f"f{fold}p{number:02d}",
                split="test",
                label=CLASSES[label],
                probabilities=(0.9, 0.1) if (label == 0) == is_right else (0.1, 0.9),
            )


@pytest.fixture
def fold_run(make_run, tmp_path):
    """Makes a finished run of a fold and seed in tmp_path/cv; `wrong` of its 20 patients are."""

    def make(name, fold, *, seed=0, wrong=2, training=STUDY, of_fold=None, **others):
        (tmp_path / "cv").mkdir(exist_ok=True)
        rows = list(rows_of(of_fold or fold, wrong=wrong))
        run = make_run(f"cv/{name}", classes=CLASSES, rows=rows, **others)
        run.settings.unlink()
        save_settings(run, dataclasses.replace(training, test_fold=fold, seed=seed), JobSettings())
        return run

    return make


def test_folds_and_seeds_become_one_page_with_mean_spread_and_pooled_patients(fold_run, report, tmp_path):
    wrong = {(1, 0): 2, (2, 0): 6, (1, 1): 4, (2, 1): 8}
    runs = [fold_run(f"f{f}s{s}", f, seed=s, wrong=count) for (f, s), count in wrong.items()]
    status, out, errors = report(*(run.path for run in runs), "--json")
    assert status == 0, errors
    found = json.loads(out)
    values = {
        key: evaluate_split(run, "test").headline["balanced_accuracy"].value
        for key, run in zip(wrong, runs, strict=True)
    }
    over = found["over_runs"]["balanced_accuracy"]
    assert over["mean"] == pytest.approx(statistics.fmean(values.values()))
    assert over["sd_over_folds"] == pytest.approx(statistics.stdev([0.85, 0.65]))
    assert over["sd_over_seeds"] == pytest.approx(statistics.stdev([0.8, 0.7]))
    assert [(one["seed"], one["test_fold"], one["n"]) for one in found["runs"]] == [
        (0, 1, 20), (0, 2, 20), (1, 1, 20), (1, 2, 20),
    ]  # fmt: skip
    assert {seed: pool["n"] for seed, pool in found["pooled"].items()} == {"0": 40, "1": 40}
    assert found["pooled"]["0"]["accuracy"]["value"] == pytest.approx(0.8)
    assert all("auroc" not in pool for pool in found["pooled"].values())
    page = (tmp_path / "cv" / "joined.html").read_text(encoding="utf-8")
    assert "Research use only." in page
    assert "4 runs: 2 folds, 2 seeds" in page
    assert str(tmp_path) not in page
    again = report(*(run.path for run in reversed(runs)))
    assert again[0] == 0
    assert (
        "balanced accuracy by patient: mean 75.0 % (standard deviation 14.1 over folds, 7.1 over seeds)"
        in again[1]
    )


def test_the_folder_of_folds_is_joined_by_its_name(fold_run, report, tmp_path):
    runs = [fold_run(f"fold-{fold}", fold) for fold in (1, 2)]
    write_folds(tmp_path / "cv", (1, 2))
    status, out, errors = report(tmp_path / "cv")
    assert status == 0, errors
    page = (tmp_path / "cv" / "report.html").read_text(encoding="utf-8")
    assert hard_to_hear(page) == []
    assert all(run.path.name in page for run in runs)
    assert "over folds" in out
    assert "over seeds" not in out


def test_reviewers_of_folds_get_what_all_say_alike_once_and_the_rest_by_fold(fold_run, report, tmp_path):
    runs = [fold_run(f"fold-{fold}", fold, wrong=2 * fold) for fold in (1, 2)]
    write_folds(tmp_path / "cv", (1, 2))
    status, out, errors = report(tmp_path / "cv", "--json")
    assert status == 0, errors
    folder = tmp_path / "cv" / "review"
    assert json.loads(out)["review"] == str(folder)
    found = json.loads((folder / "review.json").read_text(encoding="utf-8"))
    card = found["model_card"]
    assert card["Model"]["What it is"].count(STUDY.model) == 1
    to_judge_by = card["Figures"]["To judge by"]
    assert all(f"Fold {fold}, seed 0: Balanced accuracy by patient" in to_judge_by for fold in (1, 2))
    assert {one["run"] for one in found["together"]["runs"]} == {"Fold 1, seed 0", "Fold 2, seed 0"}
    assert found["together"]["over_runs"]["balanced_accuracy"]["mean"] == pytest.approx(0.85)
    for name in ("model_card", "claim_2024", "tripod_ai"):
        page = (folder / f"{name}.html").read_text(encoding="utf-8")
        assert hard_to_hear(page) == []
        assert "balanced accuracy by patient: mean 85.0 %" in page.lower()
        assert "40 patients of all folds together, seed 0" in page
    with (folder / "figures.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["run"] for row in rows} == {"Fold 1, seed 0", "Fold 2, seed 0"}
    assert not any(str(tmp_path) in file.read_text(encoding="utf-8") for file in folder.iterdir())
    status, out, errors = report(*(run.path for run in runs))
    assert status == 0, errors
    assert (tmp_path / "cv" / "joined_review" / "model_card.html").is_file()


def test_a_fold_that_was_never_launched_is_named(fold_run, report, tmp_path):
    fold_run("fold-1", 1)
    write_folds(tmp_path / "cv", (1, 2))
    status, _, errors = report(tmp_path / "cv")
    assert status == 2
    assert "lacks fold-2, which was never launched" in errors


OTHERS = {
    "is given twice": None,
    "is not finished": {"finished": False},
    "is of another snapshot": {"training": dataclasses.replace(STUDY, snapshot="77" * 32)},
    "has another lr than": {"training": dataclasses.replace(STUDY, lr=0.5)},
    "has another epochs than": {"training": dataclasses.replace(STUDY, epochs=3)},
    "test the same patients with one seed": {"of_fold": 1},
    "have other folds": {"seed": 1},
}


@pytest.mark.parametrize("says", OTHERS)
def test_what_is_not_one_study_is_refused_in_one_line(fold_run, report, tmp_path, says):
    first = fold_run("one", 1)
    other = first if OTHERS[says] is None else fold_run("two", 2, **OTHERS[says])
    status, _, errors = report(first.path, other.path)
    assert status == 2
    assert says in errors
    assert errors.count("\n") == 1
    assert not (tmp_path / "cv" / "joined.html").exists()


def test_a_copy_of_a_run_is_the_same_training(fold_run, report):
    first, copy = fold_run("one", 1), fold_run("copy", 1)
    status, _, errors = report(first.path, copy.path)
    assert status == 2
    assert "are the same training: each counts once" in errors


def test_a_word_that_is_no_run_is_not_taken_for_one(fold_run, report):
    status, _, errors = report(fold_run("one", 1).path, "--json", "True")
    assert status == 2
    assert "'True' is no folder of a run or of folds" in errors
