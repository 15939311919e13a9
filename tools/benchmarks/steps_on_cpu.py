"""Images a second of the ways to compute a step on a processor, in turns: plain, as before, and the others.

    python tools/benchmarks/steps_on_cpu.py [--model resnet18 ...] [--side 224 96] [--threads 2] [--beside 1]

Whole steps of the learner: augmentation, forward and backward, optimizer, average; images are noise and lie
in memory. By the clock, and by processor time, which counts where other work takes the cores. --beside
starts so many processes that multiply matrices all the time. "taken" is what a trial says of the same
rounds, as a new run takes it. Ratios are medians over rounds, each beside the plain step of the same round,
and their range. What was found: docs/measurements.md.
"""

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from mri_hpc.rundir.place import Place
from mri_hpc.rundir.recipes import RECIPES, with_recipe
from mri_hpc.rundir.settings import TrainingSettings
from mri_hpc.training.arithmetic import has_matrix_unit
from mri_hpc.training.ranks import Ranks
from mri_hpc.training.step_trial import is_faster, noise, step_of
from mri_hpc.training.step_way import StepWay

WORK = "import torch; torch.set_num_threads(1); a = torch.rand(512, 512)\nwhile True: a = (a @ a).clamp(0, 1)"
ALONE = Ranks(place=Place(), device=torch.device("cpu"), backend="none", num_hosts=1)


def main() -> None:
    options = parse_arguments()
    torch.set_num_threads(options.threads)
    unit = "with" if has_matrix_unit() else "without"
    print(
        f"{processor()}, {unit} a matrix unit, {torch.backends.cpu.get_cpu_capability()}, {options.threads} "
        f"thread(s), {options.batch_size} images a step, recipe {options.recipe}, {options.precision}, torch "
        f"{torch.__version__}, {options.beside} process(es) beside, n = {options.rounds}, load "
        f"{os.getloadavg()[0]:.0f}"
    )
    with others(options.beside):
        for model in options.model:
            for side in options.side:
                compare(model, side, options)
    print(f"load at the end {os.getloadavg()[0]:.0f}")


def compare(model: str, side: int, options: argparse.Namespace) -> None:
    """Time the ways in turns, and print a line of each."""
    settings = replace(
        with_recipe(TrainingSettings(), options.recipe), model=model, precision=options.precision,
        matrix_unit=options.precision == "bf16", enlarge=1.0,
    )  # fmt: skip
    batch = noise(options.batch_size, (side, side))
    steps = {way: step_of(way, settings, ALONE, batch, 3) for way in StepWay}
    by_clock: dict[StepWay, list[float]] = {way: [] for way in StepWay}
    by_processor: dict[StepWay, list[float]] = {way: [] for way in StepWay}
    for number in range(options.rounds + 1):
        for way, step in steps.items():
            clock, processor_time = time.monotonic(), time.process_time()
            step()
            # The first makes the optimizer's state.
            if number:
                by_clock[way].append(time.monotonic() - clock)
                by_processor[way].append(time.process_time() - processor_time)
    taken = (
        StepWay.CHANNELS_LAST
        if is_faster(by_clock[StepWay.FUSED], by_clock[StepWay.CHANNELS_LAST])
        else StepWay.FUSED
    )
    for way in StepWay:
        speed = options.batch_size / statistics.median(by_clock[way])
        print(
            f"{model} {side}: {way.value:<31} {speed:7.1f} images/s, {ratio(by_clock, way)} by the clock, "
            f"{ratio(by_processor, way)} by processor time{' - taken' if way is taken else ''}",
            flush=True,
        )


def ratio(seconds: dict[StepWay, list[float]], way: StepWay) -> str:
    """Say how many times as fast a way is as the plain one."""
    found = sorted(a / b for a, b in zip(seconds[StepWay.PLAIN], seconds[way], strict=True))
    return f"{statistics.median(found):.2f} ({found[0]:.2f}-{found[-1]:.2f})"


@contextlib.contextmanager
def others(number: int) -> Iterator[None]:
    """Have other processes compute meanwhile."""
    started = [subprocess.Popen([sys.executable, "-c", WORK]) for _number in range(number)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def processor() -> str:
    """Name the processor."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next(line.partition(": ")[2] for line in lines if line.startswith("model name"))


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", nargs="+", default=["resnet18", "efficientnet_b0", "convnext_tiny"])
    parser.add_argument("--side", nargs="+", type=int, default=[224, 96])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--recipe", choices=RECIPES, default="default")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--beside", type=int, default=0, help="processes that compute meanwhile")
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
