"""Invariants of a store, whatever was done to it and whatever was killed."""

import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from mri_hpc.base.errors import UserError
from mri_hpc.intake.decoding.decoders import decode, decode_natively
from mri_hpc.intake.decoding.recipe import Recipe, load_recipe
from mri_hpc.intake.decoding.window import Window, window_of
from mri_hpc.intake.files.content import in_memory
from mri_hpc.storage.store import Snapshot, Store
from mri_hpc.testing.model import Image, StoreModel
from mri_hpc.testing.workbench import Workbench

Row = tuple[int, str, str]
"""An image as a snapshot tells of it: hash of its source, label, name of its patient."""


def problems(bench: Workbench, model: StoreModel) -> list[str]:
    """List every way in which the store is not as the model says; none where all promises are kept."""
    if not bench.has_store:
        return [f"there is no store, and {len(model.images)} images should be in it"] if model.images else []
    store = bench.store
    found = [*store.verify().problems, *open_private_files(store.names.parent)]
    snapshot = store.current()
    found += [*different_rows(bench, snapshot, model), *different_counts(store, snapshot)]
    if not found:
        found += different_pixels(bench, store, snapshot, model.images)
        found += lost_snapshots(bench, store, model)
    if model.is_purged:
        recipe = load_recipe(store.recipe)
        gone = [pixels_of(source, recipe, window) for source, window in model.gone_versions()]
        found += [f"{path} still holds pixels of a retracted patient" for path in holding(store.path, gone)]
    return found


def different_rows(bench: Workbench, snapshot: Snapshot, model: StoreModel) -> list[str]:
    """List images that are missing, too many, twice, or told of otherwise than by the model."""
    rows, wanted = rows_of(snapshot), wanted_rows(bench, model.images)
    found = [f"image {key:016x} should not be there" for key in rows.keys() - wanted.keys()]
    if len(rows) < len(snapshot):
        found.append(f"{len(snapshot) - len(rows)} images are there twice")
    for path, (key, row) in zip(model.images, wanted.items(), strict=True):
        if key not in rows:
            found.append(f"{path} is missing")
        elif rows[key] != row:
            found.append(f"{path} is {rows[key]}, and should be {row}")
    return found


def different_counts(store: Store, snapshot: Snapshot) -> list[str]:
    """List what is told of all images by what has changed, and is not what counting them gives."""
    wanted, found = plain_counts(snapshot), asdict(store.grown().counts)
    kept = asdict(store.totals())
    return [
        f"{name} is {found[name]}, in the totals {kept[name]}, and should be {value}"
        for name, value in wanted.items()
        if not found[name] == kept[name] == value
    ]


def plain_counts(snapshot: Snapshot) -> dict[str, Any]:
    """Count all images of a snapshot, one by one."""
    every = slice(0, len(snapshot))
    columns = snapshot.text("label", every), snapshot.text("patient", every)
    labels, patients = ([name.decode() for name in column.tolist()] for column in columns)
    splits = [str(split) if split >= 0 else "" for split in snapshot.split.tolist()]
    hashes = [str(source_hash) for source_hash in snapshot.source_hash.tolist()]
    numbers, planes = snapshot.slice_index.tolist(), snapshot.plane.tolist()
    slices = [
        (source_hash, number, plane if number >= 0 else -1)
        for source_hash, number, plane in zip(hashes, numbers, planes, strict=True)
    ]
    return {
        "images": len(snapshot),
        "patients": len({*patients} - {""}),
        "images_without_patient": patients.count(""),
        "classes": Counter(label for label in labels if label),
        "images_without_label": labels.count(""),
        "twins": len(snapshot) - len(set(slices)),
        "several": {
            "patients_of_classes": _num_of_several(patients, labels),
            "patients_of_splits": _num_of_several(patients, splits),
            "bytes_of_classes": _num_of_sources(slices, labels),
            "bytes_of_patients": _num_of_sources(slices, patients),
        },
    }


def _num_of_several(names: Sequence[str], values: Sequence[str]) -> int:
    """Count the names with several values; an empty name, or value, is unknown."""
    found = defaultdict(set)
    for name, value in zip(names, values, strict=True):
        found[name].update({value} - {""})
    return sum(len(several) > 1 for name, several in found.items() if name)


