"""Compaction: many small chunks become few large ones, beside whoever writes and reads, killed at any moment.

New chunks are published, then one numbered commit each says which chunks they stand for. A number is given
once, so every compaction has seen all earlier ones: a copy is only left out where another is known to stay.
Superseded files are removed some days later. Chunks between a quarter of the target and the target wait until
there are four, as do those between a sixteenth and a quarter, and so on: a byte is rewritten once a tier.
"""

import contextlib
import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mri_hpc.base.errors import StoreDamage, StoreRaced
from mri_hpc.storage.disk.chunk_file import publish_chunk_of_parts
from mri_hpc.storage.disk.columns import ChunkHead, chunk_id
from mri_hpc.storage.disk.commits import (
    RETRACT,
    publish_compaction,
    publish_retraction,
    read_commits,
    read_kind,
)
from mri_hpc.storage.disk.layout import StoreDir, compaction_id, newest_compaction
from mri_hpc.storage.disk.pixels import pixels_in, read_parts
from mri_hpc.storage.snapshot.catalogue import current, head_of, publish_snapshot
from mri_hpc.storage.snapshot.presence import (
    keep_there,
    open_chunk,
    publish_and_commit,
    remove,
    settle_removals,
)
from mri_hpc.storage.snapshot.relocation import pixels_of, pixels_of_head
from mri_hpc.storage.snapshot.retractions import Retractions, of_commits
from mri_hpc.storage.snapshot.table import Snapshot
from mri_hpc.storage.upkeep.removal import remove_superseded
from mri_hpc.storage.upkeep.tidying import tidy

TARGET_BYTES = 256 * 2**20
KEEP_S = 7 * 24 * 3600.0
FAN_IN = 4
TIERS = 4
# Columns of all images of a chunk are in memory at once.
MOST_IMAGES = 100_000
LATE = "images of withdrawn patients that came in at the same time"


@dataclass(frozen=True, kw_only=True)
class Group:
    """Chunks that become one."""

    names: tuple[str, ...]
    bytes: int
    """Of their images that stay."""
    images: int
    must: bool
    """Whether they are rewritten however few they are: some images of theirs go."""


@dataclass(kw_only=True)
class Compacted:
    """What a compaction did, or would do."""

    chunks_before: int = 0
    chunks_after: int = 0
    bytes_written: int = 0
    images_dropped: int = 0
    """Copies of images that are in another chunk, and images of withdrawn patients."""
    removed: list[Path] = field(default_factory=list)
    """Files of superseded chunks that are gone."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _View:
    """What there is to compact, as one moment's commits say."""

    snapshot: Snapshot
    number: int
    """Of the newest compaction."""
    staying: dict[str, np.ndarray]
    """bool, (n,): which images stay, of chunks that hold some that go."""


def compact(
    store: StoreDir,
    *,
    target_bytes: int = TARGET_BYTES,
    keep_s: float = KEEP_S,
    only_withdrawn: bool = False,
    since: Snapshot | None = None,
    progress: Callable[[Sequence[Group]], Iterable[Group]] = lambda groups: groups,
) -> Compacted:
    """Rewrite what the tiers ask for, or only what holds images of withdrawn patients; then remove files.

    May run beside itself: who comes second looks again at what is left to do. since: the store as it was a
    moment ago, which saves folding it again where nothing but retractions has come since.
    """
    done = Compacted()
    store.sweep()
    settle_removals(store)
    view = (since and _view_since(store, since)) or _look(store)
    done.chunks_before = len(view.snapshot.chunks)
    while groups := plan(view, target_bytes, only_must=only_withdrawn):
        _rewrite_all(store, view, progress(groups), done)
        view = _look(store)
    snapshot = current(store, since=view.snapshot)
    done.chunks_after = len(snapshot.chunks)
    if done.bytes_written or done.images_dropped:
        publish_snapshot(store, snapshot)
    _tidy_until_settled(store, snapshot)
    done.removed = remove_superseded(store, snapshot, keep_s=keep_s)
    return done


def _tidy_until_settled(store: StoreDir, snapshot: Snapshot) -> None:
    """Where somebody is retracted at the same moment, what was read before may have been written back."""
    known, retracted = {name.decode() for name in snapshot.commits.tolist()}, snapshot.retractions
    while True:
        tidy(store, retracted)
        new = read_kind(store, RETRACT, besides=known)
        if not new:
            return
        known |= {commit.id for commit in new}
        retracted = retracted.joined(of_commits(new))


