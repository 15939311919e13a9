"""The model of a finished run, that of its best epoch, and its answers about unseen images."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mri_hpc.base.atomic import replace
from mri_hpc.base.errors import UserError
from mri_hpc.loading.augment import standardised
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.look import digest_of_test_set
from mri_hpc.rundir.predictions import Prediction, write_predictions
from mri_hpc.rundir.provenance import read_provenance, write_provenance
from mri_hpc.storage.store import Snapshot
from mri_hpc.training.evaluation import Answers, softmax
from mri_hpc.training.model import (
    ANSWERS,
    FORMAT,
    MIRRORED,
    MODEL_FORMAT,
    PLAIN_FORMAT,
    FinishedModel,
    GreyClassifier,
    load_for_prediction,
    weights_digest,
)
from mri_hpc.training.state_files import write_weights

PREDICTED_SPLITS = ("validation", "calibration", "test")


def publish(
    run: RunDir,
    snapshot: Snapshot,
    answers: Mapping[str, Answers],
    weights: Mapping[str, torch.Tensor],
    *,
    model_name: str,
    normalisation: str,
    is_mirrored: bool = False,
    origin: Mapping[str, Any],
) -> int:
    """Write the model, where it comes from, and its answers by split; returns the number of predictions."""
    metadata = {
        **(
            {MODEL_FORMAT: str(FORMAT), ANSWERS: MIRRORED}
            if is_mirrored
            else {MODEL_FORMAT: str(PLAIN_FORMAT)}
        ),
        "model": model_name,
        "normalisation": normalisation,
        "classes": json.dumps(snapshot.classes),
        "image_shape": json.dumps(snapshot.image_shape),
    }
    replace(run.model, lambda temp: write_weights(temp, weights, metadata))
    rows = [row for split, found in answers.items() for row in _predictions(snapshot, split, found)]
    write_provenance(run, {**origin, "test_set": digest_of_test_set(rows)})
    write_predictions(run.predictions, snapshot.classes, rows)
    return len(rows)


@dataclass(frozen=True, kw_only=True, eq=False)
class FinishedRun:
    """A finished run that can be asked about images."""

    classes: tuple[str, ...]
    ask: Callable[[np.ndarray], np.ndarray]
    """From images, (n, H, W), of the run's recipe, to probabilities, float64 (n, classes)."""


def load_finished(run: RunDir) -> FinishedRun:
    """Load the model of a finished run, to ask it about images; raises UserError as load_model does."""
    finished = _checked(run)
    model = finished.model
    return FinishedRun(classes=finished.classes, ask=lambda images: probabilities(model, images))


def load_model(run: RunDir) -> GreyClassifier:
    """Load the model of a finished run, onto the GPU if there is one.

    UserError before the run has finished, or where the weights are not those that its provenance names.
    """
    return _checked(run).model


def _checked(run: RunDir) -> FinishedModel:
    finished = load_for_prediction(run)
    model, model_digest = finished.model, read_provenance(run).get("model_digest")
    if model_digest and weights_digest(model.network.state_dict()) != model_digest:
        held = f"{run.model} does not hold the weights that {run.provenance} names"
        raise UserError(f"{held}; restore it from a backup")
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    return finished


def probabilities(model: GreyClassifier, images: np.ndarray) -> np.ndarray:
    """Ask a finished model about images, on the device where it is: float64, (n, classes).

    images: uint8 or uint16, (n, H, W), as a recipe makes them.
    """
    device = next(model.parameters()).device
    model.eval()
    with torch.inference_mode():
        logits = model.answer(standardised(torch.from_numpy(images).to(device), model.normalisation))
    return softmax(logits.float().cpu().numpy())


def _predictions(snapshot: Snapshot, split: str, answers: Answers) -> Iterable[Prediction]:
    rows = np.searchsorted(snapshot.key, answers.keys)
    patients = snapshot.text("patient", rows).tolist()
    for key, patient, label, chances in zip(
        answers.keys.tolist(),
        patients,
        answers.labels.tolist(),
        softmax(answers.logits).tolist(),
        strict=True,
    ):
        yield Prediction(
            key=f"{key:016x}",
            patient=patient.decode(),
            split=split,
            label=snapshot.classes[label],
            probabilities=tuple(chances),
        )
