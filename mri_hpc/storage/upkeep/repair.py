"""Repair: damaged or missing chunks are made again, and damaged snapshots are folded again.

A chunk is replaced by one rename: who has the old file open reads on in it, a kill leaves the old one or the
new one, and of two repairs at once both publish the same. Retracted images are never made again: where a
chunk that held some is gone, another stands in for it, by a compaction that supersedes it. Superseded chunks
are left alone: no snapshot of now reads them.
"""

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from mri_hpc.base.errors import StoreRaced, UserError
from mri_hpc.storage.disk.chunk_file import (
    layout_of,
    publish_chunk_of_parts,
    read_sealed_header,
    replace_chunk,
    replace_pixels,
)
from mri_hpc.storage.disk.columns import ChunkHeader, chunk_id
from mri_hpc.storage.disk.commits import NAMED_BY_KIND, Commit, digest_of, publish_compaction
from mri_hpc.storage.disk.damage import UNREADABLE
from mri_hpc.storage.disk.layout import StoreDir, newest_compaction
from mri_hpc.storage.disk.pixels import damaged_rows
from mri_hpc.storage.snapshot.catalogue import header_of, load_snapshot, repair_snapshot, repair_totals
from mri_hpc.storage.snapshot.folding import fold
from mri_hpc.storage.snapshot.presence import (
    end_removals,
    is_superseded,
    keep_there,
    publish_and_commit,
    remove_if_retracted,
)
from mri_hpc.storage.upkeep.compaction import compact
from mri_hpc.storage.upkeep.salvage import Columns, Lost, Origin, Salvage, chosen
from mri_hpc.storage.upkeep.verify import Findings

# Repairing one thing can show that another is damaged, too.
ROUNDS = 3
WHY = "another chunk stands in for a damaged one"


@dataclass(kw_only=True)
class Repaired:
    """Outcome of a repair: what was repaired, and what could not be."""

    chunks: list[str] = field(default_factory=list)
    """Ids of the chunks that are whole again, or have another stand in for them."""
    snapshots: list[str] = field(default_factory=list)
    """Digests of the snapshots that were folded, or counted, again."""
    from_sources: int = 0
    """Images that were made again from their sources."""
    from_chunks: int = 0
    """Images that were taken from other chunks."""
    lost: list[Lost] = field(default_factory=list)
    """Images that could not be made again."""
    remarks: list[str] = field(default_factory=list)
    """Other things that could not be repaired: a line each, with what to do."""
    findings: Findings = field(default_factory=Findings)
    """Of the verification that follows."""


def repair(
    store: StoreDir,
    findings: Findings,
    sources: Origin,
    *,
    check: Callable[[Mapping[str, ChunkHeader]], Findings],
    progress: Callable[[Sequence[Commit]], Iterable[Commit]] = lambda commits: commits,
) -> Repaired:
    """Repair what a verification has found; return what was done, and what is left.

    check: verifies again, but for the chunks that it is given.
    """
    repaired = Repaired()
    store.sweep()
    with contextlib.suppress(*UNREADABLE):
        # A commit that cannot be read.
        end_removals(store)
    for _round in range(ROUNDS):
        repaired.lost, repaired.remarks = [], []
        is_better = _Round(store, findings, sources, repaired).repair(progress)
        findings = check(findings.sound)
        if not is_better or not findings.problems:
            break
    repaired.findings = findings
    return repaired


