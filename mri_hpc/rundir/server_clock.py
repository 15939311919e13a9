"""The clock of the file server that holds a run: the one clock of its ledger, whoever writes to it.

Launch, batch script, ranks and status run on machines whose clocks may differ by minutes, and all of them
see that one. Where each machine stamps by its own (Lustre, GPFS, a local disk) it tells nothing.
"""

import os
import time
from pathlib import Path

LEAST_S = 2.0
"""Below it clocks count as one: servers keep times to the second, and answer late."""


def ahead_s(folder: Path) -> float:
    """Return the seconds by which this machine's clock is ahead of the server's; 0: agrees, or cannot tell.

    The time of the folder becomes now.
    """
    return measure(folder) or 0.0


def measure(folder: Path) -> float | None:
    """Return the seconds of `ahead_s`; None where this user may not write, or there is no folder."""
    began_s = time.time()
    try:
        # Without a time of ours the server takes its own.
        os.utime(folder)
        stamped_s = folder.stat().st_mtime
    except OSError:
        return None
    waited_s = time.time() - began_s
    ahead = began_s + waited_s / 2 - stamped_s
    return ahead if abs(ahead) > LEAST_S + waited_s / 2 else 0.0


def now(folder: Path) -> float:
    """Return the Unix time by the server's clock."""
    return time.time() - ahead_s(folder)