def look_ahead(store: StoreDir, *, target_bytes: int = TARGET_BYTES) -> Compacted:
    """What compacting would do now; nothing is changed."""
    snapshot = current(store)
    view = _view_of(store, snapshot)
    groups = plan(view, target_bytes)
    before = len(snapshot.chunks)
    return Compacted(
        chunks_before=before,
        chunks_after=before - sum(len(group.names) - (group.images > 0) for group in groups),
        bytes_written=sum(group.bytes for group in groups),
        images_dropped=sum(int((~staying).sum()) for staying in view.staying.values()),
    )


def plan(view: _View, target_bytes: int, *, only_must: bool = False) -> list[Group]:
    """Which chunks become one. A chunk of the target's size stays as it is, unless images of it go."""
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
    """0 for the smallest."""
    tier = TIERS - 1
    limit = target_bytes / FAN_IN
    while tier and group.bytes < limit:
        tier, limit = tier - 1, limit / FAN_IN
    return tier


def _merged(members: Sequence[Group], target_bytes: int) -> list[Group]:
    """Groups of at least the target's size each, but for the last."""
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


def _singles(view: _View) -> Iterator[Group]:
    """Every chunk by itself, the smallest first."""
    for name, _offset, images, size in sorted(
        view.snapshot.chunks.tolist(), key=lambda row: (row[3], row[0])
    ):
        staying = view.staying.get(name.decode())
        left = images if staying is None else int(staying.sum())
        yield Group(
            names=(name.decode(),), bytes=size * left // images, images=left, must=staying is not None
        )


def _look(store: StoreDir) -> _View:
    """What there is now; images that only their patient's name keeps out are withdrawn by key first.

    So what is left out of a new chunk is out for good, whatever is corrected later.
    """
    snapshot = current(store)
    while len(snapshot.withheld):
        publish_retraction(store, snapshot.withheld["key"].tolist(), (), LATE)
        snapshot = current(store)
    try:
        return _view_of(store, snapshot)
    except StoreRaced:
        if not store.commit(compaction_id(newest_number(snapshot) + 1)).exists():
            raise
        return _look(store)


def _view_since(store: StoreDir, snapshot: Snapshot) -> _View | None:
    """What there is now, where nothing but retractions by key has come since a snapshot; None elsewhere."""
    new = sorted(set(store.commit_ids()) - {name.decode() for name in snapshot.commits.tolist()})
    if len(snapshot.withheld) or not all(name.startswith(RETRACT) for name in new):
        return None
    retracted = of_commits(read_commits(store, new))
    if (snapshot.is_of(retracted.patients) & ~retracted.has_keys(snapshot.key)).any():
        return None
    with contextlib.suppress(StoreRaced):
        return _view_of(store, snapshot, retracted)
    return None


def _view_of(store: StoreDir, snapshot: Snapshot, new: Retractions | None = None) -> _View:
    """What a snapshot holds. new: retractions that it does not fold yet, by key."""
    staying = _staying(store, snapshot, new)
    return _View(snapshot=snapshot, number=newest_number(snapshot), staying=staying)


def newest_number(snapshot: Snapshot) -> int:
    """Number of the newest compaction that a snapshot folds."""
    return newest_compaction(name.decode() for name in snapshot.commits.tolist())


def _staying(store: StoreDir, snapshot: Snapshot, new: Retractions | None) -> dict[str, np.ndarray]:
    """Which images stay, of chunks that hold any that need not."""
    chunk = snapshot.chunk[~new.has_keys(snapshot.key)] if new else snapshot.chunk
    used = np.bincount(chunk, minlength=len(snapshot.chunks))
    found = {}
    for place in np.flatnonzero(used < snapshot.chunks["images"]).tolist():
        name = snapshot.chunks["name"][place].decode()
        staying = _staying_of(snapshot, place, head_of(store, name), new)
        if not staying.all():
            found[name] = staying
    return found


