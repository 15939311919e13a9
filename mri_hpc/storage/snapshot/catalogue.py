"""Snapshots: commits folded into columns and published: opening one costs by the file, not by the image."""

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from mri_hpc.base.access import let_group_use
from mri_hpc.base.atomic import publish_folder, replace
from mri_hpc.base.documents import refuse_newer
from mri_hpc.base.errors import NewerFormat, StoreDamage, StoreRaced, UserError
from mri_hpc.base.sealed_json import seal, unseal
from mri_hpc.storage.disk.chunk_file import MissingChunk, read_sealed_header
from mri_hpc.storage.disk.column_file import ColumnFile, save_column
from mri_hpc.storage.disk.columns import OPTIONAL, ChunkHeader, blocks
from mri_hpc.storage.disk.commits import (
    RETRACT,
    Commit,
    digest_of,
    num_additions,
    read_commits,
    read_kind,
    skim_additions,
)
from mri_hpc.storage.disk.damage import UNREADABLE, advice, is_damage
from mri_hpc.storage.disk.layout import SNAPSHOT_INFO, StoreDir, newest_compaction, open_store
from mri_hpc.storage.snapshot import totals
from mri_hpc.storage.snapshot.presence import bring_back, is_superseded
from mri_hpc.storage.snapshot.publications import publications, published
from mri_hpc.storage.snapshot.relocation import refuse_retracted, relocated
from mri_hpc.storage.snapshot.table import CODES, WINDOWS, Snapshot, array_names, lazy_snapshot, names_of

FORMAT = 4
"""Of a snapshot of images of 16 bits, whose offsets earlier versions would count wrongly, or with an optional
column."""
JOINED_FORMAT = 3
PLAIN_FORMAT = 2
"""Of a snapshot of no patient who has several names: as written by versions that know of none."""
NEUTRAL = {
    "windows": np.empty(0, WINDOWS),
    **{names_of(name): np.empty(0, "S1") for name in OPTIONAL},
    **{name: np.array(-1, CODES[name]) for name in OPTIONAL},
}
"""Columns that snapshots need not have, as those of 0.1.0 had not: what their absence means, where it is
one value of all rows."""
# Each costs reading the names of its commits.
SNAPSHOTS_TRIED = 8
FEW_LEFT = 8
"""Commits that are left to fold at most where no better snapshot is looked for."""

T = TypeVar("T")
Publish = Callable[[Path, Callable[[Path], None]], None]


def resolve(path: Path, digest: str = "newest") -> Snapshot:
    """Return the snapshot of that digest (or an unambiguous beginning of it), or of all commits now.

    The newest is published if it was not yet. UserError: no store, nothing stored yet, no such snapshot.
    """
    store = open_store(path)
    folder = _folder_named(store, digest)
    if folder:
        return _readable_now(store, load_snapshot(folder))
    snapshot = current(store)
    if digest != "newest" and not snapshot.digest.startswith(digest):
        there = published(store)
        known = f"{', '.join(there)}, or newest" if there else "newest"
        raise UserError(f"{path} has no snapshot {digest!r}; there are: {known}")
    if not len(snapshot):
        rejected = int(snapshot.is_rejected.sum())
        raise UserError(
            f"{path} holds no image ({rejected} sources were rejected): add some with mri-hpc preprocess"
        )
    publish_snapshot(store, snapshot)
    return load_snapshot(store.snapshots / snapshot.digest)


def recall(store: Path, digest: str) -> Snapshot:
    """Load a published snapshot as it was, for its columns alone: its images may have moved, or be gone."""
    folder = _folder_named(open_store(store), digest)
    if folder is None:
        raise UserError(f"{store} has no snapshot {digest!r}")
    return load_snapshot(folder)


def current(store: StoreDir, *, since: Snapshot | None = None) -> Snapshot:
    """Return the snapshot of all commits there are now, which may be empty.

    It is folded in memory from a published one, or from that of a moment ago (since); chunks of commits that
    are folded are not opened.
    """
    if since is not None and since.digest == digest_of(store.commit_ids()):
        return since
    return look(store, functools.partial(snapshot_of, store))


@dataclass(frozen=True, kw_only=True, eq=False)
class Standing:
    """All commits there are: those that are folded, and the others."""

    base: Snapshot | None
    """A published snapshot."""
    new: Sequence[Commit]
    """Commits that it does not fold."""


def look(store: StoreDir, find: Callable[[Standing], T]) -> T:
    """Return what `find` finds in the commits there are now, and in their chunks."""
    ids = store.commit_ids()
    while True:
        try:
            return find(_standing(store, ids))
        except StoreRaced:
            # A chunk that has just been superseded may be gone: then a commit says so.
            before, ids = ids, store.commit_ids()
            if newest_compaction(ids) == newest_compaction(before):
                raise


def _standing(store: StoreDir, ids: list[str]) -> Standing:
    digest = digest_of(ids)
    if (store.snapshots / digest / SNAPSHOT_INFO).is_file():
        return Standing(base=load_snapshot(store.snapshots / digest), new=())
    for found in _newest_within(store, {name.encode() for name in ids}):
        try:
            # Damage of other columns than that of commits is found when they are folded on.
            base = load_snapshot(found.folder)
        except (*UNREADABLE, PermissionError):
            continue
        new = (name for name in ids if name.encode() not in found.commits)
        return Standing(base=base, new=read_commits(store, new))
    return Standing(base=None, new=read_commits(store, ids))


