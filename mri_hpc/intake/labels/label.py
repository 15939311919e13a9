"""Labels: all that is known about a source beside its pixels, from folders or from a table."""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from mri_hpc.base.errors import BadSource, UserError
from mri_hpc.intake.labels.persons import Mention, nfc

SPLITS = ("train", "validation", "test")
PLANES = ("axial", "coronal", "sagittal")

SPLIT_WORDS = {
    "train": 0, "training": 0, "val": 1, "valid": 1, "validation": 1, "test": 2, "testing": 2,
}  # fmt: skip
PLANE_WORDS = {
    "ax": 0, "axial": 0, "tra": 0, "transversal": 0, "cor": 1, "coronal": 1, "sag": 2, "sagittal": 2,
}  # fmt: skip
SITE_NAME = re.compile(r"[\w.-]{0,64}")
NO_LABEL_IN_CSV = "no label in CSV"
NO_BOX = (math.nan,) * 4
MOST_CLASSES = 2**15 - 1
"""As many as a store can number."""


@dataclass(frozen=True, kw_only=True)
class Label:
    """All that is known about one source beside its pixels."""

    label: str = ""
    """Class name; empty where unknown."""
    patient: str = ""
    """Patient id as given, behind the site where one is given (see at_site); empty where unknown."""
    study: str = ""
    """Study id as given, as that of the patient; empty where unknown."""
    fold: int = -1
    """Fold given by the data; -1 none."""
    split: int = -1
    """Index into SPLITS; -1 none."""
    plane: int = -1
    """Index into PLANES; -1 unknown."""
    plane_inferred: bool = False
    """Guessed, rather than recorded by a scanner."""
    box: tuple[float, float, float, float] = NO_BOX
    """Centre x, centre y, width, height as fractions of the source picture; NaN none."""
    site: str = ""
    """Name of what the source comes from, part of its key; empty where none is given."""


class Labels(Protocol):
    """Says of each source what is known beside its pixels."""

    site: str
    """Site of sources of which nothing else names one; empty where none is given."""

    def of(self, path: str) -> Label:
        """Return a source's label, by the path of its first file below the root; BadSource: there is none."""
        ...

    def site_of(self, path: str) -> str:
        """Return the site of a source, whether or not it has a label; empty where none is given."""
        ...

    def mentions(self, paths: Sequence[str]) -> Iterator[Mention]:
        """Yield the ids of patients, each once at least. paths: of all files."""
        ...


def label_or_reason(labels: Labels, path: str) -> tuple[Label, str]:
    """Return the label of a source, and, empty where there is one, why there is none."""
    try:
        return labels.of(path), ""
    except BadSource as error:
        return Label(), str(error)


def at_site(site: str, name: str) -> str:
    """Return the id of a patient or a study among those of several sites: SITE/ID; empty for none."""
    name = nfc(name)
    return f"{site}/{name}" if site and name else name


def check_site(site: str, where: str) -> str:
    """Return a site's name; UserError where it is none. where: it stands, to be named."""
    if not SITE_NAME.fullmatch(site):
        raise UserError(
            f"{where}: a site is a short name of letters, digits, '-', '_' and '.', found {site!r}"
        )
    return site


def check_patients_stay(labels: Iterable[tuple[Label, str]], where: str) -> None:
    """Raise UserError where a patient has two folds, or two splits. labels: each with its origin to name."""
    first: dict[str, tuple[Label, str]] = {}
    for label, origin in labels:
        if not label.patient:
            continue
        before, before_origin = first.setdefault(label.patient, (label, origin))
        for what in ("fold", "split"):
            if getattr(before, what) != getattr(label, what):
                raise UserError(
                    f"{where}: a patient is in {what} {_shown(before, what)} ({before_origin}) and in {what} "
                    f"{_shown(label, what)} ({origin}); a patient is never in two: give one {what}"
                )


def _shown(label: Label, what: str) -> str:
    value: int = getattr(label, what)
    if value < 0:
        return "none"
    return SPLITS[value] if what == "split" else str(value)
