"""Published snapshots, as folders: their digests, their times and their sizes, without looking into them."""

import contextlib
import operator
import os
from dataclasses import dataclass

from mri_hpc.storage.disk.layout import SNAPSHOT_INFO, StoreDir


@dataclass(frozen=True, kw_only=True)
class Publication:
    """A published snapshot."""

    digest: str
    time_ns: int
    """Unix time at which it was published."""

    @property
    def time(self) -> float:
        """In seconds."""
        return self.time_ns / 1e9


def published(store: StoreDir) -> list[str]:
    """List the digests of the snapshots that are published."""
    return sorted(entry.name for entry in os.scandir(store.snapshots) if not entry.name.startswith("."))


def published_bytes(store: StoreDir) -> int:
    """Return the size in bytes of the snapshots that are published."""
    folders = [store.snapshots / name for name in published(store)]
    files = [file for folder in folders for file in os.scandir(folder) if not file.name.startswith(".")]
    return sum(file.stat().st_size for file in files)


def publications(store: StoreDir) -> list[Publication]:
    """List the snapshots that are published, the oldest first."""
    found = []
    # Seen from their folder: to make paths of one a day takes ten times as long as to ask for their times.
    folder = os.open(store.snapshots, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # Of the same time, the one of least digest counts as the newest.
        for name in reversed(published(store)):
            with contextlib.suppress(FileNotFoundError):
                time_ns = os.stat(f"{name}/{SNAPSHOT_INFO}", dir_fd=folder).st_mtime_ns
                found.append(Publication(digest=name, time_ns=time_ns))
    finally:
        os.close(folder)
    return sorted(found, key=operator.attrgetter("time_ns"))
