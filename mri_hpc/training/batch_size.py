"""``--batch-size auto``: the most images a step that fit, and the learning rate that goes with them.

Found by the ranks of the first attempt and published once; every later attempt, of however many ranks, takes
that up, so that a resumed run stays the run that it was.
"""

import logging
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from mri_hpc.base.errors import UserError
from mri_hpc.loading.batches import Batch
from mri_hpc.loading.micro_batches import deal
from mri_hpc.loading.order import MIN_SHARE
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.progress import Progress
from mri_hpc.rundir.settings import TrainingSettings
from mri_hpc.rundir.settled_batch import SettledBatch, publish_settled, read_settled, with_batch
from mri_hpc.training.agreed_stop import AgreedStop
from mri_hpc.training.conditions import device_model
from mri_hpc.training.learner import Learner
from mri_hpc.training.model import build
from mri_hpc.training.ranks import Ranks

RATES_ARE_FOR = 64
"""Images a step at which the typed learning rates hold."""
MOST_IMAGES = 1024
"""A step, over all ranks: larger batches need other care (arXiv 1706.02677 warms up to 8,192)."""
LEAST_STEPS = 20
"""An epoch: fewer and larger steps would learn little from a small data set."""
ENOUGH_IMAGES = 8
"""Of a rank, however small the data set."""
IMAGES_ON_CPU = 32
"""Of a rank: a processor is slow long before its memory is full."""
MEMORY_FRACTION = 0.85
"""Of what is free on a GPU: the rest is for the exchange between ranks, and for what varies."""

log = logging.getLogger(__name__)


def settle(
    run: RunDir,
    settings: TrainingSettings,
    ranks: Ranks,
    *,
    stop: AgreedStop,
    num_training_images: int,
    num_classes: int,
    image_shape: tuple[int, int],
    has_begun: bool,
    bits: int = 8,
) -> TrainingSettings:
    """Put a number in place of auto, the same for all attempts of the run; return the settings.

    stop: asked before each size; where the ranks agree to stop, the settings stay as they are.
    has_begun: whether steps were done; then UserError where what they were done with is gone.
    """
    if settings.batch_size != "auto":
        return settings
    found = ranks.from_rank(read_settled(run) if ranks.is_first else None)
    if found is None and has_begun:
        raise UserError(f"{run.batch_size} is gone, and the run has begun with it: restore it from a backup")
    if found is None:
        fits = _fits_on(ranks, settings, num_classes, image_shape, bits)
        most = most_images_a_rank(num_training_images, ranks.world_size)
        images = largest_that_fits(
            lambda images: stop.is_agreed("batch size") or _all_say(fits(images), ranks), most=most
        )
        if stop.agreed:
            return settings
        if ranks.is_first:
            publish_settled(run, settled_batch(settings, images, ranks))
        # As it lies there: an attempt at the same time may have been first.
        found = ranks.from_rank(read_settled(run) if ranks.is_first else None)
    assert found, f"{run.batch_size} was published and is not there"
    log.info("batch size auto: %s", found)
    return with_batch(settings, found, ranks=ranks.world_size)


def settled_batch(settings: TrainingSettings, images_a_rank: int, ranks: Ranks) -> SettledBatch:
    """Return the batch of all ranks together, and its rates."""
    batch_size = images_a_rank * ranks.world_size
    factor = rate_factor(settings.optimizer, batch_size)
    return SettledBatch(
        batch_size=batch_size,
        lr=settings.lr * factor,
        head_lr=settings.head_lr and settings.head_lr * factor,
        images_a_rank=images_a_rank,
        ranks=ranks.world_size,
        device=device_model(ranks.device),
    )


def rate_factor(optimizer: str, batch_size: int) -> float:
    """Return the factor of the typed rates at a batch size.

    In proportion to it for sgd (arXiv 1706.02677), to its square root for adamw (arXiv 2205.10287).
    """
    factor = batch_size / RATES_ARE_FOR
    return factor if optimizer == "sgd" else math.sqrt(factor)


