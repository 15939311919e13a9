"""A unit: what a task has gathered before it is sealed into a chunk and a commit."""

import functools
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mri_hpc.base.atomic import publish_new_bytes
from mri_hpc.intake.labels import Label
from mri_hpc.intake.pictures import library_versions
from mri_hpc.intake.pseudonyms import Pseudonyms
from mri_hpc.intake.recipe import Recipe
from mri_hpc.intake.samples import Sample
from mri_hpc.storage.disk import chunk_file as chunk_file
from mri_hpc.storage.disk.columns import COLUMNS, STRINGS, chunk_id
from mri_hpc.storage.disk.commits import Rejection, commit_id, publish_commit
from mri_hpc.storage.disk.layout import StoreDir
from mri_hpc.storage.disk.private_tables import SEEN, names_csv
from mri_hpc.storage.snapshot.presence import keep_there, publish_and_commit


@dataclass(kw_only=True)
class Unit:
    """What one unit has gathered."""

    samples: list[tuple[int, int, int, Label, Sample]] = field(default_factory=list)
    """(key, source hash, generation, label, sample)"""
    rejected: list[Rejection] = field(default_factory=list)
    seen: list[tuple[int, int, int, int]] = field(default_factory=list)
    """As in SEEN."""
    names: list[tuple[str, ...]] = field(default_factory=list)
    """(key, path, patient id, its pseudonym, study id, its pseudonym)"""
    rejected_paths: list[tuple[str, str, str]] = field(default_factory=list)
    """(key, path, reason)"""
    rejected_again: list[str] = field(default_factory=list)
    """Reasons of rejections that an earlier commit lists already."""
    already_there: int = 0
    gone: int = 0
    twins: int = 0

    def reject(self, rejection: Rejection, path: str) -> None:
        """Note a source that did not become a sample."""
        self.rejected.append(rejection)
        self.rejected_paths.append((rejection.key, path, rejection.reason))


def seal(store: StoreDir, recipe: Recipe, pseudonyms: Pseudonyms, unit: Unit) -> None:
    """Publish a unit: the private mapping, then the chunk, then the commit that makes it visible."""
    columns = columns_of(unit, pseudonyms) if unit.samples else {}
    name = chunk_id(columns, recipe.digest()) if columns else ""
    commit_name = commit_id(name, unit.rejected)
    _publish_seen(store, commit_name, unit)
    if not unit.samples and not unit.rejected:
        return
    publish_new_bytes(store.names / f"{commit_name}.csv", names_csv(_names(unit)), is_private=True)
    publish = functools.partial(_publish_chunk, store.chunk(name), unit, columns, recipe)
    commit = functools.partial(
        publish_commit,
        store, chunk=name, images=len(unit.samples), rejected=unit.rejected, versions=_versions(),
    )  # fmt: skip
    publish_and_commit(store, name, publish, commit)
    keep_there(store, name, publish)


def _publish_chunk(path: Path, unit: Unit, columns: Mapping[str, np.ndarray], recipe: Recipe) -> bool:
    images = [sample.pixels[np.newaxis] for *_rest, sample in unit.samples]
    shape = (len(images), *images[0].shape[1:])
    attributes = {"recipe_digest": recipe.digest(), "chunk_id": path.stem}
    attributes |= {f"version_{library}": version for library, version in _versions().items()}
    return chunk_file.publish_chunk_of_parts(path, lambda: images, shape, columns, attributes)


def columns_of(unit: Unit, pseudonyms: Pseudonyms) -> dict[str, np.ndarray]:
    """Columns of the chunk that a unit becomes."""
    rows = unit.samples
    values: Mapping[str, list[object]] = {
        "key": [key for key, *_ in rows],
        "source_hash": [source_hash for _, source_hash, *_ in rows],
        "generation": [generation for _, _, generation, *_ in rows],
        "crc": [zlib.crc32(sample.pixels.data) for *_, sample in rows],
        "fold": [label.fold for *_, label, _ in rows],
        "split": [label.split for *_, label, _ in rows],
        "slice_index": [sample.slice_index for *_, sample in rows],
        "position": [sample.position for *_, sample in rows],
        "plane": [_plane(label, sample)[0] for *_, label, sample in rows],
        "plane_inferred": [_plane(label, sample)[1] for *_, label, sample in rows],
        "box": [_placed_box(label, sample) for *_, label, sample in rows],
    }
    columns = {
        c.name: np.array(values[c.name], c.dtype).reshape((-1, c.width) if c.width > 1 else -1)
        for c in COLUMNS
    }
    names = {
        "label": [label.label for *_, label, _ in rows],
        "patient": [pseudonyms.patient(label.patient) for *_, label, _ in rows],
        "study": [pseudonyms.study(label.study) for *_, label, _ in rows],
    }
    return columns | {name: np.array([text.encode() for text in names[name]], np.bytes_) for name in STRINGS}


def _plane(label: Label, sample: Sample) -> tuple[int, bool]:
    """What the scanner wrote goes before what somebody wrote into a table."""
    return (label.plane, label.plane_inferred) if sample.plane < 0 else (sample.plane, sample.plane_inferred)


def _placed_box(label: Label, sample: Sample) -> tuple[float, float, float, float]:
    """A box in fractions of the source picture as fractions of the stored image."""
    cx, cy, w, h = label.box
    left, top, width, height = sample.placed
    return left + cx * width, top + cy * height, w * width, h * height


@functools.cache
def _versions() -> dict[str, str]:
    return {**chunk_file.versions(), **library_versions()}


def _names(unit: Unit) -> Iterator[tuple[str, ...]]:
    yield from ((*row, "") for row in unit.names)
    yield from ((key, path, "", "", "", "", reason) for key, path, reason in unit.rejected_paths)


def _publish_seen(store: StoreDir, commit: str, unit: Unit) -> None:
    if not unit.seen:
        return
    table = np.array(sorted(unit.seen), SEEN).tobytes()
    # Files that were only read again have no commit; their name still follows from what they say.
    name = commit if unit.samples or unit.rejected else f"again-{zlib.crc32(table):08x}"
    publish_new_bytes(store.seen / f"{name}.bin", table, is_private=True)
