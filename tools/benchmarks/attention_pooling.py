"""Learn gated attention on features of finished runs, and hold it against the mean on validation patients.

    python tools/benchmarks/attention_pooling.py work/folds/runs/fold1-seed0 work/folds/runs/fold2-seed0
    python tools/benchmarks/attention_pooling.py --test work/folds/runs/fold1-seed0

As the second stage of `launch --pooling attention` does. Without --test, which is for the figure that ends a
search, no test image is read. What was measured: docs/measurements.md.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from mri_hpc.cohort.splits import rows_of, set_apart, split_by
from mri_hpc.loading.augment import standardised
from mri_hpc.results.answers.pooling_choice import compare
from mri_hpc.results.statistics.patient_model import AttentionOverImages, MeanOfImages, PatientModel
from mri_hpc.results.statistics.patients import patient_outcomes, pool_patients
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.predictions import Prediction
from mri_hpc.rundir.provenance import read_provenance
from mri_hpc.rundir.settings import load_training
from mri_hpc.storage.store import Snapshot, Store
from mri_hpc.training.attention import bags_of, begin, chosen_slices, learn
from mri_hpc.training.evaluation import softmax
from mri_hpc.training.model import GreyClassifier
from mri_hpc.training.prediction import load_model

AT_ONCE = 64


def main() -> None:
    """Print a line a run and a kind of patients."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--test", action="store_true", help="judge on test patients, too")
    options = parser.parse_args()
    for path in options.runs:
        for line in _lines(RunDir(path), ("validation", "test") if options.test else ("validation",)):
            print(f"{path.name}: {line}", flush=True)


def _lines(run: RunDir, judged: Sequence[str]) -> Iterator[str]:
    settings, model = load_training(run), load_model(run)
    store = Store.open(Path(settings.store))
    snapshot = store.resolve(str(read_provenance(run)["snapshot"]))
    split = rows_of(set_apart(snapshot, split_by(snapshot, settings), settings.calibration_share))
    patient, label = np.asarray(snapshot.patient), np.asarray(snapshot.label)
    rows = split.train[chosen_slices(patient[split.train])]
    began = time.monotonic()
    logits, features = _look(model, store, snapshot, rows)
    looked = time.monotonic()
    bags = bags_of(features, logits, patient[rows], label[rows])
    attention = begin(bags, settings.seed)
    for _step in learn(attention, bags, balanced=settings.class_weights == "balanced"):
        pass
    yield (
        f"{len(rows)} slices of {len(bags.labels)} training patients: features {looked - began:.0f} s, "
        f"learning {time.monotonic() - looked:.0f} s."
    )
    for name in judged:
        rows = {"validation": split.validation, "test": split.test}[name]
        logits, features = _look(model, store, snapshot, rows)
        with torch.no_grad():
            said = attention(torch.from_numpy(features), torch.from_numpy(logits)).tolist()
        yield f"{name}: {_judged(snapshot, rows, name, logits, said)}"


def _judged(
    snapshot: Snapshot, rows: np.ndarray, split: str, logits: np.ndarray, said: list[list[float]]
) -> str:
    names, label = snapshot.text("patient", rows).tolist(), np.asarray(snapshot.label)[rows]
    answers = [
        Prediction(
            key=f"{key:016x}", patient=name.decode(), split=split, label=snapshot.classes[truth],
            probabilities=tuple(chances), attention=tuple(values),
        )
        for key, name, truth, chances, values in zip(
            np.asarray(snapshot.key)[rows].tolist(), names, label.tolist(),
            softmax(logits).tolist(), said, strict=True,
        )
    ]  # fmt: skip
    balanced = ", ".join(
        f"{way} {100 * _balanced(snapshot.classes, answers, model):.1f} %"
        for way, model in (("mean", MeanOfImages()), ("attention", AttentionOverImages()))
    )
    found = compare(snapshot.classes, answers)
    losses = f"log loss by patient: mean {found.mean_log_loss:.3f}, attention {found.attention_log_loss:.3f}"
    lower = f"lower in {100 * (found.fraction_better or 0):.0f} % of resamples of {found.num} patients"
    return f"balanced by patient: {balanced}; {losses}, {lower}"


def _balanced(classes: tuple[str, ...], answers: list[Prediction], model: PatientModel) -> float:
    outcomes = patient_outcomes(classes, pool_patients(classes, answers, model))
    hit = outcomes.predicted == outcomes.label
    return float(np.mean([hit[outcomes.label == one].mean() for one in np.unique(outcomes.label)]))


def _look(
    model: GreyClassifier, store: Store, snapshot: Snapshot, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return logits and features of some rows."""
    device = next(model.parameters()).device
    found = []
    with store.reader(snapshot) as reader, torch.inference_mode():
        for start in range(0, len(rows), AT_ONCE):
            images = torch.from_numpy(reader.read(rows[start : start + AT_ONCE])).to(device)
            found.append(model.answer_with_features(standardised(images, model.normalisation)))
    logits, features = (torch.cat(parts).cpu().numpy() for parts in zip(*found, strict=True))
    return logits, features


if __name__ == "__main__":
    main()
