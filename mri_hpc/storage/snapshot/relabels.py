"""Relabels: facts that relabel commits state of images, laid over the facts that were ingested.

Chunks keep what was ingested. Of several relabels of one image the one of greatest revision counts, then
the one in the commit of greatest name: the greatest element of a total order, whatever came first.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from mri_hpc.storage.disk.commits import Commit

TEXTS = ("label", "patient", "study")
NUMBERS = ("fold", "split")
_FACTS = [("label", "<i4"), ("patient", "<i4"), ("study", "<i4"), ("fold", "<i2"), ("split", "|i1")]
RELABELS = np.dtype([("key", "<u8"), ("revision", "<i4"), ("commit", "S32"), *_FACTS])
INGESTED = np.dtype([("key", "<u8"), *_FACTS])


@dataclass(frozen=True, kw_only=True, eq=False)
class Facts:
    """Rows of RELABELS or INGESTED, ascending by key; texts are codes into a sorted table, -1 is empty."""

    rows: np.ndarray
    names: np.ndarray

    def texts(self, name: str) -> np.ndarray:
        """Return a column of texts: bytes, (n,)."""
        # A code of -1 means the last.
        return np.append(self.names, np.bytes_(b""))[self.rows[name]] if len(self.rows) else self.names[:0]


def merged(base: Facts, commits: Iterable[Commit]) -> Facts:
    """Return the relabels that count, of those that counted before and those of more commits."""
    new = [(relabel, commit.id.encode()) for commit in commits for relabel in commit.relabels]
    if not new:
        return base
    texts = {
        name: np.concatenate([base.texts(name), np.array([getattr(r, name).encode() for r, _ in new])])
        for name in TEXTS
    }
    numbers = np.array(
        [(int(r.key, 16), r.revision, commit, 0, 0, 0, r.fold, r.split) for r, commit in new], RELABELS
    )
    rows = np.concatenate([base.rows, numbers])
    order = np.lexsort((rows["commit"], rows["revision"], rows["key"]))
    is_last = np.ones(len(order), bool)
    is_last[:-1] = rows["key"][order][1:] != rows["key"][order][:-1]
    kept = order[is_last]
    return coded(rows[kept], {name: values[kept] for name, values in texts.items()})


def coded(rows: np.ndarray, texts: dict[str, np.ndarray]) -> Facts:
    """Return rows with their texts as codes into one table. texts: bytes, (n,), by name of column."""
    rows = rows.copy()
    found = {text for name in TEXTS for text in texts[name].tolist()} - {b""}
    # As wide as its longest name, whatever it was made of.
    names = np.array(sorted(found), np.bytes_)
    for name in TEXTS:
        codes = np.searchsorted(names, texts[name])
        rows[name] = np.where(texts[name] == b"", -1, codes)
    return Facts(rows=rows, names=names)


def only(facts: Facts, keys: np.ndarray) -> Facts:
    """Return the rows of these keys."""
    if not len(facts.rows):
        return facts
    is_meant = np.isin(facts.rows["key"], keys)
    if is_meant.all():
        return facts
    return coded(facts.rows[is_meant], {name: facts.texts(name)[is_meant] for name in TEXTS})


def none(dtype: np.dtype) -> Facts:
    """Return no rows."""
    return Facts(rows=np.empty(0, dtype), names=np.empty(0, "S1"))
