"""Joining: several names become those of one patient, or are found to be of several again.

One record says it, whatever the chunks say: images that come later under any of the names are the patient's
too, in every task that folds the record. What identifies a person is in the private folder alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from mri_hpc.base.errors import UserError
from mri_hpc.storage.disk.commits import publish_same
from mri_hpc.storage.disk.evidence import Evidence, publish_evidence
from mri_hpc.storage.disk.layout import StoreDir
from mri_hpc.storage.snapshot.persons import Persons, pair_of
from mri_hpc.storage.snapshot.table import Snapshot


@dataclass(frozen=True, kw_only=True)
class Name:
    """One name of a patient in the store, and how it was given."""

    name: str
    patient: str
    """As given: the id, or the name itself."""
    where: str
    """Origin of it, for people."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two names that are of one patient."""

    first: Name
    second: Name
    is_spelling: bool = False
    """Nothing was stored under the second: it is another way to write the first, and has no split."""


def join(store: StoreDir, persons: Persons, pairs: Sequence[Pair], why: str) -> None:
    """Make one patient of each pair; those that are one already stay so. persons: as known now."""
    new = [pair for pair in pairs if persons.name(pair.first.name) != persons.name(pair.second.name)]
    if not new:
        return
    publish_evidence(store, [row for pair in new for row in _evidence(pair, is_same=True)])
    statements = [
        pair_of(persons, pair.first.name, pair.second.name, is_same=True, is_spelling=pair.is_spelling)
        for pair in new
    ]
    publish_same(store, statements, why)


def part(store: StoreDir, persons: Persons, pair: Pair, why: str) -> None:
    """Make two patients of those who were said to be one; UserError where that was never stated."""
    first, second = pair.first.name, pair.second.name
    if persons.name(first) != persons.name(second):
        raise UserError(f"{store.path}: {first} and {second} are two patients: there is nothing to undo")
    if not persons.are_named_same(first, second):
        others = ", ".join(name for name in persons.names(first) if name not in (first, second))
        raise UserError(
            f"{store.path}: {first} and {second} are one patient by way of {others}: undo that in their place"
        )
    publish_evidence(store, _evidence(pair, is_same=False))
    publish_same(store, [pair_of(persons, first, second, is_same=False)], why)


def refuse_retracted(store: StoreDir, snapshot: Snapshot, pair: Pair) -> None:
    """Raise UserError where one of two was retracted, and the other would have to be."""
    for one, other in ((pair.first, pair.second), (pair.second, pair.first)):
        if snapshot.retractions.covers((), one.name):
            raise UserError(
                f"{one.name} was retracted from {store.path}: if {other.name} is the same patient, retract "
                f"that one too: mri-hpc store retract {store.path} --patient {other.name}"
            )


def _evidence(pair: Pair, *, is_same: bool) -> list[Evidence]:
    return [
        Evidence(
            patient_name=one.name,
            patient=one.patient,
            where=one.where,
            other_name=other.name,
            is_same="yes" if is_same else "no",
        )
        for one, other in ((pair.first, pair.second), (pair.second, pair.first))
    ]
