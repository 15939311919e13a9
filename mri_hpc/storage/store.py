"""A store of images: the one door to it. What lies on the floors below is nobody else's business.

Each floor is imported when something there is first asked for, so that light commands start light.
"""

import importlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mri_hpc.storage.disk.layout import StoreDir, open_store

if TYPE_CHECKING:
    from mri_hpc.intake.labels import Label, Labels
    from mri_hpc.intake.pseudonyms import Pseudonyms
    from mri_hpc.intake.recipe import Recipe
    from mri_hpc.intake.sources import Sources
    from mri_hpc.storage.adding.intake import Intake
    from mri_hpc.storage.adding.loop import Tally
    from mri_hpc.storage.disk.commits import Commit
    from mri_hpc.storage.reading.reader import Reader
    from mri_hpc.storage.snapshot.table import Snapshot
    from mri_hpc.storage.upkeep.compaction import Compacted
    from mri_hpc.storage.upkeep.growth import Growth
    from mri_hpc.storage.upkeep.relabelling import Corrections
    from mri_hpc.storage.upkeep.repair import Repaired
    from mri_hpc.storage.upkeep.retraction import Withdrawal
    from mri_hpc.storage.upkeep.salvage import Origin
    from mri_hpc.storage.upkeep.verify import Findings

__all__ = [
    "Compacted", "Corrections", "Findings", "Origin", "Reader", "Repaired", "Snapshot", "Store",
    "Tally",
]  # fmt: skip

_FLOORS = {
    "Compacted": "upkeep.compaction",
    "Corrections": "upkeep.relabelling",
    "Findings": "upkeep.verify",
    "Origin": "upkeep.salvage",
    "Reader": "reading.reader",
    "Repaired": "upkeep.repair",
    "Snapshot": "snapshot.table",
    "Tally": "adding.loop",
}

T = TypeVar("T")
Shown = Callable[[Sequence[Any]], Iterable[Any]]
"""Gives its items one by one, and tells somebody how far that is."""


