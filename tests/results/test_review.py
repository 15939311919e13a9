"""Model card, CLAIM 2024 and TRIPOD+AI: the run fills an item, or it names what only you know."""

import csv
import json

import pytest

from mri_hpc.results.reviewers.claim import CLAIM
from mri_hpc.results.reviewers.model_card import CARD
from mri_hpc.results.reviewers.review import write_review
from mri_hpc.results.reviewers.tripod import TRIPOD
from mri_hpc.results.runs.evaluation import evaluate_split
from mri_hpc.rundir.predictions import Prediction
from mri_hpc.rundir.settings import JobSettings, TrainingSettings, save_settings
from tests.harness.pages import Page, hard_to_hear

OF_TRIPOD = {
    "1": "", "2": "", "3": "abc", "4": "", "5": "ab", "6": "abc", "7": "", "8": "abc", "9": "abc", "10": "",
    "11": "",
    "12": "abcdefg", "13": "", "14": "", "15": "", "16": "", "17": "", "18": "abcdef", "19": "", "20": "abc",
    "21": "", "22": "", "23": "ab", "24": "", "25": "", "26": "", "27": "abc",
}  # fmt: skip
"""Numbers of its items, and the letters of their parts."""
NO_RUN_KNOWS = {
    "claim_2024": {"15", "16", "17", "18", "34", "44"},
    "tripod_ai": {"3a", "3c", "5b", "6c", "8b", "8c", "14", "17", "18a", "18b", "18d", "19"},
}
"""Items of which no run knows anything."""
PAGES = ("model_card.html", "claim_2024.html", "tripod_ai.html")


@pytest.fixture
def reviewed(make_run):
    """Makes a run, reviews it, and returns it with what review.json says."""

    def make(*args, settings=None, **values):
        run = make_run(*args, **values)
        if settings:
            save_settings(run, settings, JobSettings())
        write_review(run, evaluate_split(run, "test"))
        return run, json.loads((run.review / "review.json").read_text(encoding="utf-8"))

    return make


def numbers(checklist):
    return [item.number for section in checklist.sections for item in section.items]


def says(found, checklist, number):
    return next(item["run_says"] for item in found[checklist] if item["item"] == number)


def test_the_numbers_of_both_checklists_are_there_once_and_in_order():
    assert numbers(CLAIM) == [str(number) for number in range(1, 45)]
    parts = [number + part for number, letters in OF_TRIPOD.items() for part in letters or ("",)]
    assert numbers(TRIPOD) == parts
    assert (len(OF_TRIPOD), len(parts)) == (27, 52)


def test_every_item_is_filled_or_names_what_only_you_know(reviewed):
    _run, found = reviewed()
    for checklist, empty in NO_RUN_KNOWS.items():
        for item in found[checklist]:
            assert item["run_says"] or item["only_you_know"], item
            assert (item["state"] == "only you know") == (not item["run_says"])
            assert (item["state"] == "filled") == (not item["only_you_know"])
        assert empty <= {item["item"] for item in found[checklist] if not item["run_says"]}
        assert all(item["run_says"] for item in found[checklist] if item["state"] == "filled")
    for section, lines in CARD.items():
        assert list(found["model_card"][section]) == [line.title for line in lines]
        assert all(found["model_card"][section].values())


def test_filled_items_carry_the_figures_of_the_run(reviewed):
    run, found = reviewed()
    evaluation = evaluate_split(run, "test")
    best, support = evaluation.headline["balanced_accuracy"], evaluation.headline.classes["glioma"].support
    percent = best.scale.number
    both = f"{percent(best.value)} % (95 % interval {percent(best.low)} to {percent(best.high)})"
    for checklist, number in (("claim_2024", "2"), ("claim_2024", "32"), ("tripod_ai", "25")):
        assert both in says(found, checklist, number)
    assert both in found["model_card"]["Figures"]["To judge by"]
    in_brackets = f"{percent(best.value)} % ({percent(best.low)} to {percent(best.high)})"
    assert in_brackets in says(found, "claim_2024", "37")
    assert in_brackets in says(found, "tripod_ai", "23a")
    rows = evaluation.headline.confusion
    assert f"glioma taken for pituitary: {rows[0][2]} of {support}" in says(found, "claim_2024", "39")
    assert rows[0][2]
    assert "Images by class: glioma: train 80 (9 patients)" in says(found, "claim_2024", "36")
    assert f"snapshot {'5e' * 32}" in says(found, "tripod_ai", "18e")
    assert "torch 2.15.0" in says(found, "claim_2024", "23")
    assert "11178051 parameters" in says(found, "claim_2024", "22")


