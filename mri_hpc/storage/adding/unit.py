"""A unit: sources that a task has gathered before it seals them into a chunk and a commit."""

import functools
import itertools
import math
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mri_hpc.base.access import publish_private
from mri_hpc.intake.decoding.coded import crc32
from mri_hpc.intake.decoding.decoders import library_versions
from mri_hpc.intake.decoding.dicom.deidentification import codes_of, dates_of
from mri_hpc.intake.decoding.left_out import shows_head
from mri_hpc.intake.decoding.recipe import Recipe
from mri_hpc.intake.decoding.samples import Sample
from mri_hpc.intake.decoding.window import Window
from mri_hpc.intake.files.fingerprint import Fingerprint
from mri_hpc.intake.labels.label import Label
from mri_hpc.storage.disk import chunk_file
from mri_hpc.storage.disk.columns import COLUMNS, TEXTS, chunk_id
from mri_hpc.storage.disk.commits import (
    Deidentified,
    GroupWindow,
    Rejection,
    StoredStack,
    commit_id,
    publish_commit,
)
from mri_hpc.storage.disk.layout import StoreDir
from mri_hpc.storage.disk.private_tables import SEEN, names_csv
from mri_hpc.storage.snapshot.presence import keep_there, publish_and_commit


@dataclass(frozen=True, kw_only=True)
class SeenSource:
    """A source that was read, and is stored as it was then."""

    key: int
    fingerprint: Fingerprint


@dataclass(frozen=True, kw_only=True)
class UsedWindow:
    """The window in which a source was decoded, and of which group it is."""

    group: str
    """Name in the store."""
    window: Window
    is_recorded: bool
    """True where an earlier task has found it."""
    outside: int
    """Images of the source of which more than 1 % of the pixels lie outside it, where it was there before."""


@dataclass(frozen=True, kw_only=True)
class TakenSource(SeenSource):
    """A source whose images become part of the store."""

    path: str
    generation: int
    """Number of times that the source was replaced before."""
    label: Label
    patient: str
    """Name in the store; empty where unknown."""
    study: str
    """Name in the store; empty where unknown."""
    image_keys: Sequence[int]
    """Of each sample."""
    kind: str = ""
    """Kind of sequence; empty where it is not told."""
    scanner: str = ""
    """Manufacturer and model; empty where they are not told."""
    date: str = ""
    """Shifted day on which it was taken, as 2019-05-31; empty where none is kept."""
    samples: Sequence[Sample]
    window: UsedWindow | None = None
    """None where none was needed, or none could be found."""

    @property
    def images(self) -> Iterator[tuple[int, Sample]]:
        """Key and sample of each image."""
        return zip(self.image_keys, self.samples, strict=True)


@dataclass(frozen=True, kw_only=True)
class RejectedSource:
    """A source that did not become a sample."""

    rejection: Rejection
    path: str


@dataclass(kw_only=True)
class Unit:
    """Sources that one unit has gathered, by outcome."""

    taken: list[TakenSource] = field(default_factory=list)
    rejected: list[RejectedSource] = field(default_factory=list)
    already_there: list[SeenSource] = field(default_factory=list)
    """Sources that were read and found to be stored."""
    rejected_again: list[str] = field(default_factory=list)
    """Reasons of rejections that an earlier commit lists already."""
    new_bytes: list[int] = field(default_factory=list)
    """Hashes of the sources that were taken, but for those that were stored with the same bytes."""
    surplus: set[int] = field(default_factory=set)
    """Keys of the stored slices that stacks taken here have no longer."""
    gone: int = 0
    masks: int = 0
    empty: int = 0
    no_head: int = 0
    has_stacks: bool = False

    def take(self, source: TakenSource) -> None:
        """Add a source that is to be stored."""
        self.taken.append(source)
        self.has_stacks |= len(source.samples) > 1

    def with_head(self, samples: list[Sample], *, is_skipping: bool) -> list[Sample]:
        """Return the samples that are stored, and count those among them that show no head."""
        heads = [sample for sample in samples if shows_head(sample)]
        if is_skipping:
            return heads
        self.no_head += len(samples) - len(heads)
        return samples

    def is_full(self, most_images: int) -> bool:
        """Tell whether sources of several images have filled the unit before its time."""
        return self.has_stacks and self.num_images >= most_images

    @property
    def rejections(self) -> list[Rejection]:
        """As the commit lists them."""
        return [source.rejection for source in self.rejected]

    @property
    def samples(self) -> Iterator[Sample]:
        """Yield those of the chunk."""
        return itertools.chain.from_iterable(source.samples for source in self.taken)

    def samples_by_key(self) -> Iterator[tuple[int, Sample]]:
        """Yield key and sample of each image of the chunk."""
        return itertools.chain.from_iterable(source.images for source in self.taken)

    @property
    def num_images(self) -> int:
        """Images of the chunk."""
        return sum(len(source.samples) for source in self.taken)


