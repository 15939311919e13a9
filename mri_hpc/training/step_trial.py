"""Steps in either layout, timed in turns before a run's first one: which is faster goes by the processor.

The learners are thrown away, and the run starts from its own seeds, as if there had been none.
"""

import logging
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import repeat

import numpy as np
import torch

from mri_hpc.loading.batches import Batch
from mri_hpc.loading.micro_batches import deal
from mri_hpc.loading.order import MIN_SHARE
from mri_hpc.rundir.progress import Progress
from mri_hpc.rundir.settings import TrainingSettings
from mri_hpc.training.agreed_stop import AgreedStop
from mri_hpc.training.arithmetic import by_matrix_unit, free_memory
from mri_hpc.training.learner import Learner
from mri_hpc.training.model import build
from mri_hpc.training.ranks import Ranks
from mri_hpc.training.step_way import StepWay

PHASE = "trial of layouts"
ROUNDS = 5
"""Each a step in either layout, after one that is not timed."""
ENOUGH_STEPS = 500
"""Of a run: a trial, of twelve steps, takes about 2 % of them; shorter ones go without."""
LEAST_GAIN = 1.05
"""Times as fast, in the median of the rounds: less may be chance."""
MOST_SLOWER = 1
"""Rounds in which a layout that is taken may have been the slower one: other work comes and goes."""

log = logging.getLogger(__name__)


def find_way(
    settings: TrainingSettings,
    ranks: Ranks,
    *,
    stop: AgreedStop,
    num_steps: int,
    num_classes: int,
    image_shape: tuple[int, int],
) -> StepWay:
    """Find the way in which all ranks are to compute the steps of a new run, the same for all.

    settings: with a number for the batch size. num_steps: the most that it may take.
    """
    if settings.deterministic or ranks.device.type != "cpu":
        return StepWay.PLAIN
    # There channels lie last already.
    if by_matrix_unit(settings, ranks) or num_steps < ENOUGH_STEPS:
        return StepWay.FUSED
    ways = (StepWay.FUSED, StepWay.CHANNELS_LAST)
    batch = noise(_images_together(settings, ranks), image_shape)
    # Not all ranks have that unit: one that has is to time what all do.
    settings = replace(settings, matrix_unit=False)
    steps = {way: step_of(way, settings, ranks, batch, num_classes) for way in ways}
    seconds = _time_in_turns(steps, stop)
    del steps
    free_memory(ranks.device)
    # All have timed theirs at once, as they will train; the first one's count.
    found: StepWay = ranks.from_rank(_faster(seconds))
    return found


def is_faster(before: Sequence[float], after: Sequence[float]) -> bool:
    """Tell whether one kind of step is faster than another by more than chance: seconds of each round."""
    ratios = sorted(one / other for one, other in zip(before, after, strict=True))
    return len(ratios) > MOST_SLOWER and ratios[MOST_SLOWER] > 1 and statistics.median(ratios) >= LEAST_GAIN


def _faster(seconds: Mapping[StepWay, Sequence[float]]) -> StepWay:
    fused, last = seconds[StepWay.FUSED], seconds[StepWay.CHANNELS_LAST]
    log.info(
        "seconds of a step, in turns: %s", {way.value: np.round(s, 4).tolist() for way, s in seconds.items()}
    )
    return StepWay.CHANNELS_LAST if is_faster(fused, last) else StepWay.FUSED


def _time_in_turns(
    steps: Mapping[StepWay, Callable[[], object]], stop: AgreedStop
) -> dict[StepWay, list[float]]:
    """Time the steps on all ranks: as many of each; fewer where the ranks agree to stop."""
    rounds: list[list[float]] = []
    for _round in stop.watch((item for item in repeat(None, 1 + ROUNDS)), phase=PHASE):
        rounds.append([_seconds(step) for step in steps.values()])
    return {way: [of_round[number] for of_round in rounds[1:]] for number, way in enumerate(steps)}


def _seconds(step: Callable[[], object]) -> float:
    began = time.monotonic()
    step()
    return time.monotonic() - began


def step_of(
    way: StepWay, settings: TrainingSettings, ranks: Ranks, batch: Batch, num_classes: int
) -> Callable[[], object]:
    """Make what does a step of one micro-batch, with a learner of its own that talks to no other rank."""
    alone = replace(ranks, place=replace(ranks.place, rank=0, world_size=1))
    height, width = batch.images.shape[1:]
    learner = Learner(
        build(settings, num_classes, (height, width)), settings, alone,
        weights_of_classes=np.ones(num_classes, np.float32), steps_per_epoch=1, way=way,
    )  # fmt: skip

    def step() -> None:
        loss = learner.train_step(batch, Progress())
        assert loss
        loss.value()

    return step


def _images_together(settings: TrainingSettings, ranks: Ranks) -> int:
    """Return the images that pass the network together."""
    assert settings.batch_size != "auto"
    parts = settings.micro_batches or settings.accumulate * ranks.world_size
    return max(settings.batch_size // parts, MIN_SHARE)


def noise(num_images: int, image_shape: tuple[int, int]) -> Batch:
    """Make a step of one micro-batch, of images that are noise."""
    drawn = torch.randint(256, (num_images, *image_shape), generator=torch.Generator().manual_seed(0))
    keys = np.arange(num_images, dtype=np.uint64)
    return Batch(
        images=drawn.to(torch.uint8), labels=torch.zeros(num_images, dtype=torch.int64),
        keys=keys, step_keys=keys, micro_batches=tuple(deal(num_images, world_size=1)),
    )  # fmt: skip