def snapshot_of(store: StoreDir, standing: Standing) -> Snapshot:
    """Return the snapshot of all commits there are."""
    if standing.base is not None and not standing.new:
        return standing.base
    # Whoever opens what is published folds and counts nothing.
    from mri_hpc.storage.snapshot.folding import fold

    return fold(standing.base, standing.new, functools.partial(header_of, store))


def added_to(store: StoreDir, snapshot: Snapshot) -> totals.Added:
    """Read what the commits of a snapshot added."""
    return totals.added_by(skim_additions(store, (name.decode() for name in snapshot.commits.tolist())))


def _added_since(store: StoreDir, snapshot: Snapshot) -> totals.Added:
    """Return what the commits of a snapshot added, by the totals of another; only what came since is read."""
    commits = set(snapshot.commits.tolist())
    for found in _newest_within(store, commits):
        with contextlib.suppress(StoreDamage, NewerFormat, PermissionError):
            kept = totals.kept(found.folder)
            # What once was not read, or an earlier version did not write down, is not passed on.
            if kept and kept.added.commits == num_additions(found.commits):
                new = (name.decode() for name in sorted(commits - found.commits))
                return totals.added_by(skim_additions(store, new), besides=kept.added)
    return added_to(store, snapshot)


def header_of(store: StoreDir, chunk: str) -> ChunkHeader:
    """Read the header of a chunk; StoreDamage where it is missing or not as it was sealed.

    StoreRaced where it has been superseded, and removed, meanwhile.
    """
    try:
        return read_sealed_header(store.chunk(chunk))
    except MissingChunk:
        bring_back(store, chunk)
    try:
        return read_sealed_header(store.chunk(chunk))
    except MissingChunk as error:
        with contextlib.suppress(*UNREADABLE):
            if is_superseded(store, chunk):
                raise StoreRaced(str(error)) from None
        raise


def _readable_now(store: StoreDir, snapshot: Snapshot) -> Snapshot:
    """Return an older snapshot with its images where they are now; UserError where some may not be read."""
    folded = {name.decode() for name in snapshot.commits.tolist()}
    later = set(store.commit_ids()) - folded
    refuse_retracted(store.path, snapshot, read_kind(store, RETRACT, besides=folded))
    if not newest_compaction(later):
        return snapshot
    return relocated(store.path, snapshot, current(store), functools.partial(header_of, store))


def publish_snapshot(store: StoreDir, snapshot: Snapshot) -> None:
    """Write snapshots/DIGEST; harmless when it is there.

    No snapshot is ever removed, those of compactions neither: a run names its snapshot by digest and may lie
    anywhere, so nothing here can tell that none reads it; who-used reads them all. Each takes some 71
    bytes an image, a seven-hundredth of 224 × 224 pixels. `store info` says how many and how large they are.
    """
    folder = store.snapshots / snapshot.digest
    if not folder.exists():
        added = _added_since(store, snapshot)
        publish_folder(folder, functools.partial(_save_shared, snapshot=snapshot, added=added))


def repair_snapshot(store: StoreDir, snapshot: Snapshot) -> None:
    """Write the files of a published snapshot again, each in place of the one that is there.

    A kill leaves some as they were: what can be read of the folder, its name above all, is never away. Its
    time stays when it was published.
    """
    folder = store.snapshots / snapshot.digest
    before = (folder / SNAPSHOT_INFO).stat() if (folder / SNAPSHOT_INFO).exists() else None
    _save(folder, snapshot=snapshot, added=added_to(store, snapshot), publish=replace)
    if before:
        os.utime(folder / SNAPSHOT_INFO, ns=(before.st_atime_ns, before.st_mtime_ns))


def repair_totals(store: StoreDir, digest: str) -> None:
    """Count the totals of a published snapshot, whose columns are sound, again."""
    folder = store.snapshots / digest
    snapshot = load_snapshot(folder)
    _save_totals(folder, snapshot, added_to(store, snapshot), replace)
    let_group_use(folder / totals.FILE)


def load_snapshot(folder: Path) -> Snapshot:
    """Load a published snapshot; StoreDamage where it is damaged, which a column shows on its first use."""
    with _damage_named(folder):
        info = _read_info(folder)
        crcs = info.pop("crcs")
    # JSON has no tuples.
    plain = {name: _tuples(value) for name, value in info.items()}
    with _damage_named(folder):
        names = [name for name in array_names() if name not in NEUTRAL or name in crcs]
        files = {name: ColumnFile(folder / f"{name}.npy", crcs[name]) for name in names}

    def mapped(name: str) -> np.ndarray:
        with _damage_named(folder):
            return files[name].array()

    def copied(name: str) -> np.ndarray:
        with _damage_named(folder):
            return files[name].copy()

    absent = {
        name: neutral if neutral.ndim else np.broadcast_to(neutral, len(files["key"]))
        for name, neutral in NEUTRAL.items()
        if name not in files
    }

    def parts(name: str) -> Iterator[np.ndarray]:
        with _damage_named(folder):
            yield from blocks(absent[name]) if name in absent else files[name].parts()

    # Small, and what everything rests on: damage shows at once.
    return lazy_snapshot({**plain, **absent, "commits": mapped("commits")}, copied, keep=mapped, parts=parts)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


