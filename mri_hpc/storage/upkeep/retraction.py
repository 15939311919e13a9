"""Retraction: a patient leaves the store for good. Tombstones keep the images from coming back.

Order: the commit that retracts, then chunks without the images, then the old files and the private lines go.
Killed on the way, it is ended by doing it again, or by the next compaction.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mri_hpc.base.errors import UserError
from mri_hpc.intake.persons import writings
from mri_hpc.intake.pseudonyms import pseudonyms_of
from mri_hpc.intake.recipe import load_recipe
from mri_hpc.storage.disk.commits import publish_retraction
from mri_hpc.storage.disk.layout import StoreDir
from mri_hpc.storage.disk.private_tables import find_in_names
from mri_hpc.storage.snapshot.catalogue import current
from mri_hpc.storage.snapshot.table import Snapshot
from mri_hpc.storage.upkeep.compaction import Compacted, compact

PSEUDONYM = re.compile(r"P[A-Z2-7]{16}")


@dataclass(frozen=True, kw_only=True)
class Retraction:
    """A patient who is to be taken out, with all that the store has of them."""

    patient: str
    """Name in the store; of several the one by which the patient goes."""
    names: tuple[str, ...]
    """All of them."""
    keys: tuple[int, ...]
    """Of images, and of the sources that they came from."""
    images: int
    """In the newest snapshot."""
    snapshot: Snapshot
    """Of the moment when this was looked for: saves folding it again."""


def name_in_store(store: StoreDir, given: str, key_file: Path) -> str:
    """Return the name that a patient has in the store. given: that name, or the id as in the labels."""
    recipe = load_recipe(store.recipe)
    if PSEUDONYM.fullmatch(given):
        return given
    try:
        pseudonyms = pseudonyms_of(ids=recipe.ids, site=recipe.site, key_file=key_file)
    except UserError as error:
        raise UserError(f"{error}, or give the pseudonym in place of the patient's id") from None
    names = [pseudonyms.patient(writing) for writing in writings(given)]
    if len(names) == 1:
        return names[0]
    # Older versions stored ids from Macs as they came.
    snapshot = current(store)
    known = {*snapshot.patient_names.tolist(), *snapshot.persons.other_names.tolist()}
    return next((name for name in names if name.encode() in known), names[0])


def look_for(store: StoreDir, patient: str, *, given: str) -> Retraction:
    """Find what the store has of a patient; UserError where it has, and had, nothing. given: as typed."""
    snapshot = current(store)
    patient, names = snapshot.persons.name(patient), snapshot.persons.names(patient)
    is_of = snapshot.is_of(np.array([patient.encode()]))
    keys = set(snapshot.key[is_of].tolist()) | _keys_in_names(store, snapshot, names)
    if not keys and not snapshot.retractions.covers((), patient):
        raise UserError(f"{store.path} has nothing of a patient {given!r}: is it the id as in the labels?")
    return Retraction(
        patient=patient, names=names, keys=tuple(sorted(keys)), images=int(is_of.sum()), snapshot=snapshot
    )


def retract(store: StoreDir, retraction: Retraction, why: str) -> Compacted:
    """Take a patient out of the newest snapshot, the chunks and the private tables."""
    publish_retraction(store, retraction.keys, retraction.names, why)
    return remove_retracted(store, since=retraction.snapshot)


def remove_retracted(store: StoreDir, *, since: Snapshot | None = None) -> Compacted:
    """Take what is retracted out of the chunks and the private tables. since: the store a moment ago."""
    done = compact(store, only_retracted=True, since=since)
    # What another task was writing when it was killed may hold images of the patient.
    store.sweep()
    return done


def _keys_in_names(store: StoreDir, snapshot: Snapshot, names: Sequence[str]) -> set[int]:
    """Find keys of sources given as this patient's, but for those that were relabelled as another's."""

    def listed(rows: list[dict[str, str]]) -> set[int]:
        return {int(row["key"], 16) for row in rows if row["patient_name"] in names}

    return set().union(*find_in_names(store, listed).values()) - _of_others(snapshot, names)


def _of_others(snapshot: Snapshot, names: Sequence[str]) -> set[int]:
    """Find keys of images that were ingested as one patient's and belong to another."""
    is_relabelled = np.isin(snapshot.key, snapshot.ingested["key"])
    others = ~snapshot.is_of(np.array([name.encode() for name in names]))
    return set(snapshot.key[is_relabelled & others].tolist())
