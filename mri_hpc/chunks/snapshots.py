"""Snapshots: commits folded into columns and published: opening one costs by the file, not by the image."""

import contextlib
import functools
import io
import mmap
import zlib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from mri_hpc.base.atomic import TEMP_PREFIX, publish_folder
from mri_hpc.base.errors import UserError
from mri_hpc.base.sealed_json import seal, unseal
from mri_hpc.chunks.chunk import ChunkHead, read_sealed_head
from mri_hpc.chunks.commits import RETRACT, read_commits
from mri_hpc.chunks.folding import digest_of, fold
from mri_hpc.chunks.layout import StoreDir, newest_compaction, open_store
from mri_hpc.chunks.relocation import refuse_withdrawn, relocated
from mri_hpc.chunks.table import CHANGED, RETRACTED, Snapshot, array_names

__all__ = [
    "CHANGED", "RETRACTED", "Snapshot", "array_names", "current", "digest_of", "fold", "load_snapshot",
    "publish_snapshot", "published", "recall", "resolve",
]  # fmt: skip

FORMAT = 2
# Each costs reading the names of its commits.
SNAPSHOTS_TRIED = 8
INFO = "snapshot.json"


def resolve(store: Path, digest: str = "newest") -> Snapshot:
    """The snapshot of that digest (or an unambiguous beginning of it), or of all commits there are now.

    The newest is published if it was not yet. UserError: no store, nothing stored yet, no such snapshot.
    """
    place = open_store(store)
    folder = _folder_named(place, digest)
    if folder:
        return _readable_now(place, load_snapshot(folder))
    snapshot, _num_folded = current(place)
    if digest != "newest" and not snapshot.digest.startswith(digest):
        raise UserError(
            f"{store} has no snapshot {digest!r}; there are: {', '.join(published(place))}, or newest"
        )
    if not len(snapshot):
        rejected = int(snapshot.is_rejected.sum())
        raise UserError(
            f"{store} holds no image ({rejected} sources were rejected): add some with mri-hpc preprocess"
        )
    publish_snapshot(place, snapshot)
    return load_snapshot(place.snapshots / snapshot.digest)


def recall(store: Path, digest: str) -> Snapshot:
    """A published snapshot as it was, for its columns alone: its images may lie elsewhere now, or be gone."""
    folder = _folder_named(open_store(store), digest)
    if folder is None:
        raise UserError(f"{store} has no snapshot {digest!r}")
    return load_snapshot(folder)


def current(store: StoreDir) -> tuple[Snapshot, int]:
    """The snapshot of all commits there are now, which may be empty, and how many were folded before.

    It is folded in memory from a published one; chunks of commits that are folded are not opened.
    """
    ids = store.commit_ids()
    while True:
        try:
            return _folded(store, ids)
        except UserError:
            # A chunk that has just been superseded may be gone: then a commit says so.
            before, ids = ids, store.commit_ids()
            if newest_compaction(ids) == newest_compaction(before):
                raise


def _folded(store: StoreDir, ids: list[str]) -> tuple[Snapshot, int]:
    digest = digest_of(ids)
    if (store.snapshots / digest / INFO).is_file():
        return load_snapshot(store.snapshots / digest), len(ids)
    base = _newest_within(store, set(ids))
    folded = set() if base is None else {name.decode() for name in base.commits.tolist()}
    new = read_commits(store, (name for name in ids if name not in folded))
    return fold(base, new, functools.partial(head_of, store)), len(folded)


def head_of(store: StoreDir, chunk: str) -> ChunkHead:
    """Everything of a chunk but its pixels; UserError where it is missing or not as it was sealed."""
    return read_sealed_head(store.chunk(chunk))


def _readable_now(store: StoreDir, snapshot: Snapshot) -> Snapshot:
    """An older snapshot, with its images found where they are now; UserError where some may not be read."""
    later = set(store.commit_ids()) - {name.decode() for name in snapshot.commits.tolist()}
    retractions = read_commits(store, (name for name in later if name.startswith(RETRACT)))
    refuse_withdrawn(store.path, snapshot, retractions)
    if not newest_compaction(later):
        return snapshot
    now, _num_folded = current(store)
    return relocated(store.path, snapshot, now, functools.partial(head_of, store))


