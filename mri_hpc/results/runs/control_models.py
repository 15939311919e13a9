"""Control models: what can be told of an image without a network that has learnt to see.

Nearest neighbour on small pixels shows how alike training and test images are; grey values and facts alone,
what the classes differ in beside the disease. Each costs seconds.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from mri_hpc.intake.labels.label import PLANES
from mri_hpc.storage.store import Reader, Snapshot

SIDE = 32
"""Pixels of a side of the small images."""
BATCH = 256
NEAREST, GREY, FACTS = "nearest neighbour", "grey values", "facts alone"
IN_WORDS = {
    NEAREST: f"the class of the training image that is most like it, pixel by pixel, at {SIDE} × {SIDE}",
    GREY: "logistic regression on ten statistics of its grey values",
    FACTS: "logistic regression on what the store says beside the pixels",
}
TEXTS = ("kind", "scanner", "site")
"""Columns of texts by which images are grouped, and from which the control by facts learns."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """Images as the control models see them."""

    small: np.ndarray
    """Small pixels: float32, (n, SIDE * SIDE), of mean 0 and deviation 1."""
    statistics: np.ndarray
    """Ten of grey values: float32, (n, 10)."""


def look_at(reader: Reader, rows: np.ndarray) -> Seen:
    """Read images of these rows, and keep what the controls see. rows: int64, (n,)."""
    small = np.empty((len(rows), SIDE * SIDE), np.float32)
    statistics = np.empty((len(rows), 10), np.float32)
    for start in range(0, len(rows), BATCH):
        for number, image in enumerate(reader.read(rows[start : start + BATCH]), start):
            small[number] = _small(image)
            statistics[number] = _statistics(image)
    return Seen(small=small, statistics=statistics)


def _small(image: np.ndarray) -> np.ndarray:
    shrunk = cv2.resize(image.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_AREA).ravel()
    centred = shrunk - shrunk.mean()
    return np.asarray(centred / max(float(centred.std()), 1e-6))


def _statistics(image: np.ndarray) -> np.ndarray:
    """Compute mean, deviation, skewness, five percentiles, the part that is dark, and the entropy."""
    grey = image.ravel().astype(np.float32) / np.iinfo(image.dtype).max
    mean, deviation = float(grey.mean()), float(grey.std())
    skewness = float(((grey - mean) ** 3).mean()) / max(deviation, 1e-6) ** 3
    shares = np.histogram(grey, 32, (0.0, 1.0))[0] / grey.size
    entropy = -float(np.sum(shares * np.log(np.maximum(shares, 1e-12))))
    percentiles = np.percentile(grey, (5, 25, 50, 75, 95))
    return np.array([mean, deviation, skewness, *percentiles, (grey < 0.04).mean(), entropy], np.float32)


def known_columns(snapshot: Snapshot, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Return what the snapshot says of images, as texts, by column; only those that say something of some.

    rows: int64, (n,). Arrays of str, (n,), empty where unknown.
    """
    columns = {
        name: np.char.decode(snapshot.text(name, rows), "utf-8")
        for name in TEXTS
        if len(snapshot.names(name))
    }
    planes = np.array([*PLANES, ""])
    columns["plane"] = planes[np.asarray(snapshot.plane)[rows]]
    return {name: values for name, values in sorted(columns.items()) if (values != "").any()}


def facts_of(snapshot: Snapshot, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Return all facts about images but their pixels, class and patient: texts or numbers, (n,), by name.

    A number that is not known is NaN. One that says nothing of any image is left out.
    """
    patient = np.asarray(snapshot.patient)
    counts = np.bincount(patient[patient >= 0], minlength=len(snapshot.patient_names) + 1)
    of_patient = np.where(patient[rows] >= 0, counts[patient[rows]], np.nan).astype(float)
    index = np.asarray(snapshot.slice_index)[rows].astype(float)
    numbers = {
        "images of the patient": of_patient,
        "number of the slice": np.where(index >= 0, index, np.nan),
        "position of the slice": np.asarray(snapshot.position)[rows].astype(float),
        "plane was guessed": np.asarray(snapshot.plane_inferred)[rows].astype(float),
    }
    varied = {
        name: values for name, values in numbers.items() if len(np.unique(values[~np.isnan(values)])) > 1
    }
    return {**known_columns(snapshot, rows), **varied}


def nearest_answers(train: np.ndarray, labels: np.ndarray, asked: np.ndarray, num_classes: int) -> np.ndarray:
    """Answer with the class of the nearest training image: float64, (m, classes), each 0 or 1."""
    from sklearn.neighbors import KNeighborsClassifier

    model = KNeighborsClassifier(n_neighbors=1, algorithm="brute").fit(train, labels)
    return _all_classes(model.classes_, model.predict_proba(asked), num_classes)


def regression_answers(
    train: np.ndarray, labels: np.ndarray, asked: np.ndarray, num_classes: int
) -> np.ndarray:
    """Answer by logistic regression on standardised features, rare classes counted more: (m, classes)."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if len(np.unique(labels)) < 2:
        return np.repeat(np.bincount(labels[:1], minlength=num_classes)[None].astype(float), len(asked), 0)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500, class_weight="balanced"))
    with warnings.catch_warnings():
        # Of features that separate the classes the weights grow for ever, when the answers stay the same.
        warnings.simplefilter("ignore")
        model.fit(train, labels)
    return _all_classes(model.classes_, model.predict_proba(asked), num_classes)


def as_features(train: Mapping[str, np.ndarray], asked: Mapping[str, np.ndarray]) -> tuple[np.ndarray, ...]:
    """Make numbers of facts: (n, f) and (m, f). A text becomes a column a value that training images have."""
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    for name, values in train.items():
        other = asked.get(
            name, np.full(len(next(iter(asked.values()))), "" if values.dtype.kind == "U" else np.nan)
        )
        if values.dtype.kind == "U":
            parts += [(values == value, other == value) for value in np.unique(values)]
        else:
            middle = float(np.nanmedian(values))
            parts += [(np.isnan(values), np.isnan(other))]
            parts += [(np.nan_to_num(values, nan=middle), np.nan_to_num(other, nan=middle))]
    return tuple(np.stack([part[side] for part in parts], 1).astype(float) for side in (0, 1))


def _all_classes(known: Sequence[Any], answers: np.ndarray, num_classes: int) -> np.ndarray:
    """Give classes without a training image the probability 0."""
    whole = np.zeros((len(answers), num_classes))
    whole[:, np.asarray(known, np.int64)] = answers
    return whole