def seal(store: StoreDir, recipe: Recipe, unit: Unit) -> None:
    """Publish a unit: the private mapping, then the chunk, then the commit that makes it visible."""
    columns = columns_of(unit.taken) if unit.taken else {}
    name = chunk_id(columns, recipe.digest()) if columns else ""
    commit_name = commit_id(name, unit.rejections)
    _publish_seen(store, commit_name, unit)
    if not unit.taken and not unit.rejected:
        return
    publish_private(store.names / f"{commit_name}.csv", names_csv(_names(unit)))
    publish = functools.partial(_publish_chunk, store.chunk(name), unit, columns, recipe)
    commit = functools.partial(
        publish_commit,
        store, chunk=name, images=unit.num_images, rejected=unit.rejections, versions=_versions(),
        windows=windows_of(unit.taken), stacks=stacks_of(unit.samples_by_key()),
        deidentified=deidentified(unit.taken, recipe),
    )  # fmt: skip
    publish_and_commit(store, name, publish, commit)
    keep_there(store, name, publish)


def _publish_chunk(path: Path, unit: Unit, columns: Mapping[str, np.ndarray], recipe: Recipe) -> bool:
    images = [sample.pixels[np.newaxis] for source in unit.taken for sample in source.samples]
    shape = (len(images), *images[0].shape[1:])
    attributes = {"recipe_digest": recipe.digest(), "chunk_id": path.stem}
    attributes |= {f"version_{library}": version for library, version in _versions().items()}
    return chunk_file.publish_chunk_of_parts(
        path, lambda: images, shape, columns, attributes, bits=recipe.bits
    )


def columns_of(sources: Sequence[TakenSource]) -> dict[str, np.ndarray]:
    """Return the columns of the chunk that sources become."""
    rows = [(source, key, sample) for source in sources for key, sample in source.images]
    values: Mapping[str, list[object]] = {
        "key": [key for _, key, _ in rows],
        "source_hash": [source.fingerprint.source_hash for source, _, _ in rows],
        "generation": [source.generation for source, _, _ in rows],
        "crc": [crc32(sample.pixels.data) for _, _, sample in rows],
        "fold": [source.label.fold for source, _, _ in rows],
        "split": [source.label.split for source, _, _ in rows],
        "slice_index": [sample.slice_index for _, _, sample in rows],
        "position": [sample.position for _, _, sample in rows],
        "plane": [_plane(source.label, sample)[0] for source, _, sample in rows],
        "plane_inferred": [_plane(source.label, sample)[1] for source, _, sample in rows],
        "box": [_placed_box(source.label, sample) for source, _, sample in rows],
    }
    columns = {
        c.name: np.array(values[c.name], c.dtype).reshape((-1, c.width) if c.width > 1 else -1)
        for c in COLUMNS
    }
    names = {
        "label": [sample.label or source.label.label for source, _, sample in rows],
        "patient": [source.patient for source, _, _ in rows],
        "study": [source.study for source, _, _ in rows],
        "kind": [source.kind for source, _, _ in rows],
        "scanner": [source.scanner for source, _, _ in rows],
        "site": [source.label.site for source, _, _ in rows],
        "date": [source.date for source, _, _ in rows],
    }
    return columns | {name: np.array([text.encode() for text in names[name]], np.bytes_) for name in TEXTS}


