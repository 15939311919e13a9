"""Salvage of damaged chunks: their columns and pixels, wherever else they are known.

Columns count only where they give the chunk its name, pixels only where they give the CRC in the columns.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from mri_hpc.base.errors import BadSource
from mri_hpc.intake.decoding.decoders import decode
from mri_hpc.intake.decoding.dicom.listing import Series, find_series
from mri_hpc.intake.decoding.masks import find_masks
from mri_hpc.intake.decoding.recipe import Recipe
from mri_hpc.intake.decoding.window import Window
from mri_hpc.intake.files.content import read_content
from mri_hpc.intake.files.sources import Source, list_sources, root_name
from mri_hpc.intake.labels.label import Labels
from mri_hpc.intake.labels.pseudonyms import Pseudonyms
from mri_hpc.intake.own_labels import OwnLabels
from mri_hpc.storage.adding.intake import Intake
from mri_hpc.storage.adding.unit import TakenSource, columns_of
from mri_hpc.storage.disk.chunk_file import content_id, read_header, read_sealed_header
from mri_hpc.storage.disk.columns import COLUMNS, TEXTS, ChunkHeader, chunk_id, joined
from mri_hpc.storage.disk.commits import ADD, RETRACT, SAME, Commit, read_kind
from mri_hpc.storage.disk.damage import UNREADABLE
from mri_hpc.storage.disk.layout import StoreDir
from mri_hpc.storage.disk.pixels import Pixels, is_sound, pixels_in, read_parts
from mri_hpc.storage.disk.private_tables import find_in_names, read_names, sources_of
from mri_hpc.storage.snapshot import relabels
from mri_hpc.storage.snapshot.catalogue import load_snapshot
from mri_hpc.storage.snapshot.persons import Persons, merged
from mri_hpc.storage.snapshot.publications import published
from mri_hpc.storage.snapshot.retractions import of_commits
from mri_hpc.storage.snapshot.table import Snapshot
from mri_hpc.storage.upkeep.verify import Findings

Columns = Mapping[str, np.ndarray]

NOT_NAMED = "its source is neither named in the private folder nor below --source"
GONE = "its source is gone"
CHANGED = "its source has other bytes than those that were stored"
OTHER_PIXELS = "its source is decoded to other pixels here than where it was stored"


@dataclass(frozen=True, kw_only=True)
class Lost:
    """An image that cannot be made again."""

    key: int
    source: str
    """Path below the source root; empty: not known."""
    why: str


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The sources of a store, and all by which they were stored."""

    root: Path
    recipe: Recipe
    labels: Labels
    """By which they were stored."""
    pseudonyms: Callable[[], Pseudonyms]
    """By which patients were named; UserError where the site's key is not at hand."""


