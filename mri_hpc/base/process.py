"""Processes of this machine, as /proc shows them."""

from dataclasses import dataclass
from pathlib import Path

# Places in /proc/PID/stat behind the program's name, from 0; proc(5) counts from 1, pid and name first.
STATE, START_TICKS = 0, 19


@dataclass(frozen=True, kw_only=True)
class Process:
    """One process."""

    state: str
    """One letter: R, S, ...; Z and X for one that has ended."""
    start_ticks: int
    """Start in clock ticks since the machine's: it differs for a later process of the same number."""


def look_at(pid: int | str) -> Process:
    """Look up a process by number, or "self"; OSError where there is none, or this user may not see it."""
    # The name stands in brackets, and may hold blanks, brackets and bytes of any kind.
    fields = Path(f"/proc/{pid}/stat").read_text("latin-1").rpartition(")")[2].split()
    return Process(state=fields[STATE], start_ticks=int(fields[START_TICKS]))