def test_another_run_is_another_review(reviewed):
    classes = ("ill", "normal")
    rows = [
        Prediction(key=f"{n:016x}", patient=f"P{n}", split="test", label=classes[n % 2],
                   probabilities=(0.9, 0.1) if n % 2 == 0 else (0.2, 0.8))
        for n in range(40)
    ]  # fmt: skip
    settings = TrainingSettings(
        model="vgg11", weights="pretrained", class_weights="none", mirror_answers=True, optimizer="sgd",
        test_fold=2, val_fold=1, seed=3, deterministic=True,
    )  # fmt: skip
    _run, found = reviewed(
        classes=classes, rows=rows, settings=settings,
        provenance={"test_images_trained_on": 3, "images_in_no_split": 17, "best_epoch": 4},
    )  # fmt: skip
    for number, words in {
        "1": "a vgg11 as torchvision",
        "8": "17 stored images are in no split",
        "19": "by folds that the data name: 2 is the test split, 1 validation",
        "20": "Of the test images 3 look like an image that was trained on",
        "24": "trained on ImageNet",
        "25": "sgd, highest rate",
        "26": "epoch 4",
        "27": "an image and its mirror image",
        "39": "0 of 40 patients answered wrongly.",
    }.items():
        assert words in says(found, "claim_2024", number), number
    # A class of nothing found is there: its absence is no limit any more.
    assert "absence of a finding" not in says(found, "claim_2024", "40")
    assert "Rare classes do not count more" in says(found, "tripod_ai", "13")


def test_data_without_patients_are_not_said_to_be_apart_by_patient(reviewed):
    rows = [
        Prediction(key=f"{n:016x}", patient="", split="test", label="ab"[n % 2], probabilities=(0.6, 0.4))
        for n in range(40)
    ]
    _run, found = reviewed(classes=("a", "b"), rows=rows, provenance={"has_patients": False})
    assert "apart by image only" in says(found, "claim_2024", "20")
    assert "slice level: not a patient estimate" in says(found, "claim_2024", "40").lower()
    assert "No patient is judged" in says(found, "claim_2024", "27")


def test_what_a_run_did_not_write_down_only_you_know(reviewed):
    run, found = reviewed()
    assert not run.recipe.exists()
    nine = next(item for item in found["claim_2024"] if item["item"] == "9")
    assert (nine["run_says"], nine["state"]) == ("", "only you know")
    twelve = next(item for item in found["tripod_ai"] if item["item"] == "12b")
    assert twelve["only_you_know"] == "this run did not write it down"


def test_pages_csv_and_json_say_the_same(reviewed):
    run, found = reviewed()
    for checklist in NO_RUN_KNOWS:
        with (run.review / f"{checklist}.csv").open(encoding="utf-8", newline="") as file:
            assert list(csv.DictReader(file)) == found[checklist]
        words = Page((run.review / f"{checklist}.html").read_text(encoding="utf-8")).words
        for item in found[checklist]:
            assert f"{item['item']}. {item['asks']}" in words
            assert item["run_says"] in words
            assert item["only_you_know"] in words
        states = [item["state"] for item in found[checklist]]
        assert (
            f"{len(states)} items: {states.count('filled')} filled, {states.count('in part')} in part"
            in words
        )
    with (run.review / "figures.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    of_patients = found["evaluation"]["patient"]
    (row,) = [r for r in rows if (r["by"], r["class"], r["figure"]) == ("patient", "glioma", "auroc")]
    assert {key: float(row[key]) for key in ("value", "low", "high")} == of_patients["classes"]["glioma"][
        "auroc"
    ]
    assert len(rows) == 2 * (6 + 3 * 7)


def test_the_pages_can_be_heard_and_are_the_same_each_time(reviewed):
    run, _found = reviewed()
    before = {path.name: path.read_bytes() for path in run.review.iterdir()}
    for name in PAGES:
        assert hard_to_hear(before[name].decode()) == []
    write_review(run, evaluate_split(run, "test"))
    assert {path.name: path.read_bytes() for path in run.review.iterdir()} == before


def test_no_folder_of_the_site_is_in_the_review(reviewed):
    settings = TrainingSettings(store="/home/login-name/HIV study/store", weights="/home/login-name/w.pth")
    ancestors = [{"run": "/home/login-name/first", "model_digest": "a1", "snapshot": "5a"}]
    run, _found = reviewed(settings=settings, provenance={"continued_from": ancestors})
    for path in run.review.iterdir():
        assert b"login-name" not in path.read_bytes()
