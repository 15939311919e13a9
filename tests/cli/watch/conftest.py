"""A chain whose commands run within the test, and whose trainings are done at once."""

import contextlib
import dataclasses
import io
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mri_hpc import models, preprocess, store
from mri_hpc.base.errors import UserError
from mri_hpc.chain.commands import Commands, NotOn
from mri_hpc.chain.layout import ChainDir
from mri_hpc.chain.links import outcomes
from mri_hpc.cohort.splits import rows_of, set_apart, split_by
from mri_hpc.results.answers.calibration import calibrate
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.ledger import Kind, record
from mri_hpc.rundir.settings import JobSettings, TrainingSettings, load_training, save_settings
from mri_hpc.storage.store import Store
from mri_hpc.watch import main
from tests.harness.handlers import handlers_kept

CLASSES = ("dark", "spot")
OPTIONS = "--preprocess=--size 32 --ids as-given"
FIRST = 90
"""Patients of the first delivery: of each three one is for validation, and of each twelve one for test."""


def picture(label, seed):
    """A head, with a bright spot in its middle or without."""
    random = np.random.default_rng(seed)
    across = np.hypot(*(np.mgrid[:32, :32] - 16))
    spot = 90 * np.exp(-(across**2) / (10 + 4 * random.random())) if label else 0
    pixels = 40 + 60 * np.exp(-(across**2) / 120) + random.normal(0, 6, (32, 32)) + spot
    return np.clip(pixels, 1, 255)


def deliver(folder, first, num, *, swapped=False, change=lambda pixels: pixels):
    """Add two pictures each of patients to a folder, and their rows to its table of labels."""
    table = folder / "labels.csv"
    folder.mkdir(exist_ok=True)
    rows = table.read_text() if table.exists() else "path,label,patient,split\n"
    for number in range(first, first + num):
        label = number % 2
        split = "validation" if number % 3 == 1 else "test" if number % 12 == 0 else "train"
        for part in range(2):
            name = f"{number}_{part}.png"
            pixels = change(picture(label, 10 * number + part)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name)
            rows += f"{name},{CLASSES[label ^ swapped]},P{number},{split}\n"
    table.write_text(rows)


def asked(images):
    """What a network that has learnt to see spots says: float64, (n, 2)."""
    spot = images[:, 12:20, 12:20].mean((1, 2)) > 120
    return np.eye(2)[spot.astype(int)] * 0.9 + 0.05


def last(chain):
    """The outcome of the last link."""
    return outcomes(chain)[-1]


@pytest.fixture(scope="package")
def place(tmp_path_factory):
    """The folder in which all tests work, one after the other: what is kept names whole paths."""
    return tmp_path_factory.mktemp("watch") / "site"


@pytest.fixture(scope="package")
def kept(place):
    """What the first link of a chain leaves, which has trained on the first delivery."""
    place.mkdir()
    deliver(place / "raw", 0, FIRST)
    (place / "key").touch(mode=0o600)
    (place / "key").write_text("01" * 32)
    with pytest.MonkeyPatch.context() as patch, handlers_kept():
        stand_in(patch, place)
        assert main(["raw", "--store", "store", OPTIONS]) == 0
    return place.rename(place.with_name("kept"))


def stand_in(patch, folder):
    """Work in a folder, with commands of a link in this process, and trainings that end at once."""
    patch.chdir(folder)
    patch.setenv("MRI_KEY_FILE", str(folder / "key"))
    patch.setattr(Commands, "run", run_here)
    patch.setattr("mri_hpc.training.prediction.load_finished", load_as_asked)


@pytest.fixture
def chain(kept, place, monkeypatch):
    """The chain after its first link: watch/raw."""
    shutil.copytree(kept, place)
    stand_in(monkeypatch, place)
    yield ChainDir(Path("watch/raw"))
    shutil.rmtree(place)


