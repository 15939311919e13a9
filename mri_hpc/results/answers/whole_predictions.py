"""Predictions of a run that are whole, and its own: figures of a part of them would look like any others."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from mri_hpc.base.errors import UserError
from mri_hpc.rundir.attention_answers import with_attention
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.pooling import read_pooling
from mri_hpc.rundir.predictions import Prediction, read_predictions
from mri_hpc.rundir.provenance import read_provenance

LARGEST_ERROR = 1e-6
"""Of the sum of written probabilities."""


def read_whole(run: RunDir) -> tuple[tuple[str, ...], list[Prediction]]:
    """Read classes and predictions, with attention where it pools; UserError: damaged, or of another run."""
    classes, rows = read_predictions(run.predictions)
    provenance = read_provenance(run)
    _refuse_foreign(run, classes, provenance.get("classes") or classes)
    _refuse_damaged(run, classes, rows, provenance.get("split_counts") or {})
    pooling = read_pooling(run)
    if pooling and pooling.is_kept:
        rows = with_attention(run.attention_answers, rows, digest=pooling.answers_digest)
    return classes, rows


def _refuse_foreign(run: RunDir, classes: Sequence[str], stated: Sequence[str]) -> None:
    """Raise UserError where the table is one of another run."""
    if tuple(classes) != tuple(stated):
        raise UserError(
            f"{run.predictions} is of the classes {', '.join(classes)}, and the run of {', '.join(stated)}: "
            "restore it from a backup"
        )


def _refuse_damaged(
    run: RunDir, classes: tuple[str, ...], rows: list[Prediction], split_counts: Mapping[str, Any]
) -> None:
    """Raise UserError where the table is not whole: figures of a part of it would look like any others."""
    for row in rows:
        is_whole = len(row.probabilities) == len(classes) and row.label in ("", *classes)
        # Probabilities that are no numbers have a reason of their own.
        if not is_whole or abs(sum(row.probabilities) - 1) > LARGEST_ERROR:
            raise UserError(
                f"{run.predictions} is damaged at image {row.key}: its class or probabilities are not those "
                "that were written; restore it from a backup"
            )
    found = Counter(row.split for row in rows)
    for split, stated in split_counts.items():
        if split in found and stated.get("images", found[split]) != found[split]:
            raise UserError(
                f"{run.predictions} is damaged: it has {found[split]} images of the {split} split, and the "
                f"run wrote {stated['images']}; restore it from a backup"
            )
