"""A store as it is now, counted by what has changed since a published snapshot."""

import contextlib
import functools
from dataclasses import dataclass

from mri_hpc.base.errors import NewerFormat, StoreDamage
from mri_hpc.storage.disk.layout import StoreDir
from mri_hpc.storage.snapshot import totals
from mri_hpc.storage.snapshot.catalogue import Standing, added_to, header_of, look, repair_totals, snapshot_of
from mri_hpc.storage.snapshot.change import Change, change_since, no_change
from mri_hpc.storage.snapshot.counts import count, count_images, counts_after, totals_after
from mri_hpc.storage.snapshot.table import Snapshot


def totals_now(store: StoreDir) -> totals.Totals:
    """Count the totals of all commits there are now."""
    return look(store, functools.partial(_totals, store))


def _totals(store: StoreDir, standing: Standing) -> totals.Totals:
    if standing.base is None:
        return count(snapshot_of(store, standing), totals.added_by(standing.new))
    kept = totals.kept(store.snapshots / standing.base.digest)
    before = kept.added if kept else added_to(store, standing.base)
    added = totals.added_by(standing.new, besides=before)
    snapshot, change = snapshot_of(store, standing), None
    if kept:
        change = change_since(standing.base, standing.new, functools.partial(header_of, store))
    if change is None or kept is None:
        return count(snapshot, added)
    return totals_after(kept, kept.counts, change, snapshot, added)


@dataclass(frozen=True, kw_only=True, eq=False)
class Grown:
    """A store as it is now, told by what has changed."""

    counts: totals.Counts
    """Of all images."""
    change: Change
    """Since a published snapshot, or since this moment where it has changed too much."""


def grown(store: StoreDir) -> Grown:
    """Return what there is now without folding what has not changed.

    A snapshot that keeps no totals gets them, so that its images are counted once.
    """
    return look(store, functools.partial(_grown, store))


def _grown(store: StoreDir, standing: Standing) -> Grown:
    change = None
    if standing.base is not None:
        change = change_since(standing.base, standing.new, functools.partial(header_of, store))
    if change is None:
        snapshot = snapshot_of(store, standing)
        return Grown(counts=count_images(snapshot), change=no_change(snapshot))
    return Grown(counts=counts_after(_counts_of_published(store, change.base), change), change=change)


def _counts_of_published(store: StoreDir, snapshot: Snapshot) -> totals.Counts:
    folder = store.snapshots / snapshot.digest
    # That totals are damaged, or too new, is for those to say who ask for them.
    with contextlib.suppress(StoreDamage, NewerFormat, PermissionError):
        found = totals.kept(folder)
        if found is None:
            repair_totals(store, snapshot.digest)
            found = totals.kept(folder)
        if found:
            return found.counts
    return count_images(snapshot)
