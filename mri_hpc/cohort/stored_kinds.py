"""Stored kinds: which sequences a store has of patients of whom more comes."""

from collections.abc import Mapping

import numpy as np

from mri_hpc.storage.store import Snapshot


def stored_kinds(snapshot: Snapshot, patients: Mapping[str, str]) -> dict[str, set[str]]:
    """Return the kinds that are stored of each of some patients. patients: name in the store, by id."""
    # Most stores tell none: then no row is looked at.
    if not len(snapshot.names("kind")):
        return {}
    own = {name: snapshot.persons.name(pseudonym) for name, pseudonym in patients.items()}
    rows = snapshot.is_of(np.array([name.encode() for name in own.values()], np.bytes_))
    pairs = np.unique(np.stack([snapshot.column(name)[rows] for name in ("patient", "kind")]), axis=1)
    kinds = [*(name.decode() for name in snapshot.names("kind").tolist()), ""]
    found: dict[str, set[str]] = {}
    for patient, kind in pairs.T.tolist():
        found.setdefault(snapshot.patient_names[patient].decode(), set()).add(kinds[kind])
    return {name: found[pseudonym] - {""} for name, pseudonym in own.items() if pseudonym in found}
