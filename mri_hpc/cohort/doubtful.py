"""The doubtful in a snapshot, as far as its columns tell it: no image is read."""

from collections.abc import Iterator

import numpy as np

from mri_hpc.base.command import counted
from mri_hpc.intake.labels.doubts import Doubt
from mri_hpc.intake.labels.several_values import of_several
from mri_hpc.storage.store import Snapshot


def doubts_of_snapshot(snapshot: Snapshot) -> list[Doubt]:
    """Return what in a store may be other than it was meant."""
    found = (*_of_patients(snapshot), *_of_same_bytes(snapshot), _without(snapshot, "label"))
    return [doubt for doubt in (*found, _without_patient(snapshot)) if doubt.count]


def _of_patients(snapshot: Snapshot) -> Iterator[Doubt]:
    patient = np.asarray(snapshot.patient)
    means = "classes: launch --patient-label says which class is theirs"
    for column, name, what in (("label", "classes", means), ("split", "splits", "splits")):
        several = len(of_several(patient, np.asarray(getattr(snapshot, column))))
        text = f"{counted(several, 'patient')} with images of several {what}"
        yield Doubt(kind=f"patients-of-several-{name}", count=several, text=text)


def _of_same_bytes(snapshot: Snapshot) -> Iterator[Doubt]:
    hashes = snapshot.column("source_hash")
    # Not all are grouped, which takes many times as long where nearly all differ.
    ordered = np.sort(hashes)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    rows = np.flatnonzero(np.isin(hashes, twice)) if len(twice) else np.empty(0, np.int64)
    groups = np.searchsorted(twice, hashes[rows])
    for what, column in (("class", "label"), ("patient", "patient")):
        several = len(of_several(groups, np.asarray(getattr(snapshot, column))[rows]))
        text = f"{counted(several, 'time')} the same bytes are stored under several {_plural(what)}"
        yield Doubt(kind=f"same-bytes-of-several-{_plural(what)}", count=several, text=text)


def _without(snapshot: Snapshot, what: str) -> Doubt:
    count = int(np.count_nonzero(snapshot.column(what) < 0))
    return Doubt(
        kind=f"without-{what}",
        count=count,
        text=f"{counted(count, 'image')} {'has' if count == 1 else 'have'} no {what}: never learnt from",
    )


def _without_patient(snapshot: Snapshot) -> Doubt:
    count = int(np.count_nonzero(snapshot.column("patient") < 0))
    names = f"{counted(count, 'image')} {'names' if count == 1 else 'name'} no patient"
    text = f"{names}: results will be by slice, not by patient"
    return Doubt(kind="without-patient", count=count, text=f"{text} (see: Your images, in README.md)")


def _plural(what: str) -> str:
    return "classes" if what == "class" else f"{what}s"
