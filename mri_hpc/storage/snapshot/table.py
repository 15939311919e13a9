"""The table that a snapshot is: a row an image, and what else folding the same commits gives."""

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, overload

import numpy as np

from mri_hpc.base.errors import UserError
from mri_hpc.intake.decoding.samples import pixel_type_of
from mri_hpc.intake.labels.label import PLANES
from mri_hpc.storage.disk.columns import OPTIONAL, TEXTS, blocks, bytes_table
from mri_hpc.storage.snapshot.persons import Persons, Statement
from mri_hpc.storage.snapshot.relabels import Facts
from mri_hpc.storage.snapshot.retractions import Retractions

CHANGES = "changed: "
"""Begins the reasons of rejecting a source that is stored with other bytes."""
CHANGED = "changed: other bytes than those stored (--replace accepts)"
"""Reason where it is not asked for that it be replaced."""
CHANGED_SHORTER = (
    "changed: some slices that are stored would stay beside its fewer ones (put missing files back, or take "
    "those slices out for good: --replace --accept shorter)"
)
"""Reason where not every stored image of a source has one in its place."""
CHANGED_UNTOLD = (
    "changed: nothing tells which slices of those stored are its (restore STORE/private/names from a backup)"
)
"""Reason where it cannot be told whether every stored image of a source has one in its place."""
CHANGED_LABELS = (
    "changed: it has more slices than are stored, and other labels than these (give it the labels of the "
    "store, or the stored ones its labels with store relabel)"
)
"""Reason where the slices of one head would come under several labels or patients."""
RETRACTED = "retracted: its patient was withdrawn from this store"
"""Reason of rejecting a source of a patient, or one that was taken out with a patient."""
RETRACTED_IMAGE = "retracted: this image was taken out (it comes back in under another file name)"
"""Reason of rejecting a source that was taken out by itself."""

