"""Relabelling: other labels, patients, studies, folds and splits, without decoding an image."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mri_hpc.base.errors import UserError
from mri_hpc.intake.decoding.dicom.listing import OF_SERIES
from mri_hpc.intake.files.sources import root_at_site
from mri_hpc.intake.files.units import cut
from mri_hpc.intake.labels.label import Label
from mri_hpc.intake.labels.persons import writings
from mri_hpc.intake.labels.pseudonyms import Pseudonyms
from mri_hpc.storage.disk.commits import Relabel, publish_relabel
from mri_hpc.storage.disk.layout import StoreDir
from mri_hpc.storage.disk.private_tables import sources_of
from mri_hpc.storage.snapshot.frames import frames_of
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
    """Rows that say what the store says, or what another one of the same series says."""
    unknown: Sequence[str]
    """Paths of which the store holds no image."""


def find_relabelling(
    store: StoreDir,
    snapshot: Snapshot,
    rows: Mapping[str, Label],
    *,
    root_name: str,
    pseudonyms: Pseudonyms,
    series: Mapping[str, str],
    without_lesion: str = "",
) -> Relabelling:
    """Find what to change so that the store says what the rows say; an empty cell changes nothing.

    What is said of a file holds for all its slices, but for those that a mask gave the class of slices
    `without_lesion`, which keep it. series: id of that of which a file is, by path, where it is of one.
    """
    revisions = dict(
        zip(snapshot.relabels["key"].tolist(), snapshot.relabels["revision"].tolist(), strict=True)
    )
    path_of, unknown = _sources(snapshot, rows, root_name, pseudonyms, series)
    relabels, changes, changed_sources = [], Counter[str](), set[str]()
    for path, keys in _images(store, snapshot, path_of).items():
        spared = _spared(snapshot, keys, without_lesion)
        for key in keys:
            before = _stored(snapshot, key, revisions.get(key, 0))
            label = replace(rows[path], label="") if key in spared else rows[path]
            after = _relabelled(snapshot, before, label, pseudonyms)
            if after == before:
                continue
            if snapshot.retractions.covers((), after.patient):
                raise UserError(
                    f"{path} is given to a patient who was retracted from this store: change that row"
                )
            relabels.append(after)
            changed_sources.add(path)
            changes.update(_named_changes(before, after))
    unchanged = len(rows) - len(unknown) - len(changed_sources)
    return Relabelling(relabels=relabels, changes=changes, unchanged=unchanged, unknown=unknown)


def _sources(
    snapshot: Snapshot,
    rows: Mapping[str, Label],
    root_name: str,
    pseudonyms: Pseudonyms,
    series: Mapping[str, str],
) -> tuple[dict[int, str], list[str]]:
    """Return paths of stored sources by key, and those of which nothing is stored; UserError on a clash."""
    keys_of = {
        path: [
            pseudonyms.source_key(root_at_site(root_name, label.site), name)
            for name in (*writings(path), *([f"{OF_SERIES}{series[path]}"] if path in series else []))
        ]
        for path, label in rows.items()
    }
    wanted = np.unique(np.array([key for keys in keys_of.values() for key in keys], "<u8"))
    stored = set(np.intersect1d(snapshot.key, wanted, assume_unique=True).tolist())
    path_of: dict[int, str] = {}
    unknown = []
    for path, keys in keys_of.items():
        key = next((key for key in keys if key in stored), None)
        if key is None:
            unknown.append(path)
        elif repr(rows[path_of.setdefault(key, path)]) != repr(rows[path]):
            raise UserError(
                f"{path_of[key]} and {path} are files of one series, and their rows differ: keep one of them"
            )
    return path_of, unknown


def _images(store: StoreDir, snapshot: Snapshot, path_of: dict[int, str]) -> dict[str, list[int]]:
    """Return the keys of all images of sources, by path. path_of: that of each source, by its key."""
    keys = np.fromiter(path_of, "<u8", len(path_of))
    rows = np.searchsorted(snapshot.key, keys)
    stacks = keys[snapshot.slice_index[rows] >= 0].tolist()
    listed = sources_of(store, stacks)
    if len(listed) < len(stacks):
        file = path_of[next(key for key in stacks if key not in listed)]
        raise UserError(
            f"{store.names} does not tell this user which slices are of {file}: ask the store's owner, or "
            "restore that folder from a backup"
        )

    def source_of(key: int, path: str) -> tuple[str, int]:
        return path, int(snapshot.source_hash[np.searchsorted(snapshot.key, key)])

    whose = {source_of(key, path): path_of[key] for key, path in listed.items()}
    found = {path: [key] for key, path in path_of.items()}
    for key, path in frames_of(store, snapshot, listed).items():
        found[whose[source_of(key, path)]].append(key)
    return found


def _spared(snapshot: Snapshot, keys: Sequence[int], without_lesion: str) -> set[int]:
    """Find the images of one source to which a mask gave the class of slices without a lesion."""
    if not without_lesion or len(keys) == 1:
        return set()
    rows = np.searchsorted(snapshot.key, np.array(keys, "<u8"))
    is_without = snapshot.ingested_labels(rows) == without_lesion.encode()
    return set() if is_without.all() else set(np.array(keys, "<u8")[is_without].tolist())


def publish(store: StoreDir, relabelling: Relabelling, why: str) -> None:
    """Publish the relabels of a relabelling."""
    for part in cut(sorted(relabelling.relabels), MOST_IN_A_COMMIT):
        publish_relabel(store, part, why)


def _stored(snapshot: Snapshot, key: int, revision: int) -> Relabel:
    """Return what the store says about an image now."""
    row = int(np.searchsorted(snapshot.key, key))
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
