"""Windows of a snapshot: each that a commit brings to a group; that of the least commit id holds.

Commits d, 4 and 9 bring group G: d has the window 0 to 3,968, as the files of its listing give it; 9, by a
task that began before d was there and had a longer listing, 0 to 4,096; 4 came later, and took that of d.
The least id is 4, so 0 to 3,968 holds; what 9 brought is made again when its sources are next looked at.
"""

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np

from mri_hpc.intake.decoding.window import Window
from mri_hpc.storage.disk.columns import ascending
from mri_hpc.storage.disk.commits import Commit
from mri_hpc.storage.snapshot.retractions import Retractions
from mri_hpc.storage.snapshot.table import WINDOWS, Snapshot


def fold_windows(base: Snapshot | None, new: Sequence[Commit], retracted: Retractions) -> np.ndarray:
    """Return WINDOWS of all commits, but for those of retracted patients."""
    rows = [
        (one.group.encode(), commit.id.encode(), _digest(one.patient.encode()), one.low, one.high)
        for commit in new
        for one in commit.windows
    ]
    before = np.empty(0, WINDOWS) if base is None else np.asarray(base.windows)
    if not rows and not len(before):
        return before
    found = np.concatenate([before, np.array(rows, WINDOWS)])
    gone = np.array([_digest(name) for name in retracted.patients.tolist()], "<u8")
    found = found[~np.isin(found["patient"], gone)]
    return found[np.lexsort([found["commit"], found["group"]])]


def window_that_holds(windows: np.ndarray, group: str) -> Window | None:
    """Return the window of a group; None where no commit has brought one. windows: as in WINDOWS."""
    at = np.searchsorted(windows["group"], group.encode())
    if at == len(windows) or windows["group"][at] != group.encode():
        return None
    return Window(low=float(windows["low"][at]), high=float(windows["high"][at]))


def commits_in_conflict(windows: np.ndarray) -> tuple[set[str], set[str]]:
    """Find commits of groups that have several windows: those whose window of one does not hold, and all."""
    if not len(windows):
        return set(), set()
    # Of windows ascending by group and commit, the first of each group holds.
    holder = np.searchsorted(windows["group"], windows["group"])
    loses = np.zeros(len(windows), bool)
    for end in ("low", "high"):
        loses |= windows[end] != windows[end][holder]
    is_concerned = np.isin(windows["group"], windows["group"][loses])
    return _names(windows["commit"][loses]), _names(windows["commit"][is_concerned])


def outvoted(windows: np.ndarray, commits: Iterable[Commit]) -> dict[int, set[int]]:
    """Find images that were made in a window that does not hold: CRCs of their pixels, by key."""
    lost: set[tuple[str, int]] = set()
    right: set[tuple[str, int]] = set()
    for commit in commits:
        for one in commit.windows:
            holds = window_that_holds(windows, one.group) == Window(low=one.low, high=one.high)
            (right if holds else lost).update(one.images.items())
    found: dict[int, set[int]] = {}
    for key, crc in lost - right:
        found.setdefault(int(key, 16), set()).add(crc)
    return found


def images_in(commits: Iterable[Commit]) -> np.ndarray:
    """Return the keys of all images that were made in windows: uint64, ascending."""
    return ascending(np.array([int(k, 16) for c in commits for one in c.windows for k in one.images], "<u8"))


def _names(ids: np.ndarray) -> set[str]:
    return {name.decode() for name in ids.tolist()}


def _digest(patient: bytes) -> int:
    return int.from_bytes(hashlib.sha256(patient).digest()[:8]) if patient else 0
