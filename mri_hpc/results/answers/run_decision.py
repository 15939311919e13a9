"""The decision that a run can promise: one function for evaluate, report and predict."""

from collections.abc import Sequence

from mri_hpc.base.errors import UserError
from mri_hpc.results.answers.decision import Decision, NoDecision, decide
from mri_hpc.results.answers.pooling_choice import patient_model_of
from mri_hpc.results.answers.whole_predictions import read_whole
from mri_hpc.results.statistics.patients import PatientResult, pool_patients
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.pooling import read_pooling
from mri_hpc.rundir.predictions import Prediction, that_calibrate
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
    training = load_training(run)
    split, _labelled = that_calibrate(rows)
    patients = _validation_patients(run, classes, rows)
    # A held rate falls from an epoch on that these patients choose as well, and so may the pooling.
    pooling, epochs = read_pooling(run), training.epochs * (1 + training.decay_epochs)
    models = 2 * epochs if pooling and pooling.was_chosen else epochs
    choices = 1 if split == "calibration" else models
    return decide(question, classes, patients, choices=choices)


def validation_patients(run: RunDir) -> list[PatientResult]:
    """Judge those who give the threshold as evaluate does; none where the run has no predictions to judge."""
    try:
        classes, rows = read_whole(run)
        return _validation_patients(run, classes, rows)
    except UserError:
        return []


def _validation_patients(
    run: RunDir, classes: tuple[str, ...], rows: Sequence[Prediction]
) -> list[PatientResult]:
    model = patient_model_of(run, classes)
    _split, labelled = that_calibrate(rows)
    return pool_patients(classes, labelled, model) if model else []
