"""Relabelling: other labels, patients, studies, folds and splits, without decoding an image."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mri_hpc.base.errors import UserError
from mri_hpc.intake.files.sources import root_at_site
from mri_hpc.intake.files.units import cut
from mri_hpc.intake.labels.label import Label
from mri_hpc.intake.labels.persons import writings
from mri_hpc.intake.labels.pseudonyms import Pseudonyms
from mri_hpc.storage.disk.commits import Relabel, publish_relabel
from mri_hpc.storage.disk.layout import StoreDir
from mri_hpc.storage.snapshot.table import Snapshot

# A commit is read as a whole.
MOST_IN_A_COMMIT = 50_000


@dataclass(frozen=True, kw_only=True)
class Relabelling:
    """The changes that a table of labels makes."""

    relabels: Sequence[Relabel]
    changes: Mapping[str, int]
    """Count of images by kind of change, for people."""
    unchanged: int
    """Rows that say what the store says."""
    unknown: Sequence[str]
    """Paths of which the store holds no image."""


def find_relabelling(
    snapshot: Snapshot, rows: Mapping[str, Label], *, root_name: str, pseudonyms: Pseudonyms
) -> Relabelling:
    """Find what to change so that the store says what the rows say; an empty cell changes nothing."""
    revisions = dict(
        zip(snapshot.relabels["key"].tolist(), snapshot.relabels["revision"].tolist(), strict=True)
    )
    keys_of = {
        path: [pseudonyms.source_key(root_at_site(root_name, label.site), one) for one in writings(path)]
        for path, label in rows.items()
    }
    row_of = _rows(snapshot, [key for keys in keys_of.values() for key in keys])
    relabels, changes, unknown = [], Counter[str](), []
    for path, label in rows.items():
        key = next((key for key in keys_of[path] if key in row_of), None)
        if key is None:
            unknown.append(path)
            continue
        before = _stored(snapshot, row_of[key], key, revisions.get(key, 0))
        after = _relabelled(snapshot, before, label, pseudonyms)
        if after == before:
            continue
        if snapshot.retractions.covers((), after.patient):
            raise UserError(
                f"{path} is given to a patient who was retracted from this store: change that row"
            )
        relabels.append(after)
        changes.update(_named_changes(before, after))
    unchanged = len(rows) - len(unknown) - len(relabels)
    return Relabelling(relabels=relabels, changes=changes, unchanged=unchanged, unknown=unknown)


def publish(store: StoreDir, relabelling: Relabelling, why: str) -> None:
    """Publish the relabels of a relabelling."""
    for part in cut(sorted(relabelling.relabels), MOST_IN_A_COMMIT):
        publish_relabel(store, part, why)


def _rows(snapshot: Snapshot, keys: Sequence[int]) -> dict[int, int]:
    """Find the rows of these keys, where there are any."""
    wanted = np.unique(np.array(keys, "<u8"))
    found, rows, _wanted = np.intersect1d(snapshot.key, wanted, assume_unique=True, return_indices=True)
    return dict(zip(found.tolist(), rows.tolist(), strict=True))


def _stored(snapshot: Snapshot, row: int, key: int, revision: int) -> Relabel:
    """Return what the store says about an image now."""
    return Relabel(
        key=f"{key:016x}",
        revision=revision,
        label=snapshot.text("label", row),
        # Whose other names may be found to be another's again.
        patient=snapshot.own_patients(np.array([row]))[0].decode()
        if snapshot.persons
        else snapshot.text("patient", row),
        study=snapshot.text("study", row),
        fold=int(snapshot.fold[row]),
        split=int(snapshot.split[row]),
    )


def _relabelled(snapshot: Snapshot, before: Relabel, label: Label, pseudonyms: Pseudonyms) -> Relabel:
    """Return the next revision; `before` itself where nothing changes."""
    after = replace(
        before,
        label=label.label or before.label,
        patient=_own_name(snapshot, pseudonyms.patient(label.patient), before.patient),
        study=pseudonyms.study(label.study) or before.study,
        fold=label.fold if label.fold >= 0 else before.fold,
        split=label.split if label.split >= 0 else before.split,
    )
    return before if after == before else replace(after, revision=before.revision + 1)


def _own_name(snapshot: Snapshot, asked: str, before: str) -> str:
    """Return the name of a patient, which stays as it is where another name of the same one is asked for."""
    is_same = not asked or snapshot.persons.name(asked) == snapshot.persons.name(before)
    return before if is_same else asked


def _named_changes(before: Relabel, after: Relabel) -> list[str]:
    changed = [
        name
        for name in ("patient", "study", "fold", "split")
        if getattr(before, name) != getattr(after, name)
    ]
    if before.label != after.label:
        changed.append(f"label {before.label or 'none'} to {after.label}")
    return changed
