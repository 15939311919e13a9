"""A listing's series: which files of a source root are DICOM, and which of these belong together.

Volumes of a header and voxels beside it are such series, too.

A file's first bytes tell. What was read of a file is kept in STORE/private by its path, size and time of its
last change, so that a day's new series costs what it holds; tasks of one array job share what one has found.
Names that promise another format are never opened: of millions of pictures none is.

Some programs write one instance id into several files. Only files that show the same are duplicates: where
several of a series have one id, the digest of what each shows stands behind that of its id.
"""

import copy
import dataclasses
import functools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Self

from mri_hpc.base.access import make_private, publish_private, replace_private
from mri_hpc.base.errors import BadSource
from mri_hpc.intake.decoding.dicom.elements import is_dicom
from mri_hpc.intake.decoding.dicom.kept_ids import GONE, KeptIds, packed, read_table
from mri_hpc.intake.decoding.dicom.named import DAMAGED, ID_DIGITS, Named, named_in, named_of, shown_by
from mri_hpc.intake.decoding.dicom.reader import read_elements
from mri_hpc.intake.decoding.masks import NO_MASKS, Masks
from mri_hpc.intake.decoding.sequence import DWI, one_of
from mri_hpc.intake.decoding.volumes.parts import parts_among
from mri_hpc.intake.files.content import BEING_WRITTEN, MAX_BYTES, Content
from mri_hpc.intake.files.fingerprint import size_and_time

OTHERS = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".png", ".tif", ".tiff", ".gif", ".webp", ".jp2", ".j2k",
    ".avif", ".mat", ".nii", ".gz", ".mgz", ".mgh", ".nrrd", ".nhdr", ".mha", ".mhd", ".raw", ".hdr", ".csv",
    ".tsv", ".json", ".txt", ".md", ".xml", ".html", ".bval", ".bvec", ".zip", ".tar", ".pdf", ".h5",
    ".hdf5", ".npy", ".npz", ".py", ".sh", ".log",
)  # fmt: skip
"""Ends of names that promise another format."""
DUPLICATE = "duplicate of an instance: another file of its series, which is read, holds the same one"
MISNAMED = "DICOM that is named as another format: rename it (.dcm), so that its series is found"
OF_SERIES = "\0series/"
"""Begins the name of a series in its key: no path does."""
NO_PARTS: Mapping[str, tuple[str, ...]] = MappingProxyType({})


class Series:
    """The series below a root, and the volumes of several files."""

    def __init__(
        self,
        named: Mapping[str, Named],
        *,
        former: Collection[str] = (),
        parts: Mapping[str, tuple[str, ...]] = NO_PARTS,
    ) -> None:
        """named: ids in files that are DICOM, by path below the root; former: of series no more there.

        parts: files of each volume that lies in several, by the first, its header.
        """
        self.former = frozenset(former)
        self.masks = NO_MASKS
        self._to_be_kept: list[Callable[[], None]] = []
        self._named = named
        self._parts = parts
        self._files: dict[str, tuple[str, ...]] = dict(parts)
        self._is_further = {file for files in parts.values() for file in files[1:]}
        self._duplicates: set[str] = set()
        self._copies: dict[str, list[str]] = {}
        self._kinds: dict[str, str] = {}
        self._first: dict[str, str] = {}
        by_series: dict[str, list[str]] = {}
        for path in sorted(named):
            by_series.setdefault(named[path].series, []).append(path)
        for paths in by_series.values():
            self._join(paths)

    def _join(self, paths: Sequence[str]) -> None:
        """Make a source of the files of one series, in the order of the digests of their instances.

        So a file's name is no part of its fingerprint: whoever moves or renames files changes nothing.
        """
        one_of: dict[str, str] = {}
        # Damaged ones last: of an instance that is whole elsewhere they are duplicates.
        for path in sorted(paths, key=lambda path: (self._named[path].instance.endswith(DAMAGED), path)):
            instance = self._named[path].instance or f"\0{path}"
            if instance.endswith(DAMAGED):
                instance = next((one for one in one_of if one[:ID_DIGITS] == instance[:ID_DIGITS]), instance)
            if one_of.setdefault(instance, path) != path:
                self._duplicates.add(path)
                self._copies.setdefault(self._named[path].series, []).append(path)
        files = [one_of[instance] for instance in sorted(one_of)]
        self._files[files[0]] = tuple(files)
        self._first[self._named[files[0]].series] = files[0]
        self._is_further.update(files[1:])

    def keep(self) -> None:
        """Write down what was found out, where that had to wait for the store."""
        while self._to_be_kept:
            self._to_be_kept.pop()()

    def keep_later(self, write: Callable[[], None]) -> Self:
        """Return these series, with what is to be called once the store is there."""
        self._to_be_kept.append(write)
        return self

    def beside(self, masks: Masks) -> Self:
        """Return these series, with volumes that have masks: a volume and its masks are one source."""
        with_masks = copy.copy(self)
        with_masks.masks = masks
        return with_masks

    def files_of(self, path: str) -> tuple[str, ...]:
        """Return the files of the source whose first one this is; none of a further one, or of a mask."""
        if path in self._is_further or self.masks.is_mask(path):
            return ()
        return (*self._files.get(path, (path,)), *self.masks.files_of(path))

    @property
    def are_single_files(self) -> bool:
        """Tell whether each file is a source of its own."""
        return not self._files and not self.masks

    def name_of(self, path: str) -> str:
        """Return the id of the series whose first file this is; empty where it is none's."""
        return self.named(path).series if path in self._files else ""

    def kind_of(self, path: str) -> str:
        """Return the kind of sequence of the series to which a file belongs; empty where it is none of MR.

        A series of several kinds, such as of two echoes, has no one kind, unless it measures diffusion.
        """
        name = self.named(path).series
        if name not in self._kinds:
            first = self._first.get(name)
            kinds = {self._named[file].kind for file in self._files.get(first or "", ())} - {""}
            self._kinds[name] = DWI if DWI in kinds else one_of(kinds)
        return self._kinds[name]

    def first_of(self, name: str) -> str:
        """Return the first file of the series of that id, below the root."""
        return self._first[name]

    @property
    def ids(self) -> list[str]:
        """Ids of the series that are there."""
        return [self._named[path].series for path in self._files if path in self._named]

    def named(self, path: str) -> Named:
        """Return the ids in a file; empty ones where it is no DICOM."""
        return self._named.get(path, Named())

    def is_series(self, path: str) -> bool:
        """Tell whether a file is of a series, or the first of a volume of several files."""
        return path in self._named or path in self._parts

    def is_duplicate(self, path: str) -> bool:
        """Tell whether a file holds an instance that another one of its series holds, which is read."""
        return path in self._duplicates

    def duplicates_in(self, name: str) -> Sequence[str]:
        """Return the duplicates in the series of an id, below the root."""
        return self._copies.get(name, ())

    def check_is_source(self, path: str, content: Content) -> None:
        """Raise BadSource where a file is not to be stored by itself. content: what was read of it."""
        if self.is_duplicate(path):
            raise BadSource(DUPLICATE)
        check_name(path, content.start)
        is_known = not is_dicom(content.start) or bool(self.named(path).series)
        if not is_known and named_of(read_elements(content.files[0].data)).series:
            # When it was looked for, not yet all of it was there.
            raise BadSource(BEING_WRITTEN)

    def apart(self) -> "Series":
        """Return them with each file as a series of its own: of a few files of many, none is whole."""
        named = {path: dataclasses.replace(named, series=path) for path, named in self._named.items()}
        return Series(named, parts=self._parts)

    def __len__(self) -> int:
        return len(self._files)


