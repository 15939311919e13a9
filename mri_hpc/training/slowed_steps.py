"""Seconds by which steps take longer while a save is under way beside them."""

import statistics
from collections import deque

FEWEST, MOST = 3, 20
"""Steps without a save that tell what one takes."""


class SlowedSteps:
    """Holds steps beside a save against those before it."""

    def __init__(self) -> None:
        self._usual: deque[float] = deque(maxlen=MOST)
        self._more_s = 0.0

    def begin(self) -> None:
        """Count from here on: a save begins."""
        self._more_s = 0.0

    def add(self, seconds: float, *, is_beside_save: bool) -> None:
        """Take up what a step has taken."""
        if not is_beside_save:
            self._usual.append(seconds)
        elif len(self._usual) >= FEWEST:
            self._more_s += seconds - statistics.median(self._usual)

    @property
    def seconds(self) -> float:
        """Seconds since the save began by which steps took longer."""
        return max(0.0, self._more_s)
