"""An understanding of a source: what its labels say, and what its files turn out to be when they are read."""

import functools
import hashlib
import math
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mri_hpc.base.command import counted
from mri_hpc.base.errors import BadSource
from mri_hpc.intake.decoding.burnt_in import BURNT_IN, KEPT_BACK, shows_text
from mri_hpc.intake.decoding.decoders import decode_natively
from mri_hpc.intake.decoding.depth import promises_8_bits
from mri_hpc.intake.decoding.dicom.listing import NO_SERIES, Series
from mri_hpc.intake.decoding.group_reader import GroupReader, KeptSource
from mri_hpc.intake.decoding.left_out import is_mask, is_named_like_mask, shows_head
from mri_hpc.intake.decoding.pictures import at_full_size
from mri_hpc.intake.decoding.recipe import Recipe
from mri_hpc.intake.decoding.samples import NativeImage, Sample
from mri_hpc.intake.files.content import Content, read_content
from mri_hpc.intake.labels.doubts import Doubt
from mri_hpc.intake.labels.groups import Group, Groups, group_of
from mri_hpc.intake.labels.label import SPLITS, Label, Labels, label_or_reason
from mri_hpc.intake.labels.several_values import num_of_several
from mri_hpc.intake.own_labels import OwnLabels


@dataclass(frozen=True, kw_only=True)
class ClassCount:
    """Size of one class."""

    images: int
    """Files, before they are read."""
    patients: int


@dataclass(frozen=True, kw_only=True)
class Naming:
    """All that labels say of files, before any of these is read."""

    files: int
    classes: dict[str, ClassCount]
    patients: int
    most_of_one: int
    """Files of the patient who has most."""
    in_several_classes: int
    """Patients whose files have several labels."""
    without_patient: int
    """Files that have a label, and name no patient."""
    splits: dict[str, int]
    """Files by the split that is named for them."""
    unlabelled: dict[str, int]
    """Files without a label, by reason."""

    def doubts(self) -> list[Doubt]:
        """Return what may be other than it was meant."""
        found = [
            Doubt(
                kind="patients-of-several-classes",
                count=self.in_several_classes,
                text=f"{counted(self.in_several_classes, 'patient')} with images of several classes: launch "
                "--patient-label says which class is theirs",
            ),
        ]
        return [doubt for doubt in found if doubt.count]


def naming_of(paths: Iterable[str], labels: Labels) -> Naming:
    """Sum up what labels say of files. paths: theirs, below the root."""
    classes, of_patient, splits, unlabelled = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    pairs = set[tuple[str, str]]()
    files = 0
    for path in paths:
        files += 1
        label, problem = label_or_reason(labels, path)
        if problem:
            unlabelled[problem] += 1
            continue
        classes[label.label] += 1
        of_patient[label.patient] += 1
        pairs.add((label.patient, label.label))
        if label.split >= 0:
            splits[SPLITS[label.split]] += 1
    unnamed = of_patient.pop("", 0)
    pairs = {pair for pair in pairs if pair[0]}
    patients = Counter(name for _patient, name in pairs)
    return Naming(
        files=files,
        classes={name: ClassCount(images=classes[name], patients=patients[name]) for name in sorted(classes)},
        patients=len(of_patient),
        most_of_one=max(of_patient.values(), default=0),
        in_several_classes=num_of_several(pairs),
        without_patient=unnamed,
        splits=dict(sorted(splits.items())),
        unlabelled=dict(unlabelled),
    )


class LookedAt:
    """Files below a source root, read and labelled one by one as preprocess would."""

    def __init__(
        self,
        root: Path,
        labels: Labels,
        recipe: Recipe,
        files: Sequence[str],
        *,
        is_skipping_empty: bool,
        is_accepting_text: bool = False,
        series: Series = NO_SERIES,
    ) -> None:
        """files: all that there are, of which groups are made; series: those that several of them make."""
        self.root = root
        self.series = series
        self.labels = labels = OwnLabels(labels, root, series)
        self.recipe = recipe
        self.is_skipping_empty = is_skipping_empty
        self.is_accepting_text = is_accepting_text
        self._groups = groups = Groups(labels, files)
        self._reader = GroupReader[Group](root, recipe, groups.files)

    def kept(self, path: str) -> KeptSource | None:
        """Return a file that was read already, to find the window of its group; None of any other."""
        is_plain = promises_8_bits(path) or not self.recipe.has_windows
        return self._reader.kept(path, None if is_plain else self._groups.of(path))

    def images(
        self, path: str, label: Label, natives: Iterable[NativeImage]
    ) -> Iterator[tuple[Sample, NativeImage]]:
        """Yield the images of a file as they would be stored, each with the one that it was made of."""
        return self._reader.samples(natives, group_of(path, label))