class Salvage:
    """Looks for columns and pixels of damaged chunks of one store."""

    def __init__(self, store: StoreDir, findings: Findings, sources: Origin) -> None:
        self._store = store
        self._findings = findings
        self._sources = sources
        self._recipe_digest = sources.recipe.digest()

    def columns(self, commit: Commit) -> Columns | None:
        """Find the columns that gave a chunk its name; None where they are not known any more."""
        for look in (self._in_snapshots, self._in_strays, self._in_superseded, self._in_sources):
            found = look(commit)
            if found and chunk_id(found, self._recipe_digest) == commit.chunk:
                return found
        return None

    def content(self, commit: Commit) -> Columns | None:
        """Find the columns of all that a compaction put into a chunk, in any order; None: not known."""
        return self._in_superseded(commit)

    def is_retracted(self, columns: Columns) -> np.ndarray:
        """Find the images that are retracted, as the store says at this moment: bool, (n,)."""
        retracted = of_commits(read_kind(self._store, RETRACT))
        for snapshot in self._snapshots:
            retracted = retracted.joined(snapshot.retractions)
        retracted = retracted.of_persons(Persons(merged((), read_kind(self._store, SAME))))
        relabelled = self._relabelled_patients
        now = [
            relabelled.get(key, patient)
            for key, patient in zip(columns["key"].tolist(), columns["patient"].tolist(), strict=True)
        ]
        return retracted.has_keys(columns["key"]) | retracted.has_patients(np.array(now, np.bytes_))

    def offsets(self, chunk: str) -> set[int]:
        """Find the offsets at which published snapshots say that the pixels of a chunk begin."""
        found = set()
        for snapshot in self._snapshots:
            found.update(snapshot.chunks["offset"][snapshot.chunks["name"] == chunk.encode()].tolist())
        return found

    def pixels_in_file(self, path: Path, offset: int, columns: Columns) -> dict[int, bytes]:
        """Read the sound images of a damaged file, by row. offset: where its pixels may begin."""
        image_bytes = self._sources.recipe.image_bytes
        return dict(_sound(path, Pixels(offset=offset, image_bytes=image_bytes, crc=columns["crc"])))

    def pixels_in_chunks(self, columns: Columns, rows: Iterable[int]) -> dict[int, bytes]:
        """Read images of these rows that another chunk holds too, by row."""
        wanted: dict[tuple[int, int], list[int]] = {}
        for row in rows:
            wanted.setdefault((int(columns["source_hash"][row]), int(columns["crc"][row])), []).append(row)
        found: dict[int, bytes] = {}
        for path, header in self._donors:
            if not wanted:
                break
            for pair, data in _images_of(path, header, set(wanted)):
                found.update((row, data) for row in wanted.pop(pair, ()))
        return found

    def pixels_in_sources(self, columns: Columns, rows: Sequence[int]) -> tuple[dict[int, bytes], list[Lost]]:
        """Make images of these rows from their sources; return them by row, and those that cannot be made."""
        paths = self._paths_of([int(columns["key"][row]) for row in rows])
        found: dict[int, bytes] = {}
        lost = []
        for row in rows:
            key = int(columns["key"][row])
            path = paths.get(key, "")
            try:
                found[row] = self._made(path, key, int(columns["source_hash"][row]), int(columns["crc"][row]))
            except BadSource as error:
                lost.append(Lost(key=key, source=path, why=str(error)))
        return found, lost

    def _made(self, path: str, key: int, source_hash: int, crc: int) -> bytes:
        """Decode the pixels of an image as when it was stored; BadSource says why there are none."""
        if not path:
            raise BadSource(NOT_NAMED)
        try:
            content = read_content(self._sources.root, self._files_of(path))
        except (FileNotFoundError, NotADirectoryError):
            raise BadSource(GONE) from None
        if content.fingerprint.source_hash != source_hash:
            raise BadSource(CHANGED)
        for sample in decode(content, self._sources.recipe, self._windows.get((key, crc))):
            if is_sound(sample.pixels.data, crc):
                return sample.pixels.tobytes()
        raise BadSource(OTHER_PIXELS)

    def _files_of(self, path: str) -> tuple[str, ...]:
        """Return the files of the source whose first one this is, or was."""
        return self._series.files_of(path) or (path,)

    @cached_property
    def _series(self) -> Series:
        root = self._sources.root
        paths = list(list_sources(root))
        masks = find_masks(root, paths, self._sources.recipe.masks)
        return find_series(root, paths, kept=None).beside(masks)

    def _paths_of(self, keys: Sequence[int]) -> dict[int, str]:
        """Find paths of sources by key: as the private folder says, else as they are found below the root."""
        wanted = [hash(f"{key:016x}") for key in keys]
        files = [file for file, named in self._tables.items() if np.isin(wanted, named).any()]
        paths = sources_of(self._store, keys, files)
        for key in set(keys) - paths.keys():
            if key in self._listing:
                paths[key] = self._listing[key]
        return paths

    @cached_property
    def _tables(self) -> dict[Path, np.ndarray]:
        """Tables of names that this user may read, and hashes of the keys in each: int64."""
        try:
            return find_in_names(
                self._store, lambda rows: np.array([hash(row["key"]) for row in rows], np.int64)
            )
        except PermissionError:
            return {}

    @cached_property
    def _listing(self) -> dict[int, str]:
        return {self._intake.key_of(path): path for path in list_sources(self._sources.root)}

    @cached_property
    def _snapshots(self) -> list[Snapshot]:
        """Snapshots of which all columns are sound, the largest first."""
        sound = (name for name in published(self._store) if name not in self._findings.damaged_snapshots)
        return sorted(
            (load_snapshot(self._store.snapshots / name) for name in sound),
            key=lambda snapshot: (-len(snapshot.commits), snapshot.digest),
        )

    @cached_property
    def _windows(self) -> dict[tuple[int, int], Window]:
        """Windows in which images were made, by key and CRC."""
        return {
            (int(key, 16), crc): Window(low=one.low, high=one.high)
            for commit in self._findings.commits
            for one in commit.windows
            for key, crc in one.images.items()
        }

    @cached_property
    def _relabelled_patients(self) -> dict[int, bytes]:
        """Names of the patients of relabelled images, by key."""
        found = relabels.merged(relabels.none(relabels.RELABELS), self._findings.commits)
        return dict(zip(found.rows["key"].tolist(), found.texts("patient").tolist(), strict=True))

    @cached_property
    def _donors(self) -> list[tuple[Path, ChunkHeader]]:
        """Chunks whose columns can be read: those that hold nothing any more, strangers, and sound ones."""
        sound = [(self._store.chunk(name), header) for name, header in self._findings.sound.items()]
        return [*self._others, *sound]

    @cached_property
    def _others(self) -> list[tuple[Path, ChunkHeader]]:
        found = []
        for path in sorted(self._store.chunks.glob("[!.]*.h5")):
            if path.stem not in self._findings.sound:
                with contextlib.suppress(*UNREADABLE):
                    found.append((path, read_header(path)))
        return found

    def _in_snapshots(self, commit: Commit) -> Columns | None:
        rows: dict[int, tuple[object, ...]] = {}
        names = [*(column.name for column in COLUMNS), *TEXTS]
        for snapshot in self._snapshots:
            at, columns = _as_ingested(snapshot, commit.chunk)
            rows.update(zip(at.tolist(), zip(*(columns[name] for name in names), strict=True), strict=True))
            if len(rows) == commit.images:
                break
        if sorted(rows) != list(range(commit.images)) or not rows:
            return None
        values = dict(zip(names, zip(*(rows[row] for row in sorted(rows)), strict=True), strict=True))
        columns = {column.name: np.array(values[column.name], column.dtype) for column in COLUMNS}
        return columns | {name: np.array(values[name], np.bytes_) for name in TEXTS}

    def _in_strays(self, commit: Commit) -> Columns | None:
        """Find the columns of the same chunk under another name."""
        for path, header in self._others:
            if path.stem != commit.chunk and content_id(header) == commit.chunk:
                return header.columns
        return None

    def _in_superseded(self, commit: Commit) -> Columns | None:
        """Join the columns of the chunks that a compaction has made the chunk from, the smallest first."""
        try:
            headers = [read_sealed_header(path) for path in self._superseded(commit)]
        except (*UNREADABLE, FileNotFoundError):
            return None
        if not headers or any(header.recipe_digest != self._recipe_digest for header in headers):
            return None
        columns = joined([header.columns for header in headers])
        return chosen(columns, ~self.is_retracted(columns))

    def _superseded(self, commit: Commit) -> list[Path]:
        paths = [self._store.chunk(name) for name in commit.superseded]
        return sorted(paths, key=lambda path: (path.stat().st_size, path.stem))

    def _in_sources(self, commit: Commit) -> Columns | None:
        """Make the columns from the sources that were stored together, by the labels that there are."""
        names = self._store.names / f"{commit.id}.csv"
        if commit.kind != ADD:
            return None
        try:
            named = [row for row in read_names(names.read_bytes()) if not row["rejected"]]
            # Of a source of several images the first is its own.
            rows = list({row["path"]: row for row in reversed(named)}.values())
        except OSError:
            return None
        try:
            taken = [self._taken(row, commit) for row in sorted(rows, key=lambda row: row["key"])]
        except (BadSource, OSError):
            return None
        return columns_of(taken) if taken else None

    def _taken(self, row: Mapping[str, str], commit: Commit) -> TakenSource:
        """Decode a source as it was stored. row: of it in the table of names."""
        intake, source = self._intake, Source(key=int(row["key"], 16), files=self._files_of(row["path"]))
        content = read_content(intake.root, source.files)
        made_in = (one for one in commit.windows if row["key"] in one.images)
        window = next((Window(low=one.low, high=one.high) for one in made_in), None)
        samples = list(decode(content, intake.recipe, window))
        return intake.taken(source, content, intake.labels.of(source.path), samples)

    @cached_property
    def _intake(self) -> Intake:
        sources = self._sources
        return Intake(
            root=sources.root,
            root_name=root_name(sources.root),
            labels=OwnLabels(sources.labels, sources.root, self._series),
            pseudonyms=sources.pseudonyms(),
            recipe=sources.recipe,
            series=self._series,
        )


