"""Seconds from the start of a rank's process to its first step, when a run goes on, by part and by rank.

    python tools/benchmarks/start_up.py [FOLDER]           makes a store and a run in FOLDER, and removes them
    python tools/benchmarks/start_up.py --before CHECKOUT      in turns with another checkout's starts, too
    python tools/benchmarks/start_up.py --starts 0 --before CHECKOUT            what follows the ranks, alone

Trains a resnet18 on 2 ranks of this machine, 96 × 96 pixels and 64 images a step, takes the job away after
some steps, and launches it again: that start is what is measured, three times. Parts, in their order: python
(until torch is asked for), torch (it and ours imported), join (the ranks meet), data (checkpoint found and
checked, snapshot opened), model (network built, checkpoint loaded), first_step (DDP made, one step computed,
its loss known). Beside it: what two processes take that begin at once and import torch alone; from asking
launch to the first step; and at stops, from the signal to the agreement (beside a step's time) and from that
to the durable checkpoint.

Also the epilogue, in which the batch script decides on the end of a job: the process that it starts, from its
start to its end, for a finished run and without Slurm's answers, which take as long for all; and, in turns,
that of another checkout (git archive TAG | tar x -C CHECKOUT).

2026-11-28, two cores of an AMD EPYC (virtual), load 1, torch 2.14, n = 3: a whole start takes 3.3 s
(3.3–4.1): python 0.2, torch 2.0, join 0.1, data 0.1, model 0.2, first step 0.8 (medians of rank 0); from
asking launch 3.7 s (3.6–4.5). Of 4 stops none took longer than the step beside it: agreed after 0.46 s
(0.04–0.48), steps of 0.75 s (0.68–0.78), durable 0.36 s later (0.09–0.50).
"""

import argparse
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mri_hpc.rundir.layout import Attempt, RunDir
from mri_hpc.rundir.ledger import Event, Kind, read_events, record
from mri_hpc.rundir.metrics_log import read_metrics

ROOT = Path(__file__).parents[2]
PATIENTS = 40
SLICES = 8
STEPS = 3
"""After which a job is taken away."""
PATIENCE_S = 300.0
EPILOGUES = 20
SIZES = ("--model", "resnet18", "--batch-size", "64", "--nodes", "2", "--cluster", "local")


@dataclass(frozen=True, kw_only=True)
class Start:
    """One start of the ranks."""

    parts: list[dict[str, float]]
    """By rank, seconds of each part."""
    processor_s: list[float]
    """By rank, processor time before the first step: other work on the machine moves it least."""
    from_launch_s: float
    """From asking launch to the first step."""


