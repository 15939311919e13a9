"""Appearance of a run's training images, found out from its store, and kept with the run."""

import logging
from collections.abc import Callable, Iterator
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
MOST_COPIED = 1000
"""Training images of which turned and resized copies are made, half of them of each half of the patients:
so many that a look takes at most about one and a half times what it takes without."""
FEWEST_COPIED = 20
"""Training patients, of fewer than whom no half tells how others are."""
BATCH = 256


def find_resemblance(run: RunDir, beat: Callable[[], None]) -> None:
    """Find it out as training ends, and keep it; where that cannot be, predict says so.

    beat: called every some hundred images, as a sign of life.
    """
    try:
        write_resemblance(run, _of_run(run, beat))
    except (UserError, OSError) as error:
        log.warning("what the training images look like was not kept: %s", error)


def keep_resemblance(run: RunDir) -> None:
    """Find it out for a run that has ended without, where its store is still there.

    A model that is kept without its run stays as it was added.
    """
    if run.is_finished and not run.resemblance.exists() and not run.record.exists():
        # A store that has gone, a run that may not be written to: it can be judged all the same.
        with suppress(UserError, OSError):
            write_resemblance(run, _of_run(run))


def _of_run(run: RunDir, beat: Callable[[], None] = lambda: None) -> Resemblance:
    settings, digests = load_training(run), read_provenance(run)
    store = Store.open(Path(settings.store))
    snapshot = store.resolve(str(digests.get("snapshot") or settings.snapshot))
    # Of validation, patients who choose no epoch, too: the more, the better is told what is far.
    split = rows_of(split_by(snapshot, settings))
    with store.reader(snapshot, is_read_once=True) as reader:
        return resemblance_of(
            reader, snapshot, split.train, split.validation, str(digests.get("model_digest", "")), beat=beat
        )


def resemblance_of(
    reader: Reader,
    snapshot: Snapshot,
    train: np.ndarray,
    validation: np.ndarray,
    model_digest: str = "",
    beat: Callable[[], None] = lambda: None,
) -> Resemblance:
    """Look at training images, and at validation patients. train, validation: rows, int64, (n,)."""
    learnt = whole_patients(snapshot, train, MOST_TRAINED)
    if len(learnt) < 2:
        raise UserError("there is no second training image that it could vary from")
    space = _space(reader, snapshot, learnt, beat)
    judged = whole_patients(snapshot, validation, MOST_VALIDATED)
    return Resemblance(
        model_digest=model_digest,
        num_images=len(learnt),
        space=space,
        validation=_by_patient(reader, snapshot, judged, space, beat),
    )


def _space(reader: Reader, snapshot: Snapshot, rows: np.ndarray, beat: Callable[[], None]) -> Space:
    """Find where training images lie; by copies of some, too, where there are patients enough."""
    appearance, random = look_at(reader, rows, beat), np.random.default_rng(0)
    whose = _patients(snapshot, rows)
    drawn = random.permutation(np.unique(whose))
    if len(drawn) < FEWEST_COPIED:
        return fit_space(appearance)
    place = np.empty(whose.max() + 1, np.int64)
    place[drawn] = np.arange(len(drawn))
    half, order = place[whose] % 2 == 0, np.argsort(place[whose], kind="stable")
    # As many of each half: one patient may have more images than are copied in all.
    of = np.sort(np.concatenate([order[is_in[order]][: MOST_COPIED // 2] for is_in in (half, ~half)]))
    copies = [look_at_copies(images, random) for images in _read(reader, rows[of], beat)]
    by_change = {name: np.concatenate([one[name] for one in copies]) for name in copies[0]}
    return fit_with_changes(appearance, by_change, of=of, half=half)


def _patients(snapshot: Snapshot, rows: np.ndarray) -> np.ndarray:
    """Return whose each image is, one without a patient as of one of its own: int64, (n,)."""
    patient = np.asarray(snapshot.patient)[rows].astype(np.int64)
    return np.where(patient >= 0, patient, len(snapshot.patient_names) + np.arange(len(rows)))


def look_at(reader: Reader, rows: np.ndarray, beat: Callable[[], None] = lambda: None) -> np.ndarray:
    """Read images, and keep their appearance: float64, (n, f)."""
    return np.concatenate([appearance_of(images) for images in _read(reader, rows, beat)])


def _read(reader: Reader, rows: np.ndarray, beat: Callable[[], None]) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), BATCH):
        yield reader.read(rows[start : start + BATCH])
        # When these have been looked at.
        beat()


def _by_patient(
    reader: Reader, snapshot: Snapshot, rows: np.ndarray, space: Space, beat: Callable[[], None]
) -> tuple[Row, ...]:
    """Return distances of each patient's images, in an order drawn by chance that is the same each time.

    An image without a patient counts as one of its own.
    """
    if not len(rows):
        return ()
    distances = space.distances(look_at(reader, rows, beat))
    by_chance = np.random.default_rng(0).permutation(len(rows))
    rows, distances = rows[by_chance], distances[by_chance]
    own = _patients(snapshot, rows)
    return tuple(tuple(float(f"{one:.6g}") for one in distances[own == number]) for number in np.unique(own))
