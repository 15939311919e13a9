"""Runs that are not there, are something else, have not finished, or are damaged."""

import json

from tests.cli.rubbish.bad_places import words
from tests.cli.rubbish.case import Case
from tests.cli.rubbish.desk import Desk, Outcome, draw


def settings(old: str, new: str, *command: str):
    """A command on a run whose settings.toml somebody has edited."""

    def make(desk: Desk) -> list[str]:
        text = desk.run.settings.read_text()
        assert old in text
        desk.run.settings.write_text(text.replace(old, new))
        return words(*(command or ("status",)), desk.run.path)

    return make


def bytes_of(name: str, change, *command: str):
    """A command on a run of which one file was changed."""

    def make(desk: Desk) -> list[str]:
        path = desk.run.path / name
        path.write_bytes(change(path.read_bytes()))
        return words(*command, desk.run.path, *([desk.raw] if command[0] == "predict" else []))

    return make


def on_unfinished(*command: str):
    """A command on a run that has not finished."""
    return lambda desk: words(
        *command, desk.unfinished.path, *([desk.raw] if command[0] == "predict" else [])
    )


def train_again(damage):
    """Train a run on whose checkpoints, the newest first, something was done."""

    def make(desk: Desk) -> list[str]:
        folders = sorted(desk.checkpoints.iterdir(), key=lambda folder: -int(folder.name))
        damage(folders)
        return words("train", "--run", desk.unfinished.path)

    return make


def _cut(folders) -> None:
    weights = folders[0] / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])


def _all_cut(folders) -> None:
    for folder in folders:
        _cut([folder])


def _no_manifest(folders) -> None:
    (folders[0] / "manifest.json").unlink()


def is_finished(desk: Desk, outcome: Outcome) -> None:
    """The work went on to its end."""
    assert desk.run.is_finished


def no_store(desk: Desk) -> list[str]:
    """The store of a run has gone, and with it what is to be trained on."""
    text = desk.unfinished.settings.read_text()
    desk.run.settings.write_text(text.replace(str(desk.patterns.store), str(desk.root / "moved")))
    return words("train", "--run", desk.run.path)


def beside_good_ones(desk: Desk) -> list[str]:
    """Pictures to judge, and among them what is none."""
    draw(desk.root / "new" / "P1" / "good.png", 1, 0)
    desk.file("new/P1/words.png", "hello")
    return words(
        "predict", desk.run.path, desk.root / "new", "nowhere", "--out", desk.root / "out", "--names"
    )


def one_good_one(desk: Desk, outcome: Outcome) -> None:
    """One picture was judged, and two are listed."""
    table = (desk.root / "out" / "predictions.csv").read_text().splitlines()
    assert [line.split(",")[1] for line in table[1:]] == ["P1"]
    assert len((desk.root / "out" / "rejected.csv").read_text().splitlines()) == 3


def other_run(desk: Desk) -> list[str]:
    """The predictions of another run, of other classes."""
    text = desk.run.predictions.read_text()
    desk.run.predictions.write_text(text.replace("glioma", "meningioma"))
    return words("evaluate", desk.run.path)


def provenance(change):
    """Evaluate a run whose provenance was changed."""

    def make(desk: Desk) -> list[str]:
        desk.run.provenance.write_text(change(desk.run.provenance.read_text()))
        return words("evaluate", desk.run.path)

    return make


def _other_weights(text: str) -> str:
    return json.dumps({**json.loads(text), "model_digest": "00" * 32})