@dataclass(kw_only=True)
class Reading:
    """All that files turn out to be when they are read, so far. Of a million, some tens of megabytes."""

    files: int = 0
    """Files that were read."""
    images: int = 0
    """Images in them that would be stored."""
    blank: int = 0
    """Images of one grey value."""
    two_valued: int = 0
    """Images of two grey values, as masks have."""
    masks: int = 0
    """Files that would be left out, as masks beside their pictures."""
    empty: int = 0
    """Files without a head that would be left out, where that is asked for."""
    no_head: int = 0
    """Images without a head that would be stored."""
    slices_left_out: int = 0
    """Slices of volumes that show no head."""
    notes: Counter[str] = field(default_factory=Counter)
    """Remarks to be made on volumes, and of how many."""
    shows_text: int = 0
    """Pictures with what looks like burnt-in text; volumes of DICOM with it are rejected."""
    unnamed_stacks: int = 0
    """Files of several slices of which nothing names the patient."""
    without_patient: int = 0
    """Other files of which nothing does."""
    own_labels_differ: int = 0
    """Files that say another class or patient of themselves than folders or a table, which hold."""
    depths: Counter[str] = field(default_factory=Counter)
    """Images by the bits of their grey values; those of volumes, whose values are theirs, apart."""
    lowest: float = math.inf
    """Least grey value of images of more than 8 bits; infinite where there is none."""
    highest: float = -math.inf
    """Greatest one."""
    rejected: Counter[str] = field(default_factory=Counter)
    """Reasons why files would be rejected."""
    _hashes: "array[int]" = field(default_factory=lambda: array("Q"))
    _names: "array[int]" = field(default_factory=lambda: array("Q"))

    def add(self, path: str, among: LookedAt) -> None:
        """Read one file as preprocess would; of the files of a series, all with the first."""
        self.files += 1
        files = among.series.files_of(path)
        if not files:
            return
        try:
            kept = among.kept(path)
            content = kept.content if kept else read_content(among.root, files)
            natives = functools.partial(_images_of, kept, content, among.recipe)
            if is_named_like_mask(among.root, path) and all(is_mask(image.grey) for image in natives()):
                self.masks += 1
                return
            among.series.check_is_source(path, content)
            label = among.labels.of(path)
            among.series.masks.check(path, label.label, among.recipe.without_lesion)
            found = self._take(among.images(path, label, natives()), content, among)
        except FileNotFoundError:
            self.rejected["file is gone"] += 1
        except BadSource as error:
            self.rejected[str(error)] += 1
        else:
            if not found:
                self.empty += 1
                return
            self.unnamed_stacks += found > 1 and not label.patient
            self.without_patient += found == 1 and not label.patient
            self.own_labels_differ = among.labels.num_differing
            self._hashes.append(content.fingerprint.source_hash)
            self._names.append(_number_of(label))

    def _take(self, images: Iterator[tuple[Sample, NativeImage]], content: Content, among: LookedAt) -> int:
        """Note the images of one file; return how many would be stored."""
        found = 0
        for sample, image in images:
            if BURNT_IN in image.notes and not among.is_accepting_text:
                raise BadSource(KEPT_BACK)
            has_head = shows_head(sample)
            if has_head or not among.is_skipping_empty:
                found += 1
                self.no_head += not has_head
                self._note(image, content)
        return found

    def _note(self, image: NativeImage, content: Content) -> None:
        low, high = image.grey.min(), image.grey.max()
        self.images += 1
        self.slices_left_out += image.slices_left_out
        self.notes.update(image.notes)
        self.depths[_depth_of(image)] += 1
        if not image.is_of_volume:
            # Letters that a JPEG shows are lost where it is shrunk.
            self.shows_text += shows_text(at_full_size(content.files[0].data, image.grey))
        if low == high:
            self.blank += 1
        elif ((image.grey == low) | (image.grey == high)).all():
            self.two_valued += 1
        if image.is_deep:
            self.lowest, self.highest = min(self.lowest, float(low)), max(self.highest, float(high))

    def doubts(self) -> list[Doubt]:
        """Return what may be other than it was meant."""
        return [
            doubt for doubt in (*self._twins(), *self._pictures(), self._without_patient()) if doubt.count
        ]

    def _twins(self) -> Iterator[Doubt]:
        """Find files of the same bytes."""
        hashes, names = (np.array(column, np.uint64) for column in (self._hashes, self._names))
        order = np.lexsort([names, hashes])
        same = hashes[order][1:] == hashes[order][:-1]
        # Sorted by name too: where all of one hash have one name, neighbours have.
        differs = same & (names[order][1:] != names[order][:-1])
        twins = int(np.count_nonzero(same))
        yield Doubt(kind="twins", count=twins, text=f"{counted(twins, 'file')} with the bytes of another one")
        torn = len(np.unique(hashes[order][1:][differs]))
        yield Doubt(
            kind="twins-of-other-label",
            count=torn,
            text=f"{counted(torn, 'time')} the same bytes have several labels or patients",
        )

    def _pictures(self) -> Iterator[Doubt]:
        yield Doubt(
            kind="blank",
            count=self.blank,
            text=f"{counted(self.blank, 'image')} of one grey value: nothing is shown",
        )
        yield Doubt(
            kind="two-valued",
            count=self.two_valued,
            text=f"{counted(self.two_valued, 'image')} of two grey values: masks?",
        )
        yield Doubt(
            kind="burnt-in",
            count=self.shows_text,
            text=f"{counted(self.shows_text, 'picture')} with what looks like burnt-in text: does it name "
            "somebody? (see: docs/privacy.md)",
        )

    def _without_patient(self) -> Doubt:
        names = "names" if self.without_patient == 1 else "name"
        text = f"{counted(self.without_patient, 'image')} {names} no patient: results will be by slice"
        return Doubt(kind="without-patient", count=self.without_patient, text=text)


def _images_of(kept: KeptSource | None, content: Content, recipe: Recipe) -> Iterable[NativeImage]:
    return kept.images if kept else decode_natively(content, recipe)


def _depth_of(image: NativeImage) -> str:
    if image.is_of_volume:
        return "volumes"
    return "more than 8 bits" if image.is_deep else "8 bits"


def _number_of(label: Label) -> int:
    """Number a class and patient: 8 bytes."""
    name = f"{label.label}\0{label.patient}".encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little")
