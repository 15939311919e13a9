"""Batches of one rank, read ahead of the steps by a thread."""

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from typing import Protocol, TypeVar

import numpy as np
import torch

from mri_hpc.cohort.splits import Split
from mri_hpc.loading.micro_batches import MicroBatch
from mri_hpc.loading.order import Order, StepRows
from mri_hpc.rundir.progress import Progress

READ_AHEAD = 3
"""Batches that are read before they are asked for."""

T = TypeVar("T")
U = TypeVar("U")


class ReadsRows(Protocol):
    """Reads what batches hold, as storage.reading.reader.Reader does."""

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Read images of some rows of the snapshot: uint8 or uint16, (b, H, W)."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """The micro-batches of one rank in one step, one after the other."""

    images: torch.Tensor
    """uint8 or uint16, (b, H, W), on the device."""
    labels: torch.Tensor
    """int64, (b,), on the device."""
    keys: np.ndarray
    """uint64, (b,)."""
    step_keys: np.ndarray
    """uint64, (B,): of the whole step, over all ranks."""
    micro_batches: tuple[MicroBatch, ...]
    """Those that it holds."""

    def parts(self) -> list["Batch"]:
        """Cut it into batches of one micro-batch each."""
        parts, start = [], 0
        for micro_batch in self.micro_batches:
            cut = slice(start, start + len(micro_batch))
            parts.append(
                replace(
                    self,
                    images=self.images[cut],
                    labels=self.labels[cut],
                    keys=self.keys[cut],
                    micro_batches=(micro_batch,),
                )
            )
            start = cut.stop
        return parts


class Batches:
    """The batches of one rank, for every split of a run."""

    def __init__(
        self,
        reader: ReadsRows,
        *,
        keys: np.ndarray,
        labels: np.ndarray,
        split: Split,
        batch_size: int,
        seed: int,
        rank: int,
        world_size: int,
        device: torch.device,
        accumulate: int = 1,
        micro_batches: int = 0,
    ) -> None:
        """keys: uint64, (n,), ascending, and labels: int, (n,), of the whole snapshot.

        accumulate: micro-batches of a rank in each training step. micro_batches: of all ranks together in
        every batch, training or not, as `deal` has them.
        """
        self._device, self._batch_size = device, batch_size
        self._seed, self._rank, self._world_size, self._accumulate = seed, rank, world_size, accumulate
        self._micro_batches = micro_batches
        self.turn_to(reader, keys=keys, labels=labels, split=split)

    def turn_to(self, reader: ReadsRows, *, keys: np.ndarray, labels: np.ndarray, split: Split) -> None:
        """Give the images of another snapshot from now on. keys, labels: as of the whole snapshot.

        Raises UserError where some step of some rank would have too few images to normalise by.
        """
        self.refuse_too_few(keys=keys, split=split)
        self._reader, self._keys, self._labels = reader, np.asarray(keys), labels
        self._orders = {
            name: Order(rows=rows, keys=self._keys, batch_size=self._batch_size)
            for name, rows in vars(split).items()
        }

    def refuse_too_few(self, *, keys: np.ndarray, split: Split) -> None:
        """Raise UserError where a step over the images of a snapshot would give a rank too few of them.

        keys: uint64, (n,), of the whole snapshot.
        """
        order = Order(rows=split.train, keys=np.asarray(keys), batch_size=self._batch_size)
        order.check_shares(self._world_size, self._accumulate, self._micro_batches)

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of an epoch."""
        return self._orders["train"].steps

    def steps_of(self, split: str) -> int:
        """Count the batches of a whole split."""
        return self._orders[split].steps

    def training(self, progress: Progress) -> Generator[Batch, None, None]:
        """Yield what is left of the epoch under way, in its order."""
        order = self._orders["train"].shuffled(self._seed, progress.epoch)
        return self._read(order, accumulate=self._accumulate, first_step=progress.step_in_epoch)

    def of_split(self, split: str) -> Generator[Batch, None, None]:
        """Yield a whole split in the order of keys, in as many batches for every rank; some may be empty."""
        return self._read(self._orders[split])

    def of_rows(self, rows: np.ndarray) -> Generator[Batch, None, None]:
        """Yield some rows of the snapshot in the order of keys, as `of_split` does. rows: ascending."""
        return self._read(Order(rows=rows, keys=self._keys, batch_size=self._batch_size))

    def _read(
        self, order: Order, *, accumulate: int = 1, first_step: int = 0
    ) -> Generator[Batch, None, None]:
        steps = order.rows_by_step(
            rank=self._rank, world_size=self._world_size, accumulate=accumulate,
            micro_batches=self._micro_batches, first_step=first_step,
        )  # fmt: skip
        for step, images, labels in read_ahead(steps, self._fetch, start_thread=self._use_device):
            yield Batch(
                images=images.to(self._device, non_blocking=True),
                labels=labels.to(self._device, non_blocking=True),
                keys=step.keys,
                step_keys=step.step_keys,
                micro_batches=step.micro_batches,
            )

    def _fetch(self, step: StepRows) -> tuple[StepRows, torch.Tensor, torch.Tensor]:
        images = torch.from_numpy(self._reader.read(step.rows))
        labels = torch.from_numpy(np.asarray(self._labels)[step.rows].astype(np.int64))
        if self._device.type == "cuda":
            images, labels = images.pin_memory(), labels.pin_memory()
        return step, images, labels

    def _use_device(self) -> None:
        # A new thread stands on GPU 0, and pinning there would make a context on it for every rank.
        if self._device.type == "cuda":
            torch.cuda.set_device(self._device)


def read_ahead(
    items: Iterator[T], fetch: Callable[[T], U], *, start_thread: Callable[[], None] = lambda: None
) -> Generator[U, None, None]:
    """Fetch every item in order, some of them ahead, in one thread; what the thread raises is raised here.

    A thread and not forked workers: those would get the stop signal too, and die before the checkpoint.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="read-ahead", initializer=start_thread) as thread:
        pending = deque(thread.submit(fetch, item) for item in islice(items, READ_AHEAD))
        try:
            while pending:
                fetched = pending.popleft().result()
                pending.extend(thread.submit(fetch, item) for item in islice(items, 1))
                yield fetched
        finally:
            thread.shutdown(wait=True, cancel_futures=True)
