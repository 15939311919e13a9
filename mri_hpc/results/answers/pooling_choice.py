"""The choice between the mean and gated attention, by validation patients."""

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mri_hpc.base.errors import UserError
from mri_hpc.results.answers.temperature import cross_fitted
from mri_hpc.results.statistics.patient_model import (
    AttentionOverImages,
    MeanOfImages,
    PatientModel,
    patient_model,
)
from mri_hpc.results.statistics.patients import patient_outcomes, pool_patients
from mri_hpc.results.statistics.scores import log_loss_of
from mri_hpc.rundir.attention_answers import answers_digest, with_attention
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.pooling import FEWEST, Pooling, read_pooling, write_pooling
from mri_hpc.rundir.predictions import Prediction, read_predictions
from mri_hpc.rundir.provenance import read_provenance
from mri_hpc.rundir.settings import load_training

log = logging.getLogger(__name__)
RESAMPLES = 2000


def patient_model_of(run: RunDir, classes: Sequence[str]) -> PatientModel | None:
    """Return the patient model of a run: by its settings, and by attention where validation chose it."""
    model, found = patient_model(load_training(run).patient_label, classes), read_pooling(run)
    return AttentionOverImages() if model and found and found.is_kept else model


def choose_pooling(run: RunDir) -> None:
    """Write pooling.json where the run's settings have attention tried."""
    if load_training(run).pooling == "mean":
        return
    digest = str(read_provenance(run).get("model_digest", ""))
    try:
        classes, rows = read_predictions(run.predictions)
        rows = [row for row in rows if row.split == "validation" and row.label]
        num = len({row.patient for row in rows if row.patient})
        tried = answers_digest(run.attention_answers)
        if num < FEWEST:
            few = f"validation has {num} patients, and fewer than {FEWEST} do not tell"
            found = Pooling(model_digest=digest, num=num, reason=few)
        elif tried:
            found = compare(classes, with_attention(run.attention_answers, rows, digest=tried))
        else:
            found = Pooling(model_digest=digest, reason="no training image names a patient")
    except UserError as error:
        # Training is done, and evaluate says it again: no reason to give the run up.
        log.warning("pooled by the mean: %s", error)
        found, tried = Pooling(model_digest=digest, reason=str(error)), ""
    write_pooling(run, replace(found, model_digest=digest, answers_digest=tried))


def compare(classes: tuple[str, ...], rows: Sequence[Prediction]) -> Pooling:
    """Compare both on validation patients by log loss. rows: labelled, with what attention says of them.

    Each by itself is given its temperature, as it would be in use, from other patients than those judged. The
    lower loss wins, by however little: nothing speaks for the mean beforehand.
    """
    losses = []
    for model in (MeanOfImages(), AttentionOverImages()):
        patients = pool_patients(classes, rows, model)
        outcomes = patient_outcomes(classes, patients)
        losses.append(log_loss_of(replace(outcomes, probabilities=cross_fitted(outcomes))))
    mean, attention = losses
    drawn = np.random.default_rng(0).integers(0, len(mean), (RESAMPLES, len(mean)))
    better = float(((mean - attention)[drawn].mean(1) > 0).mean())
    return Pooling(
        model_digest="",
        is_kept=bool(attention.mean() < mean.mean()),
        num=len(mean),
        mean_log_loss=float(mean.mean()),
        attention_log_loss=float(attention.mean()),
        fraction_better=better,
    )
