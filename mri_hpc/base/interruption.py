"""Ctrl-C where no command catches it: while Python imports what it needs, for seconds on a busy disk."""

import os
import sys
from types import TracebackType

from mri_hpc.base.exit_status import INTERRUPTED


def say_interruptions(name: str) -> None:
    """Have a Ctrl-C that is caught nowhere end this process with one line and its status, under a name."""

    def end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, trace)
            return
        sys.exit(say_interrupted(name))

    def end_at_once(lost: "sys.UnraisableHookArgs") -> None:
        if not issubclass(lost.exc_type, KeyboardInterrupt):
            sys.__unraisablehook__(lost)
            return
        # It came while Python put something away, as it does at each import, and would be forgotten.
        os._exit(say_interrupted(name))

    sys.excepthook, sys.unraisablehook = end, end_at_once


def say_interrupted(name: str) -> int:
    """Say that Ctrl-C has ended a command; return its status."""
    print(f"{name}: interrupted", file=sys.stderr, flush=True)
    return INTERRUPTED


def command_of(words: list[str]) -> str | None:
    """Return the command that Python was told to run as a module of ours; None for none.

    words: ``python -m mri_hpc.status RUN`` gives "mri-hpc status".
    """
    for word in words:
        package, _dot, command = word.removeprefix("-m").partition(".")
        if package == "mri_hpc":
            return f"mri-hpc {command.replace('_', '-')}".rstrip()
    return None
