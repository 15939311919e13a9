"""attention.csv: what gated attention says of each image of predictions.csv."""

import csv
import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from mri_hpc.base.atomic import replace_bytes
from mri_hpc.base.errors import UserError
from mri_hpc.rundir.predictions import Prediction

FIXED = ("key", "log_weight")


def write_attention(path: Path, classes: Sequence[str], answers: Mapping[str, Sequence[float]]) -> None:
    """Publish the table: key, logarithm of the weight, then one column ``logit:CLASS`` a class.

    answers: by key of the image, the weight first.
    """
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([*FIXED, *(f"logit:{name}" for name in classes)])
    for key, values in answers.items():
        writer.writerow([key, *(f"{value:.9g}" for value in values)])
    replace_bytes(path, text.getvalue().encode())


def answers_digest(path: Path) -> str:
    """Compute the sha256 of the table, in hex; empty where there is none."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        return ""


def with_attention(path: Path, rows: Iterable[Prediction], *, digest: str) -> list[Prediction]:
    """Return the rows with what attention says of them; UserError where that is not what was written."""
    if answers_digest(path) != digest:
        raise UserError(f"{path} is not the one by which this run pools; restore it from a backup")
    lines = csv.reader(io.StringIO(path.read_text(encoding="utf-8")))
    next(lines)
    answers = {key: tuple(float(value) for value in values) for key, *values in lines}
    try:
        return [replace(row, attention=answers[row.key]) for row in rows]
    except KeyError as error:
        raise UserError(f"{path} lacks image {error.args[0]}; restore it from a backup") from None
