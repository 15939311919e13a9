"""The doubtful in a store, as far as its counts tell it: no image is read."""

from collections.abc import Iterator

from mri_hpc.base.command import counted
from mri_hpc.intake.labels.doubts import Doubt
from mri_hpc.storage.store import Counts


def doubts_of_counts(counts: Counts) -> list[Doubt]:
    """Return what in a store may be other than it was meant."""
    found = (*_of_patients(counts), *_of_same_bytes(counts), _without_label(counts), _without_patient(counts))
    return [doubt for doubt in found if doubt.count]


def _of_patients(counts: Counts) -> Iterator[Doubt]:
    means = "classes: launch --patient-label says which class is theirs"
    several = counts.several
    for name, what, count in (
        ("classes", means, several.patients_of_classes),
        ("splits", "splits", several.patients_of_splits),
    ):
        text = f"{counted(count, 'patient')} with images of several {what}"
        yield Doubt(kind=f"patients-of-several-{name}", count=count, text=text)


def _of_same_bytes(counts: Counts) -> Iterator[Doubt]:
    several = counts.several
    for what, count in (("classes", several.bytes_of_classes), ("patients", several.bytes_of_patients)):
        text = f"{counted(count, 'time')} the same bytes are stored under several {what}"
        yield Doubt(kind=f"same-bytes-of-several-{what}", count=count, text=text)


def _without_label(counts: Counts) -> Doubt:
    count = counts.images_without_label
    has = "has" if count == 1 else "have"
    return Doubt(
        kind="without-label",
        count=count,
        text=f"{counted(count, 'image')} {has} no label: never learnt from",
    )


def _without_patient(counts: Counts) -> Doubt:
    count = counts.images_without_patient
    names = f"{counted(count, 'image')} {'names' if count == 1 else 'name'} no patient"
    text = f"{names}: results will be by slice, not by patient"
    return Doubt(kind="without-patient", count=count, text=f"{text} (see: Your images, in README.md)")
