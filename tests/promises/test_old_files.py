"""What 0.1.0 has left behind is taken up as it is; what a later version leaves behind is refused by name.

The files of 0.1.0, and what it said of them, are made by tests/fixtures/make.py.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import safetensors.torch
from safetensors import safe_open

from mri_hpc import evaluate, launch, predict, report, status, store
from mri_hpc.base.sealed_json import seal, unseal
from mri_hpc.cluster import slurm
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.ledger import read_events
from mri_hpc.rundir.manifests import newest_manifest
from mri_hpc.rundir.metrics_log import read_metrics
from mri_hpc.rundir.provenance import read_provenance
from mri_hpc.rundir.settings import TrainingSettings, load_training
from mri_hpc.storage.disk import chunk_file
from mri_hpc.training.conditions import changes
from mri_hpc.training.model import MODEL_FORMAT

OLD = Path(__file__).parents[1] / "fixtures" / "v0.1.0"
SAID = json.loads((OLD / "said.json").read_text())
# What info says of what is stored, whatever the clock and the layout of files.
STORED = ("images", "patients", "classes", "rejected", "reasons", "snapshot", "content_digest", "twins")
WHERE_IT_LAY = "/tmp/mri_hpc-fixture/store"


# How wide an interval is, and how it is made, is each version's own: those of 0.1.0 were too narrow.
OF_INTERVALS = {"low", "high", "interval", "n_resamples", "method", "majority_low", "majority_high"}


SINCE_THEN = {
    "decision", "most_sure", "probabilities", "calibration", "brier", "log_loss", "ece", "controls",
    "subgroups", "average_precision", "sensitivity_at_90", "sensitivity_at_95",
}  # fmt: skip


def without_path(figures):
    """All that 0.1.0, too, says of a run, but for where it lies, and for intervals."""
    others = {"run", *OF_INTERVALS, *SINCE_THEN}
    return {name: _values(value) for name, value in figures.items() if name not in others}


def _values(found):
    if isinstance(found, dict):
        # A reason beside a value says why it has no interval.
        alone = {"reason"} if found.get("value") is not None else set()
        others = OF_INTERVALS | SINCE_THEN | alone
        return {name: _values(value) for name, value in found.items() if name not in others}
    # Sums may be taken in another order.
    return round(found, 12) if isinstance(found, float) else found


FIGURES = {split: without_path(figures) for split, figures in SAID["evaluation"].items()}


@dataclass(frozen=True)
class Old:
    """Copies of what 0.1.0 has left behind."""

    store: Path
    more: Path
    unfinished: RunDir
    whole: RunDir


@pytest.fixture
def old(tmp_path, monkeypatch) -> Old:
    shutil.copytree(OLD, tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv("MRI_KEY_FILE", str(tmp_path / "site.key"))
    # Which git does not keep.
    (tmp_path / "site.key").chmod(0o600)
    (tmp_path / "store" / "private").chmod(0o700)
    found = Old(
        store=tmp_path / "store",
        more=tmp_path / "more",
        unfinished=RunDir(tmp_path / "unfinished" / SAID["name"]),
        whole=RunDir(tmp_path / "whole" / SAID["name"]),
    )
    for run in (found.unfinished, found.whole):
        text = run.settings.read_text()
        assert WHERE_IT_LAY in text
        run.settings.write_text(text.replace(WHERE_IT_LAY, str(found.store)))
    return found


@pytest.fixture
def say(capsys):
    """Runs a command in this process: (status, stdout, stderr)."""

    def run(main, *words):
        capsys.readouterr()
        code = main([str(word) for word in words])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


@pytest.fixture
def answer(say):
    """The JSON that a command prints."""

    def run(main, *words):
        code, out, err = say(main, *words, "--json")
        assert code == 0, err
        return json.loads(out)

    return run


def stored(info):
    return {name: info[name] for name in STORED}


@pytest.mark.parametrize("named", SAID["identities"], ids=lambda named: ",".join(named["settings"]) or "none")
def test_settings_give_a_run_the_name_that_they_gave_it_in_0_1_0(named):
    assert TrainingSettings(**named["settings"]).identity_digest() == named["digest"]


def test_an_old_store_holds_what_it_held_grows_and_is_compacted_to_the_digests_of_0_1_0(
    old, answer, say, preprocess, monkeypatch
):
    assert stored(answer(store.main, "info", old.store)) == stored(SAID["store"])
    assert say(store.main, "verify", old.store)[0] == 0
    code, out, err = preprocess(old.more, old.store, "--chunk-images", "2")
    assert code == 0, out + err
    assert stored(answer(store.main, "info", old.store)) == stored(SAID["appended"])
    assert say(store.main, "compact", old.store)[0] == 0
    assert stored(answer(store.main, "info", old.store)) == stored(SAID["compacted"])
    assert say(store.main, "verify", old.store)[0] == 0


def test_the_command_of_an_old_run_still_names_it(old, say, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(slurm, "controller_answers", lambda: False)
    typed = ["--model", "shufflenet_v2_x0_5", "--batch-size", 4, "--epochs", 2, "--seed", 3]
    where = ["--cluster", "local", "--gpus-per-node", 0, "--store", old.store, "--dry-run"]
    command = [*typed, "--deterministic", *where]
    for words in (["--recipe", "0.1.0"], []):
        code, out, err = say(launch.main, *command, *words)
        assert code == 0, err
        assert f"runs/{SAID['name']} " in out
        # Its defaults are no longer those of a new run: without --recipe, it has to be there.
        shutil.copytree(old.unfinished.path, tmp_path / "runs" / SAID["name"], dirs_exist_ok=True)
    code, _out, err = say(launch.main, "--run", old.unfinished.path, "--dry-run")
    assert code == 0, err


def test_an_old_run_goes_on_to_the_end_that_it_had_in_0_1_0(old, start_ranks, answer):
    run, lines = old.unfinished, old.unfinished.events.read_text()
    begun = newest_manifest(run)
    assert begun.progress.step_in_epoch > 0
    world = start_ranks(run, ranks=1, restart=1)
    assert world.statuses() == [0], world.log()
    assert run.events.read_text().startswith(lines)
    started = [event.values for event in read_events(run) if event.kind == "started"]
    assert [values["resumed_step"] for values in started] == [0, begun.progress.step]
    steps = [line["step"] for line in read_metrics(run) if "loss" in line]
    assert steps == list(range(1, SAID["provenance"]["steps"] + 1))
    found = read_provenance(run)
    assert found["samples_digest"] == SAID["provenance"]["samples_digest"]
    assert found["split_counts"] == SAID["provenance"]["split_counts"]
    # Whatever a new run would find to be faster.
    assert found["conditions"]["steps"] == "plain"
    figures = {split: answer(evaluate.main, run.path, "--split", split) for split in FIGURES}
    # Its test set is known, as it ended now; that it was looked at is counted from here on.
    assert [found.pop("look", {}).get("number") for found in figures.values()].count(1) == 1
    # Six patients chose the epoch of two: too few for any set.
    assert [found.pop("sets")["threshold"] for found in figures.values()] == [None] * len(figures)
    same = {"mri_hpc"} >= changes(SAID["provenance"]["conditions"], found["conditions"]).keys()
    if same:
        assert found["weights_digest"] == SAID["provenance"]["weights_digest"]
        assert found["model_digest"] == SAID["provenance"]["model_digest"]
        assert {split: without_path(found) for split, found in figures.items()} == FIGURES


def test_an_old_finished_run_says_what_it_said(old, answer, say):
    run = old.whole
    found = answer(status.main, run.path)
    # Where it lies, how long ago it was, and that its checkpoints were taken away.
    others = {name: found[name] for name in ("run", "since_s", "saved_step")}
    # What is counted since then, of which a run of before has nothing.
    since = {"probe": None, "uses": [], "advice": [], "clocks": {}, "unseen": {}, "steps": ""}
    since |= {"snapshots": {}, "followed": ""}
    since |= {"saving": "every 300 s, as its settings say", "sizes": [1]}
    assert found == {**SAID["status"], **others, **since}
    for split, figures in FIGURES.items():
        found = answer(evaluate.main, run.path, "--split", split)
        assert found.pop("sets", {}).get("threshold") is None
        assert without_path(found) == figures
    assert say(report.main, run.path)[0] == 0
    assert SAID["provenance"]["model_digest"][:12] in run.report.read_text()
    reviewed = json.loads((run.review / "review.json").read_text())
    for checklist, num in (("claim_2024", 44), ("tripod_ai", 52)):
        assert sum(bool(item["run_says"] or item["only_you_know"]) for item in reviewed[checklist]) == num
        assert SAID["provenance"]["model_digest"] in (run.review / f"{checklist}.html").read_text()
    figures = without_path(reviewed["evaluation"])
    assert figures.pop("sets")["threshold"] is None
    assert figures == {name: FIGURES["test"][name] for name in figures}
    code, _out, err = say(predict.main, run.path, old.more, "--out", run.path / "new")
    assert code == 0, err
    assert (run.path / "new" / "predictions.csv").read_text().count("\n") == 7


# Of a format that nobody has made yet.

NEWER = {"format": 99}


def plain(name):
    """A document that says no more than its format differs."""

    def change(run):
        path = next(run.path.glob(name))
        path.write_text(json.dumps({**json.loads(path.read_text()), **NEWER}))

    return change


def sealed(path):
    path.write_bytes(seal({**unseal(path.read_bytes()), **NEWER}))


def first_line(name):
    def change(run):
        path = run.path / name
        first, *others = path.read_text().splitlines()
        path.write_text("\n".join([*others, json.dumps({**json.loads(first), **NEWER})]) + "\n")

    return change


def settings(run):
    run.settings.write_text("format = 99\nmore = 1\n" + run.settings.read_text())


def model(run):
    with safe_open(run.model, framework="pt") as file:
        metadata = file.metadata()
    weights = safetensors.torch.load_file(run.model)
    safetensors.torch.save_file(weights, run.model, {**metadata, MODEL_FORMAT: "99"})


def batch_size(run):
    text = run.settings.read_text().replace("batch_size = 4", 'batch_size = "auto"')
    run.settings.write_text(text)
    run.batch_size.write_text('{"format": 99}')


def predicting(run):
    return [predict.main, run.path, run.path.parents[1] / "more", "--out", run.path / "new"]


def relaunching(run):
    run.done.unlink()
    # Nor does its ledger say that it has ended.
    run.events.write_text("".join(run.events.read_text().splitlines(keepends=True)[:-2]))
    return [launch.main, "--run", run.path, "--dry-run"]


@pytest.mark.parametrize(
    ("name", "change", "command"),
    [
        ("settings.toml", settings, lambda run: [status.main, run.path]),
        ("events.jsonl", first_line("events.jsonl"), lambda run: [status.main, run.path]),
        ("metrics.jsonl", first_line("metrics.jsonl"), lambda run: [status.main, run.path]),
        ("job.json", plain("attempts/1.0/job.json"), relaunching),
        ("batch_size.json", batch_size, lambda run: [status.main, run.path]),
        ("provenance.json", plain("provenance.json"), lambda run: [evaluate.main, run.path]),
        ("recipe.json", lambda run: sealed(run.recipe), predicting),
        ("model.safetensors", model, predicting),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_a_file_of_a_run_in_a_newer_format_is_refused_by_name(name, change, command, old, say, monkeypatch):
    monkeypatch.setattr(slurm, "controller_answers", lambda: False)
    change(old.whole)
    code, out, err = say(*command(old.whole))
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert f"{name} has format 99, this version reads up to " in line
    assert line.endswith(": use a newer mri_hpc")


def test_a_checkpoint_in_a_newer_format_is_refused_by_name(old, start_ranks):
    (manifest,) = old.unfinished.checkpoints.glob("*/manifest.json")
    sealed(manifest)
    world = start_ranks(old.unfinished, ranks=1, restart=1)
    assert world.statuses() == [2]
    assert "manifest.json has format 99, this version reads up to 1: use that version" in world.log()


def test_a_commit_in_a_newer_format_is_refused_by_name(old, say):
    commit = next((old.store / "commits").glob("relabel-*.json"))
    shutil.rmtree(old.store / "snapshots")
    (old.store / "snapshots").mkdir()
    sealed(commit)
    code, _out, err = say(store.main, "info", old.store)
    assert code == 2
    assert err.endswith(f"{commit} has format 99, this version reads up to 1: use a newer mri_hpc\n")
    assert err.count("\n") == 1


def test_a_snapshot_in_a_newer_format_is_refused_by_name(old, say, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    folder = old.store / "snapshots" / load_training(old.whole).snapshot
    sealed(folder / "snapshot.json")
    code, _out, err = say(launch.main, "--store", old.store, "--snapshot", folder.name, "--dry-run")
    assert code == 2
    assert err.endswith(f"{folder} has format 99, this version reads up to 4: use a newer mri_hpc\n")


def test_a_chunk_in_a_newer_format_is_refused_by_name(old, preprocess, say, monkeypatch, tmp_path):
    for name in ("FORMAT", "PLAIN_FORMAT"):
        monkeypatch.setattr(chunk_file, name, 99)
    assert preprocess(old.more, tmp_path / "new", "--size", "64")[0] == 0
    monkeypatch.undo()
    (chunk,) = (tmp_path / "new" / "chunks").iterdir()
    code, out, err = say(store.main, "verify", tmp_path / "new")
    assert code != 0
    assert f"{chunk} has format 99, this version reads up to 2: use a newer mri_hpc" in out + err


def test_the_fixtures_stay_small():
    assert sum(file.stat().st_size for file in OLD.rglob("*")) < 10e6
