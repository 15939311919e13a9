"""The folder of a store: where everything in it lies."""

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mri_hpc.base.access import group_of, is_wider, let_group_use, make_private
from mri_hpc.base.atomic import TEMP_PREFIX, is_abandoned, remove_folder, sync_folder
from mri_hpc.base.errors import UserError

LITTER_AGE_S = 24 * 3600.0
WORD_AGE_S = 60 * 24 * 3600.0
DONE, TELLER = ".done-", ".teller"
"""Ends of names beside the listing of an array job: of tasks that are done, and of the one that tells."""
# A chunk on its way out: whoever finds it removes it or, where it is needed after all, puts it back.
GONE_PREFIX = ".gone-"
COMPACT = "compact-"
COMPACTION = re.compile(COMPACT + r"(\d{8})")
SNAPSHOT_INFO = "snapshot.json"
"""File of a snapshot that is written last of all in its folder."""


@dataclass(frozen=True)
class StoreDir:
    """The folder of a store, and the names in it."""

    path: Path

    @property
    def recipe(self) -> Path:
        """File of the recipe, by which images become arrays."""
        return self.path / "recipe.json"

    @property
    def chunks(self) -> Path:
        """Folder of HDF5 files."""
        return self.path / "chunks"

    @property
    def commits(self) -> Path:
        """Folder of commit records: a chunk is in the store when a commit names it."""
        return self.path / "commits"

    @property
    def snapshots(self) -> Path:
        """Folder of folded commits."""
        return self.path / "snapshots"

    @property
    def twins(self) -> Path:
        """Folder of what audits have found by looks, by snapshot."""
        return self.path / "twins"

    @property
    def twin_table(self) -> Path:
        """CSV of the twins that the last audit has found, for the owner alone."""
        return self.private / "twins.csv"

    @property
    def twin_page(self) -> Path:
        """HTML page of the same, with their pictures."""
        return self.private / "twins.html"

    def delivery_table(self, chain: str) -> Path:
        """Return the CSV of images that a chain has objected to last, for the owner alone."""
        return self.private / f"delivery-{chain}.csv"

    def delivery_tables(self) -> list[Path]:
        """List the CSVs of all chains."""
        return sorted(self.private.glob("delivery-*.csv"))

    def make_twins(self) -> None:
        """Make the folder of twins, which a store gains when there is something to keep."""
        with contextlib.suppress(FileExistsError):
            self.twins.mkdir()
            sync_folder(self.path)
        # Whoever made it may have been killed before this.
        let_group_use(self.twins)

    @property
    def test_looks(self) -> Path:
        """Folder of the looks at test patients, numbered."""
        return self.path / "test-looks"

    @property
    def who_looked(self) -> Path:
        """Folder of the accounts that looked, by the same numbers."""
        return self.private / "test-looks"

    def make_test_looks(self) -> None:
        """Make the folder of looks at test patients, which a store gains with the first."""
        with contextlib.suppress(FileExistsError):
            self.test_looks.mkdir()
            sync_folder(self.path)
        # As above.
        let_group_use(self.test_looks)

    def kept_parts(self, kind: str) -> list[Path]:
        """List the files of a kind that save comparing images again; each can be made anew."""
        return sorted(self.twins.glob(f"{kind}-*.npz"))

    @property
    def private(self) -> Path:
        """Folder of all that identifies a person: mappings of patient ids and paths."""
        return self.path / "private"

    @property
    def made(self) -> Path:
        """Folder of lines on files that show images elsewhere; there where any was made."""
        return self.private / "made"

    @property
    def seen(self) -> Path:
        """Size and time of the sources of each commit: saves reading an unchanged file again."""
        return self.private / "seen"

    @property
    def names(self) -> Path:
        """Path, patient id and study id of the sources of each commit, and why some were rejected."""
        return self.private / "names"

    @property
    def persons(self) -> Path:
        """Evidence of who is one person, as evidence.py has it; there where that was ever stated."""
        return self.private / "persons"

    @property
    def listings(self) -> Path:
        """Listings that tasks of one array job share, and a word of each task that has done its share."""
        return self.private / "listings"

    @property
    def roots(self) -> Path:
        """Folders that sources came from."""
        return self.private / "roots"

    @property
    def series(self) -> Path:
        """Ids of series in the DICOM files of each source root; there where any was looked for."""
        return self.private / "series"

    def chunk(self, chunk_id: str) -> Path:
        """Return the file of one chunk."""
        return self.chunks / f"{chunk_id}.h5"

    def commit(self, commit_id: str) -> Path:
        """Return the file of one commit record."""
        return self.commits / f"{commit_id}.json"

    @property
    def group(self) -> int | None:
        """The one group that may use the private folder beside its owner; None: there is none."""
        return group_of(self.private) if self.private.is_dir() else None

    def make(self) -> None:
        """Make the folders; harmless when they are there. UserError where others may use the private one."""
        missing = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            self._make_private()
        except UserError:
            for folder in missing:
                # Another task may have begun there.
                with contextlib.suppress(OSError):
                    folder.rmdir()
            raise
        if self.group is not None and is_wider(self.private, self.group):
            raise UserError(
                f"{self.private} names patients, and others may look into it: chmod o-rwx {self.private} "
                "(and setfacl -b takes away an ACL)"
            )
        for folder in (self.chunks, self.commits, self.snapshots):
            folder.mkdir(exist_ok=True)
        for folder in (self.seen, self.names, self.listings, self.roots):
            make_private(folder)
        if not self.recipe.exists():
            self._make_names_last()

    def _make_private(self) -> None:
        """Make the private folder; UserError where the file system lets others in whatever its mode."""
        try:
            self.private.mkdir(mode=0o700)
        except FileExistsError:
            # Until there is a recipe, another task may have just made it, and take it away again.
            if self.recipe.exists():
                return
        try:
            mode = self.private.stat().st_mode & 0o777
        except FileNotFoundError:
            self._make_private()
            return
        # One that was opened to a group is looked at by `make`.
        if mode & 0o077 and self.group is None:
            with contextlib.suppress(OSError):
                self.private.rmdir()
            raise UserError(
                f"{self.private} names patients and is for its owner alone, but this file system keeps no "
                f"permissions (mode {mode:o} in place of 700): choose a --store on another one, or mount it "
                "with umask=077"
            )

    def _make_names_last(self) -> None:
        """Sync the folders: a file is no more durable than those that it lies in."""
        sync_folder(self.private)
        sync_folder(self.path)
        # The folder above is the user's, and need not be readable.
        with contextlib.suppress(PermissionError):
            sync_folder(self.path.parent)

    def commit_ids(self) -> list[str]:
        """List the ids of all commits, sorted; with every compaction up to the newest."""
        # Not iterdir: making paths of them takes ten times as long.
        names = [entry.name for entry in os.scandir(self.commits)]
        ids = {name[: -len(".json")] for name in names if name.endswith(".json") and name[0] != "."}
        return sorted(ids | self._missed_compactions(ids))

    def _missed_compactions(self, ids: set[str]) -> set[str]:
        """Find compactions that a listing, which is no picture of one moment, has passed over."""
        newest = newest_compaction(ids)
        while self.commit(compaction_id(newest + 1)).exists():
            newest += 1
        missed = {compaction_id(number) for number in range(1, newest + 1)} - ids
        return {name for name in missed if self.commit(name).exists()}

    def forget_pictures(self) -> None:
        """Remove what shows images elsewhere, also half-written: an audit, and who compares, make it again.

        Of the tables of chains, which tidying sees to, what is half-written alone.
        """
        names = ("twins.csv", "twins.html", "delivery-*.csv")
        half_written = [
            *(path for name in names for path in self.private.glob(f"{TEMP_PREFIX}*-{name}")),
            *self.twins.glob(f"{TEMP_PREFIX}*-looks-*.npz"),
        ]
        for path in (self.twin_table, self.twin_page, *self.kept_parts("looks"), *half_written):
            path.unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove what tasks that were killed left behind, and listings of long ago.

        Whether tasks on other machines still run cannot be known here: a day is given to them.
        """
        for folder in (
            self.path,
            self.chunks,
            self.commits,
            self.snapshots,
            self.twins,
            self.test_looks,
            self.private,
            self.seen,
            self.names,
            self.roots,
            self.persons,
            self.series,
            self.made,
            self.who_looked,
        ):
            _remove(folder, _is_litter, begin=TEMP_PREFIX)
        _remove(self.listings, _is_past)
        for folder in self._changed_snapshots():
            # Of a repair. One of another user need not be open to this one.
            with contextlib.suppress(OSError):
                _remove(folder, _is_litter, begin=TEMP_PREFIX)

    def _changed_snapshots(self) -> Iterator[Path]:
        """Yield the folders of snapshots in which anything was made after the file that is written last.

        A repair does that. There may be a snapshot a day, and looking into each takes ten times as long.
        """
        descriptor = os.open(self.snapshots, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for entry in os.scandir(self.snapshots):
                is_changed = True
                with contextlib.suppress(OSError):
                    last = os.stat(f"{entry.name}/{SNAPSHOT_INFO}", dir_fd=descriptor)
                    is_changed = entry.stat().st_mtime_ns > last.st_mtime_ns
                if is_changed:
                    yield self.snapshots / entry.name
        finally:
            os.close(descriptor)


def compaction_id(number: int) -> str:
    """Return the name of the commit of a compaction."""
    return f"{COMPACT}{number:08d}"


def compaction_number(commit_id: str) -> int:
    """Return the number of the compaction that a commit records; 0 where it records something else."""
    found = COMPACTION.fullmatch(commit_id) if commit_id.startswith(COMPACT) else None
    return int(found.group(1)) if found else 0


def newest_compaction(commit_ids: Iterable[str]) -> int:
    """Return the greatest number of a compaction among these commits; 0 where there is none."""
    # Thousands are asked, and hardly any is one.
    return max((compaction_number(name) for name in commit_ids if name.startswith(COMPACT)), default=0)


def open_store(path: Path) -> StoreDir:
    """Open the store at `path`; UserError if there is none."""
    store = StoreDir(path)
    if not (store.recipe.is_file() and store.commits.is_dir()):
        if store.recipe.is_file():
            raise UserError(
                f"{path} is not a store (found recipe.json, no commits, as in a run): name its store"
            )
        found = "something else" if path.exists() else "nothing"
        raise UserError(
            f"{path} is not a store (found {found}, no recipe.json); "
            f"make one with: python -m mri_hpc.preprocess --source DIR --store {path}"
        )
    return store


def _remove(folder: Path, is_litter: Callable[[Path], bool], *, begin: str = "") -> None:
    """Remove what is litter in a folder, of all whose names begin so."""
    if not folder.is_dir():
        # A copy of a store may lack its private folder.
        return
    # Not iterdir: making paths of all takes ten times as long.
    for name in [entry.name for entry in os.scandir(folder) if entry.name.startswith(begin)]:
        path = folder / name
        try:
            if not is_litter(path):
                continue
            if path.is_dir():
                remove_folder(path)
            else:
                path.unlink()
        except FileNotFoundError:
            # Another task sweeps at the same time.
            continue


def _is_litter(path: Path) -> bool:
    """Tell whether a file can go: its maker has ended or, where that cannot be known, it is old."""
    has_ended = is_abandoned(path)
    return _is_old(path) if has_ended is None else has_ended


def _is_past(path: Path) -> bool:
    """Tell whether a listing, or what a task has left beside it when it was done, can go."""
    # The first tasks of an array may be done weeks before the last ones start.
    is_kept = DONE in path.name or path.name.endswith(TELLER)
    return _is_litter(path) and (not is_kept or path.stat().st_mtime < time.time() - WORD_AGE_S)


def _is_old(path: Path) -> bool:
    return path.stat().st_mtime < time.time() - LITTER_AGE_S
