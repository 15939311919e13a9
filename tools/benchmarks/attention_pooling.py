"""Learn gated attention on features of finished runs, and hold it against the mean on validation patients.

    python tools/benchmarks/attention_pooling.py work/folds/runs/fold1-seed0 work/folds/runs/fold2-seed0

As the second stage of `launch --pooling attention` does. No test image is read. What was measured:
docs/measurements.md.
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch

from mri_hpc.cohort.splits import rows_of, set_apart, split_by
from mri_hpc.loading.augment import standardised
from mri_hpc.results.answers.pooling_choice import compare
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
    """Print a line a run."""
    for path in sys.argv[1:]:
        print(f"{Path(path).name}: {_line(RunDir(Path(path)))}", flush=True)


def _line(run: RunDir) -> str:
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
    learnt = time.monotonic()
    logits, features = _look(model, store, snapshot, split.validation)
    with torch.no_grad():
        said = attention(torch.from_numpy(features), torch.from_numpy(logits)).tolist()
    names = snapshot.text("patient", split.validation).tolist()
    found = compare(
        snapshot.classes,
        [
            Prediction(
                key=f"{key:016x}", patient=name.decode(), split="validation", label=snapshot.classes[truth],
                probabilities=tuple(chances), attention=tuple(values),
            )
            for key, name, truth, chances, values in zip(
                np.asarray(snapshot.key)[split.validation].tolist(), names,
                label[split.validation].tolist(), softmax(logits).tolist(), said, strict=True,
            )
        ],
    )  # fmt: skip
    patients = len(bags.labels)
    return (
        f"{found.words} {len(rows)} slices of {patients} training patients: features {looked - began:.0f} s, "
        f"learning {learnt - looked:.0f} s."
    )


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
