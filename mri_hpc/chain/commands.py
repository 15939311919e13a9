"""Commands that a link runs as a person would type them, one after the other, and their log.

A signal to the link is passed on to the command that runs, which ends by it, or is ended: what it has
published stays, and the next link goes on from there.
"""

import contextlib
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from mri_hpc.base.errors import UserError
from mri_hpc.base.exit_status import AGAIN, DONE, INTERRUPTED
from mri_hpc.base.stop_flag import StopFlag

LOOK_EVERY_S = 0.2
TAIL_BYTES = 4096
GRACE_S = 15.0
"""For a command that was told to end; then it is killed. Slurm gives a job 30 s by default (KillWait)."""
ASK_EVERY_S = 30.0
"""Seconds between two questions whether a command may go on."""
ENDED_BY = {-signal.SIGTERM: "SIGTERM", -signal.SIGINT: "SIGINT", INTERRUPTED: "SIGINT", AGAIN: "a signal"}
"""Statuses of a command that heard the signal before the link did: scancel signals all processes."""


class Interrupted(Exception):
    """A signal ended the link: the next one goes on."""


class NotOn(Exception):
    """A command was ended, as it was not to go on; the reason, for people."""


@dataclass(frozen=True, kw_only=True)
class Commands:
    """Runs commands of mri_hpc in processes of their own: what one needs of memory goes with it."""

    log: Path
    """File to which all that they print is added."""
    stop: StopFlag
    say: Callable[[str], None] | None = None
    """Takes each line of a command that is followed, such as a training; None: they go to the log alone."""

    def run(
        self,
        command: str,
        words: Sequence[str],
        *,
        names_files: bool = False,
        is_followed: bool = False,
        why_not_on: Callable[[], str] = lambda: "",
    ) -> str:
        """Run a command; return its last line. UserError with that where it fails, Interrupted on a signal.

        names_files: what it prints may name patients, and is not kept. is_followed: what it prints is said
        at once, too. why_not_on: asked now and then, a reason for which it is not to go on: then it is ended,
        and NotOn is raised.
        """
        self.refuse_to_go_on()
        typed = ["mri-hpc", command, *words]
        with self.log.open("a") as log, self.log.open("rb") as printed:
            print(f"$ {shlex.join(typed)}", file=log, flush=True)
            began = printed.seek(log.tell())
            out = subprocess.DEVNULL if names_files else log
            process = subprocess.Popen(
                program(command, words), stdin=subprocess.DEVNULL, stdout=out, stderr=log
            )
            lines = _LogLines(printed=printed, say=self.say if is_followed else None)
            status = self._wait(process, why_not_on, lines)
        self.refuse_to_go_on()
        if status in ENDED_BY:
            raise Interrupted(ENDED_BY[status])
        last = _last_line(self.log, began)
        if status != DONE:
            raise UserError(f"{last or f'{command}: status {status}'} (see {self.log})")
        return last

    def refuse_to_go_on(self) -> None:
        """Raise Interrupted where a signal has come."""
        if self.stop.request:
            raise Interrupted(self.stop.request.signal_name)

    def _wait(
        self, process: subprocess.Popen[bytes], why_not_on: Callable[[], str], lines: "_LogLines"
    ) -> int:
        """Wait for a process, which ends with this in any case; return its status."""
        asked_s = time.monotonic()
        try:
            while not self.stop.request:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return process.wait(LOOK_EVERY_S)
                lines.go_on()
                if time.monotonic() - asked_s >= ASK_EVERY_S:
                    if why := why_not_on():
                        raise NotOn(why)
                    asked_s = time.monotonic()
        finally:
            _end(process)
            lines.go_on()
        return process.returncode


@dataclass(kw_only=True)
class _LogLines:
    """Lines of a log that are passed on, as long as they can be."""

    printed: BinaryIO
    """The log, from where it goes on."""
    say: Callable[[str], None] | None
    begun: bytes = b""
    """Of a line that has not ended yet."""

    def go_on(self) -> None:
        """Say the lines that have been ended since."""
        if not self.say:
            return
        *lines, self.begun = (self.begun + self.printed.read()).split(b"\n")
        try:
            for line in lines:
                self.say(line.decode(errors="replace"))
        except OSError:
            # The reader has gone, or has no room: the command goes on all the same, and the log has it all.
            self.say = None


def program(command: str, words: Sequence[str]) -> list[str]:
    """Return the words by which a process is a command of mri_hpc."""
    return [sys.executable, "-m", f"mri_hpc.{command}", *words]


def _end(process: subprocess.Popen[bytes]) -> None:
    """Tell a process to end, and kill it where it does not; harmless where it has ended."""
    process.terminate()
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _last_line(log: Path, began: int) -> str:
    """Return the last line that a command printed: of one that fails, what is wrong."""
    with log.open("rb") as file:
        file.seek(max(began, log.stat().st_size - TAIL_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