def most_images_a_rank(num_training_images: int, world_size: int) -> int:
    """Return the most images of a rank that are tried, whatever fits."""
    most = min(MOST_IMAGES, num_training_images // LEAST_STEPS)
    return max(most // world_size, ENOUGH_IMAGES)


def largest_that_fits(fits: Callable[[int], bool], *, most: int) -> int:
    """Find the largest of 2, 4, 8 ... that fits, up to `most`. Raises UserError where 2 do not fit."""
    if not fits(MIN_SHARE):
        raise UserError(
            f"--batch-size auto: not even {MIN_SHARE} images a rank fit into the GPU's memory: use a smaller "
            f"--model, or a store of a smaller --size"
        )
    images = MIN_SHARE
    while 2 * images <= most and fits(2 * images):
        images *= 2
    return images


def refusal_of(error: torch.OutOfMemoryError, settings: TrainingSettings, world_size: int) -> UserError:
    """Advise what to do where a step does not fit into the memory of the GPU."""
    reason = str(error).split(". ")[0]
    if settings.sums != "ddp":
        return UserError(
            f"a micro-batch, of which --batch-size {settings.batch_size} has {settings.micro_batches}, does "
            f"not fit into the GPU's memory ({reason}), on however many ranks: launch a new run with "
            f"--micro-batches {2 * settings.micro_batches}, or a smaller --batch-size"
        )
    parts = f" in {settings.accumulate} parts" if settings.accumulate > 1 else ""
    return UserError(
        f"--batch-size {settings.batch_size} over {world_size} rank(s){parts} does not fit "
        f"into the GPU's memory ({reason}): launch this run on more ranks, or a new one with "
        f"--accumulate {2 * settings.accumulate}, a smaller --batch-size, or --batch-size auto"
    )


def _all_say(fits: bool, ranks: Ranks) -> bool:
    return not ranks.largest(int(not fits))


def _fits_on(
    ranks: Ranks, settings: TrainingSettings, num_classes: int, image_shape: tuple[int, int], bits: int
) -> Callable[[int], bool]:
    """Make what tells whether so many images fit into a step of this rank."""
    if ranks.device.type == "cpu":
        return lambda images: images <= IMAGES_ON_CPU
    free_bytes, _ = torch.cuda.mem_get_info(ranks.device)
    # A learner to throw away, alone: the real one starts from its own seeds, untouched.
    alone = replace(ranks, place=replace(ranks.place, rank=0, world_size=1))
    learner = Learner(
        build(settings, num_classes, image_shape), settings, alone,
        weights_of_classes=np.ones(num_classes, np.float32), steps_per_epoch=1,
    )  # fmt: skip
    return lambda images: _fits_on_gpu(
        learner,
        _blank(images, image_shape, ranks.device, settings.accumulate, bits),
        MEMORY_FRACTION * free_bytes,
    )


def _fits_on_gpu(learner: Learner, batch: Batch, most_bytes: float) -> bool:
    """Tell whether a whole step over the batch stays within so many bytes of the GPU's memory."""
    try:
        # The first also looks for algorithms and makes the optimizer's state: the second is like all others.
        for _ in range(2):
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(batch.images.device)
            loss = learner.train_step(batch, Progress())
            assert loss
            loss.value()
    except torch.OutOfMemoryError:
        return False
    return torch.cuda.max_memory_reserved(batch.images.device) <= most_bytes


def _blank(
    num_images: int, image_shape: tuple[int, int], device: torch.device, accumulate: int, bits: int = 8
) -> Batch:
    """Make a batch of black images, the whole step of one rank alone."""
    pixel_type = torch.uint8 if bits == 8 else torch.uint16
    return Batch(
        images=torch.zeros(num_images, *image_shape, dtype=pixel_type, device=device),
        labels=torch.zeros(num_images, dtype=torch.int64, device=device),
        keys=np.arange(num_images, dtype=np.uint64),
        step_keys=np.arange(num_images, dtype=np.uint64),
        micro_batches=tuple(deal(num_images, world_size=1, accumulate=accumulate)),
    )
