"""An understanding of a source: what its labels say, and what its files turn out to be when they are read."""

import hashlib
import math
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mri_hpc.base.errors import BadSource
from mri_hpc.intake.content import read_content
from mri_hpc.intake.decoders import decode_natively
from mri_hpc.intake.doubts import Doubt
from mri_hpc.intake.labels import SPLITS, Label, Labels
from mri_hpc.intake.recipe import Recipe
from mri_hpc.intake.samples import NativeImage


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
                text=f"{self.in_several_classes} of {self.patients} patients have images of several classes",
            ),
            Doubt(
                kind="without-patient",
                count=self.without_patient,
                text=f"{self.without_patient} images name no patient: results will be by slice",
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
        label, problem = label_of(labels, path)
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
        in_several_classes=sum(count > 1 for count in Counter(who for who, _label in pairs).values()),
        without_patient=unnamed,
        splits=dict(sorted(splits.items())),
        unlabelled=dict(unlabelled),
    )


def label_of(labels: Labels, path: str) -> tuple[Label, str]:
    """Return the label of a file, and why there is none where there is none."""
    try:
        return labels.of(path), ""
    except BadSource as error:
        return Label(), str(error)


@dataclass(kw_only=True)
class Reading:
    """All that files turn out to be when they are read, so far. Of a million, some tens of megabytes."""

    files: int = 0
    """Files that were read."""
    images: int = 0
    """Images in them."""
    blank: int = 0
    """Images of one grey value."""
    two_valued: int = 0
    """Images of two grey values, as masks have."""
    depths: Counter[str] = field(default_factory=Counter)
    """Images by the bits of their grey values."""
    lowest: float = math.inf
    """Least grey value of images of more than 8 bits; infinite where there is none."""
    highest: float = -math.inf
    """Greatest one."""
    rejected: Counter[str] = field(default_factory=Counter)
    """Reasons why files would be rejected."""
    _hashes: "array[int]" = field(default_factory=lambda: array("Q"))
    _names: "array[int]" = field(default_factory=lambda: array("Q"))

    def add(self, root: Path, path: str, labels: Labels, recipe: Recipe) -> None:
        """Read one file as preprocess would."""
        self.files += 1
        try:
            content = read_content(root, [path])
            label = labels.of(path)
            for image in decode_natively(content, recipe):
                self._note(image)
        except FileNotFoundError:
            self.rejected["file is gone"] += 1
        except BadSource as error:
            self.rejected[str(error)] += 1
        else:
            self._hashes.append(content.fingerprint.source_hash)
            self._names.append(_number_of(label))

    def _note(self, image: NativeImage) -> None:
        low, high = image.grey.min(), image.grey.max()
        self.images += 1
        self.depths["more than 8 bits" if image.is_deep else "8 bits"] += 1
        if low == high:
            self.blank += 1
        elif ((image.grey == low) | (image.grey == high)).all():
            self.two_valued += 1
        if image.is_deep:
            self.lowest, self.highest = min(self.lowest, float(low)), max(self.highest, float(high))

    def doubts(self) -> list[Doubt]:
        """Return what may be other than it was meant."""
        return [doubt for doubt in (*self._twins(), *self._pictures()) if doubt.count]

    def _twins(self) -> Iterator[Doubt]:
        """Find files of the same bytes."""
        hashes, names = (np.array(column, np.uint64) for column in (self._hashes, self._names))
        order = np.lexsort([names, hashes])
        same = hashes[order][1:] == hashes[order][:-1]
        # Sorted by name too: where all of one hash have one name, neighbours have.
        differs = same & (names[order][1:] != names[order][:-1])
        twins = int(np.count_nonzero(same))
        yield Doubt(kind="twins", count=twins, text=f"{twins} files have the bytes of another one")
        torn = len(np.unique(hashes[order][1:][differs]))
        yield Doubt(
            kind="twins-of-other-label",
            count=torn,
            text=f"{torn} times files of the same bytes have several labels or patients",
        )

    def _pictures(self) -> Iterator[Doubt]:
        yield Doubt(
            kind="blank",
            count=self.blank,
            text=f"{self.blank} images are of one grey value: they show nothing",
        )
        yield Doubt(
            kind="two-valued",
            count=self.two_valued,
            text=f"{self.two_valued} images have two grey values: are they masks?",
        )


def _number_of(label: Label) -> int:
    """Number a class and patient: 8 bytes."""
    name = f"{label.label}\0{label.patient}".encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little")
