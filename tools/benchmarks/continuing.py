"""Ways to go on from a run when more patients have come, held against each other on the same patients.

    python tools/benchmarks/continuing.py ../shared/data/cheng work/continuing --seeds 2
    python tools/benchmarks/continuing.py ../shared/data/cheng work/planes --by plane

Of a folder with index.csv (path, label, patient, fold, plane). Fold 4 is tested; in the other folds,
of each class every third patient is for validation. Images arrive in two parts: of the first half of the
patients of each class, then of the others; or, by plane, axial ones first, other planes of the same later.

old: trained on the first part. new alone: from old's weights, on the second part only. both: from old's
weights, on all there is, at the same and at lower rates. averaged: weights between those of old and of both,
(1 - a) old + a both, where a has the least loss on validation images. anew: on all, from random weights.
Validation patients choose; each way then answers about test patients. Whatever was done before is not done
again. What was measured: docs/measurements.md.
"""

import argparse
import csv
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mri_hpc.cohort.splits import TEST, VALIDATION, split_by
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.settings import load_training
from mri_hpc.storage.store import Store
from mri_hpc.training.model import load_for_prediction
from mri_hpc.training.prediction import probabilities

SIZE = 64
TEST_FOLD = "4"
EVERY = 3
RATES = (1.0, 0.3, 0.1)
ALPHAS = tuple(round(0.1 * number, 1) for number in range(11))
Rows = list[dict[str, str]]


def main() -> None:
    """Do what is left of all runs, and print a line for each way."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path, help="a folder with index.csv")
    parser.add_argument("work", type=Path, help="folder of stores and runs")
    parser.add_argument("--by", choices=("patient", "plane"), default="patient")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--model", default="shufflenet_v2_x0_5")
    parser.add_argument("--epochs", type=int, default=16)
    options = parser.parse_args()
    rows = list(_rows(options.folder / "index.csv", options.by))
    both = _store(options, "both", [row for row in rows if row["part"] == "old"], rows)
    new = _store(options, "new", [row for row in rows if row["part"] == "new" or row["split"] != "train"])
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for seed in range(options.seeds):
        for way, figures in _of_seed(options, seed, both, new, rows):
            found[way].append(figures)
            print(f"seed {seed}, {way}: {_said([figures])}", flush=True)
    for way, all_figures in found.items():
        print(f"{way}: {_said(all_figures)}")


def _rows(index: Path, by: str) -> Iterator[dict[str, str]]:
    """Yield the images, each with its split, and the part that it arrives in."""
    with index.open() as file:
        rows = list(csv.DictReader(file))
    order: dict[tuple[str, bool], list[str]] = defaultdict(list)
    for row in rows:
        names = order[row["label"], row["fold"] == TEST_FOLD]
        if row["patient"] not in names:
            names.append(row["patient"])
    for row in rows:
        names = order[row["label"], row["fold"] == TEST_FOLD]
        at = names.index(row["patient"])
        is_old = at < len(names) / 2 if by == "patient" else row["plane"] == "ax"
        split = "test" if row["fold"] == TEST_FOLD else "validation" if at % EVERY == 1 else "train"
        yield {**row, "split": split, "part": "old" if is_old else "new"}


def _store(options: argparse.Namespace, name: str, *arrivals: Rows) -> Path:
    """Return a store that the arrivals have come into, one after the other; made where it is not there."""
    work: Path = options.work
    store = work / "stores" / name
    for number, rows in enumerate(arrivals):
        labels, done = work / f"{name}{number}.csv", work / f"{name}{number}.digest"
        if done.exists():
            continue
        work.mkdir(parents=True, exist_ok=True)
        with labels.open("w", newline="") as file:
            writer = csv.DictWriter(file, ("path", "label", "patient", "split"), extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
        _run(
            "preprocess", "--source", options.folder, "--labels", labels, "--store", store,
            "--size", SIZE, "--ids", "as-given",
        )  # fmt: skip
        done.write_text(Store.open(store).resolve("newest").digest)
    return store


def _of_seed(
    options: argparse.Namespace, seed: int, both: Path, new: Path, rows: Rows
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the figures of each way."""
    first = (options.work / "both0.digest").read_text()
    part = {row["path"]: row["part"] for row in rows}
    old = _trained(options, f"old-{seed}", seed, "--store", both, "--snapshot", first)
    judged = _Judged(Store.open(both), old, part)
    yield "old", judged.figures(judged.answers_of(old))
    alone = _trained(options, f"new-{seed}", seed, "--store", new, "--weights", old.model)
    yield "new alone", judged.figures(judged.answers_of(alone))
    from_old = ("--store", both, "--continue-from", old.path)
    for rate in RATES:
        lr = f"{rate * options.lr:g}"
        run = _trained(options, f"both{rate:g}-{seed}", seed, *from_old, "--lr", lr)
        name = "both" if rate == 1 else f"both, {rate:g} of the rate"
        yield name, judged.figures(judged.answers_of(run))
        yield f"{name}, averaged", judged.averaged(old, run)
    anew = _trained(options, f"anew-{seed}", seed, "--store", both)
    yield "anew", judged.figures(judged.answers_of(anew))


