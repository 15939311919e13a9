"""Times of the parts of a start, from a rank's process to its first step."""

import os
import time

from mri_hpc.base.process import look_at


def process_age_s() -> float:
    """Return seconds since this process began, imports included."""
    began = look_at("self").start_ticks / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - began


class StartTimes:
    """Seconds of each part of a start, in order."""

    def __init__(self) -> None:
        self.parts: dict[str, float] = {}
        self._so_far = 0.0

    def end_of(self, part: str) -> None:
        """End a part here; the next begins."""
        age = process_age_s()
        self.parts[part] = round(age - self._so_far, 3)
        self._so_far = age

    def __str__(self) -> str:
        return " ".join(f"{part}={seconds}" for part, seconds in self.parts.items())
