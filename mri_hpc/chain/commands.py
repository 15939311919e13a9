"""Commands that a link runs as a person would type them, one after the other, and their log."""

import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mri_hpc.base.errors import UserError
from mri_hpc.base.exit_status import AGAIN, DONE
from mri_hpc.base.stop_flag import StopFlag

LOOK_EVERY_S = 0.2
TAIL_BYTES = 4096


class Interrupted(Exception):
    """A signal ended the link: the next one goes on."""


@dataclass(frozen=True, kw_only=True)
class Commands:
    """Runs commands of mri_hpc in processes of their own: what one needs of memory goes with it."""

    log: Path
    """File to which all that they print is added."""
    stop: StopFlag

    def run(self, command: str, words: Sequence[str]) -> None:
        """Run a command; UserError with its last line where it fails, Interrupted where a signal came."""
        typed = ["mri-hpc", command, *words]
        with self.log.open("a") as log:
            print(f"$ {shlex.join(typed)}", file=log, flush=True)
            began = log.tell()
            program = [sys.executable, "-m", f"mri_hpc.{command}", *words]
            process = subprocess.Popen(program, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            status = self._wait(process)
        if self.stop.request or status == AGAIN:
            raise Interrupted(f"{self.stop.request.signal_name if self.stop.request else 'a signal'}")
        if status != DONE:
            raise UserError(
                f"{_last_line(self.log, began) or f'{command}: status {status}'} (see {self.log})"
            )

    def _wait(self, process: subprocess.Popen[bytes]) -> int:
        has_passed_on = False
        while True:
            try:
                return process.wait(LOOK_EVERY_S)
            except subprocess.TimeoutExpired:
                if self.stop.request and not has_passed_on:
                    process.terminate()
                    has_passed_on = True


def _last_line(log: Path, began: int) -> str:
    """Return the last line that a command printed: of one that fails, what is wrong."""
    with log.open("rb") as file:
        file.seek(max(began, log.stat().st_size - TAIL_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