class _Round:
    """Repairs what one verification has found."""

    def __init__(self, store: StoreDir, findings: Findings, sources: Origin, repaired: Repaired) -> None:
        self._store = store
        self._findings = findings
        self._recipe = sources.recipe
        self._repaired = repaired
        self._salvage = Salvage(store, findings, sources)
        self._has_retracted = False

    def repair(self, progress: Callable[[Sequence[Commit]], Iterable[Commit]]) -> bool:
        """Repair chunks, then snapshots; tell whether anything is better than it was."""
        is_better = False
        for commit in progress(self._chunks_to_repair()):
            try:
                is_better |= self._repair_chunk(commit)
            except UserError as error:
                # Of any kind: the site's key may be missing, too. The other chunks are repaired all the same.
                self._repaired.remarks.append(str(error))
        for digest in self._findings.damaged_snapshots:
            is_better |= self._fold_again(digest)
        for digest in self._findings.damaged_totals:
            repair_totals(self._store, digest)
            self._repaired.snapshots.append(digest)
            is_better = True
        if self._has_retracted:
            is_better |= self._end_retraction()
        return is_better

    def _chunks_to_repair(self) -> list[Commit]:
        blind = [name for name in self._findings.unreadable_commits if name.startswith(NAMED_BY_KIND)]
        if blind and self._findings.damaged_chunks:
            self._repaired.remarks.append(
                f"{self._store.commit(blind[0])} may retract images or supersede chunks: no chunk is made "
                "again before it can be read; restore it from a backup"
            )
            return []
        return list(self._findings.damaged_chunks.values())

    def _repair_chunk(self, commit: Commit) -> bool:
        if is_superseded(self._store, commit.chunk):
            return False
        try:
            header = read_sealed_header(self._store.chunk(commit.chunk))
        except UNREADABLE:
            return self._make_again(commit)
        if header.recipe_digest != self._recipe.digest():
            return False
        return self._repair_pixels(commit, header)

    def _repair_pixels(self, commit: Commit, header: ChunkHeader) -> bool:
        """Make the damaged images of a chunk again; its columns are sound."""
        path = self._store.chunk(commit.chunk)
        damaged = damaged_rows(path, header)
        is_retracted = self._salvage.is_retracted(header.columns)
        self._has_retracted |= bool(is_retracted[damaged].any())
        wanted = [row for row in damaged if not is_retracted[row]]
        taken, made = self._gathered(header.columns, wanted)
        if not taken and not made and path.stat().st_size == commit.chunk_bytes:
            return False
        replace_pixels(path, header, taken | made, commit.chunk_bytes)
        remove_if_retracted(self._store, commit.chunk)
        self._note(commit, taken, made, is_whole=len(taken) + len(made) == len(wanted))
        return True

    def _make_again(self, commit: Commit) -> bool:
        """Make a chunk again that is missing, or whose columns cannot be read."""
        columns = self._salvage.columns(commit)
        is_same = columns is not None
        columns = columns or self._salvage.content(commit)
        path = self._store.chunk(commit.chunk)
        if columns is None:
            self._repaired.remarks.append(
                f"{path} cannot be made again: neither a snapshot nor the sources tell what it held; restore "
                "it from a backup, or give the labels that it was made with (--labels)"
            )
            return False
        is_retracted = self._salvage.is_retracted(columns)
        self._has_retracted |= bool(is_retracted.any())
        rows = np.flatnonzero(~is_retracted)
        left = self._left_in_file(path, columns)
        taken, made = self._gathered(columns, [row for row in rows.tolist() if row not in left])
        found = left | taken | made
        if not found.keys() >= set(rows.tolist()):
            return False
        images = [found[row] for row in rows.tolist()]
        attributes = self._attributes(commit, commit.chunk)
        if is_same and not is_retracted.any():
            offset = min(self._salvage.offsets(commit.chunk), default=None)
            shape, size = self._shape(columns), commit.chunk_bytes
            replace_chunk(
                path, images, shape, columns, attributes, bits=self._recipe.bits, offset=offset, size=size
            )
            remove_if_retracted(self._store, commit.chunk)
        elif not self._stand_in(commit, chosen(columns, rows), images):
            return False
        self._note(commit, taken, made, is_whole=True)
        return True

    def _left_in_file(self, path: Path, columns: Columns) -> dict[int, bytes]:
        """Read the images of a damaged file that are sound, by row."""
        begin, _size = layout_of(self._shape(columns), columns, {}, bits=self._recipe.bits)
        found: dict[int, bytes] = {}
        for offset in {begin, *self._salvage.offsets(path.stem)}:
            found |= self._salvage.pixels_in_file(path, offset, columns)
        return found

    def _gathered(self, columns: Columns, rows: Sequence[int]) -> tuple[dict[int, bytes], dict[int, bytes]]:
        """Return images of these rows from other chunks, and from their sources, by row; note the lost."""
        taken = self._salvage.pixels_in_chunks(columns, rows)
        made, lost = self._salvage.pixels_in_sources(columns, [row for row in rows if row not in taken])
        self._repaired.lost += lost
        return taken, made

    def _note(
        self, commit: Commit, taken: Mapping[int, bytes], made: Mapping[int, bytes], *, is_whole: bool
    ) -> None:
        if is_whole:
            self._repaired.chunks.append(commit.chunk)
        self._repaired.from_chunks += len(taken)
        self._repaired.from_sources += len(made)

    def _stand_in(self, commit: Commit, columns: Columns, images: Sequence[bytes]) -> bool:
        """Publish a chunk that holds the content of another, and the compaction that says so."""
        number = newest_compaction(self._store.commit_ids()) + 1
        name = chunk_id(columns, self._recipe.digest()) if images else ""
        publish = partial(self._publish, commit, name, columns, images)
        superseding = partial(
            publish_compaction,
            self._store, number, chunk=name, images=len(images), superseded={commit.chunk} - {name}, why=WHY,
        )  # fmt: skip
        if not publish_and_commit(self._store, name, publish, superseding).is_ours:
            self._repaired.remarks.append(
                f"{self._store.path} is compacted or repaired by another task at this moment: run it again"
            )
            return False
        keep_there(self._store, name, publish)
        return True

    def _publish(self, commit: Commit, name: str, columns: Columns, images: Sequence[bytes]) -> bool:
        return publish_chunk_of_parts(
            self._store.chunk(name),
            lambda: (np.frombuffer(image, np.uint8) for image in images),
            self._shape(columns),
            columns,
            self._attributes(commit, name),
            bits=self._recipe.bits,
        )

    def _shape(self, columns: Columns) -> tuple[int, int, int]:
        return len(columns["key"]), *self._recipe.image_shape

    def _attributes(self, commit: Commit, name: str) -> dict[str, str]:
        made_by = {f"version_{library}": version for library, version in self._versions(commit).items()}
        return {"recipe_digest": self._recipe.digest(), "chunk_id": name, **made_by}

    def _versions(self, commit: Commit) -> dict[str, str]:
        """Return the versions of what made the images of a chunk, as the commits say that added them."""
        makers = {one.chunk: one for one in self._findings.commits}
        found: dict[str, set[str]] = {}
        waiting, seen = [commit], {commit.id}
        while waiting:
            one = waiting.pop()
            for library, version in one.versions.items():
                found.setdefault(library, set()).add(version)
            before = [makers[name] for name in one.superseded if name in makers]
            waiting += [maker for maker in before if maker.id not in seen]
            seen.update(maker.id for maker in before)
        return {library: ", ".join(sorted(versions)) for library, versions in found.items()}

    def _fold_again(self, digest: str) -> bool:
        """Fold a damaged snapshot again from its commits, in place of it."""
        folder = self._store.snapshots / digest
        commits = self._commits_of(digest)
        if commits is None:
            self._repaired.remarks.append(
                f"{folder} cannot be folded again: its commits are not all there; restore it from a backup"
            )
            return False
        try:
            snapshot = fold(None, commits, self._header_of_that_time)
            repair_snapshot(self._store, snapshot)
        except (*UNREADABLE, StoreRaced) as error:
            self._repaired.remarks.append(
                f"{folder} cannot be folded again, since chunks of its time are gone or damaged ({error}); "
                "restore it from a backup, or remove it: a run on it can then only be continued by a new one "
                "(launch --continue-from)"
            )
            return False
        self._repaired.snapshots.append(digest)
        return True

    def _header_of_that_time(self, chunk: str) -> ChunkHeader:
        """Return the header of a chunk, also of one that is gone; StoreDamage where nothing tells it."""
        if chunk in self._findings.sound:
            return self._findings.sound[chunk]
        try:
            return header_of(self._store, chunk)
        except (*UNREADABLE, StoreRaced):
            maker = next(commit for commit in self._findings.commits if commit.chunk == chunk)
            columns = self._salvage.columns(maker)
            # Readers will want to know where the pixels of one that is still to be repaired begin.
            if columns is None or not is_superseded(self._store, chunk):
                raise
        return ChunkHeader(
            columns=columns,
            image_shape=self._recipe.image_shape,
            bits=self._recipe.bits,
            offset=min(self._salvage.offsets(chunk), default=0),
            recipe_digest=self._recipe.digest(),
            versions={},
        )

    def _commits_of(self, digest: str) -> list[Commit] | None:
        """Return the commits that a snapshot folds, by its own account, else by trying; None: not known."""
        by_time = sorted(self._findings.commits, key=lambda commit: (commit.created, commit.id))
        try:
            named = {name.decode() for name in load_snapshot(self._store.snapshots / digest).commits.tolist()}
            tries = [[commit for commit in by_time if commit.id in named]]
        except UNREADABLE:
            # As a rule it folds all commits of its time.
            tries = [by_time[:count] for count in range(len(by_time), 0, -1)]
        for commits in tries:
            if digest_of(commit.id for commit in commits) == digest:
                return commits
        return None

    def _end_retraction(self) -> bool:
        """Take retracted images out of the chunks for good, as their retraction would have."""
        try:
            compact(self._store, only_retracted=True)
        except (*UNREADABLE, StoreRaced) as error:
            self._repaired.remarks.append(f"retracted images are still in damaged chunks: {error}")
            return False
        return True
