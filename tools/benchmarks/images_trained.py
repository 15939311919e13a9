"""Images a second of whole runs on this machine, in turns with those of another checkout.

    python tools/benchmarks/images_trained.py --before CHECKOUT [--model resnet18 ...] [--side 224]

Each checkout makes a store and a run of its own, with the same typed settings; then each in turn is launched
again, takes its steps, and is cancelled. Seconds of steps are those that the run writes down; the first of a
start are left out. What is compared is what a new run takes by itself: arithmetic (with --precision auto, the
processor's matrix unit too, where it has one), layout, optimizer, memory. Augmentation is that of --recipe
0.1.0, which both have. A ratio is that of medians of one round's steps; printed are its median over the
rounds, and the range. What was found: docs/measurements.md.
"""

import argparse
import os
import shutil
import statistics
import tempfile
from pathlib import Path

from start_up import ROOT, command, draw, newest, wait_for
from steps_on_cpu import others, processor

from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.ledger import Kind
from mri_hpc.rundir.metrics_log import read_metrics

BATCH = 32
LEFT_OUT = 3
"""First steps of a start: reading, and tensors that are made once."""


def main() -> None:
    options = parse_arguments()
    print(
        f"{processor()}, {os.cpu_count()} cores, {options.ranks} rank(s), {options.precision}, "
        f"{BATCH} images a step, {options.steps} steps a round, n = {options.rounds}, "
        f"{options.beside} process(es) beside, load {os.getloadavg()[0]:.1f}",
        flush=True,
    )
    folder = Path(tempfile.mkdtemp(prefix="images-trained-", dir=options.folder))
    try:
        with others(options.beside):
            for side in options.side:
                for model in options.model:
                    compare(folder / f"{side}-{model}", side, model, options)
    finally:
        shutil.rmtree(folder)
    print(f"load at the end {os.getloadavg()[0]:.1f}")


def compare(folder: Path, side: int, model: str, options: argparse.Namespace) -> None:
    """Time the steps of both checkouts in turns, and print a line."""
    draw(folder / "raw", side)
    checkouts = {"now": ROOT, "before": options.before.absolute()}
    runs = {name: make(folder / name, side, model, checkouts[name], options) for name in checkouts}
    seconds: dict[str, list[float]] = {name: [] for name in checkouts}
    for number in range(options.rounds):
        # Each goes first in half of the rounds.
        for name in sorted(checkouts, reverse=bool(number % 2)):
            seconds[name].append(step_s(runs[name], checkouts[name], options.steps))
    ratios = sorted(before / now for now, before in zip(seconds["now"], seconds["before"], strict=True))
    speeds = {name: BATCH / statistics.median(values) for name, values in seconds.items()}
    print(
        f"{model} {side}: {speeds['now']:.1f} images/s, before {speeds['before']:.1f}: "
        f"{statistics.median(ratios):.2f} times as fast ({ratios[0]:.2f} to {ratios[-1]:.2f})",
        flush=True,
    )


def make(folder: Path, side: int, model: str, checkout: Path, options: argparse.Namespace) -> RunDir:
    """Make a store and a run, which takes its first steps, and whatever it tries before them."""
    run, store = RunDir(folder / "run"), folder / "store"
    raw = folder.parent / "raw"
    sizes = ("--size", side, "--ids", "as-given")
    command("preprocess", "--source", raw, "--store", store, *sizes, checkout=checkout)
    threads = max(1, (os.cpu_count() or 1) // options.ranks)
    words: list[object] = ["--store", store, "--recipe", "0.1.0", "--batch-size", BATCH]
    words += ["--model", model, "--precision", options.precision, "--epochs", 10**6, "--patience", 10**6]
    words += ["--cluster", "local", "--tasks-per-node", options.ranks, "--cpus-per-task", threads]
    if checkout == ROOT and options.precision == "auto":
        words += ["--matrix-unit"]
    command("launch", "--run", run.path, *words, checkout=checkout)
    wait_for(lambda: newest(run, Kind.FIRST_STEP, after=0), run)
    command("launch", "--run", run.path, "--cancel", checkout=checkout)
    return run


def step_s(run: RunDir, checkout: Path, steps: int) -> float:
    """Launch the run again for so many steps, and cancel it; the median of a step's seconds."""
    before = len(seconds_of(run))
    command("launch", "--run", run.path, checkout=checkout)
    wait_for(lambda: len(seconds_of(run)) >= before + LEFT_OUT + steps, run)
    command("launch", "--run", run.path, "--cancel", checkout=checkout)
    return statistics.median(seconds_of(run)[before + LEFT_OUT :])


def seconds_of(run: RunDir) -> list[float]:
    """Return seconds of each step that the run wrote down."""
    return [line["seconds"] for line in read_metrics(run) if "loss" in line]


def parse_arguments() -> argparse.Namespace:
    as_written = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=as_written)
    parser.add_argument(
        "--before", type=Path, required=True, help="the other checkout: git archive, unpacked"
    )
    parser.add_argument("--folder", type=Path, help="where to work (the system's temporary folder)")
    parser.add_argument("--model", nargs="+", default=["resnet18"])
    parser.add_argument("--side", nargs="+", type=int, default=[224, 96])
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--precision", choices=("auto", "fp32"), default="auto")
    parser.add_argument("--steps", type=int, default=12, help="steps of a round (12)")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--beside", type=int, default=0, help="processes that compute meanwhile")
    return parser.parse_args()


if __name__ == "__main__":
    main()
