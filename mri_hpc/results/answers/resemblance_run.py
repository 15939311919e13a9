"""Appearance of a run's training images, found out from its store, and kept with the run."""

import logging
from contextlib import suppress
from pathlib import Path

import numpy as np

from mri_hpc.base.errors import UserError
from mri_hpc.cohort.splits import rows_of, split_by
from mri_hpc.cohort.whole_patients import whole_patients
from mri_hpc.results.answers.appearance import appearance_of
from mri_hpc.results.answers.planted_changes import look_at_copies
from mri_hpc.results.answers.resemblance import (
    Resemblance,
    Row,
    Space,
    fit_space,
    fit_with_changes,
    write_resemblance,
)
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.provenance import read_provenance
from mri_hpc.rundir.settings import load_training
from mri_hpc.storage.store import Reader, Snapshot, Store

log = logging.getLogger(__name__)
MOST_TRAINED = 4000
"""Images that it is made of at most, of whole patients: more would hardly move it, and cost seconds."""
MOST_VALIDATED = 4000
"""Images of validation patients at most, of whole patients."""
MOST_COPIED = 1500
"""Training images of which turned and resized copies are made, of patients drawn by chance."""
FEWEST_COPIED = 20
"""Training patients, of fewer than whom no half tells how others are."""
BATCH = 256


def find_resemblance(run: RunDir) -> None:
    """Find it out as training ends, and keep it; where that cannot be, predict says so."""
    try:
        write_resemblance(run, _of_run(run))
    except (UserError, OSError) as error:
        log.warning("what the training images look like was not kept: %s", error)


def keep_resemblance(run: RunDir) -> None:
    """Find it out for a run that has ended without, where its store is still there."""
    if run.is_finished and not run.resemblance.exists():
        # A store that has gone, a run that may not be written to: it can be judged all the same.
        with suppress(UserError, OSError):
            write_resemblance(run, _of_run(run))


def _of_run(run: RunDir) -> Resemblance:
    settings, digests = load_training(run), read_provenance(run)
    store = Store.open(Path(settings.store))
    snapshot = store.resolve(str(digests.get("snapshot") or settings.snapshot))
    # Of validation, patients who choose no epoch, too: the more, the better is told what is far.
    split = rows_of(split_by(snapshot, settings))
    with store.reader(snapshot, is_read_once=True) as reader:
        return resemblance_of(
            reader, snapshot, split.train, split.validation, str(digests.get("model_digest", ""))
        )


def resemblance_of(
    reader: Reader, snapshot: Snapshot, train: np.ndarray, validation: np.ndarray, model_digest: str = ""
) -> Resemblance:
    """Look at training images, and at validation patients. train, validation: rows, int64, (n,)."""
    learnt = whole_patients(snapshot, train, MOST_TRAINED)
    if len(learnt) < 2:
        raise UserError("there is no second training image that it could vary from")
    space = _space(reader, snapshot, learnt)
    return Resemblance(
        model_digest=model_digest,
        num_images=len(learnt),
        space=space,
        validation=_by_patient(reader, snapshot, whole_patients(snapshot, validation, MOST_VALIDATED), space),
    )


def _space(reader: Reader, snapshot: Snapshot, rows: np.ndarray) -> Space:
    """Find where training images lie; by copies of some, too, where there are patients enough."""
    appearance, random = look_at(reader, rows), np.random.default_rng(0)
    whose = _patients(snapshot, rows)
    drawn = random.permutation(np.unique(whose))
    if len(drawn) < FEWEST_COPIED:
        return fit_space(appearance)
    # Whole patients of both halves, by turns.
    place = np.empty(whose.max() + 1, np.int64)
    place[drawn] = np.arange(len(drawn))
    of = np.sort(np.argsort(place[whose], kind="stable")[:MOST_COPIED])
    parts = [of[start : start + BATCH] for start in range(0, len(of), BATCH)]
    copies = [look_at_copies(reader.read(rows[part]), random) for part in parts]
    by_change = {name: np.concatenate([one[name] for one in copies]) for name in copies[0]}
    return fit_with_changes(appearance, by_change, of=of, half=place[whose] % 2 == 0)


def _patients(snapshot: Snapshot, rows: np.ndarray) -> np.ndarray:
    """Return whose each image is, one without a patient as of one of its own: int64, (n,)."""
    patient = np.asarray(snapshot.patient)[rows].astype(np.int64)
    return np.where(patient >= 0, patient, len(snapshot.patient_names) + np.arange(len(rows)))


def look_at(reader: Reader, rows: np.ndarray) -> np.ndarray:
    """Read images, and keep their appearance: float64, (n, f)."""
    parts = (rows[start : start + BATCH] for start in range(0, len(rows), BATCH))
    return np.concatenate([appearance_of(reader.read(part)) for part in parts])


def _by_patient(reader: Reader, snapshot: Snapshot, rows: np.ndarray, space: Space) -> tuple[Row, ...]:
    """Return distances of each patient's images, in an order drawn by chance that is the same each time.

    An image without a patient counts as one of its own.
    """
    if not len(rows):
        return ()
    distances = space.distances(look_at(reader, rows))
    by_chance = np.random.default_rng(0).permutation(len(rows))
    rows, distances = rows[by_chance], distances[by_chance]
    own = _patients(snapshot, rows)
    return tuple(tuple(float(f"{one:.6g}") for one in distances[own == number]) for number in np.unique(own))
