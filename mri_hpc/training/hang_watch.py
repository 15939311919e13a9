"""Ends a rank that has stopped making progress, after showing where it stands."""

import faulthandler
import os
import sys
import threading

HUNG = 70
"""Exit status of a rank that hung."""
LINGER_S = 5.0
"""Seconds that it stays when its stacks are written, at most: the end of one rank ends the others."""


class HangWatch:
    """Ends the process when no boundary is passed for `timeout_s` seconds of running time.

    A thread counts its own ticks instead of reading a clock: a suspended job does not tick, and a clock would
    call it hung as soon as it goes on.
    """

    def __init__(self, timeout_s: float) -> None:
        self._tick_s = min(1.0, timeout_s / 10)
        self._most_ticks = round(timeout_s / self._tick_s)
        self._ticks = 0
        self._closed = threading.Event()
        threading.Thread(target=self._watch, name="hang-watch", daemon=True).start()

    def beat(self) -> None:
        """Note that a boundary was passed."""
        self._ticks = 0

    def close(self) -> None:
        """Watch no longer."""
        self._closed.set()

    def _watch(self) -> None:
        while not self._closed.wait(self._tick_s):
            self._ticks += 1
            if self._ticks > self._most_ticks:
                print(
                    f"hung: no step for {self._ticks * self._tick_s:.0f} s; all stacks follow",
                    file=sys.stderr,
                )
                faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
                sys.stderr.flush()
                if self._closed.wait(min(LINGER_S, self._tick_s * self._most_ticks / 4)):
                    return
                os._exit(HUNG)
