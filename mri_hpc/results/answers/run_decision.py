"""The decision, and the sets of classes, that a run can promise: one for evaluate, report and predict."""

import math
from collections.abc import Sequence

from mri_hpc.base.errors import UserError
from mri_hpc.cohort.lineage import runs_before
from mri_hpc.results.answers.decision import Decision, NoDecision, decide
from mri_hpc.results.answers.pooling_choice import patient_model_of
from mri_hpc.results.answers.promised_sets import NoSets, PromisedSets, promise_sets
from mri_hpc.results.answers.whole_predictions import read_whole
from mri_hpc.results.statistics.patients import ValidationPatients, pool_patients
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.pooling import read_pooling
from mri_hpc.rundir.predictions import Prediction, that_calibrate
from mri_hpc.rundir.provenance import read_provenance
from mri_hpc.rundir.question import Question, read_question
from mri_hpc.rundir.settings import load_training


def decision_of(run: RunDir) -> Decision | NoDecision:
    """Find the threshold that evaluate and report give; none, with the reason, where they could not."""
    try:
        classes, rows = read_whole(run)
        return decide_by_validation(run, classes, rows, read_question(run))
    except UserError as error:
        return NoDecision(reason=str(error))


def decide_by_validation(
    run: RunDir, classes: tuple[str, ...], rows: Sequence[Prediction], question: Question
) -> Decision | NoDecision:
    """Find the threshold by patients of validation: by those who chose nothing, where some were set apart.

    They are pooled as evaluate pools them, and scored as the network says: a temperature comes from the same
    patients, and the bound knows of nothing that does. rows: of all splits.
    """
    try:
        validation = _validation_patients(run, classes, rows)
    except UserError as error:
        return NoDecision(reason=str(error))
    return decide(question, classes, validation.patients, choices=validation.choices)


def sets_of(run: RunDir) -> PromisedSets | NoSets:
    """Find the sets that evaluate and report give; none, with the reason, where they could not."""
    try:
        classes, rows = read_whole(run)
        return sets_by_validation(run, classes, rows)
    except UserError as error:
        return NoSets(reason=str(error))


def sets_by_validation(
    run: RunDir, classes: tuple[str, ...], rows: Sequence[Prediction]
) -> PromisedSets | NoSets:
    """Find the sets by the patients who give the threshold of a decision, and scored as there."""
    try:
        return promise_sets(classes, _validation_patients(run, classes, rows))
    except UserError as error:
        return NoSets(reason=str(error))


def validation_patients(run: RunDir) -> ValidationPatients:
    """Judge those who give the threshold as evaluate does; none where the run has no predictions to judge."""
    try:
        classes, rows = read_whole(run)
        return _validation_patients(run, classes, rows)
    except UserError:
        return ValidationPatients()


def _validation_patients(
    run: RunDir, classes: tuple[str, ...], rows: Sequence[Prediction]
) -> ValidationPatients:
    model = patient_model_of(run, classes)
    split, labelled = that_calibrate(rows)
    patients = pool_patients(classes, labelled, model) if model else []
    choices = 1 if split == "calibration" else _num_models(run)
    return ValidationPatients(patients=tuple(patients), choices=choices)


def _num_models(run: RunDir) -> int:
    """Count the models among which validation patients chose: of every epoch, and way of pooling.

    Raises UserError where a run that it goes on from is gone: they may have chosen its epoch, too.
    """
    num = math.prod(_num_epochs(one) for one in (run, *runs_before(load_training(run))))
    pooling = read_pooling(run)
    return 2 * num if pooling and pooling.was_chosen else num


def _num_epochs(run: RunDir) -> int:
    """Count the models of one run: of every epoch, at every epoch from which a held rate may fall.

    Where the last epoch is published, they choose only when the rate falls.
    """
    training, known = load_training(run), read_provenance(run)
    # Where --epochs was lowered since, more were done.
    epochs = max(training.epochs, int(known.get("epochs", 0)))
    is_last = training.published_epoch == "last" and training.decay_epochs > 0
    if is_last and known.get("model_epoch", 0) == known.get("epochs"):
        return epochs
    return epochs * (1 + training.decay_epochs)
