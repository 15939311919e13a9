"""Processes that may be killed, forked: a thousand kills must not cost a thousand starts of Python."""

import contextlib
import ctypes
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from mri_hpc.base.stop_flag import STOP_SIGNALS

BUG = 1
PR_SET_PDEATHSIG = 1

Watch = Callable[[], Callable[[], None]]

_running: set[int] = set()
"""Children that were not waited for: an interrupted caller may not even know of its last one."""


def start(step: Callable[[], object], logs: Path, watch: Watch = lambda: lambda: None) -> int:
    """Fork a process that takes a step; returns its number. It ends with 0, or leaves a traceback in `logs`.

    `watch` is called in that process before the step, and what it returns after it. It dies with its parent.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    # What Python itself does around a fork swallows what the handler of a signal of that moment raises.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    child = os.fork()
    if child:
        _running.add(child)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return child
    status = BUG
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        # One that stands still would outlive a parent that is killed.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        log = _log(logs, os.getpid()).open("w")
        sys.stdout = sys.stderr = log
        try:
            end = watch()
            step()
            end()
            status = 0
        except BaseException:  # noqa: BLE001 - whatever it is, the parent has to hear of it
            traceback.print_exc(file=log)
        log.flush()
    finally:
        os._exit(status)


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Let stop signals wait until this process waits for another.

    Elsewhere, as amid a fork or the end of an object, Python may drop what they raise.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _heard() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def wait(child: int, logs: Path) -> int:
    """Status of a process that has ended, negative where a signal ended it; AssertionError: its traceback."""
    with _heard():
        _child, status = os.waitpid(child, 0)
    _running.discard(child)
    code = os.waitstatus_to_exitcode(status)
    log = _log(logs, child)
    text = log.read_text() if log.exists() else ""
    log.unlink(missing_ok=True)
    if code == BUG:
        raise AssertionError(text)
    return code


def together(steps: Sequence[Callable[[], object]], logs: Path) -> None:
    """Take steps at once, each in a process of its own; AssertionError: the traceback of one that failed."""
    with none_left():
        for child in [start(step, logs) for step in steps]:
            wait(child, logs)


def has_ended(child: int) -> bool:
    """Tell, without waiting, whether a process of ours has ended."""
    with _heard():
        return os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None


def wait_until_stopped(child: int) -> bool:
    """Wait until a process stands still, as after SIGSTOP, or has ended; False where it has ended."""
    with _heard():
        state = os.waitid(os.P_PID, child, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    return state is not None and state.si_code == os.CLD_STOPPED


@contextlib.contextmanager
def none_left() -> Iterator[None]:
    """Kill processes that still run in the end, and wait for them: an interrupted caller leaves none."""
    try:
        yield
    finally:
        while _running:
            child = next(iter(_running))
            with contextlib.suppress(ChildProcessError):
                # One that was waited for is no child any more, and its number may be another's.
                if os.waitpid(child, os.WNOHANG) == (0, 0):
                    os.kill(child, signal.SIGKILL)
                    os.waitpid(child, 0)
            _running.discard(child)


def _log(logs: Path, process: int) -> Path:
    return logs / f"log-{process}"
