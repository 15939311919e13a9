"""Verification of a store: that everything that its commits promise is there, to the last pixel."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np

from mri_hpc.base.atomic import TEMP_PREFIX
from mri_hpc.base.errors import StoreDamage
from mri_hpc.intake.decoding.recipe import load_recipe
from mri_hpc.storage.disk.chunk_file import read_sealed_header
from mri_hpc.storage.disk.columns import ChunkHeader
from mri_hpc.storage.disk.commits import Commit, digest_of, read_commit
from mri_hpc.storage.disk.damage import UNREADABLE, advice, is_damage
from mri_hpc.storage.disk.layout import GONE_PREFIX, StoreDir
from mri_hpc.storage.disk.pixels import damaged_rows
from mri_hpc.storage.snapshot import totals
from mri_hpc.storage.snapshot.catalogue import load_snapshot
from mri_hpc.storage.snapshot.counts import count
from mri_hpc.storage.snapshot.folding import fold, live_chunks
from mri_hpc.storage.snapshot.presence import bring_back, is_superseded, is_there
from mri_hpc.storage.snapshot.publications import published
from mri_hpc.storage.snapshot.table import Snapshot, array_names

SAMPLES_NAMED = 5


@dataclass(kw_only=True)
class Findings:
    """Findings of a verification."""

    problems: list[str] = field(default_factory=list)
    """Damage: a line each, with the file and what to do."""
    remarks: list[str] = field(default_factory=list)
    """Harmless, but worth knowing."""
    commits: list[Commit] = field(default_factory=list)
    """That can be read."""
    unreadable_commits: list[str] = field(default_factory=list)
    """Their names."""
    damaged_chunks: dict[str, Commit] = field(default_factory=dict)
    """That hold content, and a commit that names each, by id."""
    damaged_snapshots: list[str] = field(default_factory=list)
    """Their digests."""
    damaged_totals: list[str] = field(default_factory=list)
    """Digests of the snapshots, sound otherwise, whose totals are not their own."""
    sound: dict[str, ChunkHeader] = field(default_factory=dict)
    """Columns of the chunks that were read whole, and are sound, by id."""
    damaged: list[int] = field(default_factory=list)
    """Keys of the images that are lost with the damage, as far as they are known."""
    bytes: int = 0
    """Of the files that were read."""

    @property
    def chunks(self) -> int:
        """Chunks that were read whole, and are sound."""
        return len(self.sound)

    @property
    def images(self) -> int:
        """Images in them."""
        return sum(map(len, self.sound.values()))


def verify(
    store: StoreDir,
    *,
    fraction: float = 1.0,
    day: int = 0,
    trusted: Mapping[str, ChunkHeader] | None = None,
    progress: Callable[[list[str]], Iterable[str]] = lambda commit_ids: commit_ids,
) -> Findings:
    """Check every commit, chunk, pixel and snapshot. UserError where there is no store to check.

    With a `fraction` below 1 only that part of the chunks is read, others each `day`: all of them in
    1 / fraction days. Of the rest the files' sizes are compared. trusted: chunks found sound a moment ago.
    """
    findings = Findings()
    recipe_digest = load_recipe(store.recipe).digest()
    ids = store.commit_ids()
    findings.commits = _readable_commits(store, ids, findings)
    live = live_chunks(None, findings.commits)
    read_whole = turn_of_day(live, fraction, day) - (trusted or {}).keys()
    named = {commit.chunk: commit for commit in reversed(findings.commits) if commit.chunk in live}
    for name in progress(sorted(named)):
        header = (trusted or {}).get(name)
        _verify_chunk(store, named[name], header, recipe_digest if name in read_whole else "", findings)
    # In this order: commits are published before snapshots of them, and are files themselves.
    snapshots, files = published(store), sorted((*store.chunks.iterdir(), *store.commits.iterdir()))
    late = set(store.commit_ids()) - set(ids)
    for name in snapshots:
        _verify_snapshot(store, name, set(ids), late, findings)
    commits = [*findings.commits, *_readable_commits(store, sorted(late), findings)]
    known = {store.chunk(commit.chunk) for commit in commits} | {store.commit(name) for name in (*ids, *late)}
    _look_for_foreign_files((path for path in files if path not in known), findings)
    return findings


def _verify_chunk(
    store: StoreDir, commit: Commit, header: ChunkHeader | None, recipe_digest: str, findings: Findings
) -> None:
    """Note the header of a sound chunk, or what is wrong with it.

    header: of one that was found sound a moment ago. recipe_digest: of the store's recipe; empty: the chunk
    is not read, and only its size compared.
    """
    try:
        size = _check_size(store, commit)
        if recipe_digest:
            header = _check_chunk(store.chunk(commit.chunk), recipe_digest, findings)
            findings.bytes += size
    except (*UNREADABLE, OSError) as error:
        # Compacted since the commits were listed, it may be gone.
        if not is_superseded(store, commit.chunk):
            findings.problems.append(_complaint(store.chunk(commit.chunk), error))
            findings.damaged_chunks[commit.chunk] = commit
        return
    if header is not None:
        findings.sound[commit.chunk] = header


def _verify_snapshot(store: StoreDir, digest: str, ids: set[str], late: set[str], findings: Findings) -> None:
    """Note what is wrong with a published snapshot, or with its totals. ids, late: as in _check_snapshot."""
    folder, damaged = store.snapshots / digest, findings.damaged_snapshots
    try:
        saved = _check_snapshot(folder, ids, late, findings)
        damaged = findings.damaged_totals
        _check_totals(folder, saved, findings)
    except PermissionError as error:
        # Another user's: whoever may not read it cannot repair it either.
        findings.problems.append(f"{error.filename} may not be read by you: ask its owner (ls -l)")
    except (*UNREADABLE, OSError) as error:
        findings.problems.append(_complaint(folder, error))
        damaged.append(digest)


def turn_of_day(chunks: Iterable[str], fraction: float, day: int) -> set[str]:
    """Choose the chunks whose turn is on a day, at least one; each has a turn within 1 / fraction days."""
    names = sorted(chunks)
    count = math.ceil(len(names) * fraction)
    return {names[(day * count + number) % len(names)] for number in range(count)}


def _complaint(path: Path, error: Exception) -> str:
    """Say what is wrong with a damaged file, for people; raise what is no damage."""
    if not isinstance(error, OSError):
        return str(error)
    if not is_damage(error):
        raise error
    return f"{path} cannot be read ({error.strerror}): {advice(path)}"


def _readable_commits(store: StoreDir, ids: Iterable[str], findings: Findings) -> list[Commit]:
    commits = []
    for name in ids:
        try:
            commits.append(read_commit(store, name))
        except UNREADABLE as error:
            findings.problems.append(str(error))
            findings.unreadable_commits.append(name)
    return commits


def _check_chunk(path: Path, recipe_digest: str, findings: Findings) -> ChunkHeader:
    """Read the columns of a sound chunk; StoreDamage says what is wrong with another."""
    header = read_sealed_header(path)
    if header.recipe_digest != recipe_digest:
        raise StoreDamage(
            f"{path} was made with another recipe than {path.parents[1] / 'recipe.json'}: restore the one "
            "that was changed"
        )
    damaged = damaged_rows(path, header)
    if damaged:
        findings.damaged.extend(header.columns["key"][damaged].tolist())
        keys = ", ".join(f"{int(header.columns['key'][row]):016x}" for row in damaged[:SAMPLES_NAMED])
        more = f" and {len(damaged) - SAMPLES_NAMED} more" if len(damaged) > SAMPLES_NAMED else ""
        raise StoreDamage(
            f"{path}: pixels of {len(damaged)} of {len(header)} images differ from their CRC: "
            f"{keys}{more}; {advice(path)}"
        )
    return header


def _check_size(store: StoreDir, commit: Commit) -> int:
    """Return the bytes of a chunk's file; StoreDamage where they are not those that its commit says."""
    path = store.chunk(commit.chunk)
    if not is_there(store, commit.chunk):
        bring_back(store, commit.chunk)
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise StoreDamage(f"{path} is missing: a commit names it; {advice(path)}") from None
    if size != commit.chunk_bytes:
        raise StoreDamage(f"{path} has {size} bytes, its commit says {commit.chunk_bytes}: {advice(path)}")
    return size


