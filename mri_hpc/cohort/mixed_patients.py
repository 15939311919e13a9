"""Mixed patients: those whose images are of several classes; a rule must say which class is theirs."""

from dataclasses import dataclass

import numpy as np

from mri_hpc.base.errors import UserError
from mri_hpc.cohort.splits import UNUSED
from mri_hpc.intake.labels.several_values import of_several
from mri_hpc.rundir.settings import MAJORITY
from mri_hpc.storage.store import Snapshot

MANY_FRACTION = 0.05
"""Of the patients: more mixed ones than that are no slips of labelling."""
MANY = 3
"""Mixed patients below which there are never many."""
RULE = "--patient-label"


@dataclass(frozen=True, kw_only=True)
class Mixed:
    """Patients who have images of several classes, among those that a run uses."""

    count: int
    patients: int
    """All of them."""
    rarest: str
    """The class of fewest images of theirs; empty where there are none."""

    @property
    def is_many(self) -> bool:
        """Tell whether a patient's class can no longer be that of most images without being asked for."""
        return self.count >= MANY and self.count > MANY_FRACTION * self.patients


def find_mixed(snapshot: Snapshot, code: np.ndarray) -> Mixed:
    """Find patients of several classes. code: split of every image, from split_of."""
    patient, label = np.asarray(snapshot.patient), np.asarray(snapshot.label)
    used = (patient >= 0) & (label >= 0) & (code != UNUSED)
    patient, label = patient[used].astype(np.int64), label[used].astype(np.int64)
    mixed = of_several(patient, label)
    images = np.bincount(label[np.isin(patient, mixed)], minlength=len(snapshot.classes))
    occurring = np.flatnonzero(images)
    rarest = snapshot.classes[occurring[images[occurring].argmin()]] if len(occurring) else ""
    return Mixed(count=len(mixed), patients=len(np.unique(patient)), rarest=rarest)


def refuse_mixed(snapshot: Snapshot, code: np.ndarray) -> None:
    """Raise UserError where many patients are mixed: no rule was asked for that gives them a class."""
    mixed = find_mixed(snapshot, code)
    if mixed.is_many:
        raise UserError(
            f"{_counted(mixed)}: say which class is a patient's: {RULE} any:{mixed.rarest} (as soon as one "
            f"image is of it), {RULE} majority (that of most images) or {RULE} slices (no figures by patient)"
        )


def mixed_lines(snapshot: Snapshot, code: np.ndarray, rule: str) -> list[str]:
    """Return a line for people on mixed patients, and the rule for them; none where there are none."""
    mixed = find_mixed(snapshot, code)
    rule = MAJORITY if rule == "auto" else rule
    return [f"{_counted(mixed)}: theirs is by {RULE} {rule}"] if mixed.count else []


def _counted(mixed: Mixed) -> str:
    return f"{mixed.count} of {mixed.patients} patients have images of several classes"
