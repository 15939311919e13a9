"""The commoner in one class: a sequence, scanner or site by which a network can tell it from others."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mri_hpc.storage.store import Snapshot

FEWEST_PATIENTS = 10
"""Of a class, and of all others: of fewer a share says little."""
LEAST_DIFFERENCE = 0.5
"""Of the share of patients in one class from that in the others. With 10 patients each it comes about by
chance in at most 3.5 of 100 cases (Fisher's exact test, one side: 8 of 10 against 3 of 10)."""
OF = {"kind": ("of", "sequence"), "scanner": ("from", "scanner"), "site": ("of", "site")}
"""Columns, and the words between patients and what they have in common."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """Patients who have something, of all those of a class."""

    having: int
    patients: int

    @property
    def fraction(self) -> float:
        """Part of the patients."""
        return self.having / self.patients

    def __str__(self) -> str:
        return f"{self.having} of {self.patients}"


@dataclass(frozen=True, kw_only=True)
class Commoner:
    """A value of a column that is much commoner in one class than in the others."""

    column: str
    value: str
    """Empty where it is not told."""
    class_name: str
    here: Share
    elsewhere: Share
    others: str
    """The other class, or words for several."""

    def text(self) -> str:
        """Return a line for people."""
        here = f"all {self.here.patients}" if self.here.having == self.here.patients else str(self.here)
        elsewhere = str(self.elsewhere) if self.elsewhere.having else f"none of {self.elsewhere.patients}"
        word, what = OF[self.column]
        common = f"{word} {what} {self.value}" if self.value else f"without a known {what}"
        return (
            f"{here} patients of {self.class_name} are {common}, {elsewhere} of {self.others}: "
            f"a network can tell the {what} instead"
        )


def commoner_lines(snapshot: Snapshot, rows: np.ndarray) -> list[str]:
    """Return a line on each of sequence, scanner and site that goes with a class. rows: those of a run."""
    return [found.text() for column in OF if (found := find_commoner(snapshot, rows, column))]


def find_commoner(snapshot: Snapshot, rows: np.ndarray, column: str) -> Commoner | None:
    """Return the value that differs most between a class and the others; None where none differs by much.

    Patients count, each once a class and value; images that name none are left out.
    """
    # Most stores tell nothing of it: then no row is looked at.
    if not len(snapshot.names(column)):
        return None
    texts = np.stack([snapshot.column(name)[rows].astype(np.int64) for name in ("label", column, "patient")])
    texts = texts[:, (texts[0] >= 0) & (texts[2] >= 0)]
    pairs = np.unique(texts, axis=1)
    values = len(snapshot.names(column)) + 1
    having = np.zeros((len(snapshot.classes), values), np.int64)
    np.add.at(having, (pairs[0], pairs[1] + 1), 1)
    members = np.unique(texts[[0, 2]], axis=1)
    patients = np.bincount(members[0], minlength=len(snapshot.classes))
    found = _candidates(snapshot, column, having, patients)
    return max(found, key=lambda one: one.here.fraction - one.elsewhere.fraction, default=None)


def _candidates(
    snapshot: Snapshot, column: str, having: np.ndarray, patients: np.ndarray
) -> Iterator[Commoner]:
    """Yield what differs by much. having: int64, (classes, values), patients who have it; patients: all."""
    names = ["", *(name.decode() for name in snapshot.names(column).tolist())]
    for number, class_name in enumerate(snapshot.classes):
        all_here, all_others = int(patients[number]), int(patients.sum() - patients[number])
        if min(all_here, all_others) < FEWEST_PATIENTS:
            continue
        others = [name for name in snapshot.classes if name != class_name]
        for value, name in enumerate(names):
            here = Share(having=int(having[number, value]), patients=all_here)
            elsewhere = Share(having=int(having[:, value].sum()) - here.having, patients=all_others)
            if here.fraction - elsewhere.fraction >= LEAST_DIFFERENCE:
                yield Commoner(
                    column=column, value=name, class_name=class_name, here=here, elsewhere=elsewhere,
                    others=others[0] if len(others) == 1 else "the others",
                )  # fmt: skip
