"""Train on three folds of real slices and judge on the fourth, for each fold in turn, by the commands alone.

    python tools/benchmarks/cheng_folds.py ../shared/data/cheng work/folds
    python tools/benchmarks/cheng_folds.py ../shared/data/cheng work/folds --seeds 3
    python tools/benchmarks/cheng_folds.py ../shared/data/cheng work/before -- --recipe 0.1.0

Of a folder with index.csv (path, label, patient, fold). Validation patients are taken from the other three
folds by `--from-train validation`. --slices splits slices at random in place of patients: what that adds to a
figure is inflation. Whatever was done before is not done again, and a run under way is resumed. Options after
-- are launch's. What was measured: docs/measurements.md.
"""

import argparse
import csv
import json
import random
import subprocess
import sys
import time
from pathlib import Path
from statistics import mean
from typing import Any

SIZE = 96
FOLDS = 4


def main() -> None:
    """Do what is left of all runs, and print their figures, and what these are on average."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path, help="a folder with index.csv")
    parser.add_argument("work", type=Path, help="folder of stores, runs and figures")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--size", type=int, default=SIZE)
    parser.add_argument("--slices", action="store_true", help="split slices at random, not patients")
    parser.add_argument("launch", nargs="*", help="options of launch, after --")
    options = parser.parse_args()
    found = []
    for seed in range(options.seeds):
        for fold in range(1, (1 if options.slices else FOLDS) + 1):
            name = f"{'slices' if options.slices else 'fold'}{fold}"
            store = _store(options, name, fold)
            found.append(_figures(options, f"{name}-seed{seed}", store, seed))
            print(_line(found[-1]), flush=True)
    for what in ("patient", "slice"):
        print(f"mean by {what}: {100 * mean(one[what]['value'] for one in found):.1f} %")


def _store(options: argparse.Namespace, name: str, fold: int) -> Path:
    """Return the store of a fold; made where it is not there."""
    work: Path = options.work
    store, labels = work / "stores" / name, work / f"{name}.csv"
    if not (work / f"{name}.stored").exists():
        work.mkdir(parents=True, exist_ok=True)
        _write_labels(options.folder / "index.csv", labels, fold, by_slice=options.slices)
        _run(
            "preprocess", "--source", options.folder, "--labels", labels, "--store", store,
            "--size", options.size, "--ids", "as-given",
        )  # fmt: skip
        (work / f"{name}.stored").touch()
    return store


def _write_labels(index: Path, labels: Path, fold: int, *, by_slice: bool) -> None:
    with index.open() as file:
        rows = list(csv.DictReader(file))
    drawn = random.Random(0)
    lines = [["path", "label", "patient", "split"]]
    for number, row in enumerate(rows):
        is_test = drawn.random() * FOLDS < 1 if by_slice else int(row["fold"]) == fold
        patient = f"slice{number:05d}" if by_slice else row["patient"]
        lines.append([row["path"], row["label"], patient, "test" if is_test else "train"])
    with labels.open("w", newline="") as file:
        csv.writer(file).writerows(lines)


def _figures(options: argparse.Namespace, name: str, store: Path, seed: int) -> dict[str, Any]:
    """Return the figures of a run, which is trained where there are none yet."""
    kept: Path = options.work / f"{name}.json"
    if kept.exists():
        return dict(json.loads(kept.read_text()))
    run = options.work / "runs" / name
    began = time.monotonic()
    leaks = ["--allow-leaks"] if options.slices else []
    _run(
        "launch", "--cluster", "local", "--store", store, "--run", run, "--from-train", "validation",
        "--seed", seed, *leaks, *options.launch, "--wait",
    )  # fmt: skip
    seconds = time.monotonic() - began
    # Another seed is another model on the same test patients.
    again = ["--look-again"] if seed else []
    evaluation = json.loads(_run("evaluate", run, *again, "--json"))
    accuracy = {what: evaluation[what]["balanced_accuracy"] for what in ("patient", "slice")}
    figures = {"name": name, "seconds": round(seconds), **accuracy, "evaluation": evaluation}
    kept.write_text(json.dumps(figures))
    return figures


def _line(figures: dict[str, Any]) -> str:
    said = ", ".join(
        f"by {what} {100 * figures[what]['value']:.1f} % "
        f"({100 * figures[what]['low']:.1f}-{100 * figures[what]['high']:.1f})"
        for what in ("patient", "slice")
    )
    return f"{figures['name']}: {said}; {figures['seconds']} s"


def _run(command: str, *words: object) -> str:
    argv = [sys.executable, "-m", f"mri_hpc.{command}", *map(str, words)]
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(argv)}: status {done.returncode}\n{done.stdout}")
    return done.stdout


if __name__ == "__main__":
    main()