@pytest.fixture
def watch(capsys):
    """Calls mri-hpc watch on raw; gives status, stdout and stderr."""

    def call(*words):
        capsys.readouterr()
        with handlers_kept():
            status = main(["raw", "--store", "store", OPTIONS, *map(str, words)])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return call


def run_here(commands, command, words, *, names_files=False, is_followed=False, why_not_on=lambda: ""):
    """Run a command of a link in this process; a launch is a training that has ended. Its last line."""
    commands.refuse_to_go_on()
    with commands.log.open("a") as log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        print(command, *words)
        if command == "launch":
            if "--cancel" in words:
                run = RunDir(Path(words[words.index("--run") + 1]))
                record(run, run.newest_attempt(), Kind.CANCELLED, by="")
            elif why := why_not_on():
                begin(words).claim_submission()
                raise NotOn(why)
            else:
                train(words)
            return ""
        out = io.StringIO() if names_files else log
        with handlers_kept(), contextlib.redirect_stdout(out):
            status = {"preprocess": preprocess, "store": store, "models": models}[command].main(list(words))
    if status:
        raise UserError(f"{command} has failed")
    return commands.log.read_text().splitlines()[-1]


def load_as_asked(run):
    """Load a model that tells spots, whatever its weights."""
    from mri_hpc.training.prediction import FinishedRun

    assert RunDir(run.path).model.exists()
    return FinishedRun(classes=CLASSES, ask=asked)


def begin(words):
    """Leave a new run, as launch does."""
    given = dict(zip(words[::2], words[1::2], strict=False))
    run = RunDir(Path(given["--run"]))
    kept = Store.open(Path(given["--store"]))
    snapshot = kept.resolve(given["--snapshot"])
    parent = given.get("--continue-from", "")
    typed = [word for word in words if word in ("--allow-leaks", "--no-allow-leaks")]
    inherited = bool(parent) and load_training(RunDir(Path(parent))).allow_leaks
    training = TrainingSettings(
        model="squeezenet1_1", store=str(kept.path), snapshot=snapshot.digest, calibration_share=0.5,
        continue_from=parent, normalise="imagenet",
        allow_leaks=typed[-1] == "--allow-leaks" if typed else inherited,
    )  # fmt: skip
    run.path.mkdir(parents=True)
    save_settings(run, training, JobSettings())
    shutil.copy(kept.recipe, run.recipe)
    return run


def train(words):
    """Leave a finished run, as launch and its ranks do, of answers that are all right."""
    from mri_hpc.training.evaluation import Answers
    from mri_hpc.training.model import build, weights_digest
    from mri_hpc.training.prediction import publish

    if RunDir(Path(words[words.index("--run") + 1])).settings.is_file():
        return
    run = begin(words)
    if os.environ.get("STANDIN_DIES"):
        raise UserError("the training has failed")
    training = load_training(run)
    snapshot = Store.open(Path(training.store)).resolve(training.snapshot)
    weights = build(
        dataclasses.replace(training, continue_from=""), 2, snapshot.image_shape
    ).network.state_dict()
    split = rows_of(set_apart(snapshot, split_by(snapshot, training), 0.5))
    judged = {}
    for name, rows in vars(split).items():
        if name != "train" and len(rows):
            labels, ones = np.asarray(snapshot.label)[rows].astype(np.int64), np.ones(len(rows), np.float32)
            noise = np.random.default_rng(0).uniform(0.5, 2, (len(rows), 1))
            judged[name] = Answers(
                keys=np.asarray(snapshot.key)[rows], labels=labels, losses=ones, weights=ones,
                logits=(np.eye(2)[labels] * noise).astype(np.float32),
            )  # fmt: skip
    origin = {
        "classes": list(snapshot.classes), "snapshot": snapshot.digest, "epochs": 1,
        "model_digest": weights_digest(weights),
    }  # fmt: skip
    publish(
        run, snapshot, judged, weights, model_name=training.model, normalisation="imagenet", origin=origin
    )
    calibrate(run)
    run.mark_done()
