"""Steps on a processor with memory that is kept when it is freed, beside steps that give it back, in turns.

    python tools/benchmarks/kept_memory.py [--model resnet18] [--side 96] [--precision bf16] [--threads 2]

Two processes, each with a learner of its own; each round is three steps of the one and three of the other, of
images that are noise. Page faults, and the system's part of the processor time, say where the time goes.
Nothing that is computed differs. What was found: docs/measurements.md.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys

WAYS = ("given back", "kept")
STEPS = 3
WORKER = """
import json, resource, sys, time
import numpy as np, torch
from mri_hpc.base.memory import keep_freed
from mri_hpc.rundir.place import Place
from mri_hpc.rundir.progress import Progress
from mri_hpc.rundir.settings import TrainingSettings
from mri_hpc.training.ranks import Ranks
from mri_hpc.training.step_trial import noise, step_of
from mri_hpc.training.step_way import StepWay

way, model, side, images, threads, precision, steps = sys.argv[1:]
if way == "kept":
    assert keep_freed()
torch.set_num_threads(int(threads))
settings = TrainingSettings(
    model=model, batch_size=int(images), precision=precision, matrix_unit=precision == "bf16"
)
alone = Ranks(place=Place(), device=torch.device("cpu"), backend="none", num_hosts=1)
step = step_of(StepWay.FUSED, settings, alone, noise(int(images), (int(side), int(side))), 3)

def timed():
    before, began, processor = resource.getrusage(resource.RUSAGE_SELF), time.monotonic(), time.process_time()
    step()
    after = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "clock": time.monotonic() - began, "processor": time.process_time() - processor,
        "system": after.ru_stime - before.ru_stime, "faults": after.ru_minflt - before.ru_minflt,
        "peak_mb": after.ru_maxrss // 1024,
    }

for _ in range(STEPS := int(steps)):
    timed()
print("ready", flush=True)
for _line in sys.stdin:
    print(json.dumps([timed() for _ in range(STEPS)]), flush=True)
"""


def main() -> None:
    """Measure, and print a line of each way, and the ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--side", type=int, default=96)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=6)
    options = parser.parse_args()
    found = measure(options)
    for way, steps in found.items():
        middle = {name: statistics.median(step[name] for step in steps) for name in steps[0]}
        print(f"{way:<11}", ", ".join(f"{name} {value:.4g}" for name, value in middle.items()))
    for name in ("clock", "processor"):
        pairs = zip(*([step[name] for step in found[way]] for way in WAYS), strict=True)
        ratios = sorted(before / after for before, after in pairs)
        print(f"kept is {statistics.median(ratios):.3f} ({ratios[0]:.2f}-{ratios[-1]:.2f}) x as fast, {name}")
    print(f"n = {len(ratios)}, load {os.getloadavg()[0]:.0f}")


def measure(options: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    """Time the steps of both ways in turns."""
    words = (options.model, options.side, options.batch_size, options.threads, options.precision, STEPS)
    workers = {
        way: subprocess.Popen(
            [sys.executable, "-c", WORKER, way, *map(str, words)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for way in WAYS
    }  # fmt: skip
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    try:
        for worker in workers.values():
            assert worker.stdout and worker.stdout.readline() == "ready\n"
        for _round in range(options.rounds):
            for way, worker in workers.items():
                assert worker.stdin and worker.stdout
                print("on", file=worker.stdin, flush=True)
                found[way] += json.loads(worker.stdout.readline())
    finally:
        for worker in workers.values():
            worker.kill()
            worker.wait()
    return found


if __name__ == "__main__":
    main()
