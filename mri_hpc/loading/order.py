"""The order of samples: a pure function of seed, epoch and the keys of the training samples."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from mri_hpc.base.errors import UserError
from mri_hpc.loading.micro_batches import MicroBatch, deal, equal_part

GOLDEN = 0x9E3779B97F4A7C15
MASK = 2**64 - 1
MIN_SHARE = 2
"""Images that a rank needs in a step: batch normalisation has no variance over one."""
WINDOW = 2**22
"""Samples that are sorted at a time, about: more would take more memory, fewer more passes over the keys."""
BLOCK = 2**16
"""Keys that are scrambled at a time: so many stay in the processor's cache."""


def mix64(keys: np.ndarray, *numbers: int) -> np.ndarray:
    """Scramble keys by some integers, without collisions. keys: uint64, (n,); returns uint64, (n,).

    The finaliser of SplitMix64 (Steele, Lea, Flood, 2014), once for the keys and once for each number.
    Own arithmetic, because streams of numpy's generators may change between versions.
    """
    mixed = _finalise(np.asarray(keys, dtype=np.uint64))
    for number in numbers:
        # Python's integers, since numpy warns when a scalar wraps around.
        mixed = _finalise(mixed ^ np.uint64((number * GOLDEN + 1) & MASK))
    return mixed


