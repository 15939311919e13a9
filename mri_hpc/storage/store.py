"""A store of images: the one door to it. What lies on the floors below is used by nothing else.

Each floor is imported when something there is first asked for, so that light commands start light.
"""

import importlib
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mri_hpc.storage.disk.layout import StoreDir, open_store

if TYPE_CHECKING:
    import numpy as np

    from mri_hpc.intake.decoding.dicom.listing import Series
    from mri_hpc.intake.decoding.recipe import Recipe
    from mri_hpc.intake.files.sources import Sources
    from mri_hpc.intake.labels.doubts import Doubt
    from mri_hpc.intake.labels.label import Label, Labels
    from mri_hpc.intake.labels.persons import Mention
    from mri_hpc.intake.labels.pseudonyms import Pseudonyms
    from mri_hpc.rundir.look import Look
    from mri_hpc.storage.adding.intake import Intake
    from mri_hpc.storage.adding.last_task import ArrayTask
    from mri_hpc.storage.adding.tally import Tally
    from mri_hpc.storage.disk.commits import Commit
    from mri_hpc.storage.reading.reader import Reader
    from mri_hpc.storage.reading.stored_volumes import StoredVolume
    from mri_hpc.storage.snapshot.grown import Grown
    from mri_hpc.storage.snapshot.table import Snapshot
    from mri_hpc.storage.snapshot.totals import Counts, Totals
    from mri_hpc.storage.upkeep.compaction import Compacted
    from mri_hpc.storage.upkeep.growth import Growth
    from mri_hpc.storage.upkeep.joining import Name, Pair
    from mri_hpc.storage.upkeep.made_files import (
        Found,
        MadeFile,
        own_lines,
        remove_made,
        shows,
        state_of_made,
    )
    from mri_hpc.storage.upkeep.missing import Missing
    from mri_hpc.storage.upkeep.name_search import FoundName, NameMask, NameSearch, search_folder
    from mri_hpc.storage.upkeep.relabelling import Relabelling
    from mri_hpc.storage.upkeep.repair import Repaired
    from mri_hpc.storage.upkeep.retraction import Retraction
    from mri_hpc.storage.upkeep.salvage import Origin
    from mri_hpc.storage.upkeep.test_looks import CountedLook
    from mri_hpc.storage.upkeep.verify import Findings
    from mri_hpc.storage.upkeep.wanted_names import WantedNames, read_wanted, wanted_of

__all__ = [
    "ArrayTask", "Compacted", "Counts", "Findings", "Found", "FoundName", "Grown", "Intake", "MadeFile",
    "Missing", "Name", "NameMask", "NameSearch", "Origin", "Pair", "Reader", "Relabelling", "Repaired",
    "Retraction", "Snapshot", "Store", "StoredVolume", "Tally", "WantedNames", "own_lines", "read_wanted",
    "remove_made", "search_folder", "shows", "state_of_made", "wanted_of",
]  # fmt: skip

_FLOORS = {
    "ArrayTask": "adding.last_task",
    "Compacted": "upkeep.compaction",
    "Counts": "snapshot.totals",
    "Findings": "upkeep.verify",
    "Found": "upkeep.made_files",
    "FoundName": "upkeep.name_search",
    "Grown": "snapshot.grown",
    "Intake": "adding.intake",
    "MadeFile": "upkeep.made_files",
    "Missing": "upkeep.missing",
    "Name": "upkeep.joining",
    "NameMask": "upkeep.name_search",
    "NameSearch": "upkeep.name_search",
    "Origin": "upkeep.salvage",
    "Pair": "upkeep.joining",
    "Reader": "reading.reader",
    "Relabelling": "upkeep.relabelling",
    "Repaired": "upkeep.repair",
    "Retraction": "upkeep.retraction",
    "Snapshot": "snapshot.table",
    "StoredVolume": "reading.stored_volumes",
    "Tally": "adding.tally",
    "WantedNames": "upkeep.wanted_names",
    "own_lines": "upkeep.made_files",
    "read_wanted": "upkeep.wanted_names",
    "remove_made": "upkeep.made_files",
    "search_folder": "upkeep.name_search",
    "shows": "upkeep.made_files",
    "state_of_made": "upkeep.made_files",
    "wanted_of": "upkeep.wanted_names",
}

T = TypeVar("T")
Shown = Callable[[Sequence[Any]], Iterable[Any]]
"""Yields its items one by one, and shows how far that is."""


def __getattr__(name: str) -> Any:
    """Import what a store takes, gives or is asked by, from the floor where it is made."""
    if name not in _FLOORS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"mri_hpc.storage.{_FLOORS[name]}"), name)


