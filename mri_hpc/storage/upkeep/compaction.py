"""Compaction: many small chunks become few large ones, beside whoever writes and reads, killed at any moment.

New chunks are published, then one numbered commit each says which chunks they stand for. A number is given
once, so every compaction has seen all earlier ones: a copy is only left out where another is known to stay.
Superseded files are removed some days later.
"""

import functools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mri_hpc.base.atomic import sync_folder
from mri_hpc.base.errors import StoreDamage, StoreRaced
from mri_hpc.storage.disk.chunk_file import publish_chunk_of_parts
from mri_hpc.storage.disk.columns import ChunkHeader, chunk_id, joined
from mri_hpc.storage.disk.commits import (
    RETRACT,
    publish_compaction,
    publish_retraction,
    read_commit,
    read_kind,
)
from mri_hpc.storage.disk.layout import LITTER_AGE_S, StoreDir, compaction_id
from mri_hpc.storage.disk.pixels import pixels_in, read_parts
from mri_hpc.storage.snapshot.catalogue import current, header_of, publish_snapshot
from mri_hpc.storage.snapshot.presence import (
    end_removals,
    holds,
    keep_there,
    open_chunk,
    publish_and_commit,
    remove,
)
from mri_hpc.storage.snapshot.retractions import of_commits
from mri_hpc.storage.snapshot.table import Snapshot
from mri_hpc.storage.upkeep.groups import (
    Group,
    View,
    groups_to_merge,
    newest_number,
    view_of,
    view_since,
)
from mri_hpc.storage.upkeep.tidying import tidy

TARGET_BYTES = 256 * 2**20
KEEP_S = 7 * 24 * 3600.0
LATE = "images of retracted patients that came in at the same time"


@dataclass(kw_only=True)
class Compacted:
    """Effects of a compaction, done or to be done."""

    chunks_before: int = 0
    chunks_after: int = 0
    bytes_written: int = 0
    images_dropped: int = 0
    """Copies of images that are in another chunk, and images of retracted patients."""
    removed: list[Path] = field(default_factory=list)
    """Files of superseded chunks that are gone."""


def compact(
    store: StoreDir,
    *,
    target_bytes: int = TARGET_BYTES,
    keep_s: float = KEEP_S,
    only_retracted: bool = False,
    since: Snapshot | None = None,
    progress: Callable[[Sequence[Group]], Iterable[Group]] = lambda groups: groups,
) -> Compacted:
    """Rewrite what the tiers ask for, or only what holds images of retracted patients; then remove files.

    May run beside itself: the second looks again at what is left to do. since: the store as it was a
    moment ago, which saves folding it again where nothing but retractions has come since.
    """
    done = Compacted()
    store.sweep()
    end_removals(store)
    view = (since and view_since(store, since)) or _look(store)
    done.chunks_before = len(view.snapshot.chunks)
    while groups := groups_to_merge(view, target_bytes, only_must=only_retracted):
        _rewrite_all(store, view, progress(groups), done)
        view = _look(store)
    snapshot = current(store, since=view.snapshot)
    done.chunks_after = len(snapshot.chunks)
    if done.bytes_written or done.images_dropped:
        publish_snapshot(store, snapshot)
    _tidy_all(store, snapshot)
    done.removed = remove_superseded(store, snapshot, keep_s=keep_s)
    return done


def _tidy_all(store: StoreDir, snapshot: Snapshot) -> None:
    """Tidy until no retraction has come meanwhile: what was read before it may have been written back."""
    known, retracted = {name.decode() for name in snapshot.commits.tolist()}, snapshot.retractions
    while True:
        tidy(store, retracted)
        new = read_kind(store, RETRACT, besides=known)
        if not new:
            return
        known |= {commit.id for commit in new}
        retracted = retracted.joined(of_commits(new))


def look_ahead(store: StoreDir, *, target_bytes: int = TARGET_BYTES) -> Compacted:
    """Return what compacting would do now; change nothing."""
    snapshot = current(store)
    view = view_of(store, snapshot)
    groups = groups_to_merge(view, target_bytes)
    before = len(snapshot.chunks)
    return Compacted(
        chunks_before=before,
        chunks_after=before - sum(len(group.names) - (group.images > 0) for group in groups),
        bytes_written=sum(group.bytes for group in groups),
        images_dropped=sum(int((~staying).sum()) for staying in view.staying.values()),
    )


def _look(store: StoreDir) -> View:
    """Return what there is now; retract by key first the images that only their patient's name keeps out.

    So what is left out of a new chunk is out for good, whatever is relabelled later.
    """
    snapshot = current(store)
    while len(snapshot.withheld):
        publish_retraction(store, snapshot.withheld["key"].tolist(), (), LATE)
        snapshot = current(store)
    try:
        return view_of(store, snapshot)
    except StoreRaced:
        if not store.commit(compaction_id(newest_number(snapshot) + 1)).exists():
            raise
        return _look(store)


