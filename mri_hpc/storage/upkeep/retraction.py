"""Retraction: a patient, or an image, leaves the store for good. Tombstones keep them from coming back.

Order: the commit that retracts, then chunks without the images, then the old files and the private lines go.
Killed on the way, it is ended by doing it again, or by the next compaction.
"""

import functools
import os
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mri_hpc.base.errors import UserError
from mri_hpc.intake.decoding.recipe import load_recipe
from mri_hpc.intake.labels.persons import writings
from mri_hpc.intake.labels.pseudonyms import Pseudonyms, pseudonyms_of
from mri_hpc.storage.disk.commits import publish_retraction
from mri_hpc.storage.disk.layout import StoreDir
from mri_hpc.storage.disk.private_tables import KEY, find_in_names, sources_of
from mri_hpc.storage.snapshot.catalogue import current
from mri_hpc.storage.snapshot.folding import positions
from mri_hpc.storage.snapshot.frames import frames_of
from mri_hpc.storage.snapshot.table import Snapshot
from mri_hpc.storage.upkeep.compaction import Compacted, compact

PSEUDONYM = re.compile(r"P[A-Z2-7]{16}")


@dataclass(frozen=True, kw_only=True)
class Retraction:
    """A patient who is to be taken out, with all that the store has of them; or images by themselves."""

    patient: str = ""
    """Name in the store, of several the one by which the patient goes; empty where images are taken out, and
    other images of a patient may stay."""
    names: tuple[str, ...] = ()
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
        pseudonyms = pseudonyms_of(ids=recipe.ids, site=recipe.site, key_file=key_file, group=store.group)
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


def look_for_images(store: StoreDir, given: Sequence[str], pseudonyms: Pseudonyms) -> Retraction:
    """Find images that are named by key, or by the path of their file, below its root or from here.

    UserError where the store has, and had, none of that name, or several of one path.
    """
    snapshot = current(store)
    frames = functools.partial(_frames_of, store, snapshot)
    keys = {_key_of(store, snapshot, name, pseudonyms, frames): name for name in given}
    by_path = {key for key, name in keys.items() if not KEY.fullmatch(name)}
    return of_keys(snapshot, {*keys, *frames(by_path)})


def of_keys(snapshot: Snapshot, keys: Collection[int]) -> Retraction:
    """Make the retraction of images by themselves. snapshot: the current one."""
    wanted = np.unique(np.fromiter(keys, "<u8", len(keys)))
    is_stored, _rows = positions(snapshot.key, wanted)
    return Retraction(keys=tuple(wanted.tolist()), images=int(is_stored.sum()), snapshot=snapshot)


def _frames_of(store: StoreDir, snapshot: Snapshot, keys: set[int]) -> set[int]:
    """Find the further stored images of sources that hold several. keys: of one image of each."""
    stored = np.sort(np.fromiter(keys, "<u8", len(keys)))
    paths = sources_of(store, stored[positions(snapshot.key, stored)[0]].tolist())
    return set(frames_of(store, snapshot, paths))


def _key_of(
    store: StoreDir,
    snapshot: Snapshot,
    given: str,
    pseudonyms: Pseudonyms,
    frames: Callable[[set[int]], set[int]],
) -> int:
    """Return the key of an image that is named by it or by a path; UserError where there is not just one."""
    if KEY.fullmatch(given) and _is_known(snapshot, key := int(given, 16)):
        return key
    parts = _parts(given)
    below = (("/".join(parts[at:]), parts[at - 1]) for at in range(2, len(parts)))
    found = {key for path, root in below if _is_known(snapshot, key := pseudonyms.source_key(root, path))}
    found = found or {key for key in _keys_of_path(store, given, parts) if _is_known(snapshot, key)}
    if len(found) > 1:
        found = _one_of_each(found, frames)
    if len(found) == 1:
        return found.pop()
    if found:
        keys = ", ".join(f"{key:016x}" for key in sorted(found))
        raise UserError(f"{store.path} has {len(found)} images of a file {given!r}: name one by key: {keys}")
    raise UserError(
        f"{store.path} has no image {given!r}: name it by key, or by the path of its file below the source"
    )


def _one_of_each(keys: set[int], frames: Callable[[set[int]], set[int]]) -> set[int]:
    """Pick one of the images of each source."""
    picked, left = set[int](), set(keys)
    while left:
        picked.add(min(left))
        left -= {min(left)} | frames({min(left)})
    return picked


def _parts(given: str) -> tuple[str, ...]:
    """Return the folders and the name of a path from the root on, by its writing: the file may be gone."""
    return Path(os.path.normpath(Path.cwd() / given)).parts


def _is_known(snapshot: Snapshot, key: int) -> bool:
    """Tell whether an image is stored, or was until it was retracted."""
    return bool(positions(snapshot.key, np.array([key], "<u8"))[0][0]) or snapshot.retractions.covers(
        [key], ""
    )


def _keys_of_path(store: StoreDir, path: str, parts: Sequence[str]) -> set[int]:
    """Find keys of sources with this path below whatever root, or which it names from a known root on.

    parts: of the path from / on.
    """
    from mri_hpc.storage.adding.roots import read_roots

    roots = {one.name for one in read_roots(store)}
    below = {"/".join(parts[at:]) for at in range(2, len(parts)) if parts[at - 1] in roots}

    def listed(rows: list[dict[str, str]]) -> set[int]:
        return {int(row["key"], 16) for row in rows if row["path"] in (path, *below)}

    return set().union(*find_in_names(store, listed).values())


def retract(store: StoreDir, retraction: Retraction, why: str) -> Compacted:
    """Take a patient, or images, out of the newest snapshot, the chunks and the private tables."""
    publish_retraction(store, retraction.keys, retraction.names, why)
    return remove_retracted(store, since=retraction.snapshot)


def remove_retracted(store: StoreDir, *, since: Snapshot | None = None) -> Compacted:
    """Take what is retracted out of the chunks and the private tables. since: the store a moment ago."""
    store.forget_pictures()
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