CASES = (
    Case(
        name="a run that does not exist: status",
        make=lambda desk: words("status", "runs/resnet81"),
        says=(
            "runs/resnet81 does not exist; start a run with: python -m mri_hpc.launch --run runs/resnet81",
        ),
    ),
    Case(
        name="a run that does not exist, beside others: evaluate",
        make=lambda desk: words("evaluate", desk.run.path.with_name("rnu")),
        says=("rnu does not exist; runs here: run",),
    ),
    Case(
        name="a run that does not exist, beside others: compare",
        make=lambda desk: words("compare", desk.run.path, desk.run.path.with_name("rnu")),
        says=("rnu does not exist; runs here: run",),
    ),
    Case(
        name="a folder that does not exist: watch",
        make=lambda desk: words("watch", desk.root / "nowhere", "--chain", desk.root / "chain"),
        says=("nowhere is no folder: name that of the images",),
    ),
    Case(
        name="a run that has not finished: models",
        make=lambda desk: words("models", "add", desk.unfinished.path, "--models", desk.root / "models"),
        says=("is not finished: mri-hpc status",),
    ),
    Case(
        name="a model of which there is none",
        make=lambda desk: words("models", "promote", "first", "--because", "x", "--models", desk.raw),
        says=("raw holds no model: mri-hpc models add RUN adds one",),
    ),
    Case(
        name="a prediction by a current model that there is not",
        make=lambda desk: words("predict", "--model", "current", desk.raw, "--models", desk.root),
        says=("has no current model: mri-hpc models add RUN adds one",),
    ),
    Case(
        name="a store in place of a run: report",
        make=lambda desk: words("report", desk.store),
        says=("store is a store, not a run; train on it with: python -m mri_hpc.launch --store",),
    ),
    Case(
        name="a run for a tracker whose address is not given",
        make=lambda desk: words("export-metrics", desk.run.path),
        says=("where to? give --uri http://SERVER:5000, or set MLFLOW_TRACKING_URI",),
    ),
    Case(
        name="a run to be verified that keeps no checkpoint",
        make=lambda desk: words("verify-run", desk.run.path),
        says=("has nothing to do again: it keeps no checkpoint with a recorded step after it",),
    ),
    Case(
        name="no step of a run to be verified",
        make=lambda desk: words("verify-run", desk.run.path, "--steps", "0"),
        says=("--steps must be at least 1, got 0",),
    ),
    Case(
        name="a folder of something else in place of a run: evaluate",
        make=lambda desk: words("evaluate", desk.raw),
        says=("raw is not a run directory (found something else, no settings.toml)",),
    ),
    Case(
        name="a file in place of a run: predict",
        make=lambda desk: words("predict", desk.file("model.pth"), desk.raw),
        says=("model.pth is not a run directory",),
    ),
    Case(
        name="a run that does not exist: train",
        make=lambda desk: words("train", "--run", "runs/a"),
        says=("runs/a does not exist; start a run with:",),
    ),
    Case(
        name="a run that has not finished: evaluate",
        make=on_unfinished("evaluate"),
        says=("predictions.csv does not exist: the run has not finished; see: mri-hpc status",),
    ),
    Case(
        name="a run that has not finished: predict",
        make=on_unfinished("predict"),
        says=("model.safetensors does not exist: the run has not finished; see: mri-hpc status",),
    ),
    Case(
        name="a run that has not finished gets a page of what there is",
        make=on_unfinished("report"),
        status=0,
        says=(),
        after=lambda desk, outcome: _says(outcome, "(not finished: no results yet)"),
    ),
    Case(
        name="settings.toml with an unknown key",
        make=settings("patience =", "patiense ="),
        says=("settings.toml: unknown setting 'patiense' in [training]; did you mean 'patience'?",),
    ),
    Case(
        name="settings.toml with a text for a number",
        make=settings("\nepochs = 2", '\nepochs = "two"', "report"),
        says=("settings.toml: epochs = 'two' in [training] must be a whole number",),
    ),
    Case(
        name="settings.toml with a number out of range",
        make=settings("patience = 6", "patience = 0"),
        says=("run/settings.toml: --patience must be at least 1, got 0",),
    ),
    Case(
        name="settings.toml cut short",
        make=bytes_of("settings.toml", lambda data: data[: data.index(b"epochs") + 8], "status"),
        says=("settings.toml is not a settings file: ", "restore it from a backup"),
    ),
    Case(
        name="settings.toml with an unknown key: launch",
        make=lambda desk: [
            *settings("patience =", "patiense =", "launch", "--run")(desk),
        ],
        says=("settings.toml: unknown setting 'patiense' in [training]; did you mean 'patience'?",),
    ),
    Case(
        name="predictions cut short within a line",
        make=bytes_of("predictions.csv", lambda data: data[:-9], "evaluate"),
        says=("predictions.csv is damaged", "restore it from a backup"),
    ),
    Case(
        name="predictions cut short between lines",
        make=bytes_of("predictions.csv", lambda data: data[: data.rindex(b"\n", 0, -1) + 1], "evaluate"),
        says=("predictions.csv is damaged: it has", "and the run wrote", "restore it from a backup"),
    ),
    Case(
        name="predictions without a column",
        make=bytes_of("predictions.csv", lambda data: data.replace(b"key,", b"", 1), "report"),
        says=(
            "predictions.csv is not a table of predictions: its first line should begin key,patient,split",
        ),
    ),
    Case(
        name="predictions that are no table",
        make=bytes_of("predictions.csv", lambda data: b"\x89PNG\xff\xfe", "evaluate"),
        says=("predictions.csv is damaged", "restore it from a backup"),
    ),
    Case(
        name="an empty table of predictions",
        make=bytes_of("predictions.csv", lambda data: b"", "evaluate"),
        says=("predictions.csv is not a table of predictions",),
    ),
    Case(
        name="the predictions of another run",
        make=other_run,
        says=("predictions.csv is of the classes meningioma, pituitary, and the run of glioma, pituitary",),
    ),
    Case(
        name="a provenance that is cut short",
        make=provenance(lambda text: text[:-20]),
        says=("provenance.json cannot be read", "restore it from a backup"),
    ),
    Case(
        name="weights cut short: predict",
        make=bytes_of("model.safetensors", lambda data: data[:-1000], "predict"),
        says=("model.safetensors is damaged", "restore it from a backup"),
    ),
    Case(
        name="weights with a changed byte: predict",
        make=bytes_of("model.safetensors", lambda data: data[:-1] + bytes([data[-1] ^ 1]), "predict"),
        says=("model.safetensors does not hold the weights that", "provenance.json names; restore"),
    ),
    Case(
        name="weights that are something else: predict",
        make=bytes_of("model.safetensors", lambda data: b"not weights at all", "predict"),
        says=("model.safetensors is damaged", "restore it from a backup"),
    ),
    Case(
        name="a run without its recipe: predict",
        make=lambda desk: desk.run.recipe.unlink() or words("predict", desk.run.path, desk.raw),
        says=("run/recipe.json does not exist: copy it from the store, or from another run of it",),
    ),
    Case(
        name="the newest checkpoint cut short: train goes on from the one before",
        make=train_again(_cut),
        status=0,
        says=("checkpoint", "is damaged (model.safetensors: its bytes are not those that were written)"),
        after=is_finished,
        may_change=("run/",),
    ),
    Case(
        name="the newest checkpoint without its manifest: train goes on from the one before",
        make=train_again(_no_manifest),
        status=0,
        says=("started: step=5 epoch=1",),
        after=is_finished,
        may_change=("run/",),
    ),
    Case(
        name="all checkpoints cut short: train begins again",
        make=train_again(_all_cut),
        status=0,
        says=("started: step=0 epoch=0",),
        after=is_finished,
        may_change=("run/",),
    ),
    Case(
        name="the newest checkpoint without its manifest: status tells of the one before",
        make=lambda desk: _no_manifest([desk.checkpoints / "10"]) or words("status", desk.run.path),
        status=0,
        says=(),
        after=lambda desk, outcome: _says(outcome, "run"),
    ),
    Case(
        name="a ledger with half a line: status",
        make=bytes_of("events.jsonl", lambda data: data + b'{"time": 17', "status"),
        status=0,
        says=(),
        after=lambda desk, outcome: _says(outcome, "finished"),
    ),
    Case(
        name="a store that has moved: train",
        make=no_store,
        says=("moved is not a store (found nothing, no recipe.json)",),
        lines=None,
        may_change=("run/",),
    ),
    Case(
        name="nothing to judge: predict",
        make=lambda desk: words("predict", desk.run.path),
        says=("no image given: name files or folders after the run",),
    ),
    Case(
        name="nothing that could be judged: predict",
        make=lambda desk: words("predict", desk.run.path, desk.file("scan.dcm", "hello")),
        says=("none of the files given could be judged; the reasons stand above",),
        lines=2,
    ),
    Case(
        name="rubbish among pictures: predict judges the others",
        make=beside_good_ones,
        status=0,
        says=("new/P1/words.png: text, not a picture",),
        after=one_good_one,
    ),
    Case(
        name="a folder of results that is a file: predict",
        make=lambda desk: words("predict", desk.run.path, desk.raw, "--out", desk.file("out")),
        says=("out is a file: choose a folder",),
    ),
    Case(
        name="a folder of results that is the run: predict",
        make=lambda desk: words("predict", desk.run.path, desk.raw, "--out", desk.run.path),
        says=("is a run, a store or a kept model: choose another folder",),
    ),
    Case(
        name="a page that may not be written: report",
        make=lambda desk: desk.run.path.chmod(0o555) or words("report", desk.run.path),
        says=("Permission denied: ", "see who may read and write there (ls -l), then run it again"),
        needs_permission=True,
    ),
)


def _says(outcome: Outcome, words: str) -> None:
    assert words in outcome.out
