"""Fingerprints: by what a source is known to be as it was, and how it looks before it is read.

Of a source of one file: its size, the time of its last change, and the first 8 bytes of the sha256 of its
bytes. Of one of several files each part is a function of theirs, in the order of `Source.files`:

- size: the sum;
- mtime_ns: the first 8 bytes of the sha256 of all sizes and times, as little-endian int64, side by side. The
  latest time would not do: an older file put in the place of one of the same size would go unnoticed;
- source_hash: the first 8 bytes of the sha256 of the sha256 of each, side by side.
"""

import hashlib
import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mri_hpc.base.errors import BadSource
from mri_hpc.intake.files import archives
from mri_hpc.intake.files.sources import Sources

HASH_BYTES = 8


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """A source as it was when it was read."""

    size: int
    """In bytes."""
    mtime_ns: int
    """Time of the last change, int64; of several files a digest that changes with each one's."""
    source_hash: int
    """Of the bytes: uint64."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """A file, or a source, as far as it is known without being read."""

    size: int
    mtime_ns: int


def fingerprint(looks: Sequence[Look], sha256s: Sequence[bytes]) -> Fingerprint:
    """Make the fingerprint of a source. looks, sha256s: of its files, in the order of `Source.files`."""
    look = look_of(looks)
    digest = sha256s[0] if len(sha256s) == 1 else hashlib.sha256(b"".join(sha256s)).digest()
    return Fingerprint(
        size=look.size, mtime_ns=look.mtime_ns, source_hash=int.from_bytes(digest[:HASH_BYTES], "big")
    )


def look_of(looks: Sequence[Look]) -> Look:
    """Join the looks of a source's files, in the order of `Source.files`, into that of the source."""
    if len(looks) == 1:
        return looks[0]
    packed = np.array([(look.size, look.mtime_ns) for look in looks], "<i8").tobytes()
    digest = hashlib.sha256(packed).digest()
    return Look(
        size=sum(look.size for look in looks),
        mtime_ns=int.from_bytes(digest[:HASH_BYTES], "little", signed=True),
    )


def look_at(sources: Sources, root: Path) -> tuple[np.ndarray, np.ndarray]:
    """Look up size and time of each source, as in its fingerprint: int64, (n,) each.

    Both are -1 for one of which a file is gone, or not to be looked at.
    """
    found = []
    for path in sources.files:
        found.append(size_and_time(root, path) or (-1, -1))
    if len(found) > len(sources):
        parts = itertools.pairwise(sources.starts.tolist())
        found = [_joined(found[start:end]) for start, end in parts]
    sizes, times_ns = np.array(found, "<i8").reshape(-1, 2).T
    return sizes, times_ns


def size_and_time(root: Path | str, path: str) -> tuple[int, int] | None:
    """Look up size and time, as in `Look`, of one file below a root; None where it cannot be looked at.

    Of a member of an archive the time is the archive's.
    """
    try:
        # By pathlib it takes several times as long as the system itself.
        status = os.stat(f"{root}/{path}")  # noqa: PTH116
    except OSError:
        return _of_member(f"{root}/{path}")
    return status.st_size, mtime_ns(status)


def _of_member(path: str) -> tuple[int, int] | None:
    inside = archives.parted(path)
    if inside is None:
        return None
    try:
        return archives.member_in(*inside).size, mtime_ns(Path(inside[0]).stat())
    except (OSError, BadSource):
        return None


def mtime_ns(status: os.stat_result) -> int:
    """Return a file's last change in ns, as far as int64 holds it: some disks keep times of any year."""
    return max(min(status.st_mtime_ns, 2**63 - 1), -(2**63))


def _joined(found: Sequence[tuple[int, int]]) -> tuple[int, int]:
    if any(size < 0 for size, _time_ns in found):
        return -1, -1
    look = look_of([Look(size=size, mtime_ns=time_ns) for size, time_ns in found])
    return look.size, look.mtime_ns
