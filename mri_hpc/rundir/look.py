"""look.json: the look at test patients that the figures of a run are, and how many came before it.

A look is a pair of a model and a test set: the same model judged again by the same images is no further one.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mri_hpc.base.access import make_private, replace_private
from mri_hpc.base.atomic import replace_bytes
from mri_hpc.base.documents import convert, parse, with_format, without_format
from mri_hpc.base.errors import UserError
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.predictions import Prediction

FORMAT = 1
MOST_UNITS = 4096
"""Hashes of patients that a look keeps at most, the least ones: two sets that share a good part of their
patients share some of these, however large they are."""
ORDINALS = ("", "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")


@dataclass(frozen=True, kw_only=True)
class Look:
    """A model that was judged by test patients; neither a patient nor who looked is named in it."""

    model: str
    """Digest of its weights."""
    test_set: str
    """Digest of the labelled test images and whose they are."""
    run: str
    """Name of the run's folder, without those above it."""
    when: str
    """In UTC, to the minute: 2026-11-30 09:24 UTC."""
    num_units: int
    """Patients in the test set; an image that names none counts as one."""
    units: tuple[str, ...]
    """Hash of each, 16 hex digits, sorted; the first MOST_UNITS."""

    @property
    def pair(self) -> tuple[str, str]:
        """Model and test set, which make it a look of its own."""
        return self.model, self.test_set

    def __str__(self) -> str:
        return f"{self.run}, {self.when}"

    def shares_patients_with(self, other: "Look") -> bool:
        """Tell whether both judged some of the same patients."""
        return not {*self.units}.isdisjoint(other.units)


@dataclass(frozen=True, kw_only=True)
class KeptLook:
    """A run's own look, as it was counted when its figures were first shown."""

    look: Look
    before: tuple[str, ...] = ()
    """Looks of other models at some of the same patients: name of the run, and when."""
    is_in_store: bool = True
    """It stands in the store, for all who train on it; else beside the run alone."""

    @property
    def number(self) -> int:
        """Count of looks up to this one."""
        return len(self.before) + 1

    @property
    def sentence(self) -> str:
        """Count in words, for people, without a full stop."""
        counted = f"{ordinal(self.number)} look at these test patients"
        if self.before:
            models = "another model was" if self.number == 2 else f"{self.number - 1} other models were"
            counted = f"{counted}, by some or all of whom {models} judged before: where models are chosen by "
            counted = f"{counted}such figures, these are too good"
        return (
            counted if self.is_in_store else f"{counted} (counted without the store, which was out of reach)"
        )

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return {
            "number": self.number,
            "test_set": self.look.test_set,
            "when": self.look.when,
            "before": list(self.before),
            "in_store": self.is_in_store,
        }


def ordinal(number: int) -> str:
    """Write the place of a number as a word; from 11 on in digits."""
    if number < len(ORDINALS):
        return ORDINALS[number]
    ends = {1: "st", 2: "nd", 3: "rd"}
    return f"{number}{'th' if 10 < number % 100 < 20 else ends.get(number % 10, 'th')}"


def digest_of_test_set(rows: Iterable[Prediction]) -> str:
    """Compute the digest of the labelled test images among predictions, and whose they are."""
    tested = sorted(f"{row.key} {row.patient}" for row in rows if row.split == "test" and row.label)
    return hashlib.sha256("\n".join(tested).encode()).hexdigest()


def units_of(rows: Iterable[Prediction]) -> list[str]:
    """Hash the patients of the labelled test images, and the images that name none; sorted, each once."""
    return hashes_of(row for row in rows if row.split == "test" and row.label)


def hashes_of(rows: Iterable[Prediction]) -> list[str]:
    """Hash the patients of rows of any split, and the images that name none; sorted, each once."""
    units = {row.patient or f"image {row.key}" for row in rows}
    return sorted(hashlib.blake2b(unit.encode(), digest_size=8).hexdigest() for unit in units)


def read_look(run: RunDir) -> KeptLook | None:
    """Read the look that was kept; None before the first, and of runs of before looks were counted."""
    try:
        values = without_format(parse(run.look.read_bytes()), of=run.look, reads=FORMAT)
        return convert(values, KeptLook)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UserError(
            f"{run.look} is not what evaluate wrote ({error}): restore it from a backup, or remove it: the "
            "look is found in the store again"
        ) from None


def write_look(run: RunDir, look: Look, before: Sequence[Look], *, is_in_store: bool) -> None:
    """Publish a run's own look."""
    kept = KeptLook(look=look, before=tuple(map(str, before)), is_in_store=is_in_store)
    replace_bytes(run.look, json.dumps(with_format(FORMAT, asdict(kept)), indent=1).encode() + b"\n")


def write_who_looked(run: RunDir, who: str) -> None:
    """Keep the account that looked, for the owner of the run alone."""
    make_private(run.private)
    document = json.dumps(with_format(FORMAT, {"who": who})).encode() + b"\n"
    replace_private(run.who_looked, document)