def _unshown(items: Sequence[T]) -> Sequence[T]:
    return items


@dataclass(frozen=True)
class Store:
    """A store, to which any number of tasks may add while others read, verify and compact it."""

    path: Path
    """Its folder."""

    def __post_init__(self) -> None:
        # Typed as text it would be joined with names as text is.
        object.__setattr__(self, "path", Path(self.path))

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "Store":
        """Open the store at `path`; UserError where there is none."""
        return cls(open_store(Path(path)).path)

    @classmethod
    def make(cls, path: Path, source: Path) -> "Store":
        """Open the store at `path`, make it if need be; UserError where `source` cannot be added to it."""
        from mri_hpc.storage.adding.new_store import make_store

        return cls(make_store(path, source).path)

    @classmethod
    def would_be(cls, path: Path, source: Path) -> "Store":
        """Return what `make` would open or make, and make nothing; UserError as there."""
        from mri_hpc.storage.adding.new_store import check_place

        return cls(check_place(path, source).path)

    @property
    def recipe(self) -> Path:
        """File that says how images become arrays."""
        return self._dir.recipe

    @property
    def names(self) -> Path:
        """Folder, for the owner alone, of tables that name sources and patients."""
        return self._dir.names

    @property
    def twins(self) -> Path:
        """Folder of what audits have found by looks, by snapshot; made when there is something to keep."""
        return self._dir.twins

    @property
    def twin_table(self) -> Path:
        """CSV of the twins that the last audit has found, for the owner alone."""
        return self._dir.twin_table

    @property
    def twin_page(self) -> Path:
        """HTML page of the same, with their pictures."""
        return self._dir.twin_page

    def delivery_table(self, chain: str) -> Path:
        """Return the CSV of images that a chain has objected to last, for the owner alone."""
        return self._dir.delivery_table(chain)

    def make_twins(self) -> None:
        """Make the folder `twins`; harmless when it is there."""
        self._dir.make_twins()

    def kept_parts(self, kind: str) -> list[Path]:
        """List the files of a kind, below `twins`, that save comparing images again."""
        return self._dir.kept_parts(kind)

    def test_looks(self) -> "list[Look]":
        """List the looks at test patients, in their order; UserError where one is damaged."""
        from mri_hpc.storage.upkeep.test_looks import read_looks

        return list(read_looks(self._dir).values())

    def add_test_look(self, look: "Look", may_follow: "Callable[[Sequence[Look]], None]") -> "CountedLook":
        """Write a look at test patients down, once, and who looked.

        may_follow: given those before, raises where the look is not to be. OSError: it cannot be written.
        """
        from mri_hpc.storage.upkeep.test_looks import add_look

        return add_look(self._dir, look, may_follow)

    @property
    def private(self) -> Path:
        """Folder, for the owner alone, of all that identifies a person."""
        return self._dir.private

    def note_made(self, made: "MadeFile", own: Path) -> str:
        """Write down that a file was made which shows images; return a note where that could not be here.

        own: file of this account's own lines, for then.
        """
        from mri_hpc.storage.upkeep.made_files import note_made

        return note_made(self._dir, made, own)

    def made_files(self, own: Path) -> "tuple[list[MadeFile], int]":
        """Return the files that were written down as showing images, and how many lines cannot be read."""
        from mri_hpc.storage.upkeep.made_files import read_made

        return read_made(self._dir, own)

    @property
    def group(self) -> int | None:
        """Number of the one group that may use the private folder beside its owner; None: there is none."""
        return self._dir.group

    def share(self, group: int) -> None:
        """Let the members of one group add to the store, and see what is private; UserError elsewhere."""
        from mri_hpc.storage.disk.sharing import share_store

        share_store(self._dir, group)

    @property
    def listings(self) -> Path:
        """Folder, for the owner alone, of listings that tasks of one array job share."""
        return self._dir.listings

    def series_of(self, root: Path) -> Path:
        """Name the file, for the owner alone, of what is known of the DICOM files below a source root."""
        from mri_hpc.intake.files.sources import source_key

        return self._dir.series / f"{source_key(os.path.realpath(root), ''):016x}.bin"

    def resolve(self, digest: str = "newest") -> "Snapshot":
        """Return the snapshot of that digest (or an unambiguous beginning of it), or of all there is now.

        The newest is published if it was not yet. UserError: nothing stored yet, no such snapshot.
        """
        from mri_hpc.storage.snapshot.catalogue import resolve

        return resolve(self.path, digest)

    def recall(self, digest: str) -> "Snapshot":
        """Load a published snapshot as it was, for its columns alone; UserError where there is none."""
        from mri_hpc.storage.snapshot.catalogue import recall

        return recall(self.path, digest)

    def current(self) -> "Snapshot":
        """Return the snapshot of all that is there now, which may be nothing; it is not published."""
        from mri_hpc.storage.snapshot.catalogue import current

        return current(self._dir)

    def grown(self) -> "Grown":
        """Return what is there now, told by what has changed: it costs what came, not what is there."""
        from mri_hpc.storage.snapshot.grown import grown

        return grown(self._dir)

    def published(self) -> list[str]:
        """List the digests of the snapshots that are published."""
        from mri_hpc.storage.snapshot.publications import published

        return published(self._dir)

    def snapshot_bytes(self) -> int:
        """Return the size in bytes of the snapshots that are published."""
        from mri_hpc.storage.snapshot.publications import published_bytes

        return published_bytes(self._dir)

    def totals(self) -> "Totals":
        """Return the totals of all that is there now, which may be nothing."""
        from mri_hpc.storage.disk.commits import digest_of
        from mri_hpc.storage.snapshot.totals import kept

        found = kept(self._dir.snapshots / digest_of(self._dir.commit_ids()))
        if found is None:
            from mri_hpc.storage.snapshot.grown import totals_now

            found = totals_now(self._dir)
        return found

    def growth(self, totals: "Totals") -> "Growth":
        """Count what came in, by the finest period that gives few rows. totals: of all that is there now."""
        from mri_hpc.storage.upkeep.growth import growth

        return growth(self._dir, totals)

    def arrivals(self, keys: "np.ndarray") -> list[str]:
        """Tell of each image in which day, week, month or year it came; empty where it is not known.

        keys: uint64, (n,).
        """
        from mri_hpc.storage.upkeep.growth import arrivals

        return arrivals(self._dir, keys)

    def reader(self, snapshot: "Snapshot", *, is_read_once: bool = False) -> "Reader":
        """Return a reader of a snapshot's images. is_read_once: of each about once, so nothing is mapped."""
        from mri_hpc.storage.reading.reader import Reader

        return Reader(self.path, snapshot, is_read_once=is_read_once)

    def export(self, snapshot: "Snapshot", target: Path, *, progress: Shown = _unshown) -> None:
        """Write a snapshot into one HDF5 file that is not there yet."""
        from mri_hpc.storage.reading.exporting import export

        export(self._dir, snapshot, target, progress=progress)

    def volumes_of(self, snapshot: "Snapshot", rows: "np.ndarray") -> "Iterator[StoredVolume]":
        """Yield the volumes of which rows of a snapshot are slices; some rows may be of none."""
        from mri_hpc.storage.reading.stored_volumes import stored_volumes

        return stored_volumes(self._dir, snapshot, rows)

    def clean_up(self) -> None:
        """Remove what tasks that were killed left behind, and end removals that they had begun."""
        from mri_hpc.storage.snapshot.presence import end_removals

        self._dir.sweep()
        end_removals(self._dir)

    def intake(
        self,
        root: Path,
        labels: "Labels",
        wanted: "Recipe",
        key_file: Path,
        *,
        series: "Series | None" = None,
        is_replacing: bool = False,
        is_skipping_empty: bool = False,
        is_accepting_text: bool = False,
        is_shortening: bool = False,
    ) -> "Intake":
        """Return all that decides about the sources below a root; make a store that is new, and its recipe.

        series: those below the root; None: each file is a source of its own.
        """
        from mri_hpc.intake.decoding.dicom.listing import NO_SERIES
        from mri_hpc.storage.adding.intake import make_intake

        return make_intake(
            self._dir,
            root,
            labels,
            wanted,
            key_file,
            series=NO_SERIES if series is None else series,
            is_replacing=is_replacing,
            is_skipping_empty=is_skipping_empty,
            is_accepting_text=is_accepting_text,
            is_shortening=is_shortening,
        )

    def intake_that_would_be(
        self, root: Path, labels: "Labels", wanted: "Recipe", key_file: Path
    ) -> "Intake":
        """Return what `intake` would return of a store that has a recipe, and make nothing."""
        from mri_hpc.storage.adding.intake import intake_that_would_be

        return intake_that_would_be(self._dir, root, labels, wanted, key_file)

    def doubts(self, intake: "Intake", sources: "Sources") -> "list[Doubt]":
        """Return what looks other than it was meant beside what is stored. sources: all below the root."""
        from mri_hpc.storage.adding.roots import doubts_of_root

        return doubts_of_root(self._dir, intake, sources)

    def add(
        self,
        intake: "Intake",
        sources: "Sources",
        *,
        unit_size: int,
        is_stopping: Callable[[], bool] = lambda: False,
        progress: "Callable[[Tally, int], None]" = lambda tally, under_way: None,
    ) -> "Tally":
        """Store what is new among sources, in units of at most `unit_size`; return what became of them.

        progress: is given the outcomes, and how many sources of the unit under way have been read.
        """
        from mri_hpc.storage.adding.known import Known, fold_when_due
        from mri_hpc.storage.adding.loop import add_sources, sources_outvoted
        from mri_hpc.storage.adding.roots import note_root

        note_root(self._dir, intake)
        fold_when_due(self._dir)
        add = partial(
            add_sources,
            self._dir,
            intake,
            unit_size=unit_size,
            end_retraction=self._remove_retracted,
            is_stopping=is_stopping,
        )
        tally = add(sources, Known(self._dir, sources.keys), progress=progress)
        if tally.windows and not is_stopping():
            # Another task may have brought the same groups meanwhile, and its window hold.
            known = Known(self._dir, sources.keys)
            if len(outvoted := sources_outvoted(sources, known)):
                add(outvoted, known)
        return tally

    def tell_last(self, root: Path, task: "ArrayTask", tally: "Tally") -> "Tally | None":
        """Note that a task of an array is done; return what all have counted where it is to tell of them."""
        from mri_hpc.storage.adding.last_task import tell_last

        return tell_last(self._dir, root, task, tally)

    def verify(self, *, fraction: float = 1.0, day: int = 0, progress: Shown = _unshown) -> "Findings":
        """Check every commit, chunk, pixel and snapshot.

        With a `fraction` below 1 only that part of the chunks is read, others each `day`: all of them in
        1 / fraction days. Of the rest the files' sizes are compared.
        """
        from mri_hpc.storage.upkeep.verify import verify

        return verify(self._dir, fraction=fraction, day=day, progress=progress)

    def repair(
        self,
        findings: "Findings",
        origin: "Origin",
        *,
        fraction: float = 1.0,
        day: int = 0,
        progress: Shown = _unshown,
    ) -> "Repaired":
        """Make again what a verification has found damaged; fraction, day: of that verification."""
        from mri_hpc.storage.upkeep.repair import repair
        from mri_hpc.storage.upkeep.verify import verify

        return repair(
            self._dir,
            findings,
            origin,
            check=lambda trusted: verify(self._dir, fraction=fraction, day=day, trusted=trusted),
            progress=progress,
        )

    def compact(self, *, target_bytes: int, keep_s: float, progress: Shown = _unshown) -> "Compacted":
        """Rewrite small chunks into large ones; remove those superseded `keep_s` seconds ago."""
        from mri_hpc.storage.upkeep.compaction import compact

        return compact(self._dir, target_bytes=target_bytes, keep_s=keep_s, progress=progress)

    def look_ahead(self, *, target_bytes: int) -> "Compacted":
        """Return what compacting would do now; change nothing."""
        from mri_hpc.storage.upkeep.compaction import look_ahead

        return look_ahead(self._dir, target_bytes=target_bytes)

    def find_relabelling(
        self,
        rows: "Mapping[str, Label]",
        *,
        root_name: str,
        pseudonyms: "Pseudonyms",
        series: "Mapping[str, str]",
        without_lesion: str = "",
    ) -> "Relabelling":
        """Find what to change so that the store says what the rows say, of all slices of each file.

        rows: by path below the root; series: id of that of which a file is, by path; without_lesion: class
        that slices keep to which a mask gave it.
        """
        from mri_hpc.storage.upkeep.relabelling import find_relabelling

        return find_relabelling(
            self._dir, self.current(), rows,
            root_name=root_name, pseudonyms=pseudonyms, series=series, without_lesion=without_lesion,
        )  # fmt: skip

    def relabel(self, relabelling: "Relabelling", why: str) -> None:
        """Publish the relabels of a relabelling."""
        from mri_hpc.storage.upkeep.relabelling import publish

        publish(self._dir, relabelling, why)

    def name_of(self, patient: str, key_file: Path) -> str:
        """Return the name that a patient has in the store. patient: that name, or the id as in the labels."""
        from mri_hpc.storage.upkeep.retraction import name_in_store

        return name_in_store(self._dir, patient, key_file)

    def names_and_ids(self) -> set[str]:
        """Return names and ids of all patients and studies; PermissionError for whom they are not."""
        from mri_hpc.storage.disk.private_tables import names_and_ids

        return names_and_ids(self._dir)

    def look_for(self, name: str, *, given: str) -> "Retraction":
        """Find what the store has of a patient; UserError where it has, and had, nothing. given: as typed."""
        from mri_hpc.storage.upkeep.retraction import look_for

        return look_for(self._dir, name, given=given)

    def look_for_images(self, given: Sequence[str], pseudonyms: "Pseudonyms") -> "Retraction":
        """Find images that are named by key or by the path of their file; UserError where there is none."""
        from mri_hpc.storage.upkeep.retraction import look_for_images

        return look_for_images(self._dir, given, pseudonyms)

    def find_missing(
        self,
        snapshot: "Snapshot",
        root: Path,
        keys: "np.ndarray",
        pseudonyms: "Pseudonyms",
        *,
        series: Collection[str] = (),
        sites: Collection[str] = (),
        most: int | None = None,
    ) -> "Missing":
        """Find stored images of a source root that have no file any more.

        snapshot: the current one; keys: of the sources known below the root; series: ids of those that were
        below it before; sites: of these, none: as when it was added; most: from so many images on without a
        known file, nothing more is found out.
        """
        from mri_hpc.storage.upkeep.missing import find_missing

        return find_missing(
            self._dir, snapshot, root, keys, pseudonyms, series=series, sites=sites, most=most
        )

    def num_without_file(self, grown: "Grown", keys: "np.ndarray") -> int:
        """Count stored images without a known file, which may be of any root. keys: of the sources known."""
        from mri_hpc.storage.upkeep.missing import num_without_file

        return num_without_file(grown, keys)

    def sites_of(self, root: Path) -> set[str]:
        """Return the sites that a folder was added as; the empty one where nothing tells."""
        from mri_hpc.storage.upkeep.missing import sites_of

        return sites_of(self._dir, root)

    def retraction_of(self, snapshot: "Snapshot", keys: Collection[int]) -> "Retraction":
        """Return the retraction of images by themselves. snapshot: the current one."""
        from mri_hpc.storage.upkeep.retraction import of_keys

        return of_keys(snapshot, keys)

    def join_alike(
        self, mentions: "Iterable[Mention]", pseudonyms: "Pseudonyms", accepted: Collection[str]
    ) -> None:
        """Make one patient of ids that are one; UserError where some look alike, and what they are is open.

        mentions: ids that labels give, each at least once; accepted: words of doubts.
        """
        from mri_hpc.storage.upkeep.joining import join_alike

        join_alike(self._dir, mentions, pseudonyms, accepted)

    def doubts_of_ids(self, mentions: "Iterable[Mention]", accepted: Collection[str]) -> "list[Doubt]":
        """Return the doubts for which `join_alike` would refuse ids; nothing is changed."""
        from mri_hpc.storage.upkeep.joining import doubts_of_ids

        return doubts_of_ids(self._dir, mentions, accepted)

    def join(self, pairs: "Sequence[Pair]", why: str) -> None:
        """Make one patient of each pair of names; UserError where one of them was retracted."""
        from mri_hpc.storage.upkeep.joining import join, refuse_retracted

        snapshot = self.current()
        for pair in pairs:
            refuse_retracted(self._dir, snapshot, pair)
        join(self._dir, snapshot.persons, pairs, why)

    def part(self, pair: "Pair", why: str) -> None:
        """Make two patients of a pair of names that were stated to be of one; UserError elsewhere."""
        from mri_hpc.storage.upkeep.joining import part

        part(self._dir, self.current().persons, pair, why)

    def retract(self, retraction: "Retraction", why: str) -> "Compacted":
        """Take a patient, or images, out for good: of the snapshot, the chunks and the private tables."""
        from mri_hpc.storage.upkeep.retraction import retract

        return retract(self._dir, retraction, why)

    def retractions(self, name: str = "", keys: Iterable[int] = ()) -> "list[Commit]":
        """Read the records of the retractions of a patient, or of images."""
        texts = {f"{key:016x}" for key in keys}
        return [
            one
            for one in self.all_retractions()
            if name in one.retracted_patients or not texts.isdisjoint(one.retracted_keys)
        ]

    def all_retractions(self) -> "list[Commit]":
        """Read the records of all retractions."""
        from mri_hpc.storage.disk.commits import RETRACT, read_kind

        return read_kind(self._dir, RETRACT)

    def sources_of(self, keys: Iterable[int]) -> dict[int, str]:
        """Find paths of the sources of some images, by key, as far as this user may know them."""
        from mri_hpc.storage.disk.private_tables import sources_of

        return sources_of(self._dir, keys)

    def _remove_retracted(self) -> None:
        from mri_hpc.storage.upkeep.retraction import remove_retracted

        remove_retracted(self._dir)

    @property
    def _dir(self) -> StoreDir:
        return StoreDir(self.path)
