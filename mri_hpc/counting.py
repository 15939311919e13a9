"""The counts of a task of preprocess: while they grow, and at the end."""

import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

from mri_hpc.base.command import counted, print_json

if TYPE_CHECKING:
    from mri_hpc.account import Account
    from mri_hpc.storage.store import Tally

REPORT_INTERVAL_S = 30.0


class Progress:
    """Tells how far the work is: a line that rewrites itself on a terminal, a line now and then in a log."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._started_s = self._reported_s = time.monotonic()
        self._is_terminal = sys.stderr.isatty()

    def __call__(self, tally: "Tally", under_way: int) -> None:
        """Tell it, where it is time. under_way: sources that are read and not counted yet."""
        now = time.monotonic()
        if now - self._reported_s < (0.2 if self._is_terminal else REPORT_INTERVAL_S):
            return
        self._reported_s = now
        done = tally.done + under_way
        speed = (tally.images + under_way) / (now - self._started_s)
        text = f"{done} of {self._total} sources, {tally.rejected} rejected, {speed:.0f} images/s"
        if self._is_terminal:
            print(f"\r{text}\033[K", end="", file=sys.stderr, flush=True)
        else:
            print(text, file=sys.stderr, flush=True)

    def end(self) -> None:
        """Leave the line that rewrote itself."""
        if self._is_terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def print_tally(tally: "Tally", seconds: float, account: "Account | None", *, is_json: bool) -> None:
    """Print the counts of this task. account: of all tasks; None where another one tells it."""
    speed = tally.images / seconds
    if is_json:
        print_json({
            **asdict(tally), "seconds": round(seconds, 3), "images_per_s": round(speed, 1),
            "account": account.document() if account else None,
        })  # fmt: skip
        return
    slices = f"{counted(tally.images, 'image')} in " if tally.images != tally.stored else ""
    print(
        f"stored {tally.stored}, already there {tally.already_there}, rejected {tally.rejected} "
        f"({slices}{seconds:.1f} s, {speed:.0f} images/s)"
    )