REJECTED = np.dtype(
    [("key", "<u8"), ("mtime_ns", "<i8"), ("size", "<i8"), ("source_hash", "<u8"), ("reason", "<i4")]
)
CHUNKS = np.dtype([("name", "S32"), ("offset", "<i8"), ("images", "<i4"), ("bytes", "<i8")])
COMPACTED = np.dtype([("name", "S32"), ("number", "<i4"), ("is_made", "?")])
WINDOWS = np.dtype([("group", "S17"), ("commit", "S32"), ("patient", "<u8"), ("low", "<f8"), ("high", "<f8")])
"""`patient`: the first 8 bytes, big-endian, of the sha256 of the name in the store; 0 where unknown."""
WITHHELD = np.dtype([("key", "<u8"), ("chunk", "S32")])
SPREAD = np.uint64(0x9E3779B97F4A7C15)
"""An odd number: numbers of slices times it differ in all their bits."""
CODES = {"label": "<i2", "patient": "<i4", "study": "<i4", **dict.fromkeys(OPTIONAL, "<i2"), "date": "<i4"}
# What the content digest speaks for, beside the texts.
CONTENT = (
    "key", "source_hash", "crc", "fold", "split", "slice_index", "position", "plane", "plane_inferred", "box",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class Snapshot:
    """The content of a store at one moment: a row an image, in order of key. Columns may be memory-mapped."""

    digest: str
    """Names exactly this set of commits."""
    content_digest: str
    """Names what is stored, however it is cut into files."""
    image_shape: tuple[int, int]
    """Height and width of every image."""
    bits: int = 8
    """Of each pixel."""
    classes: tuple[str, ...]
    """Class names, sorted."""
    same_patients: tuple[Statement, ...] = ()
    """Names that are of one patient; `patient` has the one name of each, and `own_patients` that of a row."""
    patient_names: np.ndarray
    """UTF-8 bytes, sorted; `patient` points into it."""
    study_names: np.ndarray
    """UTF-8 bytes, sorted; `study` points into it."""
    kind_names: np.ndarray
    """UTF-8 bytes, sorted; `kind` points into it."""
    scanner_names: np.ndarray
    """UTF-8 bytes, sorted; `scanner` points into it."""
    site_names: np.ndarray
    """UTF-8 bytes, sorted; `site` points into it."""
    date_names: np.ndarray
    """UTF-8 bytes, sorted, as 2019-05-31; `date` points into it."""
    commits: np.ndarray
    """Ids of the folded commits, sorted."""
    chunks: np.ndarray
    """name, offset of the first image in the file, images, bytes of the file. `chunk` points into it."""
    compacted: np.ndarray
    """Every chunk that a compaction made or superseded: name, number of the last one, whether it made it."""
    relabels: np.ndarray
    """The relabels that count, as in relabels.py, also of images that are not there."""
    relabel_names: np.ndarray
    """UTF-8 bytes, sorted; `relabels` points into it."""
    ingested: np.ndarray
    """The ingested facts of relabelled images, as in relabels.py."""
    ingested_names: np.ndarray
    """UTF-8 bytes, sorted; `ingested` points into it."""
    retracted_keys: np.ndarray
    """uint64, ascending: keys of sources and images that are gone for good."""
    retracted_patients: np.ndarray
    """UTF-8 bytes, sorted: patients whose images are withheld whenever they come."""
    withheld: np.ndarray
    """key, name of chunk: images of such patients that came without being in retracted_keys."""
    windows: np.ndarray
    """The windows of groups that commits bring, as in WINDOWS, ascending by group and commit."""
    rejected: np.ndarray
    """The last try of each source that was ever rejected: key, mtime_ns, size, source_hash, reason."""
    reasons: tuple[str, ...]
    """Reasons of rejecting; `rejected["reason"]` points into it."""

    key: np.ndarray
    """uint64, (n,): source keys, ascending, unique."""
    source_hash: np.ndarray
    """uint64, (n,): first 8 bytes of the sha256 of the source's bytes."""
    crc: np.ndarray
    """uint32, (n,): zlib.crc32 of the pixels."""
    generation: np.ndarray
    """int32, (n,): how often the source has been replaced."""
    label: np.ndarray
    """int16, (n,): index into classes, -1 unknown."""
    patient: np.ndarray
    """int32, (n,): index into patient_names, -1 where the data name no patient."""
    study: np.ndarray
    """int32, (n,): index into study_names, -1 unknown."""
    kind: np.ndarray
    """int16, (n,): index into kind_names, the kind of sequence, -1 not told."""
    scanner: np.ndarray
    """int16, (n,): index into scanner_names, -1 not told."""
    site: np.ndarray
    """int16, (n,): index into site_names, -1 none given."""
    date: np.ndarray
    """int32, (n,): index into date_names, the shifted day on which it was taken, -1 none."""
    fold: np.ndarray
    """int16, (n,): fold given by the data, -1 none."""
    split: np.ndarray
    """int8, (n,): index into labels.SPLITS, -1 none."""
    slice_index: np.ndarray
    """int32, (n,): number of the slice in its volume, -1 none."""
    position: np.ndarray
    """float32, (n,): position along the axis of its volume in millimetres, NaN none."""
    plane: np.ndarray
    """int8, (n,): index into labels.PLANES, -1 unknown."""
    plane_inferred: np.ndarray
    """bool, (n,): whether the plane was guessed."""
    box: np.ndarray
    """float32, (n, 4): centre x, centre y, width, height as fractions of the image, NaN none."""
    chunk: np.ndarray
    """int32, (n,): index into chunks."""
    row: np.ndarray
    """int32, (n,): row within the chunk."""

    def __len__(self) -> int:
        return len(self.key)

    @property
    def pixel_type(self) -> np.dtype[Any]:
        """Type of the pixels of every image."""
        return pixel_type_of(self.bits)

    @property
    def image_bytes(self) -> int:
        """Bytes of the pixels of an image."""
        return math.prod(self.image_shape) * self.pixel_type.itemsize

    def column(self, name: str) -> np.ndarray:
        """Return one of the arrays; unlike an attribute, one that has to be made or mapped is not kept."""
        return np.asarray(getattr(self, name))

    def parts(self, name: str) -> Iterator[np.ndarray]:
        """Yield one of the arrays in parts, where that takes less memory than the whole."""
        return blocks(self.column(name))

    @functools.cached_property
    def is_rejected(self) -> np.ndarray:
        """bool, a value a row of `rejected`: whether the rejection stands, since nothing was stored later."""
        return self.stands(self.rejected)

    def stands(self, rejected: np.ndarray) -> np.ndarray:
        """Find which of some rows of `rejected` stand: bool, (r,)."""
        changed = [number for number, text in enumerate(self.reasons) if text.startswith(CHANGES)]
        if not len(self) or not len(rejected):
            return np.ones(len(rejected), bool)
        at = np.minimum(np.searchsorted(self.key, rejected["key"]), len(self) - 1)
        is_stored = self.key[at] == rejected["key"]
        is_changed = np.isin(rejected["reason"], changed) & (self.source_hash[at] != rejected["source_hash"])
        return ~is_stored | is_changed

    @functools.cached_property
    def retractions(self) -> Retractions:
        """Keys and patients, by all their names, that were retracted up to this snapshot."""
        found = Retractions(
            keys=np.asarray(self.retracted_keys), patients=np.asarray(self.retracted_patients)
        )
        return found.of_persons(self.persons)

    @functools.cached_property
    def persons(self) -> Persons:
        """Patients who have several names."""
        return Persons(self.same_patients)

    def ingested_labels(self, rows: np.ndarray) -> np.ndarray:
        """Return the classes that some rows had when they were ingested: UTF-8 bytes, (n,)."""
        names = self.text("label", rows).astype(object)
        facts = Facts(rows=np.asarray(self.ingested), names=np.asarray(self.ingested_names))
        _keys, here, there = np.intersect1d(self.key[rows], facts.rows["key"], return_indices=True)
        names[here] = facts.texts("label")[there]
        return names.astype(np.bytes_)

    def own_patients(self, rows: np.ndarray) -> np.ndarray:
        """Return the names of patients in some rows as if each name were one person: UTF-8 bytes, (n,)."""
        names = self.text("patient", rows).astype(object)
        keys = self.key[rows]
        # A relabel covers what was ingested.
        for facts in (
            Facts(rows=np.asarray(self.ingested), names=np.asarray(self.ingested_names)),
            Facts(rows=np.asarray(self.relabels), names=np.asarray(self.relabel_names)),
        ):
            _keys, here, there = np.intersect1d(keys, facts.rows["key"], return_indices=True)
            names[here] = facts.texts("patient")[there]
        return names.astype(np.bytes_)

    def with_own_patients(self) -> "Snapshot":
        """Return it with the names by which splits are chosen: its own for each image, but for spellings."""
        if not self.persons:
            return self
        patient, known = self.column("patient").copy(), self.patient_names.tolist()
        of_persons = [code for code, name in enumerate(known) if len(self.persons.names(name.decode())) > 1]
        rows = np.flatnonzero(np.isin(patient, of_persons))
        own = [self.persons.split_name(name.decode()).encode() for name in self.own_patients(rows).tolist()]
        names = [*known, *sorted(set(own) - set(known))]
        codes = {name: code for code, name in enumerate(names)}
        patient[rows] = [codes[name] for name in own]
        values = {"patient": patient, "patient_names": np.array(names, np.bytes_), "classes": self.classes}
        return lazy_snapshot(values, self.column)

    def is_of(self, patients: np.ndarray) -> np.ndarray:
        """Find the rows of some patients: bool, (n,). patients: names in the store, UTF-8 bytes."""
        # A code of -1 means the last: no patient.
        is_meant = np.append(np.isin(self.patient_names, patients), False)
        return np.asarray(is_meant[self.patient])

    def names(self, column: str) -> np.ndarray:
        """Return the names that the codes of a column of texts point to: bytes, sorted."""
        if column == "label":
            return bytes_table(name.encode() for name in self.classes)
        return np.asarray(getattr(self, names_of(column)))

    @overload
    def text(self, column: str, rows: int | np.integer) -> str: ...

    @overload
    def text(self, column: str, rows: np.ndarray | slice) -> np.ndarray: ...

    def text(self, column: str, rows: int | np.integer | np.ndarray | slice) -> str | np.ndarray:
        """Return the text of a column in one row; of several: UTF-8 bytes, (n,). Empty where unknown.

        Raises UserError where the column is another.
        """
        if column not in TEXTS:
            raise UserError(f"column {column!r} is not of texts; those that are: {', '.join(TEXTS)}")
        codes = getattr(self, column)[rows]
        if isinstance(rows, int | np.integer):
            return str(self.names(column)[codes].decode()) if codes >= 0 else ""
        # A code of -1 means the last: empty.
        return np.append(self.names(column), np.bytes_(b""))[np.asarray(codes)]

    def counts(self, column: str) -> np.ndarray:
        """Count the rows of each code, that of none (-1) first: int64. column: one of texts."""
        kinds = len(self.names(column)) + 1
        found = np.zeros(kinds, np.int64)
        for part in self.parts(column):
            found += np.bincount(part + 1, minlength=kinds)
        return found

    @property
    def rejections(self) -> dict[str, int]:
        """Reasons of the rejections that stand, and how many each."""
        counts = np.bincount(self.rejected["reason"][self.is_rejected], minlength=len(self.reasons))
        return {name: count for name, count in zip(self.reasons, counts.tolist(), strict=True) if count}

    @property
    def num_without_patient(self) -> int:
        """Images of which the data name no patient."""
        return sum(int(np.count_nonzero(part < 0)) for part in self.parts("patient"))

    @property
    def num_shadowed(self) -> int:
        """Stored copies that no row points to: of sources stored by several tasks, or since replaced."""
        return int(self.chunks["images"].sum()) - len(self)

    @property
    def num_twins(self) -> int:
        """Images whose source has the same bytes as another one's; slices of one source are none."""
        # Not np.unique, which takes a hundred times as long where nearly all values differ.
        hashes, done = np.empty(len(self), "<u8"), 0
        for part in self.parts("source_hash"):
            hashes[done : done + len(part)] = part
            done += len(part)
        # Parts are as many bytes, of numbers of another size other rows.
        plane, done = self.column("plane"), 0
        for part in self.parts("slice_index"):
            rows = slice(done, done + len(part))
            hashes[rows] = with_slices(hashes[rows], part, plane[rows])
            done += len(part)
        hashes.sort()
        return int(np.count_nonzero(hashes[1:] == hashes[:-1]))


def with_slices(hashes: np.ndarray, slice_index: np.ndarray, plane: np.ndarray) -> np.ndarray:
    """Return numbers that are equal where hash of the source, plane and number of the slice are: uint64."""
    planes = np.int64(len(PLANES) + 1)
    # A picture that is no slice is the same whatever plane is said of it.
    slices = np.where(slice_index >= 0, (slice_index + np.int64(1)) * planes + plane, 0)
    return hashes ^ (slices.astype(np.uint64) * SPREAD)


class _LazySnapshot(Snapshot):
    """A snapshot whose arrays, and digest of content, are made or looked at when they are first asked for."""

    def __getattr__(self, name: str) -> Any:
        # Asked for only where there is no such attribute yet.
        if name == "content_digest":
            vars(self)[name] = found = vars(self)["_sum_up"]()
            return found
        if name not in array_names():
            raise AttributeError(name)
        vars(self)[name] = found = vars(self)["_keep"](name)
        return found

    def column(self, name: str) -> np.ndarray:
        found = vars(self).get(name)
        return np.asarray(vars(self)["_make"](name) if found is None else found)

    def parts(self, name: str) -> Iterator[np.ndarray]:
        # One made by dataclasses.replace has its columns alone.
        make = vars(self).get("_parts")
        return blocks(self.column(name)) if make is None else make(name)


def lazy_snapshot(
    values: Mapping[str, Any],
    make: Callable[[str], np.ndarray],
    *,
    keep: Callable[[str], np.ndarray] | None = None,
    parts: Callable[[str], Iterator[np.ndarray]] | None = None,
    sum_up: Callable[[], str] | None = None,
) -> Snapshot:
    """Return a snapshot of some values; `make` gives each array that is not among them, to be used once.

    keep: gives an array that is used again, where that differs. parts: gives an array in parts. sum_up: gives
    the digest of content, where it is not among the values.
    """
    snapshot = object.__new__(_LazySnapshot)
    vars(snapshot).update(values, _make=make, _keep=keep or make, _parts=parts, _sum_up=sum_up)
    return snapshot


def names_of(column: str) -> str:
    """Return the name of the array of names into which a column of codes points, but for that of labels."""
    return f"{column}_names"


@functools.cache
def array_names() -> list[str]:
    """List the fields of a snapshot that are arrays."""
    return [f.name for f in fields(Snapshot) if f.type is np.ndarray]
