"""predictions.csv: the finished model's probabilities for every image of the validation and test splits."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mri_hpc.base.atomic import replace_bytes
from mri_hpc.base.errors import UserError

FIXED = ("key", "patient", "split", "label", "predicted")


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One image, its label, and the model's probabilities."""

    key: str
    """Source key, 16 hex digits."""
    patient: str
    """Pseudonym; empty where the data name no patients."""
    split: str
    """validation, calibration or test."""
    label: str
    """Class given by the data; empty where unknown."""
    probabilities: tuple[float, ...]
    """One a class, in the order of the classes; they add up to 1."""
    attention: tuple[float, ...] = ()
    """Logarithm of its weight for the patient, then the patient's logits by it; empty where not pooled so."""


def write_predictions(path: Path, classes: Sequence[str], rows: Iterable[Prediction]) -> None:
    """Publish the table: key, patient, split, label, predicted, then one column ``p:CLASS`` a class."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([*FIXED, *(f"p:{name}" for name in classes)])
    for row in rows:
        predicted = classes[max(range(len(classes)), key=row.probabilities.__getitem__)]
        digits = [f"{p:.9g}" for p in row.probabilities]
        writer.writerow([row.key, row.patient, row.split, row.label, predicted, *digits])
    replace_bytes(path, text.getvalue().encode())


def read_predictions(path: Path) -> tuple[tuple[str, ...], list[Prediction]]:
    """Read classes and rows; UserError where the file is missing or is something else."""
    try:
        lines = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"))))
    except FileNotFoundError:
        raise UserError(
            f"{path} does not exist: the run has not finished; see: mri-hpc status {path.parent}"
        ) from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is damaged ({error}); restore it from a backup") from None
    if not lines or tuple(lines[0][: len(FIXED)]) != FIXED:
        raise UserError(
            f"{path} is not a table of predictions: its first line should begin {','.join(FIXED)}"
        )
    classes = tuple(name.removeprefix("p:") for name in lines[0][len(FIXED) :])
    try:
        return classes, [_row(line) for line in lines[1:]]
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); restore it from a backup") from None


def that_calibrate(rows: Iterable[Prediction]) -> tuple[str, list[Prediction]]:
    """Return the split whose patients give temperatures and thresholds, and its labelled rows.

    calibration where validation patients were set apart, so that these chose nothing; else validation.
    """
    labelled = [row for row in rows if row.label]
    split = "calibration" if any(row.split == "calibration" for row in labelled) else "validation"
    return split, [row for row in labelled if row.split == split]


def _row(line: list[str]) -> Prediction:
    key, patient, split, label, _predicted, *digits = line
    return Prediction(
        key=key, patient=patient, split=split, label=label, probabilities=tuple(float(d) for d in digits)
    )
