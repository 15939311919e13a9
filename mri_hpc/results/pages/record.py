"""The record of a finished run: all that it says about itself, read once, for those who review it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mri_hpc.base.errors import UserError
from mri_hpc.intake.decoding.recipe import Recipe, load_recipe
from mri_hpc.results.pages.cohort_table import Cell, splits_of, tabulate, totals
from mri_hpc.results.runs.evaluation import Evaluation
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.predictions import read_predictions
from mri_hpc.rundir.provenance import read_provenance
from mri_hpc.rundir.settings import TrainingSettings, load_training
from mri_hpc.rundir.where_it_looks import WhereItLooks, read_where_it_looks


@dataclass(frozen=True, kw_only=True)
class Record:
    """All that one run has written down."""

    name: str
    training: TrainingSettings
    provenance: Mapping[str, Any]
    recipe: Recipe | None
    """By which images became arrays; None where the run has no copy that can be read."""
    evaluation: Evaluation
    """Of the test split."""
    cohort: Mapping[str, Mapping[str, Cell]]
    """By class and split."""
    cohort_totals: Mapping[str, Cell]
    """By split."""
    splits: tuple[str, ...]
    looks: WhereItLooks | None
    """Score of the heat maps of this very model; None where there is none."""


def read_record(run: RunDir, evaluation: Evaluation) -> Record:
    """Read the record of a run. evaluation: of its test split. UserError where a file is damaged."""
    provenance, training = read_provenance(run), load_training(run)
    _classes, rows = read_predictions(run.predictions)
    stated = provenance.get("split_counts") or {}
    table = tabulate(evaluation.classes, stated, rows)
    return Record(
        name=run.path.resolve().name,
        training=training,
        provenance=provenance,
        recipe=_recipe(run),
        evaluation=evaluation,
        cohort=table,
        cohort_totals=totals(table, stated, rows),
        splits=splits_of(stated, rows),
        looks=looks_of(run, provenance),
    )


def looks_of(run: RunDir, provenance: Mapping[str, Any]) -> WhereItLooks | None:
    """Return the score of the heat maps of this very model; None where there is none."""
    score = read_where_it_looks(run)
    return score if score and score.model_digest == provenance.get("model_digest") else None


def _recipe(run: RunDir) -> Recipe | None:
    try:
        return load_recipe(run.recipe)
    except UserError:
        return None