def _finalise(values: np.ndarray) -> np.ndarray:
    """Finalise as SplitMix64: one number to one number. uint64, (n,), modulo 2**64."""
    values = values + np.uint64(GOLDEN)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def uniform(keys: np.ndarray, *numbers: int) -> np.ndarray:
    """Draw a number in [0, 1) for each key. keys: uint64, (n,); returns float64, (n,)."""
    return (mix64(keys, *numbers) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def seed_of(*numbers: int) -> int:
    """Make one seed below 2**63 out of some integers."""
    return int(mix64(np.zeros(1, np.uint64), *numbers)[0] >> np.uint64(1))


def permutation(keys: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """Return positions of the samples in the order of an epoch: int64, (n,). keys: uint64, (n,), unique.

    Samples are sorted by their scrambled key, so those that are added later fall between the others.
    """
    return np.argsort(mix64(keys, seed, epoch))


@dataclass(frozen=True, kw_only=True)
class Order:
    """Cuts samples into steps, and these into micro-batches. Nothing is dropped or repeated."""

    rows: np.ndarray
    """Rows of the snapshot, by key: int64, (n,)."""
    keys: np.ndarray
    """Keys of all rows of the snapshot, which may be mapped from its file: uint64."""
    batch_size: int
    """Most images a step, over all ranks."""
    shuffle: tuple[int, int] | None = None
    """Seed and epoch of a training epoch; None: by key."""

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return -(-len(self.rows) // self.batch_size)

    def shuffled(self, seed: int, epoch: int) -> "Order":
        """Put the same samples in the order of a training epoch, that of `permutation`."""
        return replace(self, shuffle=(seed, epoch))

    def rows_by_step(
        self,
        *,
        rank: int,
        world_size: int,
        accumulate: int = 1,
        micro_batches: int = 0,
        first_step: int = 0,
    ) -> Iterator["StepRows"]:
        """Yield what a rank reads in each step from `first_step` on, cut into micro-batches as by `deal`."""
        first = equal_part(len(self.rows), max(1, self.steps), first_step).start
        runs, waiting = self._rows_from(first), np.empty(0, np.int64)
        for step in range(first_step, self.steps):
            whole = equal_part(len(self.rows), self.steps, step)
            size = whole.stop - whole.start
            while len(waiting) < size:
                waiting = np.concatenate([waiting, next(runs)])
            rows, waiting = waiting[:size], waiting[size:]
            dealt = deal(size, world_size=world_size, accumulate=accumulate, micro_batches=micro_batches)
            own = tuple(micro_batch for micro_batch in dealt if micro_batch.rank == rank)
            positions = np.concatenate([np.arange(size)[micro_batch.samples] for micro_batch in own])
            keys = self.keys[rows]
            yield StepRows(rows=rows[positions], keys=keys[positions], step_keys=keys, micro_batches=own)

    def _rows_from(self, first: int) -> Iterator[np.ndarray]:
        """Yield rows in their order, without the `first` ones, in runs: int64, (any,)."""
        if self.shuffle is None:
            yield self.rows[first:]
            return
        counts = self._counts_of_windows()
        for window, end in enumerate(np.cumsum(counts).tolist()):
            begin = end - int(counts[window])
            if first < end:
                yield self._window(window, len(counts))[max(0, first - begin) :]

    def _counts_of_windows(self) -> np.ndarray:
        """Count samples in each window: equal ranges of scrambled keys, which are sorted one at a time."""
        windows = 1
        while len(self.rows) > windows * WINDOW:
            windows *= 2
        if windows == 1:
            return np.array([len(self.rows)])
        found = np.zeros(windows, np.int64)
        for _rows, mixed in self._mixed():
            found += np.bincount(_window_of(mixed, windows), minlength=windows)
        return found

    def _window(self, window: int, windows: int) -> np.ndarray:
        """Return rows of one window in their order: int64, (any,)."""
        rows, keys = [], []
        for part, mixed in self._mixed():
            is_in = _window_of(mixed, windows) == window
            rows.append(part[is_in])
            keys.append(mixed[is_in])
        order = np.argsort(np.concatenate(keys))
        return np.concatenate(rows)[order]

    def _mixed(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield rows and their scrambled keys, a block at a time."""
        assert self.shuffle is not None
        for start in range(0, len(self.rows), BLOCK):
            rows = self.rows[start : start + BLOCK]
            yield rows, mix64(self.keys[rows], *self.shuffle)

    def check_shares(self, world_size: int, accumulate: int = 1, micro_batches: int = 0) -> None:
        """Raise UserError where some micro-batch of some step would have too few images to normalise by.

        accumulate: micro-batches of each rank a step; micro_batches: of the whole step, where that is cut.
        """
        smallest_batch = len(self.rows) // self.steps
        if micro_batches:
            self._check_parts(world_size, micro_batches, smallest_batch // micro_batches)
            return
        smallest_share = smallest_batch // world_size
        if smallest_share < MIN_SHARE * accumulate:
            needs, way_out = f"{MIN_SHARE}", "raise --batch-size, or use fewer ranks"
            if accumulate > 1:
                needs, way_out = f"{needs} for each of {accumulate} parts", f"lower --accumulate, {way_out}"
            raise UserError(
                f"{len(self.rows)} training images in steps of {self.batch_size} give a rank of {world_size} "
                f"only {smallest_share} images in some step, and it needs {needs}: {way_out}"
            )

    def _check_parts(self, world_size: int, micro_batches: int, smallest: int) -> None:
        """Raise UserError where a step that is cut alike for all gives some rank, or micro-batch, too few."""
        if world_size > micro_batches:
            raise UserError(
                f"a step of this run is cut into {micro_batches} micro-batches, too few for {world_size} "
                f"ranks: use at most {micro_batches}"
            )
        if smallest < MIN_SHARE:
            raise UserError(
                f"{len(self.rows)} training images in steps of {self.batch_size} give a micro-batch of "
                f"{micro_batches} only {smallest} images in some step, and it needs {MIN_SHARE}: raise "
                f"--batch-size, or lower --micro-batches"
            )


@dataclass(frozen=True, kw_only=True)
class StepRows:
    """Samples that one rank reads in one step."""

    rows: np.ndarray
    """Rows of the snapshot, one micro-batch after the other: int64, (b,)."""
    keys: np.ndarray
    """Their keys: uint64, (b,)."""
    step_keys: np.ndarray
    """Keys of the step over all ranks: uint64, (B,)."""
    micro_batches: tuple[MicroBatch, ...]
    """Those dealt to the rank."""


def _window_of(mixed: np.ndarray, windows: int) -> np.ndarray:
    """Find the window in which each scrambled key lies: int64, (n,). windows: a power of two."""
    if windows == 1:
        return np.zeros(len(mixed), np.int64)
    return (mixed >> np.uint64(65 - windows.bit_length())).astype(np.int64)
