"""Seconds of a step that is alike on any number of ranks, beside one of torch's DDP: same images, in turns.

    python tools/benchmarks/fixed_sums.py [--model resnet18] [--side 96] [--ranks 2] [--micro-batches 4]

Ranks are processes of this machine with a thread each, which exchange by gloo over the loopback. Images are
the same for all and lie in memory. DDP is timed twice: each rank's share in one piece, as a run of a fixed
number of nodes has it, and cut into as many parts as the other has. Ratios are medians over blocks of steps,
each beside the block of DDP before it. What was found: docs/measurements.md.
"""

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time

import numpy as np
import torch
import torch.distributed as dist

from mri_hpc.loading.batches import Batch
from mri_hpc.loading.micro_batches import deal
from mri_hpc.rundir.place import Place
from mri_hpc.rundir.progress import Progress
from mri_hpc.rundir.settings import FIXED, TrainingSettings
from mri_hpc.training.learner import Learner
from mri_hpc.training.model import build
from mri_hpc.training.ranks import Ranks

WAYS = ("whole", "parts", "fixed")


def main() -> None:
    arguments = parse_arguments()
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    multiprocessing.set_start_method("spawn")
    with tempfile.TemporaryDirectory() as folder:
        meeting = f"{folder}/meeting"
        every = range(arguments.ranks)
        started = [multiprocessing.Process(target=measure, args=(rank, arguments, meeting)) for rank in every]
        for process in started:
            process.start()
        for process in started:
            process.join()


def measure(rank: int, arguments: argparse.Namespace, meeting: str) -> None:
    """Time all ways in turns, on one rank; the first prints."""
    torch.set_num_threads(1)
    ranks = joined(rank, arguments.ranks, meeting)
    parts = max(1, arguments.micro_batches // arguments.ranks)
    settings = {
        "whole": TrainingSettings(model=arguments.model),
        "parts": TrainingSettings(model=arguments.model, accumulate=parts),
        "fixed": TrainingSettings(model=arguments.model, sums=FIXED, micro_batches=arguments.micro_batches),
    }
    learners = {way: learner_of(settings[way], ranks, arguments.side) for way in WAYS}
    batches = {way: batch_of(settings[way], ranks, arguments) for way in WAYS}
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for block in range(arguments.blocks + 1):
        for way in WAYS:
            began = time.monotonic()
            for _step in range(arguments.steps):
                loss = learners[way].train_step(batches[way], Progress(step=block))
                assert loss
                loss.value()
            # The first block makes what the others find.
            if block:
                seconds[way].append((time.monotonic() - began) / arguments.steps)
    if ranks.is_first:
        report(arguments, seconds, sum(p.numel() for p in learners["fixed"].model.parameters()))
    if not ranks.is_alone:
        dist.destroy_process_group()


def joined(rank: int, world_size: int, meeting: str) -> Ranks:
    """Meet the other ranks by a file."""
    place, control = Place(rank=rank, world_size=world_size), None
    if world_size > 1:
        dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=world_size)
        control = dist.new_group(backend="gloo")
    return Ranks(place=place, device=torch.device("cpu"), backend="gloo", num_hosts=1, control=control)


def learner_of(settings: TrainingSettings, ranks: Ranks, side: int) -> Learner:
    """Make a learner of random weights."""
    return Learner(
        build(settings, 3, (side, side)), settings, ranks, weights_of_classes=np.ones(3, np.float32),
        steps_per_epoch=100,
    )  # fmt: skip


def batch_of(settings: TrainingSettings, ranks: Ranks, arguments: argparse.Namespace) -> Batch:
    """Draw the images of a step, and take those of this rank."""
    size, side = arguments.batch_size, arguments.side
    drawn = torch.randint(
        0, 255, (size, side, side), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )
    dealt = deal(
        size,
        world_size=ranks.world_size,
        accumulate=settings.accumulate,
        micro_batches=settings.micro_batches,
    )
    own = tuple(part for part in dealt if part.rank == ranks.rank)
    positions = np.concatenate([np.arange(size)[part.samples] for part in own])
    keys = np.arange(size, dtype=np.uint64)
    return Batch(
        images=drawn[positions], labels=torch.arange(size)[positions] % 3, keys=keys[positions],
        step_keys=keys, micro_batches=own,
    )  # fmt: skip


def report(arguments: argparse.Namespace, seconds: dict[str, list[float]], num_weights: int) -> None:
    """Print seconds a step, and the ratios."""
    print(
        f"{arguments.model}, {num_weights / 1e6:.1f} million weights, {arguments.side} x {arguments.side}, "
        f"{arguments.batch_size} images a step, {arguments.ranks} rank(s), {arguments.micro_batches} "
        f"micro-batches; blocks of {arguments.steps} steps, n = {arguments.blocks}; "
        f"torch {torch.__version__}, load {os.getloadavg()[0]:.0f}"
    )
    for way in WAYS:
        found = sorted(seconds[way])
        print(f"  {way:<6} {statistics.median(found):.3f} s a step ({found[0]:.3f}-{found[-1]:.3f})")
    for way in WAYS[:2]:
        ratios = sorted(b / a for a, b in zip(seconds[way], seconds["fixed"], strict=True))
        print(f"  fixed / {way}: {statistics.median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--side", type=int, default=96)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--micro-batches", type=int, default=4)
    parser.add_argument("--steps", type=int, default=2, help="of a block")
    parser.add_argument("--blocks", type=int, default=7)
    return parser.parse_args()


if __name__ == "__main__":
    main()