def main() -> int:
    """Measure and print a Markdown table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, help="where to work (the system's temporary folder)")
    parser.add_argument("--starts", type=int, default=3, help="resumed starts to measure (3)")
    parser.add_argument("--size", type=int, default=96, help="side of the images in pixels (96)")
    parser.add_argument("--before", type=Path, help="another checkout, which is measured as well, in turns")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="start-up-", dir=options.folder))
    try:
        sizes = {"starts": options.starts, "size": options.size}
        values = measure(folder, options.before, **sizes) if options.starts else {}
        values |= measure_epilogue(folder, options.before)
    finally:
        shutil.rmtree(folder)
    if options.starts:
        print(table(values))
    print(epilogue_line(values))
    print(json.dumps(values))
    return 0


def measure(folder: Path, before: Path | None, *, starts: int, size: int) -> dict[str, Any]:
    """Measure all figures: parts by rank, whole starts, stops; in turns with those of another checkout."""
    draw(folder / "raw", size)
    store, run = folder / "store", RunDir(folder / "run")
    command("preprocess", "--source", folder / "raw", "--store", store, "--size", size, "--ids", "as-given")
    start_and_stop(run, "--store", store, "--epochs", 1000, *SIZES)
    load = os.getloadavg()[0]
    resumed, resumed_before, torch_s = [], [], []
    for _ in range(starts):
        torch_s.append(torch_alone_s())
        resumed.append(start_and_stop(run))
        if before:
            resumed_before.append(start_and_stop(run, checkout=before.absolute()))
    return {
        "date": time.strftime("%Y-%m-%d"), "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "load": [round(load, 1), round(os.getloadavg()[0], 1)],
        "parts": [start.parts for start in resumed], "processor_s": [start.processor_s for start in resumed],
        "from_launch_s": [start.from_launch_s for start in resumed], "stops": stops(run),
        "torch_s": torch_s, "parts_before": [start.parts for start in resumed_before],
        "processor_before_s": [start.processor_s for start in resumed_before],
    }  # fmt: skip


def torch_alone_s() -> float:
    """Measure seconds until two processes have imported torch that begin at once, as ranks do."""
    began = time.perf_counter()
    words = [sys.executable, "-c", "import gc; gc.disable(); import torch"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    both = [subprocess.Popen(words, env=environment) for _ in range(2)]
    for one in both:
        one.wait()
    return round(time.perf_counter() - began, 3)


def measure_epilogue(folder: Path, before: Path | None) -> dict[str, Any]:
    """Measure seconds of the epilogue's process, of this checkout and of the one before, in turns."""
    run, empty = RunDir(folder / "ended"), folder / "empty"
    attempt = Attempt(submission=1, restart=0)
    run.claim_attempt(attempt)
    record(run, attempt, Kind.STARTED)
    run.mark_done()
    empty.mkdir()
    names = {"epilogue_s": ROOT, **({"epilogue_before_s": before.absolute()} if before else {})}
    values: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(1 + EPILOGUES):
        for name, checkout in names.items():
            values[name].append(round(epilogue_s(run, checkout, path=empty), 4))
    # The first ones compile.
    return {name: seconds[1:] for name, seconds in values.items()}


def epilogue_s(run: RunDir, checkout: Path, *, path: Path) -> float:
    """Measure seconds of one epilogue. path: of programs, without Slurm's."""
    words = [sys.executable, "-m", "mri_hpc.cluster.batch", "after", "--run", str(run.path)]
    environment = {**os.environ, "PATH": str(path), "PYTHONPATH": str(checkout)}
    began = time.perf_counter()
    subprocess.run([*words, "--submission", "1"], cwd=checkout, env=environment, stdout=subprocess.DEVNULL,
                   check=True)  # fmt: skip
    return time.perf_counter() - began


def epilogue_line(values: dict[str, Any]) -> str:
    """Write the epilogue's median, and its ratio to the one before."""
    line = f"epilogue: {_median(values['epilogue_s'])} s"
    if "epilogue_before_s" not in values:
        return line
    ratio = statistics.median(values["epilogue_s"]) / statistics.median(values["epilogue_before_s"])
    return f"{line}; before {_median(values['epilogue_before_s'])} s: {ratio:.2f} of it"


def start_and_stop(run: RunDir, *options: object, checkout: Path = ROOT) -> Start:
    """Launch the run, let it take some steps, and take its job away."""
    began = time.time()
    command("launch", "--run", run.path, *options, checkout=checkout)
    first = wait_for(lambda: newest(run, Kind.FIRST_STEP, after=began), run)
    wait_for(lambda: sum(line["attempt"] == first.attempt for line in read_metrics(run)) >= STEPS, run)
    command("launch", "--run", run.path, "--cancel")
    parts = [parts_until_ready(run, first.attempt, rank) for rank in (0, 1)]
    processor_s = [rank.pop("processor") for rank in parts]
    parts[0]["first_step"] = first.values["first_step"]
    return Start(parts=parts, processor_s=processor_s, from_launch_s=round(first.time - began, 2))