def chosen(columns: Columns, which: np.ndarray) -> Columns:
    """Return some rows of all columns."""
    return {name: values[which] for name, values in columns.items()}


def _as_ingested(snapshot: Snapshot, chunk: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return the rows in a chunk that a snapshot knows, and their columns without later relabels."""
    index = np.flatnonzero(snapshot.chunks["name"] == chunk.encode())
    at = np.flatnonzero(np.isin(snapshot.chunk, index))
    columns = {column.name: np.array(snapshot.column(column.name)[at]) for column in COLUMNS}
    ingested = relabels.Facts(rows=np.asarray(snapshot.ingested), names=np.asarray(snapshot.ingested_names))
    _keys, here, there = np.intersect1d(columns["key"], ingested.rows["key"], return_indices=True)
    for name in relabels.NUMBERS:
        columns[name][here] = ingested.rows[name][there]
    for name in TEXTS:
        # Of any width: the ingested text can be longer than that of now.
        texts = snapshot.text(name, at).astype(object)
        if name in relabels.TEXTS:
            texts[here] = ingested.texts(name)[there]
        columns[name] = texts
    return snapshot.row[at], columns


def _images_of(
    path: Path, header: ChunkHeader, wanted: set[tuple[int, int]]
) -> Iterator[tuple[tuple[int, int], bytes]]:
    """Yield the sound images of a chunk that are wanted, with source hash and CRC."""
    hashes, crcs = header.columns["source_hash"], header.columns["crc"]
    near = np.flatnonzero(np.isin(hashes, np.array([source_hash for source_hash, _crc in wanted], "<u8")))
    found = zip(near.tolist(), hashes[near].tolist(), crcs[near].tolist(), strict=True)
    pairs = {row: (source_hash, crc) for row, source_hash, crc in found if (source_hash, crc) in wanted}
    rows = np.array([*pairs], np.int64)
    return ((pairs[row], data) for row, data in _sound(path, pixels_in(header), rows))


def _sound(path: Path, pixels: Pixels, rows: np.ndarray | None = None) -> Iterator[tuple[int, bytes]]:
    """Yield the sound images of a file, which may be gone, with their rows."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        for part in read_parts(file.fileno(), pixels, rows):
            yield from part.sound()