NO_SERIES = Series({})


def find_series(root: Path, paths: Iterable[str], *, kept: Path | None, shared: Path | None = None) -> Series:
    """Find the series among files below a root.

    kept: file of what earlier commands have found out, which is brought up to date; None: nothing is written.
    Where its store is still to be made, that waits for `keep` of what is returned.
    shared: file of what another task of the same array job has found, made if it is not there.
    """
    paths = list(paths)
    parts = parts_among(root, paths)
    if shared is not None and (rows := read_table(shared)) is not None:
        return _series(rows, parts)
    known = (read_table(kept) if kept else None) or {}
    rows = {}
    for path in paths:
        if not path.lower().endswith(OTHERS) and (row := _row(root, path, known.get(path))):
            rows[path] = row
    rows = _with_what_they_show(root, rows) | _gone(known, rows)
    if shared is not None:
        publish_private(shared, packed(rows))
    series = _series(rows, parts)
    if not kept or rows == known:
        return series
    if not kept.parent.parent.exists():
        return series.keep_later(functools.partial(_keep, kept, rows))
    _keep(kept, rows)
    return series


def _keep(file: Path, rows: Mapping[str, KeptIds]) -> None:
    make_private(file.parent)
    replace_private(file, packed(rows))


def check_name(path: str, start: bytes) -> None:
    """Raise BadSource where a file is DICOM that was not looked into for its series. start: its first bytes.

    Each of its slices would be a volume, and the patient whom it names would not be known.
    """
    if is_dicom(start) and path.lower().endswith(OTHERS):
        raise BadSource(MISNAMED)


def _series(rows: Mapping[str, KeptIds], parts: Mapping[str, tuple[str, ...]]) -> Series:
    return Series(
        {path: row.named for path, row in rows.items() if row.named.series and row.size != GONE},
        former=[row.named.series for row in rows.values() if row.size == GONE],
        parts=parts,
    )


def _gone(known: Mapping[str, KeptIds], rows: Mapping[str, KeptIds]) -> dict[str, KeptIds]:
    """Return a row of each series that was known and is not there any more."""
    there = {row.named.series for row in rows.values()}
    gone = {}
    for path, row in known.items():
        if row.named.series not in there and path not in rows:
            there.add(row.named.series)
            gone[path] = dataclasses.replace(row, size=GONE)
    return gone


def _with_what_they_show(root: Path, rows: Mapping[str, KeptIds]) -> dict[str, KeptIds]:
    """Add the digest of what a file shows where others of its series have the same instance id."""
    by_instance: dict[tuple[str, str], list[str]] = {}
    for path, row in rows.items():
        if row.named.series and row.named.instance:
            by_instance.setdefault((row.named.series, row.named.instance[:ID_DIGITS]), []).append(path)
    found = dict(rows)
    for paths in by_instance.values():
        for path in paths if len(paths) > 1 else ():
            named = rows[path].named
            if len(named.instance) == ID_DIGITS:
                own = dataclasses.replace(named, instance=named.instance + shown_by(root / path))
                found[path] = dataclasses.replace(rows[path], named=own)
    return found


def _row(root: Path, path: str, known: KeptIds | None) -> KeptIds | None:
    """Look at one file; None where it cannot be, as will be said when it is read."""
    found = size_and_time(root, path)
    if found is None:
        return None
    size, time_ns = found
    if known is not None and (known.size, known.mtime_ns) == (size, time_ns):
        return known
    named = named_in(root / path) if 0 < size <= MAX_BYTES else Named()
    return None if named is None else KeptIds(size=size, mtime_ns=time_ns, named=named)
