"""Groups of chunks that compaction makes one chunk each.

Chunks between a quarter of the target and the target wait until there are four, as do those between a
sixteenth and a quarter, and so on: a byte is rewritten once a tier.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mri_hpc.base.errors import StoreRaced
from mri_hpc.storage.disk.columns import ChunkHeader
from mri_hpc.storage.disk.commits import RETRACT, read_commits
from mri_hpc.storage.disk.layout import StoreDir, newest_compaction
from mri_hpc.storage.snapshot.catalogue import header_of
from mri_hpc.storage.snapshot.relocation import pixels_of, pixels_of_header
from mri_hpc.storage.snapshot.retractions import Retractions, of_commits
from mri_hpc.storage.snapshot.table import Snapshot

FAN_IN = 4
TIERS = 4
# Columns of all images of a chunk are in memory at once.
MOST_IMAGES = 100_000


@dataclass(frozen=True, kw_only=True)
class Group:
    """Chunks that become one."""

    names: tuple[str, ...]
    bytes: int
    """Of their images that stay."""
    images: int
    must: bool
    """True where they are rewritten however few they are, since some of their images go."""


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """The store as compaction finds it, by the commits of one moment."""

    snapshot: Snapshot
    number: int
    """Of the newest compaction."""
    staying: dict[str, np.ndarray]
    """bool, (n,): images that stay, by name of chunk, of those chunks that hold some that go."""


def view_since(store: StoreDir, snapshot: Snapshot) -> View | None:
    """View what there is now where only retractions by key have come since a snapshot; None elsewhere."""
    new = sorted(set(store.commit_ids()) - {name.decode() for name in snapshot.commits.tolist()})
    if len(snapshot.withheld) or not all(name.startswith(RETRACT) for name in new):
        return None
    retracted = of_commits(read_commits(store, new))
    if (snapshot.is_of(retracted.patients) & ~retracted.has_keys(snapshot.key)).any():
        return None
    with contextlib.suppress(StoreRaced):
        return view_of(store, snapshot, retracted)
    return None


def view_of(store: StoreDir, snapshot: Snapshot, new: Retractions | None = None) -> View:
    """View what a snapshot holds. new: retractions that it does not fold yet, by key."""
    staying = _staying(store, snapshot, new)
    return View(snapshot=snapshot, number=newest_number(snapshot), staying=staying)


def newest_number(snapshot: Snapshot) -> int:
    """Return the number of the newest compaction that a snapshot folds."""
    return newest_compaction(name.decode() for name in snapshot.commits.tolist())


def _staying(store: StoreDir, snapshot: Snapshot, new: Retractions | None) -> dict[str, np.ndarray]:
    """Find the images that stay, by name of chunk, of those chunks that hold any that go."""
    chunk = snapshot.chunk[~new.has_keys(snapshot.key)] if new else snapshot.chunk
    used = np.bincount(chunk, minlength=len(snapshot.chunks))
    found = {}
    for index in np.flatnonzero(used < snapshot.chunks["images"]).tolist():
        name = snapshot.chunks["name"][index].decode()
        staying = staying_of(snapshot, index, header_of(store, name), new)
        if not staying.all():
            found[name] = staying
    return found


def staying_of(
    snapshot: Snapshot, chunk_index: int, header: ChunkHeader, new: Retractions | None = None
) -> np.ndarray:
    """Find the images of a chunk that are in use, and older versions, which runs on older snapshots read."""
    rows = np.flatnonzero(snapshot.chunk == chunk_index)
    retracted = snapshot.retractions.joined(new) if new else snapshot.retractions
    is_used = np.zeros(len(header), bool)
    is_used[snapshot.row[rows[~new.has_keys(snapshot.key[rows])] if new else rows]] = True
    if not len(snapshot):
        return is_used
    pixels = pixels_of_header(header)
    at = np.minimum(np.searchsorted(snapshot.key, pixels["key"]), len(snapshot) - 1)
    is_older = (snapshot.key[at] == pixels["key"]) & (pixels_of(snapshot, at) != pixels)
    is_older &= ~retracted.has_keys(pixels["key"])
    # Of several copies of an older version in this chunk, one.
    is_first = np.zeros(len(header), bool)
    is_first[np.unique(pixels, return_index=True)[1]] = True
    return np.asarray(is_used | (is_older & is_first))


def groups_to_merge(view: View, target_bytes: int, *, only_must: bool = False) -> list[Group]:
    """Return the groups to rewrite. A chunk of the target's size stays as it is, unless images of it go."""
    full: list[Group] = []
    waiting: list[Group] = []
    for group in _singles(view):
        (full if _is_full(group, target_bytes) else waiting).append(group)
    if only_must:
        return [group for group in (*full, *waiting) if group.must]
    for tier in range(TIERS):
        members = [group for group in waiting if _tier(group, target_bytes) == tier]
        if len(members) < FAN_IN:
            continue
        waiting = [group for group in waiting if _tier(group, target_bytes) != tier]
        *merged, rest = _merged(members, target_bytes)
        full += merged
        (full if _is_full(rest, target_bytes) else waiting).append(rest)
    return [group for group in (*full, *waiting) if group.must or len(group.names) > 1]


def _is_full(group: Group, target_bytes: int) -> bool:
    return group.bytes >= target_bytes or group.images >= MOST_IMAGES


def _tier(group: Group, target_bytes: int) -> int:
    """Return the tier of a group by its size: 0 for the smallest."""
    tier = TIERS - 1
    limit = target_bytes / FAN_IN
    while tier and group.bytes < limit:
        tier, limit = tier - 1, limit / FAN_IN
    return tier


def _merged(members: Sequence[Group], target_bytes: int) -> list[Group]:
    """Join groups to some of at least the target's size each, but for the last."""
    merged = [members[0]]
    for group in members[1:]:
        last = merged[-1]
        if _is_full(last, target_bytes):
            merged.append(group)
            continue
        merged[-1] = Group(
            names=last.names + group.names,
            bytes=last.bytes + group.bytes,
            images=last.images + group.images,
            must=last.must or group.must,
        )
    return merged


def _singles(view: View) -> Iterator[Group]:
    """Yield every chunk by itself, the smallest first."""
    for name, _offset, images, size in sorted(
        view.snapshot.chunks.tolist(), key=lambda row: (row[3], row[0])
    ):
        staying = view.staying.get(name.decode())
        left = images if staying is None else int(staying.sum())
        yield Group(
            names=(name.decode(),), bytes=size * left // images, images=left, must=staying is not None
        )