def __getattr__(name: str) -> Any:
    """A value that a store takes or gives, from the floor where it is made."""
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
        """The store at `path`; UserError where there is none."""
        return cls(open_store(Path(path)).path)

    @classmethod
    def make(cls, path: Path, source: Path) -> "Store":
        """The store at `path`, made where there is none; UserError where `source` cannot be added to it."""
        from mri_hpc.storage.adding.new_store import make_store

        return cls(make_store(path, source).path)

    @property
    def recipe(self) -> Path:
        """File that says how images become arrays."""
        return self._place.recipe

    @property
    def names(self) -> Path:
        """Folder, for the owner alone, of tables that name sources and patients."""
        return self._place.names

    @property
    def listings(self) -> Path:
        """Folder, for the owner alone, of listings that tasks of one array job share."""
        return self._place.listings

    def resolve(self, digest: str = "newest") -> "Snapshot":
        """The snapshot of that digest (or an unambiguous beginning of it), or of all that is there now.

        The newest is published if it was not yet. UserError: nothing stored yet, no such snapshot.
        """
        from mri_hpc.storage.snapshot.catalogue import resolve

        return resolve(self.path, digest)

    def recall(self, digest: str) -> "Snapshot":
        """A published snapshot as it was, for its columns alone; UserError where there is none."""
        from mri_hpc.storage.snapshot.catalogue import recall

        return recall(self.path, digest)

    def current(self) -> "Snapshot":
        """The snapshot of all that is there now, which may be nothing; it is not published."""
        from mri_hpc.storage.snapshot.catalogue import current

        return current(self._place)

    def published(self) -> list[str]:
        """Digests of the snapshots that are published."""
        from mri_hpc.storage.snapshot.catalogue import published

        return published(self._place)

    def snapshot_bytes(self) -> int:
        """Size of the snapshots that are published."""
        from mri_hpc.storage.snapshot.catalogue import published_bytes

        return published_bytes(self._place)

    def growth(self, snapshot: "Snapshot") -> "Growth":
        """How the store grew, by the finest period that gives few rows. snapshot: the current one."""
        from mri_hpc.storage.upkeep.growth import growth

        return growth(self._place, snapshot)

    def reader(self, snapshot: "Snapshot", *, is_read_once: bool = False) -> "Reader":
        """Reads the images of a snapshot. is_read_once: each is read about once, so nothing is mapped."""
        from mri_hpc.storage.reading.reader import Reader

        return Reader(self.path, snapshot, is_read_once=is_read_once)

    def export(self, snapshot: "Snapshot", target: Path, *, progress: Shown = _unshown) -> None:
        """Write a snapshot into one HDF5 file that is not there yet."""
        from mri_hpc.storage.reading.exporting import export

        export(self._place, snapshot, target, progress=progress)

    def clean_up(self) -> None:
        """Remove what tasks that were killed left behind, and end removals that they had begun."""
        from mri_hpc.storage.snapshot.presence import settle_removals

        self._place.sweep()
        settle_removals(self._place)

    def intake(
        self, root: Path, labels: "Labels", wanted: "Recipe", key_file: Path, *, is_replacing: bool = False
    ) -> "Intake":
        """What decides about the sources below a root; the recipe of a new store is settled with it."""
        from mri_hpc.storage.adding.intake import settle_intake

        return settle_intake(self._place, root, labels, wanted, key_file, is_replacing=is_replacing)

    def add(
        self,
        intake: "Intake",
        sources: "Sources",
        *,
        unit_size: int,
        is_stopping: Callable[[], bool] = lambda: False,
        progress: "Callable[[Tally, int], None]" = lambda tally, under_way: None,
    ) -> "Tally":
        """Store what is new among sources, in units of at most `unit_size`; says what became of them.

        progress: is told what is settled, and how many sources of the unit under way have been read.
        """
        from mri_hpc.storage.adding.known import Known, fold_when_due
        from mri_hpc.storage.adding.loop import add_sources
        from mri_hpc.storage.upkeep.retraction import remove_withdrawn

        fold_when_due(self._place)
        return add_sources(
            self._place,
            intake,
            sources,
            Known(self._place, sources.keys),
            unit_size=unit_size,
            end_retraction=lambda: remove_withdrawn(self._place),
            is_stopping=is_stopping,
            progress=progress,
        )

    def verify(self, *, share: float = 1.0, day: int = 0, progress: Shown = _unshown) -> "Findings":
        """Check every commit, chunk, pixel and snapshot; share, day: as in upkeep/verify.py."""
        from mri_hpc.storage.upkeep.verify import verify

        return verify(self._place, share=share, day=day, progress=progress)

    def repair(
        self,
        findings: "Findings",
        origin: "Origin",
        *,
        share: float = 1.0,
        day: int = 0,
        progress: Shown = _unshown,
    ) -> "Repaired":
        """Make again what a verification has found damaged; share, day: of that verification."""
        from mri_hpc.storage.upkeep.repair import repair
        from mri_hpc.storage.upkeep.verify import verify

        return repair(
            self._place,
            findings,
            origin,
            check=lambda trusted: verify(self._place, share=share, day=day, trusted=trusted),
            progress=progress,
        )

    def compact(self, *, target_bytes: int, keep_s: float, progress: Shown = _unshown) -> "Compacted":
        """Rewrite small chunks into large ones; remove those superseded `keep_s` seconds ago."""
        from mri_hpc.storage.upkeep.compaction import compact

        return compact(self._place, target_bytes=target_bytes, keep_s=keep_s, progress=progress)

    def look_ahead(self, *, target_bytes: int) -> "Compacted":
        """What compacting would do now; nothing is changed."""
        from mri_hpc.storage.upkeep.compaction import look_ahead

        return look_ahead(self._place, target_bytes=target_bytes)

    def corrections(
        self, rows: "Mapping[str, Label]", *, root_name: str, pseudonyms: "Pseudonyms"
    ) -> "Corrections":
        """What is to be changed so that the store says what the rows say. rows: by path below the root."""
        from mri_hpc.storage.upkeep.relabelling import corrections

        return corrections(self.current(), rows, root_name=root_name, pseudonyms=pseudonyms)

    def relabel(self, found: "Corrections", why: str) -> None:
        """Make corrections part of the store."""
        from mri_hpc.storage.upkeep.relabelling import publish

        publish(self._place, found, why)

    def name_of(self, patient: str, key_file: Path) -> str:
        """The name that a patient has in the store. patient: that name, or the id as in the labels."""
        from mri_hpc.storage.upkeep.retraction import name_in_store

        return name_in_store(self._place, patient, key_file)

    def look_for(self, name: str, *, given: str) -> "Withdrawal":
        """What the store has of a patient; UserError where it has, and had, nothing. given: as typed."""
        from mri_hpc.storage.upkeep.retraction import look_for

        return look_for(self._place, name, given=given)

    def retract(self, withdrawal: "Withdrawal", why: str) -> "Compacted":
        """Take a patient out for good: of the newest snapshot, the chunks and the private tables."""
        from mri_hpc.storage.upkeep.retraction import retract

        return retract(self._place, withdrawal, why)

    def retractions(self, name: str) -> "list[Commit]":
        """Records of the retractions of a patient."""
        from mri_hpc.storage.disk.commits import RETRACT, read_kind

        return [one for one in read_kind(self._place, RETRACT) if name in one.retracted_patients]

    def sources_of(self, keys: Iterable[int]) -> dict[int, str]:
        """Paths of the sources of some images, by key, as far as this user may know them."""
        from mri_hpc.storage.disk.private_tables import sources_of

        return sources_of(self._place, keys)

    @property
    def _place(self) -> StoreDir:
        return StoreDir(self.path)