def publish_snapshot(store: StoreDir, snapshot: Snapshot) -> None:
    """Write snapshots/DIGEST; harmless when it is there."""
    folder = store.snapshots / snapshot.digest
    if not folder.exists():
        publish_folder(folder, functools.partial(_save, snapshot=snapshot))


def load_snapshot(folder: Path) -> Snapshot:
    """A published snapshot, its columns memory-mapped; UserError where it is damaged."""
    with _damage_named(folder):
        info = _read_info(folder)
        crcs = info.pop("crcs")
        arrays: dict[str, Any] = {name: _load_array(folder, name, crcs) for name in array_names()}
        # JSON has no tuples.
        plain: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in info.items()}
        return Snapshot(**plain, **arrays)


@contextlib.contextmanager
def _damage_named(folder: Path) -> Iterator[None]:
    """What is raised on damaged files of a snapshot, as a UserError that says which and what to do."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{folder} is damaged ({error}): remove it, it is folded again from commits/"
        ) from None


def _read_info(folder: Path) -> dict[str, Any]:
    info = unseal((folder / INFO).read_bytes())
    if info.pop("format") != FORMAT:
        raise UserError(
            f"{folder} was written by another version: remove it, it is folded again from commits/"
        )
    return info


def _save(folder: Path, *, snapshot: Snapshot) -> None:
    crcs = {}
    for name in array_names():
        # Not np.save to the file: on a full disk that raises an error without its number.
        buffer = io.BytesIO()
        np.save(buffer, getattr(snapshot, name))
        crcs[name] = zlib.crc32(buffer.getbuffer())
        (folder / f"{name}.npy").write_bytes(buffer.getbuffer())
    plain = {f.name: getattr(snapshot, f.name) for f in fields(snapshot) if f.name not in array_names()}
    (folder / INFO).write_bytes(seal({"format": FORMAT, **plain, "crcs": crcs}))


def _load_array(folder: Path, name: str, crcs: dict[str, int]) -> np.ndarray:
    path = folder / f"{name}.npy"
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
        if zlib.crc32(whole) != crcs[name]:
            raise ValueError(f"{path.name} differs from its checksum")
        np.lib.format.read_magic(file)
        shape, _order, _dtype = np.lib.format.read_array_header_1_0(file)
    # An empty array cannot be mapped.
    return np.asarray(np.load(path, mmap_mode="r" if 0 not in shape else None))


def published(store: StoreDir) -> list[str]:
    """Digests of the snapshots that are published."""
    return sorted(f.name for f in store.snapshots.iterdir() if not f.name.startswith(TEMP_PREFIX))


def _folder_named(store: StoreDir, digest: str) -> Path | None:
    """The published snapshot whose digest begins so; UserError where several do."""
    found = [name for name in published(store) if name.startswith(digest)]
    if len(found) > 1:
        raise UserError(f"{store.path}: {len(found)} snapshots begin with {digest!r}: {', '.join(found)}")
    return store.snapshots / found[0] if found else None


def _newest_within(store: StoreDir, ids: set[str]) -> Snapshot | None:
    """A published snapshot that folds many of these commits and no others: the best of the newest ones.

    Which one it is only decides how much is left to fold.
    """
    best: Path | None = None
    most, fits = 0, 0
    for folder in _newest_first(store):
        with _damage_named(folder):
            folded = _load_array(folder, "commits", _read_info(folder)["crcs"]).tolist()
        if not all(name.decode() in ids for name in folded):
            continue
        if len(folded) > most:
            best, most = folder, len(folded)
        fits += 1
        if fits == SNAPSHOTS_TRIED:
            break
    return None if best is None else load_snapshot(best)


def _newest_first(store: StoreDir) -> list[Path]:
    found = []
    for name in published(store):
        with contextlib.suppress(FileNotFoundError):
            found.append((-(store.snapshots / name / INFO).stat().st_mtime_ns, name))
    return [store.snapshots / name for _age, name in sorted(found)]
