"""A signal sets a flag; what to do about it is decided at a step boundary, never in the handler."""

import signal
import time
from dataclasses import dataclass
from types import FrameType

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT)
"""TERM: preemption, requeue, scancel. USR2: ahead of the time limit (USR1 is NCCL's). INT: Ctrl-C."""


@dataclass(frozen=True, kw_only=True)
class StopRequest:
    """That this process was asked to stop."""

    signal_name: str
    """As in ``SIGTERM``."""
    received_s: float
    """Unix time at which it arrived."""


class StopFlag:
    """Remembers the first stop signal of this process."""

    def __init__(self) -> None:
        self.request: StopRequest | None = None

    def listen(self) -> "StopFlag":
        """Take over the stop signals of this process; returns itself."""
        for number in STOP_SIGNALS:
            signal.signal(number, self._remember)
        # Who starts a rank blocks these signals, so that none is lost before this line: it arrives now.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        return self

    def _remember(self, number: int, _frame: FrameType | None) -> None:
        if self.request is None:
            self.request = StopRequest(signal_name=signal.Signals(number).name, received_s=time.time())
