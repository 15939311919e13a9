"""The model of a finished run, and its answers about unseen images."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open

from mri_hpc.base.atomic import replace
from mri_hpc.base.documents import refuse_newer
from mri_hpc.base.errors import UserError
from mri_hpc.loading.augment import standardised
from mri_hpc.rundir.attention_answers import write_attention
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.look import digest_of_test_set
from mri_hpc.rundir.pooling import read_pooling
from mri_hpc.rundir.predictions import Prediction, write_predictions
from mri_hpc.rundir.provenance import read_provenance, write_provenance
from mri_hpc.storage.store import Snapshot
from mri_hpc.training.attention import GatedAttention
from mri_hpc.training.evaluation import Answers, softmax
from mri_hpc.training.learner import on_processor
from mri_hpc.training.model import (
    ANSWERS,
    FORMAT,
    INPUT_SIZE,
    MIRRORED,
    MIRRORED_FORMAT,
    MODEL_FORMAT,
    PLAIN_FORMAT,
    FinishedModel,
    GreyClassifier,
    load_for_prediction,
    weights_digest,
)
from mri_hpc.training.state_files import write_weights

ATTENTION_FORMAT = 1
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
    input_size: int = 0,
    attention: GatedAttention | None = None,
    origin: Mapping[str, Any],
) -> int:
    """Write the model, where it comes from, and its answers by split; returns the number of predictions."""
    metadata = {
        **_how_it_answers(is_mirrored=is_mirrored, input_size=input_size),
        "model": model_name,
        "normalisation": normalisation,
        "classes": json.dumps(snapshot.classes),
        "image_shape": json.dumps(snapshot.image_shape),
    }
    replace(run.model, lambda temp: write_weights(temp, weights, metadata))
    if attention:
        attention_format = {MODEL_FORMAT: str(ATTENTION_FORMAT)}
        replace(run.attention, lambda temp: write_weights(temp, on_processor(attention), attention_format))
        write_attention(run.attention_answers, snapshot.classes, _attention_by_key(answers.values()))
    rows = [row for split, found in answers.items() for row in _predictions(snapshot, split, found)]
    write_provenance(run, {**origin, "test_set": digest_of_test_set(rows)})
    write_predictions(run.predictions, snapshot.classes, rows)
    return len(rows)


def _how_it_answers(*, is_mirrored: bool, input_size: int) -> dict[str, str]:
    """Return what a model file says of answering, in the oldest format that can say it."""
    oldest = FORMAT if input_size else MIRRORED_FORMAT if is_mirrored else PLAIN_FORMAT
    return {
        MODEL_FORMAT: str(oldest),
        **({ANSWERS: MIRRORED} if is_mirrored else {}),
        **({INPUT_SIZE: str(input_size)} if input_size else {}),
    }


def _attention_by_key(answers: Iterable[Answers]) -> dict[str, list[float]]:
    return {
        f"{key:016x}": values
        for found in answers
        if found.attention is not None
        for key, values in zip(found.keys.tolist(), found.attention.tolist(), strict=True)
    }


@dataclass(frozen=True, kw_only=True, eq=False)
class FinishedRun:
    """A finished run that can be asked about images."""

    classes: tuple[str, ...]
    ask: Callable[[np.ndarray], np.ndarray]
    """From images, (n, H, W), of the run's recipe, to probabilities, float64 (n, classes).

    Where the run pools by attention, what that says of each stands behind them: (n, classes + 1 + classes).
    """


def load_finished(run: RunDir) -> FinishedRun:
    """Load the model of a finished run, to ask it about images; raises UserError as load_model does."""
    finished, pooling = _checked(run), read_pooling(run)
    model = finished.model
    attention = _load_attention(run, model, len(finished.classes)) if pooling and pooling.is_kept else None
    return FinishedRun(classes=finished.classes, ask=lambda images: probabilities(model, images, attention))


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


def _load_attention(run: RunDir, model: GreyClassifier, num_classes: int) -> GatedAttention:
    """Load the attention of a finished run onto the device of its model; UserError where it is another."""
    attention = GatedAttention(model.num_features, num_classes)
    try:
        with safe_open(run.attention, framework="pt") as file:
            written_as = (file.metadata() or {}).get(MODEL_FORMAT, "1")
        refuse_newer(run.attention, int(written_as), reads=ATTENTION_FORMAT)
        attention.load_state_dict(safetensors.torch.load_file(run.attention))
        digest = weights_digest(attention.state_dict())
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:
        reason = str(error).split("\n")[0]
        raise UserError(f"{run.attention} is damaged ({reason}); restore it from a backup") from None
    if digest != read_provenance(run).get("attention_digest"):
        held = f"{run.attention} does not hold the weights that {run.provenance} names"
        raise UserError(f"{held}; restore it from a backup")
    return attention.to(next(model.parameters()).device).eval()


def probabilities(
    model: GreyClassifier, images: np.ndarray, attention: GatedAttention | None = None
) -> np.ndarray:
    """Ask a finished model about images, on the device where it is: float64, (n, classes).

    images: uint8 or uint16, (n, H, W), as a recipe makes them. attention: to be asked as well; what it says
    stands behind: (n, classes + 1 + classes).
    """
    device = next(model.parameters()).device
    model.eval()
    with torch.inference_mode():
        seen = standardised(torch.from_numpy(images).to(device), model.normalisation)
        if attention is None:
            return softmax(model.answer(seen).float().cpu().numpy())
        logits, features = model.answer_with_features(seen)
        also = attention(features, logits).cpu().numpy()
    return np.concatenate([softmax(logits.cpu().numpy()), also.astype(np.float64)], axis=1)


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
