"""Rejections of a snapshot: of each source that was ever rejected, the last try."""

from collections.abc import Sequence

import numpy as np

from mri_hpc.storage.disk.columns import ascending
from mri_hpc.storage.disk.commits import Commit
from mri_hpc.storage.snapshot.table import REJECTED, Snapshot


def fold_rejected(
    base: Snapshot | None, new: Sequence[Commit], only: np.ndarray | None = None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the last try of each source: greatest time, then size, hash and reason; order cannot matter.

    That is rows of REJECTED, ascending by key, and the reasons that they point to. only: keys, ascending.
    """
    before = np.empty(0, REJECTED) if base is None else np.asarray(base.rejected)
    added = [one for commit in new for one in commit.rejected]
    if not len(before) and not added:
        return before, ()
    known = () if base is None else base.reasons
    reasons = sorted({*known, *(one.reason for one in added)})
    code_of = {reason: code for code, reason in enumerate(reasons)}
    rows = np.array(
        [
            (int(one.key, 16), one.mtime_ns, one.size, int(one.source_hash or "0", 16), code_of[one.reason])
            for one in added
        ],
        REJECTED,
    )
    if only is not None:
        before, rows = (part[np.isin(part["key"], only)] for part in (before, rows))
    before = _recoded(before, [code_of[reason] for reason in known])
    return _used_only(_last(np.concatenate([before, rows])) if len(rows) else before, reasons)


def _last(rows: np.ndarray) -> np.ndarray:
    """Return the greatest row of each key, ascending."""
    order = np.lexsort([rows[name] for name in ("reason", "source_hash", "size", "mtime_ns", "key")])
    key = rows["key"][order]
    is_last = np.ones(len(order), bool)
    is_last[:-1] = key[1:] != key[:-1]
    return rows[order[is_last]]


def _used_only(rows: np.ndarray, reasons: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    used = ascending(rows["reason"]).tolist()
    if len(used) == len(reasons):
        return rows, tuple(reasons)
    codes = np.zeros(len(reasons), "<i4")
    codes[used] = np.arange(len(used))
    return _recoded(rows, codes), tuple(reasons[code] for code in used)


def _recoded(rows: np.ndarray, codes: Sequence[int] | np.ndarray) -> np.ndarray:
    """Return rows with other codes for their reasons. codes: the new one of each old one."""
    rows = rows.copy()
    if len(rows):
        rows["reason"] = np.asarray(codes, "<i4")[rows["reason"]]
    return rows