def _rewrite_all(store: StoreDir, view: View, groups: Iterable[Group], done: Compacted) -> None:
    """Rewrite one group after the other, for as long as no other task compacts."""
    number = view.number
    try:
        for group in groups:
            number += 1
            if not _rewrite(store, view, group, number, done):
                return
    except (StoreRaced, FileNotFoundError):
        # What another task has superseded may be gone already.
        if not store.commit(compaction_id(number)).exists():
            raise


def _rewrite(store: StoreDir, view: View, group: Group, number: int, done: Compacted) -> bool:
    """Publish the chunk that a group becomes, and its commit; False where another task was first."""
    headers = {name: header_of(store, name) for name in group.names}
    staying = {name: view.staying.get(name, np.ones(len(header), bool)) for name, header in headers.items()}
    num_images = sum(int(stays.sum()) for stays in staying.values())
    name, publish = _chunk_of(store, headers, staying) if num_images else ("", bool)
    why = "" if not group.must else "images of retracted patients, or copies, were left out"
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
    done.images_dropped += sum(map(len, headers.values())) - num_images
    return True


def _chunk_of(
    store: StoreDir, headers: dict[str, ChunkHeader], staying: dict[str, np.ndarray]
) -> tuple[str, Callable[[], bool]]:
    """Make one chunk of the images that stay, in the order of the chunks that they come from.

    Return its id, and a function that publishes it and tells whether it was not there already.
    """
    first = next(iter(headers.values()))
    columns = joined(
        [
            {column: values[staying[name]] for column, values in header.columns.items()}
            for name, header in headers.items()
        ]
    )
    if len({header.recipe_digest for header in headers.values()}) > 1:
        raise StoreDamage(
            f"{store.path} holds chunks of different recipes; see: mri-hpc store verify {store.path}"
        )
    name = chunk_id(columns, first.recipe_digest)
    attributes = {"recipe_digest": first.recipe_digest, "chunk_id": name, **_versions(headers.values())}
    shape = (len(columns["key"]), *first.image_shape)

    def parts() -> Iterator[np.ndarray]:
        for source, header in headers.items():
            yield from _images(store, source, header, np.flatnonzero(staying[source]))

    return name, lambda: publish_chunk_of_parts(
        store.chunk(name), parts, shape, columns, attributes, bits=first.bits
    )


def _versions(headers: Iterable[ChunkHeader]) -> dict[str, str]:
    """Return the versions of what made the images, all of them where there are several."""
    found: dict[str, set[str]] = {}
    for header in headers:
        for library, version in header.versions.items():
            found.setdefault(library, set()).update(version.split(", "))
    return {library: ", ".join(sorted(versions)) for library, versions in found.items()}


def _images(store: StoreDir, name: str, header: ChunkHeader, rows: np.ndarray) -> Iterator[np.ndarray]:
    """Yield images of these rows, some at a time: their bytes, (any,). StoreDamage where one is damaged."""
    with os.fdopen(open_chunk(store, name), "rb") as file:
        for part in read_parts(file.fileno(), pixels_in(header), rows):
            if not all(part.is_sound):
                raise StoreDamage(
                    f"{store.chunk(name)}: pixels differ from their CRC; "
                    f"see: mri-hpc store verify {store.path}"
                )
            yield np.frombuffer(part.data, np.uint8)


def remove_superseded(store: StoreDir, snapshot: Snapshot, *, keep_s: float) -> list[Path]:
    """Remove chunks superseded `keep_s` seconds ago, and a day later those that were never committed.

    Either go at once where they hold images of retracted patients. snapshot: a recent one.
    """
    live = {name.decode() for name in snapshot.chunks["name"].tolist()}
    numbers = {name.decode(): number for name, number, _is_made in snapshot.compacted.tolist()}
    removed = []
    for path in sorted(store.chunks.glob("[!.]*.h5")):
        if path.stem in live or not _is_due(store, snapshot, path, numbers.get(path.stem, 0), keep_s):
            continue
        if remove(store, path.stem, snapshot):
            removed.append(path)
    if removed:
        sync_folder(store.chunks)
    return removed


def _is_due(store: StoreDir, snapshot: Snapshot, path: Path, number: int, keep_s: float) -> bool:
    """Tell whether a chunk that holds nothing now can go. number: of the compaction that superseded it."""
    # One without a commit, too: whoever is about to commit it publishes it again.
    if holds(path, snapshot.retractions):
        return True
    if not number:
        try:
            return _age_s(path.stat().st_mtime) >= LITTER_AGE_S
        except FileNotFoundError:
            # Somebody else was first.
            return False
    return _age_s(read_commit(store, compaction_id(number)).created) >= keep_s


def _age_s(since: float) -> float:
    return time.time() - since
