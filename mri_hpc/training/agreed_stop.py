"""Stopping together: any rank's signal stops all ranks at the same boundary, in every phase."""

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import TypeVar

from mri_hpc.base.stop_flag import StopFlag, StopRequest
from mri_hpc.training.ranks import Ranks

T = TypeVar("T")

SUPERSEDED = "superseded"
"""In place of a signal's name: a newer attempt owns the run."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """That all ranks stop now, and why."""

    signal: str
    """The signal, or SUPERSEDED."""
    rank: int
    """The rank that got it."""
    phase: str
    """What the ranks were doing."""
    agreed_after_s: float
    """Seconds since it arrived."""


class AgreedStop:
    """Asks between two items of work whether some rank was told to stop."""

    def __init__(self, flag: StopFlag, ranks: Ranks, at_boundary: Callable[[], None] = lambda: None) -> None:
        """at_boundary: called at every boundary, as a sign of life."""
        self._flag, self._ranks, self._at_boundary = flag, ranks, at_boundary
        self.agreed: Agreement | None = None

    def request(self, reason: str) -> None:
        """Stop at the next boundary for a reason of our own."""
        if self._flag.request is None:
            self._flag.request = StopRequest(signal_name=reason, received_s=time.time())

    def watch(self, items: Generator[T, None, None], *, phase: str) -> Iterator[T]:
        """The items, until the ranks agree to stop. Every rank must have as many items."""
        # A generator that is closed early ends its reading thread now, not at some collection of garbage.
        with closing(items):
            while not self.is_agreed(phase):
                try:
                    item = next(items)
                except StopIteration:
                    return
                yield item

    def is_agreed(self, phase: str) -> bool:
        """Whether all ranks stop here; all of them must ask."""
        self._at_boundary()
        if self.agreed is None:
            first = self._ranks.largest(0 if self._flag.request is None else 1 + self._ranks.rank)
            if first:
                self.agreed = self._agreement(rank=first - 1, phase=phase)
        return self.agreed is not None

    def _agreement(self, rank: int, phase: str) -> Agreement:
        request = self._ranks.from_rank(self._flag.request, rank)
        return Agreement(
            signal=request.signal_name,
            rank=rank,
            phase=phase,
            agreed_after_s=round(time.time() - request.received_s, 3),
        )