def _check_snapshot(folder: Path, ids: set[str], late: set[str], findings: Findings) -> Snapshot:
    """Load a published snapshot; StoreDamage where it is not what folding its commits anew gives.

    One of chunks that have been superseded since, and may be gone, is only checked for its own checksums, and
    one of commits that were published since the verification began, too. late: these.
    """
    saved = load_snapshot(folder)
    for name in array_names():
        # Compares its checksum.
        saved.column(name)
    named = {name.decode() for name in saved.commits.tolist()}
    if named - ids - late or digest_of(named) != folder.name:
        raise StoreDamage(
            f"{folder} folds commits that are not in the store ({len(named - ids - late)}): restore them "
            "from a backup, or remove it"
        )
    commits = [commit for commit in findings.commits if commit.id in named]
    if len(commits) < len(named) or not live_chunks(None, commits) <= findings.sound.keys():
        return saved
    folded = fold(None, commits, findings.sound.__getitem__)
    wrong = [name for name in array_names() if not _equal(getattr(saved, name), getattr(folded, name))]
    if wrong or saved.content_digest != folded.content_digest or saved.classes != folded.classes:
        what = ", ".join(wrong) or "its names"
        raise StoreDamage(f"{folder} differs from its commits in {what}: {advice(folder)}")
    return saved


def _check_totals(folder: Path, snapshot: Snapshot, findings: Findings) -> None:
    """Raise StoreDamage where the totals that a sound snapshot keeps are not what counting anew gives."""
    kept = totals.kept(folder)
    if kept is None:
        return
    named = {name.decode() for name in snapshot.commits.tolist()}
    commits = [commit for commit in findings.commits if commit.id in named]
    # Some may be unreadable, or younger than the verification.
    added = totals.added_by(commits) if len(commits) == len(named) else kept.added
    counted = count(snapshot, added)
    wrong = [one.name for one in fields(kept) if getattr(kept, one.name) != getattr(counted, one.name)]
    if wrong:
        raise StoreDamage(
            f"{folder / totals.FILE} differs from its snapshot in {', '.join(wrong)}: {advice(folder)}"
        )


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


def _look_for_foreign_files(unknown: Iterable[Path], findings: Findings) -> None:
    for path in unknown:
        if path.name.startswith((TEMP_PREFIX, GONE_PREFIX)):
            findings.remarks.append(
                f"{path} is being written, or was left by a killed task; it goes after a day"
            )
        elif _is_sealed(path):
            findings.remarks.append(
                f"{path} is sealed but not committed: its task runs, or is to be run again"
            )
        elif path.exists():
            findings.problems.append(f"{path} is no part of the store: move it away")


def _is_sealed(path: Path) -> bool:
    """Tell whether a file is a sound chunk, under the name that its content gives it."""
    try:
        read_sealed_header(path)
    except UNREADABLE:
        return False
    return path.suffix == ".h5"
