"""Seconds in which a thread had work to do and no core to do it on, as Linux counts them."""

from pathlib import Path


def waited_for_core_s(thread: int | None = None) -> float:
    """Return how long a thread of this process has waited: this one, or of a number; 0 where unknown."""
    folder = Path("/proc/thread-self") if thread is None else Path(f"/proc/self/task/{thread}")
    try:
        # Nanoseconds on a core, nanoseconds ready for one, and how often it got one.
        return int((folder / "schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0
