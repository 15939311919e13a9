"""Batches of a dataset in the order of a training run: a function of seed, epoch and sample keys."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from mri_hpc.base.errors import UserError
from mri_hpc.cohort.splits import Split
from mri_hpc.loading.batches import Batch, Batches
from mri_hpc.loading.dataset import Dataset
from mri_hpc.rundir.progress import Progress

NO_ROWS = np.empty(0, np.int64)


class Loader:
    """Batches of a dataset, read ahead by a thread; the same for the same seed and epoch, on any machine.

    No state: an epoch can be taken up at any step, and is cut among ranks without dropping or repeating an
    image. For epochs in random order as `mri-hpc train` sees them.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        batch_size: int = 64,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        device: torch.device | str = "cpu",
    ) -> None:
        """batch_size: images a step, over all ranks together. UserError where a rank's share is too small."""
        if batch_size < 1 or not 0 <= rank < world_size:
            raise UserError(
                f"there are no batches of {batch_size} images for rank {rank} of {world_size}: batch_size is "
                "at least 1, and rank, from 0, below world_size"
            )
        self._progress = Progress(snapshot=dataset.snapshot.digest)
        self._batches = Batches(
            dataset.reader,
            keys=dataset.snapshot.key,
            labels=dataset.snapshot.label,
            split=Split(train=dataset.rows, validation=NO_ROWS, test=NO_ROWS),
            batch_size=batch_size,
            seed=seed,
            rank=rank,
            world_size=world_size,
            device=torch.device(device),
        )

    def __len__(self) -> int:
        """Return the number of steps of an epoch."""
        return self._batches.steps_per_epoch

    def epoch(self, number: int, *, first_step: int = 0) -> Iterator[Batch]:
        """Yield the batches of one epoch, from 0, in its order; first_step: where to take it up."""
        return self._batches.training(replace(self._progress, epoch=number, step_in_epoch=first_step))
