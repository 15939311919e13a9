"""Handlers of signals as they were, once a command that sets its own has run within a test's own process."""

import contextlib
import signal
from collections.abc import Iterator

from mri_hpc.base.stop_flag import STOP_SIGNALS


@contextlib.contextmanager
def handlers_kept() -> Iterator[None]:
    """Put handlers of stop signals back at the end: a later test sends one, and wants it to arrive."""
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