def windows_of(sources: Iterable[TakenSource]) -> list[GroupWindow]:
    """Return the windows in which sources were decoded, by group, each with the images that it made."""
    found: dict[str, GroupWindow] = {}
    images: dict[str, dict[str, int]] = {}
    for source in sources:
        if source.window:
            group = source.window.group
            made = images.setdefault(group, {})
            made |= {f"{key:016x}": crc32(sample.pixels.data) for key, sample in source.images}
            found[group] = GroupWindow(
                group=group,
                patient=source.patient,
                low=source.window.window.low,
                high=source.window.window.high,
                images=made,
            )
    return [found[group] for group in sorted(found)]


def stacks_of(images: Iterable[tuple[int, Sample]]) -> list[StoredStack]:
    """Return where slices of volumes lie, a record a volume and plane. images: keys and samples, in order."""
    found: dict[int, tuple[Sample, dict[str, int]]] = {}
    for key, sample in images:
        if sample.stack:
            _first, crcs = found.setdefault(id(sample.stack), (sample, {}))
            crcs[f"{key:016x}"] = crc32(sample.pixels.data)
    return [_stored_stack(sample, crcs) for sample, crcs in found.values()]


def _stored_stack(sample: Sample, crcs: Mapping[str, int]) -> StoredStack:
    """Move from pixels of the picture to those of the stored image: their edges lie upon each other.

    Of a picture 100 pixels wide that takes the columns 62 to 162 of the image, column 62 is its first.
    """
    stack, size = sample.stack, sample.pixels.shape[0]
    assert stack
    left, top, width, height = (part * size for part in sample.placed)
    to_picture = np.zeros((4, 4))
    for axis, (begin, taken, whole) in enumerate(
        ((left, width, stack.shape[1]), (top, height, stack.shape[0]))
    ):
        to_picture[axis, axis] = whole / taken
        to_picture[axis, 3] = (0.5 - begin) * whole / taken - 0.5
    to_picture[2, 2] = to_picture[3, 3] = 1
    affine = np.round(stack.affine @ to_picture, 6) + 0.0
    return StoredStack(affine=affine.tolist(), low=stack.window.low, high=stack.window.high, images=crcs)


def deidentified(sources: Iterable[TakenSource], recipe: Recipe) -> Deidentified | None:
    """Return how sources of DICOM were de-identified; None where none is."""
    found = [one for source in sources if (one := source.samples[0].statements) is not None]
    if not found:
        return None
    counts = Counter(statement for statements in found for statement in statements)
    return Deidentified(
        sources=len(found),
        by=codes_of(recipe),
        dates=dates_of(recipe),
        statements=dict(sorted(counts.items())),
    )


def _plane(label: Label, sample: Sample) -> tuple[int, bool]:
    """Return the plane, and whether it is inferred: the scanner's word goes before a table's."""
    return (label.plane, label.plane_inferred) if sample.plane < 0 else (sample.plane, sample.plane_inferred)


def _placed_box(label: Label, sample: Sample) -> tuple[float, float, float, float]:
    """Turn a box in fractions of the source picture into fractions of the stored image."""
    cx, cy, w, h = label.box if math.isnan(sample.box[0]) else sample.box
    left, top, width, height = sample.placed
    return left + cx * width, top + cy * height, w * width, h * height


@functools.cache
def _versions() -> dict[str, str]:
    return {**chunk_file.versions(), **library_versions()}


def _names(unit: Unit) -> Iterator[tuple[str, ...]]:
    """Yield rows as in private_tables.NAMES."""
    for source in unit.taken:
        patient, study = source.label.patient, source.label.study
        for key in source.image_keys:
            yield f"{key:016x}", source.path, patient, source.patient, study, source.study, ""
    for rejected in unit.rejected:
        yield rejected.rejection.key, rejected.path, "", "", "", "", rejected.rejection.reason


def _publish_seen(store: StoreDir, commit: str, unit: Unit) -> None:
    rows = sorted(_seen_row(source) for source in (*unit.already_there, *unit.taken))
    if not rows:
        return
    table = np.array(rows, SEEN).tobytes()
    # Files that were only read again have no commit; their name still follows from what they say.
    name = commit if unit.taken or unit.rejected else f"again-{zlib.crc32(table):08x}"
    publish_private(store.seen / f"{name}.bin", table)


def _seen_row(source: SeenSource) -> tuple[int, int, int, int]:
    """Return a row as in private_tables.SEEN."""
    found = source.fingerprint
    return source.key, found.size, found.mtime_ns, found.source_hash