def _trained(options: argparse.Namespace, name: str, seed: int, *words: object) -> RunDir:
    run = RunDir(options.work / "runs" / name)
    if not run.is_finished:
        began = time.monotonic()
        _run(
            "launch", "--cluster", "local", "--run", run.path, "--model", options.model, "--recipe", "0.1.0",
            "--batch-size", 32, "--ema-decay", 0.99, "--lr", options.lr, "--epochs", options.epochs,
            "--patience", options.epochs, "--seed", seed, "--allow-leaks", *words, "--wait",
        )  # fmt: skip
        print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return run


class _Judged:
    """Validation and test images of all there is, by the part that they arrive in."""

    def __init__(self, store: Store, run: RunDir, part: Mapping[str, str]) -> None:
        snapshot = store.resolve("newest")
        code = split_by(snapshot, load_training(run))
        self._rows = {"validation": np.flatnonzero(code == VALIDATION), "test": np.flatnonzero(code == TEST)}
        self._label, self._patient = np.asarray(snapshot.label), np.asarray(snapshot.patient)
        paths = store.sources_of(snapshot.key.tolist())
        of_key = [part[paths[key]] for key in snapshot.key.tolist()]
        self._part = np.array(of_key)
        with store.reader(snapshot) as reader:
            self._images = {split: np.array(reader.read(rows)) for split, rows in self._rows.items()}

    def answers_of(self, run: RunDir) -> dict[str, np.ndarray]:
        """Ask a run's model: probabilities by split, (n, classes)."""
        return self._ask(load_for_prediction(run).model)

    def _ask(self, model: Any) -> dict[str, np.ndarray]:
        return {
            split: np.concatenate(
                [probabilities(model, images[at : at + 256]) for at in range(0, len(images), 256)]
            )
            for split, images in self._images.items()
        }

    def averaged(self, old: RunDir, new: RunDir) -> dict[str, Any]:
        """Return the figures of the average that validation chooses."""
        first, second = (load_for_prediction(run).model.network.state_dict() for run in (old, new))
        best: tuple[float, float, dict[str, np.ndarray]] | None = None
        for alpha in ALPHAS:
            finished = load_for_prediction(new)
            finished.model.network.load_state_dict(
                {name: between(first[name], value, alpha) for name, value in second.items()}
            )
            answers = self._ask(finished.model)
            loss = self._of(answers, "validation", slice(None))["loss"]
            if best is None or loss < best[0]:
                best = loss, alpha, answers
        assert best
        return {**self.figures(best[2]), "alpha": best[1]}

    def figures(self, answers: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Return loss and balanced accuracy by patient, of all and by part."""
        return {
            f"{split} {part}": self._of(answers, split, where)
            for split, rows in self._rows.items()
            for part, where in (
                ("all", np.arange(len(rows))),
                *((part, np.flatnonzero(self._part[rows] == part)) for part in ("old", "new")),
            )
        }

    def _of(self, answers: Mapping[str, np.ndarray], split: str, where: Any) -> dict[str, float]:
        rows, chances = self._rows[split][where], answers[split][where]
        label, patient = self._label[rows], self._patient[rows]
        loss = -np.log(np.maximum(chances[np.arange(len(rows)), label], 1e-7))
        names, first = np.unique(patient, return_index=True)
        right = np.array([chances[patient == name].mean(0).argmax() for name in names]) == label[first]
        classes = np.unique(label)
        accuracy = np.mean([right[label[first] == one].mean() for one in classes])
        loss_of = np.mean([loss[label == one].mean() for one in classes])
        return {"loss": float(loss_of), "accuracy": float(accuracy), "patients": len(names)}


def between(old: torch.Tensor, new: torch.Tensor, alpha: float) -> torch.Tensor:
    """Return (1 - alpha) old + alpha new; of counts, new."""
    return torch.lerp(old, new, alpha) if new.is_floating_point() else new


def _said(all_figures: list[dict[str, Any]]) -> str:
    parts = []
    for name in all_figures[0]:
        if name == "alpha":
            continue
        loss, accuracy = (np.mean([one[name][what] for one in all_figures]) for what in ("loss", "accuracy"))
        parts.append(f"{name} ({all_figures[0][name]['patients']}) {loss:.3f} {100 * accuracy:.1f} %")
    alphas = [one["alpha"] for one in all_figures if "alpha" in one]
    return "; ".join([*parts, *([f"a {alphas}"] if alphas else [])])


def _run(command: str, *words: object) -> str:
    argv = [sys.executable, "-m", f"mri_hpc.{command}", *map(str, words)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(argv)}: status {done.returncode}\n{done.stdout}\n{done.stderr[-2000:]}")
    return done.stdout


if __name__ == "__main__":
    main()
