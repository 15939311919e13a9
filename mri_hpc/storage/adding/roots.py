"""Roots: folders from which sources came into a store, so that another one of the same name is noticed.

Where a folder lies is no part of an image's identity, and two hospitals both call theirs ``raw``. Where
most images have other bytes than those stored, they were exported again if they lie where those lay;
elsewhere they may be another hospital's, and replacing would hide the first one's.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

import numpy as np

from mri_hpc.base.access import publish_private
from mri_hpc.base.documents import convert, parse, with_format, without_format
from mri_hpc.base.errors import BadSource
from mri_hpc.intake.files.content import read_content
from mri_hpc.intake.files.sources import Sources
from mri_hpc.intake.labels.class_names import doubts_of_classes
from mri_hpc.intake.labels.doubts import Doubt
from mri_hpc.intake.labels.label import Label, label_or_reason
from mri_hpc.storage.adding.intake import Intake
from mri_hpc.storage.disk.layout import StoreDir
from mri_hpc.storage.snapshot.change import Change
from mri_hpc.storage.snapshot.grown import grown

FORMAT = 1
READ = 32
"""Images that are read to see whether they are those stored."""
LABELLED = 4096
"""Images of which the labels are looked at."""
MOST = 0.5
FEWEST_PATIENTS = 2


@dataclass(frozen=True, kw_only=True)
class Root:
    """One folder, as it was given."""

    name: str
    """By which it enters keys."""
    site: str
    """As typed; empty where none was."""
    location: str
    """Absolute path without links."""


def doubts_of_root(store: StoreDir, intake: Intake, sources: Sources) -> list[Doubt]:
    """Return doubts about a folder that lies where none of the store's has lain. sources: all that it holds.

    A few of its files are read.
    """
    here, before = _root(intake), read_roots(store)
    if here in before:
        return []
    others = [one for one in before if one.location == here.location and one.site != here.site]
    if others:
        return [_other_site(others[0])]
    now = grown(store)
    # In the order of keys, which are hashes: the first ones are a fair sample, and the same for every task.
    order = np.argsort(sources.keys)
    labels = _labels(intake, sources.take(order[:LABELLED]))
    classes = doubts_of_classes({label.label for label in labels} - {""}, now.counts.classes)
    keys = sources.keys[order]
    stored = now.change.of_keys(keys)
    if len(stored):
        hashes = dict(zip(stored.key.tolist(), stored.source_hash.tolist(), strict=True))
        there = order[np.isin(keys, stored.key)][:READ]
        return [*_changed(intake, sources.take(there), hashes), *classes]
    is_of_one_name = any((one.name, one.site) == (here.name, here.site) for one in before)
    return [*_same_patients(intake, now.change, labels, is_refused=is_of_one_name), *classes]


def note_root(store: StoreDir, intake: Intake) -> None:
    """Write down where sources came from."""
    here = _root(intake)
    text = json.dumps(with_format(FORMAT, asdict(here)))
    name = hashlib.sha256(text.encode()).hexdigest()[:32]
    file = store.roots / f"{name}.json"
    if not file.exists():
        publish_private(file, text.encode())


def _root(intake: Intake) -> Root:
    return Root(name=intake.root_name, site=intake.labels.site, location=os.path.realpath(intake.root))


def read_roots(store: StoreDir) -> list[Root]:
    """Read the folders that are written down; a record that is damaged only costs looking again."""
    found = []
    for file in sorted(store.roots.glob("[!.]*.json")):
        try:
            found.append(convert(without_format(parse(file.read_bytes()), of=file, reads=FORMAT), Root))
        except (ValueError, OSError):
            continue
    return found


def _other_site(before: Root) -> Doubt:
    given = f"with --site {before.site}" if before.site else "without --site"
    return Doubt(
        kind="site-differs",
        count=1,
        text=f"this folder was added {given} before: give it as then, else its images come in twice",
        accept="sources",
    )


def _changed(intake: Intake, sources: Sources, hashes: Mapping[int, int]) -> list[Doubt]:
    """Return a doubt where most of some stored images have other bytes here. hashes: as stored, by key."""
    looked_at = changed = 0
    for source in sources:
        try:
            content = read_content(intake.root, source.files)
        except (BadSource, FileNotFoundError):
            continue
        looked_at += 1
        changed += content.fingerprint.source_hash != hashes[source.key]
    if changed <= MOST * looked_at:
        return []
    return [
        Doubt(
            kind="other-images",
            count=changed,
            text=f"{changed} of {looked_at} images that were looked at are others than those stored under "
            f"the same paths, which lay in another folder {intake.root_name!r}: give --site NAME if they are "
            "of another site, --replace if they are the same ones, exported again",
            accept="sources",
        )
    ]


def _labels(intake: Intake, sources: Sources) -> list[Label]:
    """Return the labels of sources, but for those that have none."""
    found = (label_or_reason(intake.labels, path) for path in sources.paths)
    return [label for label, reason in found if not reason]


def _same_patients(
    intake: Intake, change: Change, labels: Iterable[Label], *, is_refused: bool
) -> list[Doubt]:
    """Return a doubt where a folder that is new brings, for the most part, patients who are stored."""
    patients = {intake.pseudonyms.patient(label.patient).encode() for label in labels if label.patient}
    known = change.patients_of(patients)
    if len(known) < max(FEWEST_PATIENTS, MOST * len(patients)):
        return []
    what = f"{len(known)} of {len(patients)} patients are stored already, with images of other folders"
    ask = "if they are other persons with the same numbers, of another site, give --site NAME"
    taken = "they are taken for the same persons; other persons with the same numbers need --site NAME"
    return [
        Doubt(
            kind="same-patients",
            count=len(known),
            text=f"{what}: {ask if is_refused else taken}",
            accept="sources" if is_refused else None,
        )
    ]
