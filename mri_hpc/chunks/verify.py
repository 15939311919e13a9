"""Verifying a store: whether everything that its commits promise is there, to the last pixel."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mri_hpc.base.atomic import TEMP_PREFIX
from mri_hpc.base.errors import UserError
from mri_hpc.chunks.chunk import ChunkHead, damaged_rows, read_sealed_head
from mri_hpc.chunks.commits import Commit, read_commit
from mri_hpc.chunks.folding import live_chunks
from mri_hpc.chunks.layout import GONE_PREFIX, StoreDir
from mri_hpc.chunks.private_tables import read_names
from mri_hpc.chunks.snapshots import array_names, digest_of, fold, load_snapshot, published
from mri_hpc.intake.recipe import load_recipe

SAMPLES_NAMED = 5


@dataclass(kw_only=True)
class Findings:
    """What a verification found."""

    problems: list[str] = field(default_factory=list)
    """Damage: a line each, with the file and what to do."""
    remarks: list[str] = field(default_factory=list)
    """Harmless, but worth knowing."""
    damaged: list[int] = field(default_factory=list)
    """Keys of the images that are lost with the damage, as far as they are known."""
    chunks: int = 0
    """Chunks that were read whole, and are sound."""
    images: int = 0
    bytes: int = 0


def verify(
    store: StoreDir,
    *,
    share: float = 1.0,
    day: int = 0,
    progress: Callable[[list[str]], Iterable[str]] = lambda commit_ids: commit_ids,
) -> Findings:
    """Check every commit, chunk, pixel and snapshot. UserError where there is no store to check.

    With a `share` below 1 only that share of the chunks is read, others each `day`: all of them in 1 / share
    days. Of the rest the files' sizes are compared.
    """
    findings = Findings()
    recipe_digest = load_recipe(store.recipe).digest()
    ids = store.commit_ids()
    commits = _readable_commits(store, ids, findings)
    live = live_chunks(None, commits.values())
    read_whole = turn_of_day(live, share, day)
    heads: dict[str, ChunkHead] = {}
    for name in progress(ids):
        commit = commits.get(name)
        if not commit or commit.chunk not in live or commit.chunk in heads:
            continue
        try:
            if commit.chunk in read_whole:
                heads[commit.chunk] = _check_chunk(store, commit, recipe_digest, findings)
            else:
                _check_size(store, commit)
        except UserError as error:
            findings.problems.append(str(error))
    if not findings.problems:
        for name in published(store):
            try:
                _check_snapshot(store.snapshots / name, list(commits.values()), heads)
            except UserError as error:
                findings.problems.append(str(error))
    _look_for_foreign_files(store, {commit.chunk for commit in commits.values()}, ids, findings)
    return findings


def turn_of_day(chunks: Iterable[str], share: float, day: int) -> set[str]:
    """The chunks whose turn it is on a day, at least one; every chunk has its turn within 1 / share days."""
    names = sorted(chunks)
    count = math.ceil(len(names) * share)
    return {names[(day * count + place) % len(names)] for place in range(count)}


def sources_of(store: StoreDir, keys: Iterable[int]) -> dict[int, str]:
    """Paths of the sources of some images, by key, as far as the private folder names them to this user."""
    wanted = {f"{key:016x}" for key in keys}
    found: dict[int, str] = {}
    try:
        for file in sorted(store.names.glob("[!.]*.csv")):
            rows = read_names(file.read_bytes())
            found |= {int(row["key"], 16): row["path"] for row in rows if row["key"] in wanted}
    except PermissionError:
        return {}
    return found


def _readable_commits(store: StoreDir, ids: Iterable[str], findings: Findings) -> dict[str, Commit]:
    commits = {}
    for name in ids:
        try:
            commits[name] = read_commit(store, name)
        except UserError as error:
            findings.problems.append(str(error))
    return commits


def _check_chunk(store: StoreDir, commit: Commit, recipe_digest: str, findings: Findings) -> ChunkHead:
    """Columns of a sound chunk; UserError says what is wrong with it."""
    path = store.chunk(commit.chunk)
    head = read_sealed_head(path)
    size = _check_size(store, commit)
    if head.recipe_digest != recipe_digest:
        raise UserError(
            f"{path} was made with another recipe than {store.recipe}: restore the one that was changed"
        )
    damaged = damaged_rows(path, head)
    if damaged:
        findings.damaged.extend(head.columns["key"][damaged].tolist())
        keys = ", ".join(f"{int(head.columns['key'][row]):016x}" for row in damaged[:SAMPLES_NAMED])
        more = f" and {len(damaged) - SAMPLES_NAMED} more" if len(damaged) > SAMPLES_NAMED else ""
        raise UserError(
            f"{path}: pixels of {len(damaged)} of {len(head)} images differ from their CRC: "
            f"{keys}{more}; restore it from a backup"
        )
    findings.chunks += 1
    findings.images += len(head)
    findings.bytes += size
    return head


def _check_size(store: StoreDir, commit: Commit) -> int:
    """Bytes of a chunk's file; UserError where they are not those that its commit says."""
    path = store.chunk(commit.chunk)
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise UserError(f"{path} is missing: a commit names it; restore it from a backup") from None
    if size != commit.chunk_bytes:
        raise UserError(
            f"{path} has {size} bytes, its commit says {commit.chunk_bytes}: restore it from a backup"
        )
    return size


def _check_snapshot(folder: Path, commits: list[Commit], heads: dict[str, ChunkHead]) -> None:
    """UserError where a published snapshot is not what folding its commits anew gives.

    One of chunks that have been superseded since, and may be gone, is only checked for its own checksums.
    """
    saved = load_snapshot(folder)
    named = {name.decode() for name in saved.commits.tolist()}
    missing = named - {commit.id for commit in commits}
    if missing or digest_of(named) != folder.name:
        raise UserError(
            f"{folder} folds commits that are not in the store ({len(missing)}): restore them from a backup, "
            "or remove it"
        )
    if any(name.decode() not in heads for name in saved.chunks["name"].tolist()):
        return
    folded = fold(None, [commit for commit in commits if commit.id in named], heads.__getitem__)
    wrong = [name for name in array_names() if not _equal(getattr(saved, name), getattr(folded, name))]
    if wrong or saved.content_digest != folded.content_digest or saved.classes != folded.classes:
        what = ", ".join(wrong) or "its names"
        raise UserError(f"{folder} differs from its commits in {what}: remove it, it is folded again")


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


def _look_for_foreign_files(
    store: StoreDir, chunks: set[str], commits: list[str], findings: Findings
) -> None:
    known = {store.chunk(name) for name in chunks} | {store.commit(name) for name in commits}
    for path in sorted((*store.chunks.iterdir(), *store.commits.iterdir())):
        if path in known:
            continue
        if path.name.startswith((TEMP_PREFIX, GONE_PREFIX)):
            findings.remarks.append(
                f"{path} is being written, or was left by a killed task; it goes after a day"
            )
        elif _is_sealed(path):
            findings.remarks.append(
                f"{path} is sealed but not committed: its task runs, or is to be run again"
            )
        else:
            findings.problems.append(f"{path} is no part of the store: move it away")


def _is_sealed(path: Path) -> bool:
    """Whether a file is a sound chunk, under the name that its content gives it."""
    try:
        read_sealed_head(path)
    except UserError:
        return False
    return path.suffix == ".h5"
