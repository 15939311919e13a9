"""Table of the images and patients of each class in each split."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mri_hpc.rundir.predictions import Prediction

SPLITS = ("train", "validation", "calibration", "test")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Images and patients of one class in one split."""

    images: int | None = None
    """None where the run does not say."""
    patients: int | None = None
    """None where the data name no patients, or the run does not say."""


def splits_of(split_counts: Mapping[str, Any], rows: Sequence[Prediction]) -> tuple[str, ...]:
    """Return the splits of a run: calibration only where validation patients were set apart."""
    has_apart = "calibration" in split_counts or any(row.split == "calibration" for row in rows)
    return tuple(split for split in SPLITS if has_apart or split != "calibration")


def tabulate(
    classes: Sequence[str], split_counts: Mapping[str, Any], rows: Sequence[Prediction]
) -> dict[str, dict[str, Cell]]:
    """Tabulate cells by class and split.

    split_counts: as in provenance, split → "classes" → class → images and patients. What it does not give is
    counted from the predictions, which hold all validation and test images.
    """
    counted, splits = _count(rows), splits_of(split_counts, rows)
    return {
        name: {
            split: _stated(split_counts.get(split), name) or counted.get((split, name)) or Cell()
            for split in splits
        }
        for name in classes
    }


def totals(
    table: Mapping[str, Mapping[str, Cell]], split_counts: Mapping[str, Any], rows: Sequence[Prediction]
) -> dict[str, Cell]:
    """Count all images and patients of each split; a patient of several classes counts once."""
    return {
        split: Cell(
            images=_sum([cells[split].images for cells in table.values()]),
            patients=_patients(split_counts.get(split) or {}, [row for row in rows if row.split == split]),
        )
        for split in splits_of(split_counts, rows)
    }


def _patients(stated: Mapping[str, Any], rows: Sequence[Prediction]) -> int | None:
    """Count what the run states of a split, else what its predictions show; None where none are named."""
    counted = len({row.patient for row in rows if row.patient and row.label})
    return stated.get("patients", counted) or None


def _stated(of_split: Any, name: str) -> Cell | None:
    of_class = (of_split or {}).get("classes", {}).get(name)
    if of_class is None:
        return None
    images, patients = of_class["images"], of_class["patients"]
    # Images without patients: the data name none. No images: no patients either.
    return Cell(images=images, patients=None if images and not patients else patients)


def _count(rows: Sequence[Prediction]) -> dict[tuple[str, str], Cell]:
    images: dict[tuple[str, str], int] = defaultdict(int)
    patients: dict[tuple[str, str], set[str]] = defaultdict(set)
    for row in rows:
        images[row.split, row.label] += 1
        if row.patient:
            patients[row.split, row.label].add(row.patient)
    return {
        cell: Cell(images=num, patients=len(patients[cell]) if cell in patients else None)
        for cell, num in images.items()
    }


def _sum(parts: Sequence[int | None]) -> int | None:
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None