@contextlib.contextmanager
def _damage_named(folder: Path) -> Iterator[None]:
    """Raise errors on damaged files of a snapshot as StoreDamage that says which and what to do."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, OSError) and not is_damage(error):
            raise
        raise StoreDamage(f"{folder} is damaged ({error}): {advice(folder)}") from None


def _read_info(folder: Path) -> dict[str, Any]:
    info = unseal((folder / SNAPSHOT_INFO).read_bytes())
    found = info.pop("format")
    refuse_newer(folder, found, reads=FORMAT)
    if found not in (PLAIN_FORMAT, JOINED_FORMAT, FORMAT):
        raise StoreDamage(
            f"{folder} was written by another version: remove it, it is folded again from commits/"
        )
    return info


def _write(path: Path, write: Callable[[Path], None]) -> None:
    """Write a file in a folder that is published as a whole."""
    write(path)


def _save_shared(folder: Path, *, snapshot: Snapshot, added: totals.Added) -> None:
    let_group_use(folder)
    _save(folder, snapshot=snapshot, added=added)
    for file in folder.iterdir():
        let_group_use(file)


def _save(folder: Path, *, snapshot: Snapshot, added: totals.Added, publish: Publish = _write) -> None:
    crcs: dict[str, int] = {}

    def save(name: str, path: Path) -> None:
        crcs[name] = save_column(path, snapshot.column(name))

    for name in array_names():
        if _is_left_out(snapshot, name):
            continue
        publish(folder / f"{name}.npy", functools.partial(save, name))
    plain = {f.name: getattr(snapshot, f.name) for f in fields(snapshot) if f.name not in array_names()}
    _save_totals(folder, snapshot, added, publish)
    if not plain["same_patients"]:
        del plain["same_patients"]
    is_plain = snapshot.bits == 8 and all(_is_left_out(snapshot, name) for name in OPTIONAL)
    number = JOINED_FORMAT if "same_patients" in plain else PLAIN_FORMAT
    number = number if is_plain else FORMAT
    if snapshot.bits == 8:
        del plain["bits"]
    info = seal({"format": number, **plain, "crcs": crcs})
    publish(folder / SNAPSHOT_INFO, lambda path: _write_bytes(path, info))


def _is_left_out(snapshot: Snapshot, name: str) -> bool:
    """Tell whether an array holds nothing, and need not be there."""
    return name in NEUTRAL and not len(snapshot.column(names_of(name) if name in OPTIONAL else name))


def _save_totals(folder: Path, snapshot: Snapshot, added: totals.Added, publish: Publish) -> None:
    from mri_hpc.storage.snapshot.counts import count

    document = totals.to_json(count(snapshot, added))
    publish(folder / totals.FILE, lambda path: _write_bytes(path, document))


def _write_bytes(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _folder_named(store: StoreDir, digest: str) -> Path | None:
    """Return the published snapshot whose digest begins so; UserError where several do."""
    found = [name for name in published(store) if name.startswith(digest)]
    if len(found) > 1:
        raise UserError(f"{store.path}: {len(found)} snapshots begin with {digest!r}: {', '.join(found)}")
    return store.snapshots / found[0] if found else None


class _Folder(NamedTuple):
    """A published snapshot, and which commits it folds."""

    folder: Path
    commits: frozenset[bytes]


def _newest_within(store: StoreDir, ids: set[bytes]) -> Iterator[_Folder]:
    """Yield some of the newest published snapshots that fold these commits and no others, the best first.

    The choice only decides how much is left to fold. Of each its commits alone are read, and of others none
    until whoever asks can use none of those that leave few.
    """
    found: list[_Folder] = []
    tried = 0
    for publication in reversed(publications(store)):
        folder = store.snapshots / publication.digest
        try:
            commits = _commits_in(folder)
        except (*UNREADABLE, PermissionError):
            continue
        if not ids.issuperset(commits):
            continue
        found.append(_Folder(folder, commits))
        tried += 1
        if tried == SNAPSHOTS_TRIED:
            break
        if len(ids) - len(commits) <= FEW_LEFT:
            yield from _best_first(found)
            found.clear()
    yield from _best_first(found)


def _best_first(found: list[_Folder]) -> list[_Folder]:
    """Sort folders, the newest first, by how much they leave: of those that leave as much the newest."""
    return sorted(found, key=lambda one: len(one.commits), reverse=True)


def _commits_in(folder: Path) -> frozenset[bytes]:
    """Read which commits a published snapshot folds; StoreDamage where that is damaged."""
    with _damage_named(folder):
        crcs = _read_info(folder)["crcs"]
        return frozenset(ColumnFile(folder / "commits.npy", crcs["commits"]).array().tolist())
