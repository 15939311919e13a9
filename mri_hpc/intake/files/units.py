"""The share of a task, and the units into which it is cut."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self, TypeVar

from mri_hpc.base.errors import UserError
from mri_hpc.intake.files.sources import Sources

if TYPE_CHECKING:
    import numpy as np


class _Sliced(Protocol):
    """A thing that has parts of its own kind."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> Self: ...


T = TypeVar("T", bound=_Sliced)

UNIT_BYTES = 64 * 2**20
"""Pixels of a unit by default: the most work that a kill can cost a task, and the size of a chunk."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """The part of all sources that one task takes, whatever is stored already."""

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if self.count < 1 or not 0 <= self.index < self.count:
            raise UserError(
                f"--task must be between 0 and --tasks - 1, got --task {self.index} --tasks {self.count}"
            )

    def of(self, sources: Sources) -> Sources:
        """Pick the sources that belong to this share, each by its key."""
        return sources.take(self.holds(sources.keys).nonzero()[0])

    def holds(self, keys: "np.ndarray") -> "np.ndarray":
        """Find the sources that belong to this share: bool, (n,). keys: uint64, (n,)."""
        return keys % self.count == self.index

    def holds_name(self, name: str) -> bool:
        """Tell whether what has this name belongs to this share."""
        return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) % self.count == self.index


def unit_images(image_bytes: int, wanted: int | None = None) -> int:
    """Return the number of images in a unit, all in memory at once. wanted: fewer of them."""
    most = max(1, UNIT_BYTES // image_bytes)
    return min(wanted or most, most)


def cut(items: T, unit_size: int) -> Iterator[T]:
    """Yield consecutive runs of at most `unit_size`."""
    for start in range(0, len(items), unit_size):
        yield items[start : start + unit_size]
