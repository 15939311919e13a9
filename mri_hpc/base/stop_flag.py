"""The flag that a stop signal sets; it is acted on at a step boundary, never in the handler."""

import os
import signal
import threading
import time
from dataclasses import dataclass
from types import FrameType

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT)
"""TERM: preemption, requeue, scancel. USR2: ahead of the time limit (USR1 is NCCL's). INT: Ctrl-C."""


@dataclass(frozen=True, kw_only=True)
class StopRequest:
    """One request to this process to stop."""

    signal_name: str
    """As in ``SIGTERM``."""
    received_s: float
    """Unix time at which it arrived."""


class StopFlag:
    """The first stop signal of this process, if one has come."""

    def __init__(self) -> None:
        self.request: StopRequest | None = None
        self.is_up = threading.Event()
        """Event for threads that wait for a request; set once `hear` was called."""

    def listen(self) -> "StopFlag":
        """Take over the stop signals of this process; returns itself."""
        for number in STOP_SIGNALS:
            signal.signal(number, self._remember)
        # Who starts a rank blocks these signals, so that none is lost before this line: it arrives now.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        return self

    def hear(self) -> None:
        """Remember signals at once from here on: a handler waits for the end of a call into torch."""
        ears, mouth = os.pipe()
        os.set_blocking(mouth, False)
        signal.set_wakeup_fd(mouth, warn_on_full_buffer=False)
        threading.Thread(target=self._hear, args=(ears,), name="stop-flag", daemon=True).start()

    def take(self, request: StopRequest) -> None:
        """Stop for a reason other than a signal of one's own."""
        self.request = self.request or request
        self.is_up.set()

    def _remember(self, number: int, _frame: FrameType | None) -> None:
        if self.request is None:
            self.request = StopRequest(signal_name=signal.Signals(number).name, received_s=time.time())

    def _hear(self, ears: int) -> None:
        while True:
            if self.request:
                # Not by the handler, which may have interrupted whoever holds the event's lock.
                self.is_up.set()
            [number] = os.read(ears, 1)
            if number in STOP_SIGNALS:
                self._remember(number, None)
