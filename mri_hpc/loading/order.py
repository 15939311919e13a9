"""The order of samples: a pure function of seed, epoch and the keys of the training samples."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mri_hpc.base.errors import UserError

GOLDEN = 0x9E3779B97F4A7C15
MASK = 2**64 - 1
MIN_SHARE = 2
"""Images that a rank needs in a step: batch normalisation has no variance over one."""


def mix64(keys: np.ndarray, *numbers: int) -> np.ndarray:
    """Keys scrambled by some integers, without collisions. keys: uint64, (n,); returns uint64, (n,).

    The finaliser of SplitMix64 (Steele, Lea, Flood, 2014), once for the keys and once for each number.
    Own arithmetic, because streams of numpy's generators may change between versions.
    """
    mixed = _finalise(np.asarray(keys, dtype=np.uint64))
    for number in numbers:
        # Python's integers, since numpy warns when a scalar wraps around.
        mixed = _finalise(mixed ^ np.uint64((number * GOLDEN + 1) & MASK))
    return mixed


def _finalise(values: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64: one number to one number. uint64, (n,), modulo 2**64."""
    values = values + np.uint64(GOLDEN)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def uniform(keys: np.ndarray, *numbers: int) -> np.ndarray:
    """A number in [0, 1) for each key. keys: uint64, (n,); returns float64, (n,)."""
    return (mix64(keys, *numbers) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def seed_of(*numbers: int) -> int:
    """One seed below 2**63 out of some integers."""
    return int(mix64(np.zeros(1, np.uint64), *numbers)[0] >> np.uint64(1))


def permutation(keys: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """Positions of the samples in the order of an epoch: int64, (n,). keys: uint64, (n,), unique.

    Samples are sorted by their scrambled key, so those that are added later fall between the others.
    """
    return np.argsort(mix64(keys, seed, epoch))


def share(num_items: int, num_parts: int, part: int) -> slice:
    """The items of one part, where all parts differ by at most one item."""
    size, larger = divmod(num_items, num_parts)
    start = part * size + min(part, larger)
    return slice(start, start + size + (part < larger))


@dataclass(frozen=True, kw_only=True)
class Order:
    """How samples are cut into steps, and steps into shares of ranks. Nothing is dropped or repeated."""

    rows: np.ndarray
    """Rows of the snapshot, by key: int64, (n,)."""
    keys: np.ndarray
    """Their keys: uint64, (n,)."""
    batch_size: int
    """Most images a step, over all ranks."""

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return -(-len(self.rows) // self.batch_size)

    def shuffled(self, seed: int, epoch: int) -> "Order":
        """The same samples in the order of a training epoch."""
        order = permutation(self.keys, seed, epoch)
        return Order(rows=self.rows[order], keys=self.keys[order], batch_size=self.batch_size)

    def plans(self, *, rank: int, world_size: int, first_step: int = 0) -> Iterator["Plan"]:
        """What a rank reads in each step, from `first_step` on."""
        for step in range(first_step, self.steps):
            whole = share(len(self.rows), self.steps, step)
            rows, keys = self.rows[whole], self.keys[whole]
            own = share(len(rows), world_size, rank)
            yield Plan(rows=rows[own], keys=keys[own], step_keys=keys)

    def check_shares(self, world_size: int, accumulate: int = 1) -> None:
        """Raise UserError where some rank would have too few images in some step to normalise by.

        accumulate: parts into which each share is cut.
        """
        smallest_batch = len(self.rows) // self.steps
        smallest_share = smallest_batch // world_size
        if smallest_share < MIN_SHARE * accumulate:
            needs, way_out = f"{MIN_SHARE}", "raise --batch-size, or use fewer ranks"
            if accumulate > 1:
                needs, way_out = f"{needs} for each of {accumulate} parts", f"lower --accumulate, {way_out}"
            raise UserError(
                f"{len(self.rows)} training images in steps of {self.batch_size} give a rank of {world_size} "
                f"only {smallest_share} images in some step, and it needs {needs}: {way_out}"
            )


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What one rank reads in one step."""

    rows: np.ndarray
    """Rows of the snapshot: int64, (b,)."""
    keys: np.ndarray
    """Their keys: uint64, (b,)."""
    step_keys: np.ndarray
    """Keys of the step over all ranks: uint64, (B,)."""
