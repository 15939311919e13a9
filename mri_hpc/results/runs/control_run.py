"""Control models of a run: trained on its training images, and asked about those of its predictions."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mri_hpc.base.errors import UserError
from mri_hpc.cohort.splits import rows_of, split_by
from mri_hpc.cohort.whole_patients import whole_patients
from mri_hpc.results.answers.whole_predictions import read_whole
from mri_hpc.results.runs.control_models import (
    FACTS,
    GREY,
    NEAREST,
    as_features,
    facts_of,
    known_columns,
    look_at,
    nearest_answers,
    regression_answers,
)
from mri_hpc.rundir.control_answers import (
    ControlAnswers,
    Reach,
    read_control_answers,
    write_control_answers,
)
from mri_hpc.rundir.kept import digest_of_predictions
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.predictions import Prediction
from mri_hpc.rundir.provenance import read_provenance
from mri_hpc.rundir.settings import load_training
from mri_hpc.storage.store import Snapshot, Store

MOST_TRAINED = 20_000
"""Images from which the controls learn at most, of whole patients: 20,000 times as many that are judged cost
about half a minute and 0.2 GB."""
MOST_JUDGED = 20_000
"""Images that they are asked about at most, of whole patients."""


@dataclass(frozen=True, kw_only=True)
class NoControls:
    """Nothing to hold a network against, and why."""

    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return {"reason": self.reason}


def keep_controls(run: RunDir) -> None:
    """Ask the control models where that was not done, and keep their answers with the run, where it can be.

    UserError where the predictions could not be judged either.
    """
    classes, rows = read_whole(run)
    if read_control_answers(run) is None:
        found = ask_controls(run, classes, rows)
        if isinstance(found, ControlAnswers):
            # A run that may not be written to is judged all the same.
            with suppress(OSError):
                write_control_answers(run, found)


def controls_of(
    run: RunDir, classes: Sequence[str], rows: Sequence[Prediction]
) -> ControlAnswers | NoControls:
    """Return what was kept of the control models, else ask them now. rows: of predictions.csv."""
    return read_control_answers(run) or ask_controls(run, classes, rows)


def ask_controls(
    run: RunDir, classes: Sequence[str], rows: Sequence[Prediction]
) -> ControlAnswers | NoControls:
    """Train the controls on the run's training images and ask them; none where the store lacks these."""
    settings = load_training(run)
    try:
        store = Store.open(Path(settings.store))
        snapshot = store.resolve(str(read_provenance(run).get("snapshot") or settings.snapshot))
        code = split_by(snapshot, settings)
        predicted = _rows_in(snapshot, rows)
        if predicted is None or tuple(classes) != snapshot.classes:
            return NoControls(reason="the store does not hold the images of this run as it saw them")
        return _asked(run, store, snapshot, rows_of(code).train, predicted, rows)
    except (UserError, OSError) as error:
        return NoControls(reason=f"the store could not be read ({_last_words(error)})")


def _last_words(error: Exception) -> str:
    """Say what is wrong, without the path of a folder: a page is made to be shared."""
    return (
        "it is not where it was" if isinstance(error, UserError | FileNotFoundError) else type(error).__name__
    )


def _asked(
    run: RunDir,
    store: Store,
    snapshot: Snapshot,
    train: np.ndarray,
    predicted: np.ndarray,
    rows: Sequence[Prediction],
) -> ControlAnswers:
    """Ask the controls. train, predicted: rows of the snapshot, those of `rows` in their order."""
    chosen = whole_patients(snapshot, train, MOST_TRAINED)
    asked = whole_patients(snapshot, predicted, MOST_JUDGED)
    labels, num = np.asarray(snapshot.label)[chosen].astype(np.int64), len(snapshot.classes)
    with store.reader(snapshot, is_read_once=True) as reader:
        learnt, seen = look_at(reader, chosen), look_at(reader, asked)
    answers = {
        NEAREST: nearest_answers(learnt.small, labels, seen.small, num),
        GREY: regression_answers(learnt.statistics, labels, seen.statistics, num),
    }
    facts, facts_asked = facts_of(snapshot, chosen), facts_of(snapshot, asked)
    if facts and facts_asked:
        answers[FACTS] = _by_facts(facts, facts_asked, labels, num)
    keys = np.asarray(snapshot.key)[asked].tolist()
    patients = np.asarray(snapshot.patient)[chosen]
    return ControlAnswers(
        predictions=digest_of_predictions(run),
        keys=tuple(f"{key:016x}" for key in keys),
        answers={
            name: tuple(tuple(float(f"{p:.5g}") for p in one) for one in found.tolist())
            for name, found in answers.items()
        },
        facts=tuple(facts),
        reach=Reach(
            trained_images=len(chosen),
            trained_patients=len(np.unique(patients[patients >= 0])),
            of_trained_images=len(train),
            judged_images=len(asked),
            of_judged_images=len(predicted),
        ),
        columns={name: tuple(found.tolist()) for name, found in known_columns(snapshot, predicted).items()},
    )


def _rows_in(snapshot: Snapshot, rows: Sequence[Prediction]) -> np.ndarray | None:
    """Find images in a snapshot: int64, (n,); None where it lacks one."""
    keys = np.array([int(row.key, 16) for row in rows], np.uint64)
    stored = np.asarray(snapshot.key)
    at = np.minimum(np.searchsorted(stored, keys), len(stored) - 1)
    return at if len(stored) and bool((stored[at] == keys).all()) else None


def _by_facts(
    facts: dict[str, np.ndarray], asked: dict[str, np.ndarray], labels: np.ndarray, num: int
) -> np.ndarray:
    learnt, seen = as_features(facts, asked)
    return regression_answers(learnt, labels, seen, num)