def _staying_of(
    snapshot: Snapshot, place: int, head: ChunkHead, new: Retractions | None = None
) -> np.ndarray:
    """Images of a chunk that are in use, and older versions of others, which runs on older snapshots read."""
    rows = np.flatnonzero(snapshot.chunk == place)
    retracted = snapshot.retractions.joined(new) if new else snapshot.retractions
    is_used = np.zeros(len(head), bool)
    is_used[snapshot.row[rows[~new.has_keys(snapshot.key[rows])] if new else rows]] = True
    if not len(snapshot):
        return is_used
    pixels = pixels_of_head(head)
    at = np.minimum(np.searchsorted(snapshot.key, pixels["key"]), len(snapshot) - 1)
    is_older = (snapshot.key[at] == pixels["key"]) & (pixels_of(snapshot, at) != pixels)
    is_older &= ~retracted.has_keys(pixels["key"])
    # Of several copies of an older version in this chunk, one.
    is_first = np.zeros(len(head), bool)
    is_first[np.unique(pixels, return_index=True)[1]] = True
    return np.asarray(is_used | (is_older & is_first))


def _rewrite_all(store: StoreDir, view: _View, groups: Iterable[Group], done: Compacted) -> None:
    """Rewrite one group after the other, for as long as nobody else compacts."""
    number = view.number
    try:
        for group in groups:
            number += 1
            if not _rewrite(store, view, group, number, done):
                return
    except (StoreRaced, FileNotFoundError):
        # What somebody else has superseded may be gone already.
        if not store.commit(compaction_id(number)).exists():
            raise


def _rewrite(store: StoreDir, view: _View, group: Group, number: int, done: Compacted) -> bool:
    """Publish the chunk that a group becomes, and its commit; False where somebody else was first."""
    heads = {name: head_of(store, name) for name in group.names}
    staying = {name: view.staying.get(name, np.ones(len(head), bool)) for name, head in heads.items()}
    num_images = sum(int(which.sum()) for which in staying.values())
    name, publish = _chunk_of(store, heads, staying) if num_images else ("", bool)
    why = "" if not group.must else "images of withdrawn patients, or copies, were left out"
    commit = functools.partial(
        publish_compaction,
        store, number, chunk=name, images=num_images, superseded=set(group.names) - {name}, why=why,
    )  # fmt: skip
    published = publish_and_commit(store, name, publish, commit)
    if not published.is_ours:
        if published.is_new:
            remove(store, name, view.snapshot)
        return False
    keep_there(store, name, publish)
    done.bytes_written += store.chunk(name).stat().st_size if name else 0
    done.images_dropped += sum(map(len, heads.values())) - num_images
    return True


def _chunk_of(
    store: StoreDir, heads: dict[str, ChunkHead], staying: dict[str, np.ndarray]
) -> tuple[str, Callable[[], bool]]:
    """One chunk of the images that stay, in the order of the chunks that they come from.

    Returns its id, and what publishes it and says whether it was not there already.
    """
    first = next(iter(heads.values()))
    columns = {
        column: np.concatenate([head.columns[column][staying[name]] for name, head in heads.items()])
        for column in first.columns
    }
    if len({head.recipe_digest for head in heads.values()}) > 1:
        raise StoreDamage(
            f"{store.path} holds chunks of different recipes; see: mri-hpc store verify {store.path}"
        )
    name = chunk_id(columns, first.recipe_digest)
    attributes = {"recipe_digest": first.recipe_digest, "chunk_id": name, **_versions(heads.values())}
    shape = (len(columns["key"]), *first.image_shape)

    def parts() -> Iterator[np.ndarray]:
        for source, head in heads.items():
            yield from _images(store, source, head, np.flatnonzero(staying[source]))

    return name, lambda: publish_chunk_of_parts(store.chunk(name), parts, shape, columns, attributes)


def _versions(heads: Iterable[ChunkHead]) -> dict[str, str]:
    """Versions of what made the images, all of them where there are several."""
    found: dict[str, set[str]] = {}
    for head in heads:
        for library, version in head.versions.items():
            found.setdefault(library, set()).update(version.split(", "))
    return {library: ", ".join(sorted(versions)) for library, versions in found.items()}


def _images(store: StoreDir, name: str, head: ChunkHead, rows: np.ndarray) -> Iterator[np.ndarray]:
    """Images of these rows, some at a time: uint8, (any, H, W). StoreDamage where one is damaged."""
    with os.fdopen(open_chunk(store, name), "rb") as file:
        for part in read_parts(file.fileno(), pixels_in(head), rows):
            if not all(part.is_sound):
                raise StoreDamage(
                    f"{store.chunk(name)}: pixels differ from their CRC; "
                    f"see: mri-hpc store verify {store.path}"
                )
            yield np.frombuffer(part.data, np.uint8).reshape(-1, *head.image_shape)