def _num_of_sources(slices: Sequence[tuple[str, int, int]], values: Sequence[str]) -> int:
    """Count the sources of which a slice has several values."""
    found = defaultdict(set)
    for one, value in zip(slices, values, strict=True):
        found[one].update({value} - {""})
    return len({source_hash for (source_hash, *_where), several in found.items() if len(several) > 1})


def rows_of(snapshot: Snapshot) -> dict[int, Row]:
    """Rows of a snapshot, by key."""
    every = slice(0, len(snapshot))
    columns = snapshot.text("label", every), snapshot.text("patient", every)
    labels, patients = ([name.decode() for name in column.tolist()] for column in columns)
    rows = zip(snapshot.source_hash.tolist(), labels, patients, strict=True)
    return dict(zip(snapshot.key.tolist(), rows, strict=True))


def wanted_rows(bench: Workbench, images: Mapping[str, Image]) -> dict[int, Row]:
    """Rows that a snapshot should have, by key, in the order of `images`."""
    name_of = bench.pseudonyms.patient
    return {
        bench.key_of(path): (
            in_memory(image.source).fingerprint.source_hash, image.label, name_of(image.patient),
        )
        for path, image in images.items()
    }  # fmt: skip


def different_pixels(
    bench: Workbench, store: Store, snapshot: Snapshot, images: Mapping[str, Image]
) -> list[str]:
    """List images of a snapshot whose pixels or CRC are not what their source is decoded to."""
    recipe, keys, found = load_recipe(store.recipe), snapshot.key.tolist(), []
    paths = {bench.key_of(path): path for path in images}
    with store.reader(snapshot) as reader:
        stored = reader.read(np.arange(len(snapshot)))
    for key, pixels, crc in zip(keys, stored, snapshot.crc.tolist(), strict=True):
        path = paths.get(key)
        if path is None:
            found.append(f"snapshot {snapshot.digest} holds {key:016x}, which nobody gave it")
        elif pixels.tobytes() != pixels_of(images[path].source, recipe, images[path].window):
            found.append(f"{path} has other pixels than its source, in snapshot {snapshot.digest}")
        elif zlib.crc32(pixels.tobytes()) != crc:
            found.append(f"{path} has another CRC than its pixels, in snapshot {snapshot.digest}")
    return found + [f"snapshot {snapshot.digest} lacks {paths[key]}" for key in paths.keys() - set(keys)]


def lost_snapshots(bench: Workbench, store: Store, model: StoreModel) -> list[str]:
    """List older snapshots that cannot be read as they were, or can though images of them were retracted."""
    found = []
    for digest, images in model.older.items():
        is_refused = model.refuses(images)
        try:
            snapshot = store.resolve(digest)
        except UserError as error:
            if not is_refused:
                found.append(f"snapshot {digest} cannot be read: {error}")
            continue
        if is_refused:
            found.append(f"snapshot {digest} can be read, and holds images of a retracted patient")
        else:
            found += different_pixels(bench, store, snapshot, images)
    return found


def open_private_files(private: Path) -> list[str]:
    """List files and folders that others than their owner may look into."""
    paths = [private, *private.rglob("*")]
    modes = {path: path.stat().st_mode & 0o777 for path in paths}
    return [
        f"{path} has mode {mode:o}"
        for path, mode in modes.items()
        if mode != (0o700 if path.is_dir() else 0o600)
    ]


def holding(folder: Path, pixels: Iterable[bytes]) -> list[Path]:
    """List files below a folder that hold any of these runs of pixels."""
    wanted = list(pixels)
    files = (path for path in folder.rglob("*") if path.is_file()) if wanted else ()
    return [path for path in files if _holds(path.read_bytes(), wanted)]


def _holds(data: bytes, wanted: Iterable[bytes]) -> bool:
    return any(pixels in data for pixels in wanted)


def pixels_of(source: bytes, recipe: Recipe, window: Window | None = None) -> bytes:
    """Decode the one sample of a source, in the window of its group."""
    (sample,) = decode(in_memory(source), recipe, window)
    return sample.pixels.tobytes()


def windows_of(images: Mapping[str, Image]) -> dict[str, Window]:
    """Windows that a group's pictures of more than 8 bits give, by patient."""
    found: dict[str, Window] = {}
    for patient in {image.patient for image in images.values() if image.is_deep}:
        group = [image.source for image in images.values() if image.is_deep and image.patient == patient]
        greys = [image.grey for source in group for image in decode_natively(in_memory(source), Recipe())]
        window = window_of(greys)
        assert window is not None, "pictures of noise always give one"
        found[patient] = window
    return found
