"""A plain model of a store: dictionaries by path, changed as the store's promises say."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from mri_hpc.intake.decoding.window import Window

NO_WINDOWS: Mapping[str, Window] = {}
Version = tuple[bytes, Window | None]
"""Bytes of a source, and the window in which they are decoded."""


@dataclass(frozen=True, kw_only=True)
class Image:
    """One source image, as it lies in the folder or as a store should hold it."""

    source: bytes
    """Bytes of its file."""
    label: str
    patient: str
    """The patient's id, as in the labels."""
    is_deep: bool = False
    """It has more than 8 bits, so that the window of its group decides about its pixels."""
    group: str = ""
    """The patient, as in the labels when it was stored, in whose window it was decoded."""
    window: Window | None = None
    """That window."""

    @property
    def version(self) -> Version:
        """All that its pixels follow from."""
        return self.source, self.window


@dataclass(kw_only=True)
class StoreModel:
    """The content that a store must have after some changes, by path below the source root."""

    images: dict[str, Image] = field(default_factory=dict)
    """In the newest snapshot."""
    retracted: set[str] = field(default_factory=set)
    """Ids of patients who were retracted."""
    one_of: dict[str, str] = field(default_factory=dict)
    """The id by which a patient of several goes, by each of the others."""
    windows: dict[str, Window] = field(default_factory=dict)
    """Windows of the pictures of more than 8 bits, by group: the first one holds."""
    versions: dict[str, set[Version]] = field(default_factory=dict)
    """The sources that each path was ever stored with, or may have been, and their windows."""
    gone: set[str] = field(default_factory=set)
    """Paths that went with their patients, or by themselves, and never come back."""
    older: dict[str, dict[str, Image]] = field(default_factory=dict)
    """Content of published snapshots, by digest."""
    is_purged: bool = True
    """Pixels of retracted patients have left the disk: no retraction that was killed is still to be ended."""

    def add(self, folder: Mapping[str, Image], windows: Mapping[str, Window] = NO_WINDOWS) -> None:
        """Take what is new in a folder; leave a source that has changed, and one of a retracted patient.

        windows: as the files that are there give them, by group.
        """
        for path, image in folder.items():
            if path not in self.images and self._may_come(path, image):
                self._store(path, image, image.patient, windows)

    def replace(self, folder: Mapping[str, Image], windows: Mapping[str, Window] = NO_WINDOWS) -> None:
        """As add, but sources with other bytes take the place of those stored."""
        self.add(folder, windows)
        for path, image in folder.items():
            held = self.images.get(path)
            if held and held.source != image.source and self._may_come(path, held):
                changed = replace(held, source=image.source, is_deep=image.is_deep)
                self._store(path, changed, image.patient, windows)

    def relabel(self, rows: Mapping[str, Image]) -> None:
        """Give images that are there the label and the patient of these rows."""
        for path in rows.keys() & self.images.keys():
            row = rows[path]
            self.images[path] = replace(self.images[path], label=row.label, patient=self._one(row.patient))

    def retract(self, patient: str) -> None:
        """Take all images of a patient out, for good."""
        patient = self._one(patient)
        self.retracted.add(patient)
        self.retracted.update(other for other, one in self.one_of.items() if one == patient)
        of_patient = {path for path, image in self.images.items() if image.patient == patient}
        self.gone |= of_patient
        for path in of_patient:
            del self.images[path]

    def retract_image(self, path: str) -> None:
        """Take one image out, for good."""
        self.gone.add(path)
        self.images.pop(path, None)

    def join(self, one: str, other: str) -> None:
        """Make one patient of two, from now on. one: the id by which they go."""
        one, other = self._one(one), self._one(other)
        if one != other:
            self.one_of = {patient: one if of == other else of for patient, of in self.one_of.items()}
            self.one_of[other] = one
        self.images = {
            path: replace(image, patient=self._one(image.patient)) for path, image in self.images.items()
        }

    def publish(self, digest: str) -> None:
        """Note that a snapshot of what is there now was published."""
        self.older[digest] = dict(self.images)

    def gone_versions(self) -> set[Version]:
        """Sources whose pixels may be in no file."""
        return set[Version]().union(*(self.versions[path] for path in self.gone))

    def refuses(self, older: Mapping[str, Image]) -> bool:
        """Tell whether an older snapshot may not be read any more: images of it were retracted since."""
        return any(path in self.gone or image.patient in self.retracted for path, image in older.items())

    def copy(self) -> "StoreModel":
        """One that changes apart from this one."""
        versions = {path: set(sources) for path, sources in self.versions.items()}
        return replace(
            self,
            images=dict(self.images),
            retracted=set(self.retracted),
            one_of=dict(self.one_of),
            windows=dict(self.windows),
            versions=versions,
            gone=set(self.gone),
            older=dict(self.older),
        )

    def settled(
        self,
        after: "StoreModel",
        holds: Callable[[str, Image | None], bool],
        has_retracted: Callable[[str], bool],
    ) -> "StoreModel":
        """Follow a change that was killed: each image is as before it or as after it, as the store tells.

        after: the model had the change ended; holds: the store holds a path as this image, or lacks it.
        """
        merged = after.copy()
        merged.retracted = self.retracted | {one for one in after.retracted if has_retracted(one)}
        merged.gone = {p for p in after.gone if p in self.gone or not holds(p, self.images[p])}
        for path in self.images.keys() | after.images.keys():
            before = self.images.get(path)
            if holds(path, before) and not holds(path, after.images.get(path)):
                merged.images.pop(path, None)
                if before:
                    merged.images[path] = before
        # A window comes with the first image that was made in it.
        made = {image.group for image in merged.images.values()}
        merged.windows = {g: w for g, w in after.windows.items() if g in self.windows or g in made}
        return merged

    def _may_come(self, path: str, image: Image) -> bool:
        return path not in self.gone and self._one(image.patient) not in self.retracted

    def _one(self, patient: str) -> str:
        return self.one_of.get(patient, patient)

    def _store(self, path: str, image: Image, group: str, windows: Mapping[str, Window]) -> None:
        group = group if image.is_deep else ""
        window = self.windows.setdefault(group, windows[group]) if group else None
        stored = replace(image, patient=self._one(image.patient), group=group, window=window)
        self.images[path] = stored
        self.versions.setdefault(path, set()).add(stored.version)
