"""Stopping together: any rank's signal stops all ranks at the same boundary, in every phase."""

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TypeVar

from mri_hpc.base.stop_flag import StopFlag, StopRequest
from mri_hpc.training.deadline import Deadline, Outlook, Way
from mri_hpc.training.ranks import Ranks

T = TypeVar("T")

SUPERSEDED = "superseded"
"""In place of a signal's name: a newer attempt owns the run."""
SAVING_PHASES = ("training", "validation")
"""In the others there is nothing to save."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """That all ranks stop now, and why."""

    signal: str
    """The signal, or SUPERSEDED."""
    rank: int
    """The rank that got it."""
    phase: str
    """Work that the ranks were doing."""
    agreed_after_s: float
    """Seconds since it arrived."""
    way: str
    """The way they stop: one of deadline.Way."""
    why: str
    """The reason for this way, for people."""


class AgreedStop:
    """Asks between two items of work whether some rank was asked to stop."""

    def __init__(
        self,
        flag: StopFlag,
        ranks: Ranks,
        at_boundary: Callable[[], None] = lambda: None,
        deadline: Deadline | None = None,
    ) -> None:
        """at_boundary: called at every boundary, as a sign of life. deadline: on rank 0, which saves."""
        self._flag, self._ranks, self._at_boundary, self._deadline = flag, ranks, at_boundary, deadline
        self.agreed: Agreement | None = None
        self._first: tuple[StopRequest, int] | None = None
        self._outlook_then: tuple[Outlook, float] | None = None

    def request(self, reason: str) -> None:
        """Stop at the next boundary for a reason of our own."""
        self._flag.take(StopRequest(signal_name=reason, received_s=time.time()))

    def watch(self, items: Generator[T, None, None], *, phase: str) -> Iterator[T]:
        """Yield the items, until the ranks agree to stop. Every rank must have as many items."""
        # A generator that is closed early ends its reading thread now, not at some collection of garbage.
        with closing(items):
            while not self.is_agreed(phase):
                try:
                    item = next(items)
                except StopIteration:
                    return
                yield item

    def is_agreed(self, phase: str) -> bool:
        """Ask whether all ranks stop here; all of them must."""
        if self.agreed is None and (asked := self._asked()):
            self._agree(*asked, phase=phase, outlook=self._outlook())
        return self.agreed is not None

    def gives_up_step(self, rest_of_step_s: Callable[[], float]) -> bool:
        """Ask whether all ranks stop between two micro-batches of a step too long to be finished; all must.

        rest_of_step_s: asked only where some rank was asked to stop.
        """
        if not (asked := self._asked()):
            return False
        outlook = self._outlook(rest_of_step_s())
        if outlook.way() is not Way.FINISH:
            self._agree(*asked, phase="training", outlook=outlook)
        return self.agreed is not None

    def has_time_for_save_under_way(self, age_s: float) -> bool:
        """Tell whether a save that was begun so long ago may end before another one, in what is left by now.

        Not where the time that is left, or what a save takes, is unknown: then the newer one comes first.
        """
        if self._outlook_then is None:
            return False
        outlook, then_s = self._outlook_then
        return outlook.has_time_for_save_under_way(age_s, passed_s=time.monotonic() - then_s)

    def has_time_for_rest_of_save(self, age_s: float) -> bool:
        """Tell whether a save that was begun so long ago may end before the kill; also without a stop."""
        if self._outlook_then is None:
            return True
        outlook, then_s = self._outlook_then
        return outlook.has_time_for_rest_of_save(age_s, passed_s=time.monotonic() - then_s)

    def _asked(self) -> tuple[StopRequest, int] | None:
        """Return the request that some rank got, and the rank; the same for all ranks, and from then on."""
        self._at_boundary()
        if self._first is None:
            rank = self._ranks.largest(0 if self._flag.request is None else 1 + self._ranks.rank) - 1
            if rank < 0:
                return None
            self._first = self._by_own_clock(rank), rank
            self._flag.take(self._first[0])
        return self._first

    def _by_own_clock(self, rank: int) -> StopRequest:
        """Return a rank's request, by the clock of this host: that of another may be set otherwise."""
        own = self._flag.request
        request, age_s = self._ranks.from_rank((own, time.time() - own.received_s) if own else None, rank)
        return replace(request, received_s=time.time() - age_s)

    def _outlook(self, rest_of_step_s: float = 0.0) -> Outlook:
        """Return the outlook of rank 0, which alone looks up the deadline, and saves."""
        return self._ranks.from_rank(self._deadline.outlook(rest_of_step_s) if self._deadline else Outlook())

    def _agree(self, request: StopRequest, rank: int, *, phase: str, outlook: Outlook) -> None:
        self._outlook_then = outlook, time.monotonic()
        self.agreed = Agreement(
            signal=request.signal_name,
            rank=rank,
            phase=phase,
            agreed_after_s=round(time.time() - request.received_s, 3),
            way=outlook.way().value,
            why=outlook.why() if phase in SAVING_PHASES else "nothing to save",
        )
