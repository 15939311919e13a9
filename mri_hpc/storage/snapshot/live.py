"""Live chunks: those that hold content now, since commits name them and no compaction has superseded them."""

from collections.abc import Iterable

import numpy as np

from mri_hpc.storage.disk.commits import Commit
from mri_hpc.storage.snapshot.table import COMPACTED, Snapshot


def live_chunks(base: Snapshot | None, new: Iterable[Commit]) -> set[str]:
    """Return the chunks that hold content: those that commits name, and no compaction has superseded."""
    new = list(new)
    return set(sizes_of_live(base, new, mentions(base, new)))


def mentions(base: Snapshot | None, new: Iterable[Commit]) -> np.ndarray:
    """Return the last mention of each chunk by a compaction, as in COMPACTED; the later one counts."""
    last: dict[bytes, tuple[int, bool]] = {}
    if base is not None:
        last = {name: (number, is_made) for name, number, is_made in base.compacted.tolist()}
    for commit in new:
        if not commit.number:
            continue
        named = [(name, False) for name in commit.superseded] + [(commit.chunk, True)] * bool(commit.chunk)
        for name, is_made in named:
            found = (commit.number, is_made)
            last[name.encode()] = max(last.get(name.encode(), found), found)
    return np.array([(name, *last[name]) for name in sorted(last)], COMPACTED)


def sizes_of_live(base: Snapshot | None, new: Iterable[Commit], compacted: np.ndarray) -> dict[str, int]:
    """Return the bytes of every chunk that holds content now, by name."""
    named = {} if base is None else {name.decode(): size for name, *_rest, size in base.chunks.tolist()}
    named |= {commit.chunk: commit.chunk_bytes for commit in new if commit.chunk}
    dead = {name.decode() for name in compacted["name"][~compacted["is_made"]].tolist()}
    return {name: size for name, size in named.items() if name not in dead}
