"""Joining: several names become those of one patient, or are found to be of several again.

One record says it, whatever the chunks say: images that come later under any of the names are the patient's
too, in every task that folds the record. What identifies a person is in the private folder alone. Of ids that
labels bring, and that look like ones which the store knows, it is asked first who is one person.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from mri_hpc.base.command import counted
from mri_hpc.base.errors import UserError
from mri_hpc.intake.labels.doubts import Doubt, refuse_open
from mri_hpc.intake.labels.persons import Alike, Mention, find_alike, shown
from mri_hpc.intake.labels.pseudonyms import Pseudonyms
from mri_hpc.storage.disk.commits import publish_same
from mri_hpc.storage.disk.evidence import Evidence, publish_evidence
from mri_hpc.storage.disk.layout import StoreDir
from mri_hpc.storage.disk.private_tables import names_of_ids
from mri_hpc.storage.snapshot.catalogue import current
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


DIFFERENT, SAME = "ids", "same-ids"
"""Words by which the user says that ids which look alike are of several patients, or of one each."""


def join_alike(
    store: StoreDir, mentions: Iterable[Mention], pseudonyms: Pseudonyms, accepted: Collection[str]
) -> None:
    """Make one patient of ids that are one, and of those that look like one where the user says so.

    mentions: ids that labels give, each at least once; accepted: words of doubts. UserError, and nothing is
    done, where ids look alike and the user has not said what they are.
    """
    _check_words(accepted)
    names = names_of_ids(store)
    alike = _alike(mentions, names)
    refuse_open(_open(alike, accepted), accepted)
    joined = alike if SAME in accepted else [one for one in alike if one.is_one]
    if joined:
        _join(store, [_pair(one, names, pseudonyms) for one in joined])


def doubts_of_ids(store: StoreDir, mentions: Iterable[Mention], accepted: Collection[str]) -> list[Doubt]:
    """Return the doubts for which `join_alike` would refuse ids; nothing is changed. UserError as there."""
    _check_words(accepted)
    return _open(_alike(mentions, names_of_ids(store)), accepted)


def _check_words(accepted: Collection[str]) -> None:
    if {DIFFERENT, SAME} <= {*accepted}:
        raise UserError(f"--accept {DIFFERENT} and --accept {SAME} contradict each other: give one of them")


def _alike(mentions: Iterable[Mention], names: dict[str, str]) -> list[Alike]:
    return find_alike(mentions, {patient: f"one stored as {name}" for patient, name in names.items()})


def _open(alike: Iterable[Alike], accepted: Collection[str]) -> list[Doubt]:
    doubts = [one for one in alike if not one.is_one]
    return [doubt_of(doubts)] if doubts and SAME not in accepted else []


def doubt_of(doubts: Sequence[Alike]) -> Doubt:
    """Return the doubt about ids that look alike."""
    found = f"{counted(len(doubts), 'patient')} may have two ids: {shown(doubts)}"
    advice = f"write each patient's id in one way, or have what looks alike joined with --accept {SAME}"
    return Doubt(kind="ids", count=len(doubts), text=f"{found}: {advice}", accept="ids")


def _join(store: StoreDir, pairs: Sequence[Pair]) -> None:
    snapshot = current(store)
    whose: dict[str, str] = {}
    for pair in pairs:
        refuse_retracted(store, snapshot, pair)
        patient = snapshot.persons.name(pair.first.name)
        if whose.setdefault(pair.second.name, patient) != patient:
            raise UserError(
                f"{pair.second.where} looks like two patients of the store, {whose[pair.second.name]} and "
                f"{patient}: write the id as it was stored for the one who is meant"
            )
    join(store, snapshot.persons, pairs, "ids that differ in their writing alone")


def _pair(alike: Alike, names: dict[str, str], pseudonyms: Pseudonyms) -> Pair:
    def name(mention: Mention) -> Name:
        known = names.get(mention.patient) or pseudonyms.patient(mention.patient)
        return Name(name=known, patient=mention.patient, where=mention.where)

    return Pair(first=name(alike.first), second=name(alike.second), is_spelling=True)
