"""Where the time goes between the start of a rank's process and its first step."""

import os
import time
from pathlib import Path

START_TIME_FIELD = 22
"""Of /proc/PID/stat: when the process began, in ticks since the machine did (proc(5))."""


def process_age_s() -> float:
    """Seconds since this process began, imports included."""
    # The second field is the program's name, in brackets, and may hold blanks.
    after_name = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    began = int(after_name[START_TIME_FIELD - 3]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - began


class StartTimes:
    """Seconds of each part of a start, in order."""

    def __init__(self) -> None:
        self.parts: dict[str, float] = {}
        self._so_far = 0.0

    def end_of(self, part: str) -> None:
        """A part ends here; the next begins."""
        age = process_age_s()
        self.parts[part] = round(age - self._so_far, 3)
        self._so_far = age

    def __str__(self) -> str:
        return " ".join(f"{part}={seconds}" for part, seconds in self.parts.items())