def draw(raw: Path, size: int) -> None:
    """Draw noise, half of which has a bright square: folders of classes and patients."""
    random = np.random.default_rng(0)
    for number in range(PATIENTS * SLICES):
        patient, has_square = number // SLICES, number // SLICES % 2
        pixels = random.integers(0, 90, (size, size))
        pixels[: size // 2, : size // 2] += 80 * has_square
        path = raw / f"class{has_square}" / f"p{patient:03d}" / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(path)


def command(name: str, *options: object, checkout: Path = ROOT) -> None:
    """Run one of our commands to its end; raise what it printed, where it fails."""
    words = [sys.executable, "-m", f"mri_hpc.{name}", *map(str, options)]
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    ran = subprocess.run(words, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
    if ran.returncode:
        sys.exit(f"{' '.join(words)}: status {ran.returncode}\n{ran.stdout}{ran.stderr}")


def newest(run: RunDir, kind: Kind, *, after: float) -> Event | None:
    """Return the newest event of a kind that is younger than `after`, Unix time."""
    found = [event for event in read_events(run) if event.kind == kind and event.time > after]
    return found[-1] if found else None


def wait_for(look: Callable[[], Any], run: RunDir) -> Any:
    """Return what look finds, as soon as it finds something."""
    give_up_s = time.monotonic() + PATIENCE_S
    while not (found := look()):
        if time.monotonic() > give_up_s:
            command("launch", "--run", run.path, "--cancel")
            sys.exit(f"waited {PATIENCE_S:.0f} s: see the logs of the ranks; {read_events(run)[-3:]}")
        time.sleep(0.05)
    return found


def parts_until_ready(run: RunDir, attempt: str, rank: int) -> dict[str, float]:
    """Read the parts of a start from a rank's log, up to the first step, which rank 0 times for all."""
    text = (run.attempts / attempt / f"rank{rank}.log").read_text()
    line = re.findall(r"ready after (.*)", text)[-1]
    return {name: float(value) for name, value in re.findall(r"(\w+)=([\d.]+)", line)}


def stops(run: RunDir) -> list[dict[str, float]]:
    """Return, of each stop, seconds of the step before it, until agreed, and to the durable checkpoint."""
    events, metrics = read_events(run), read_metrics(run)
    agreed = [event for event in events if event.kind == Kind.STOP_AGREED]
    saved = [event for event in events if event.kind == Kind.SAVED and event.values["reason"] == "stop"]
    seconds = {line["step"]: line["seconds"] for line in metrics if "loss" in line}
    return [
        {
            "step_s": round(seconds.get(stop.values["step"], float("nan")), 3),
            "agreed_after_s": stop.values["agreed_after_s"],
            "durable_after_s": round(save.time - stop.time, 3),
        }
        for stop, save in zip(agreed, saved, strict=True)
    ]


def table(values: dict[str, Any]) -> str:
    """Write medians of the parts by rank, and of the whole, as Markdown."""
    starts, stops_done = values["parts"], values["stops"]
    before = values["parts_before"]
    rows = ["| part, s | rank 0 | rank 1 | rank 0, before |", "|---|---|---|---|"]
    for name in starts[0][0]:
        ranks = [_median(start[rank][name] for start in starts if name in start[rank]) for rank in (0, 1)]
        rows.append(f"| {name} | {ranks[0]} | {ranks[1]} | {_median(start[0][name] for start in before)} |")
    wholes = [[sum(start[0].values()) for start in those] for those in (starts, before)]
    rows.append(f"| **whole start** | **{_median(wholes[0])}** | | {_median(wholes[1])} |")
    processor = [_median(start[rank] for start in values["processor_s"]) for rank in (0, 1)]
    processor.append(_median(start[0] for start in values["processor_before_s"]))
    rows.append(f"| processor time before the first step | {' | '.join(processor)} |")
    rows.append(f"\ntwo processes that import torch alone: {_median(values['torch_s'])} s")
    if before:
        torch_s = statistics.median(values["torch_s"])
        rest, rest_before = (statistics.median(whole) - torch_s for whole in wholes)
        rows.append(f"beside that: {rest:.2f} s; before {rest_before:.2f} s: {rest / rest_before:.2f} of it")
    rows.append(f"\nfrom asking launch to the first step: {_median(values['from_launch_s'])} s")
    for name in ("step_s", "agreed_after_s", "durable_after_s"):
        rows.append(f"{name} over {len(stops_done)} stops: {_median(stop[name] for stop in stops_done)}")
    return "\n".join(rows)


def _median(values: Any) -> str:
    found = sorted(values)
    if not found:
        return ""
    return f"{statistics.median(found):.2f} ({found[0]:.2f}–{found[-1]:.2f})"


if __name__ == "__main__":
    sys.exit(main())
