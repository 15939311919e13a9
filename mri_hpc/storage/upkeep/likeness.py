"""Likeness of ids that labels bring to those that the store knows: who is one person is asked first."""

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

from mri_hpc.base.command import counted
from mri_hpc.base.errors import UserError
from mri_hpc.intake.labels.doubts import Doubt, refuse_open
from mri_hpc.intake.labels.persons import Alike, Mention, find_alike, shown
from mri_hpc.intake.labels.pseudonyms import Pseudonyms
from mri_hpc.storage.disk.layout import StoreDir
from mri_hpc.storage.disk.private_tables import names_of_ids
from mri_hpc.storage.snapshot.catalogue import current

if TYPE_CHECKING:
    from mri_hpc.storage.upkeep.joining import Pair

DIFFERENT, SAME = "ids", "same-ids"
"""Words by which the user says that ids which look alike are of several patients, or of one each."""


def join_alike(
    store: StoreDir, mentions: Iterable[Mention], pseudonyms: Pseudonyms, accepted: Collection[str]
) -> None:
    """Make one patient of ids that are one, and of those that look like one where the user says so.

    mentions: ids that labels give, each at least once; accepted: words of doubts. UserError, and nothing is
    done, where ids look alike and the user has not said what they are.
    """
    if {DIFFERENT, SAME} <= {*accepted}:
        raise UserError(f"--accept {DIFFERENT} and --accept {SAME} contradict each other: give one of them")
    names = names_of_ids(store)
    alike = _alike(mentions, names)
    refuse_open(_open(alike, accepted), accepted)
    joined = alike if SAME in accepted else [one for one in alike if one.is_one]
    if joined:
        _join(store, [_pair(one, names, pseudonyms) for one in joined])


def doubts_of_ids(store: StoreDir, mentions: Iterable[Mention], accepted: Collection[str]) -> list[Doubt]:
    """Return the doubts for which `join_alike` would refuse ids; nothing is changed."""
    return _open(_alike(mentions, names_of_ids(store)), accepted)


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


def _join(store: StoreDir, pairs: "Sequence[Pair]") -> None:
    from mri_hpc.storage.upkeep.joining import join, refuse_retracted

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


def _pair(alike: Alike, names: dict[str, str], pseudonyms: Pseudonyms) -> "Pair":
    from mri_hpc.storage.upkeep.joining import Name, Pair

    def name(mention: Mention) -> Name:
        known = names.get(mention.patient) or pseudonyms.patient(mention.patient)
        return Name(name=known, patient=mention.patient, where=mention.where)

    return Pair(first=name(alike.first), second=name(alike.second), is_spelling=True)
