"""Steps a second with the meter of use and without it, in turns, in one process.

    python tools/benchmarks/use_meter.py [--pairs 40]

One rank trains on images that are in memory, as the training loop does: asked between two steps whether to
stop, with the sign of life of the hang watch. With the meter the boundary looks at it too, and every block of
steps ends in its values, as a save does: in a run one save comes in minutes. Blocks with and without it take
turns, first one, then the other, then the other way round; the ratio is of two neighbours. By the clock, and
by the processor's time, which other programs slow down less. Where there is no GPU none is looked at.
"""

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from mri_hpc.base.stop_flag import StopFlag
from mri_hpc.loading.batches import Batch
from mri_hpc.loading.micro_batches import deal
from mri_hpc.rundir.allotment import Allotment
from mri_hpc.rundir.place import Place
from mri_hpc.rundir.progress import Progress
from mri_hpc.rundir.settings import TrainingSettings
from mri_hpc.training.agreed_stop import AgreedStop
from mri_hpc.training.hang_watch import HangWatch
from mri_hpc.training.learner import Learner
from mri_hpc.training.model import build
from mri_hpc.training.ranks import Ranks, pick_device
from mri_hpc.training.use_meter import UseMeter

SIDE = 32
BATCH_SIZE = 8
STEPS = 10
"""Of a block."""
SETTLING = 1
SETTINGS = TrainingSettings(model="shufflenet_v2_x0_5", batch_size=BATCH_SIZE, epochs=1000)


def main() -> int:
    """Measure, and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=40, help="of blocks of steps (40)")
    pairs = parser.parse_args().pairs
    ranks = Ranks(place=Place(), device=pick_device(Place()), backend="none", num_hosts=1)
    with_meter, without = _loops(ranks)
    for one in (with_meter, without):
        for _time in range(SETTLING):
            one()
    found = [_pair(with_meter, without, is_turned=number % 2 == 1) for number in range(pairs)]
    print(
        f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores of {platform.machine()}, load "
        f"{os.getloadavg()[0]:.1f}, torch {torch.__version__}, {ranks.device}, {pairs} pairs of {STEPS} steps"
    )
    for name, number in (("clock", 0), ("processor", 1)):
        ratios = sorted(one[number] for one in found)
        low, high = ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]
        print(f"speed with the meter, {name}: {statistics.median(ratios):.4f} ({low:.4f} to {high:.4f})")
    return 0


def _loops(ranks: Ranks) -> tuple[Callable[[], None], Callable[[], None]]:
    """Make what trains a block of steps with the meter, and what does without it, on one learner."""
    classes = np.ones(2, np.float32)
    learner = Learner(
        build(SETTINGS, 2, (SIDE, SIDE)), SETTINGS, ranks, weights_of_classes=classes, steps_per_epoch=1000
    )
    batch, watch, meter = _batch(ranks.device), HangWatch(3600.0), UseMeter(ranks, Allotment())

    def both() -> None:
        watch.beat()
        meter.look()

    def train(at_boundary: Callable[[], None], at_save: Callable[[], object]) -> Callable[[], None]:
        stop = AgreedStop(StopFlag(), ranks, at_boundary=at_boundary)

        def block() -> None:
            for _step in range(STEPS):
                stop.is_agreed("training")
                loss = learner.train_step(batch, Progress())
                assert loss
                loss.value()
            at_save()

        return block

    return train(both, meter.values), train(watch.beat, lambda: None)


def _batch(device: torch.device) -> Batch:
    images = torch.randint(0, 255, (BATCH_SIZE, SIDE, SIDE), dtype=torch.uint8)
    keys = np.arange(BATCH_SIZE, dtype=np.uint64)
    return Batch(
        images=images.to(device), labels=(torch.arange(BATCH_SIZE) % 2).to(device), keys=keys,
        step_keys=keys, micro_batches=tuple(deal(BATCH_SIZE, world_size=1)),
    )  # fmt: skip


def _pair(
    with_meter: Callable[[], None], without: Callable[[], None], *, is_turned: bool
) -> tuple[float, float]:
    """Time a block of each; return the speed with the meter by that without, by clock and by processor."""
    order = (without, with_meter) if is_turned else (with_meter, without)
    costs = {one: _cost(one) for one in order}
    (clock, processor), (own_clock, own_processor) = costs[without], costs[with_meter]
    return clock / own_clock, processor / own_processor


def _cost(block: Callable[[], None]) -> tuple[float, float]:
    began_s, processor_s = time.perf_counter(), time.process_time()
    block()
    return time.perf_counter() - began_s, time.process_time() - processor_s


if __name__ == "__main__":
    raise SystemExit(main())
