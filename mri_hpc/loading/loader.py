"""Batches of a dataset in the order of a training run: a function of seed, epoch and sample keys."""

from collections.abc import Iterator
from contextlib import closing

import numpy as np
import torch

from mri_hpc.base.errors import UserError
from mri_hpc.cohort.splits import Split
from mri_hpc.loading.batches import Batch, Batches
from mri_hpc.loading.dataset import Dataset
from mri_hpc.rundir.progress import Progress
from mri_hpc.storage.store import Reader

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
        """batch_size: images a step, over all ranks together. dataset: one without a transform.

        Raises UserError where a rank's share is too small, or there is no such rank.
        """
        if dataset.transform is not None:
            raise UserError(
                "a Loader gives images as they are stored: leave the dataset's transform out, and apply it "
                "to batch.images"
            )
        if batch_size < 1:
            raise UserError(f"batch_size must be at least 1, got {batch_size}")
        if not 0 <= rank < world_size:
            raise UserError(f"rank must be from 0 to world_size - 1, got {rank} of {world_size}")
        self._dataset, self._batch_size, self._seed = dataset, batch_size, seed
        self._rank, self._world_size, self._device = rank, world_size, torch.device(device)
        self._steps = self._batches(dataset.reader).steps_per_epoch

    def __len__(self) -> int:
        """Return the number of steps of an epoch."""
        return self._steps

    def epoch(self, number: int, *, first_step: int = 0) -> Iterator[Batch]:
        """Yield the batches of one epoch, from 0, in its order; first_step: where to take it up."""
        if not 0 <= first_step <= self._steps:
            raise UserError(
                f"first_step must be from 0 to {self._steps}, the steps of an epoch, got {first_step}"
            )
        return self._read(
            Progress(snapshot=self._dataset.snapshot.digest, epoch=number, step_in_epoch=first_step)
        )

    def _read(self, progress: Progress) -> Iterator[Batch]:
        # A reader of its own, since the thread that reads ahead is not the only one that may read.
        dataset = self._dataset
        with (
            dataset.store.reader(dataset.snapshot) as reader,
            closing(self._batches(reader).training(progress)) as batches,
        ):
            yield from batches

    def _batches(self, reader: Reader) -> Batches:
        snapshot = self._dataset.snapshot
        return Batches(
            reader,
            keys=snapshot.key,
            labels=snapshot.label,
            split=Split(train=self._dataset.rows, validation=NO_ROWS, test=NO_ROWS),
            batch_size=self._batch_size,
            seed=self._seed,
            rank=self._rank,
            world_size=self._world_size,
            device=self._device,
        )
