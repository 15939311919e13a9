"""Drift: how images that came since the run before differ from those that it had learnt from.

Each patient counts once, by the mean of the patient's images; patients of the test split take no part. A
measure is called drifted where its distance is at least LEAST_DISTANCE, and chance gives as much in at most
LEVEL of all ways to divide the patients in two, adjusted for the number of measures.
"""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mri_hpc.base.errors import UserError
from mri_hpc.cohort.lineage import ancestor_of
from mri_hpc.cohort.splits import TRAIN, VALIDATION, split_by
from mri_hpc.results.answers.appearance import extent_of, grey_of
from mri_hpc.results.answers.whole_predictions import read_whole
from mri_hpc.results.statistics.two_groups import holm, of_classes, of_values
from mri_hpc.rundir.drift import Drift, Group, Measure, read_drift, write_drift
from mri_hpc.rundir.kept import digest_of_predictions
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.predictions import Prediction
from mri_hpc.rundir.provenance import read_provenance
from mri_hpc.rundir.settings import TrainingSettings, load_training
from mri_hpc.storage.store import Reader, Snapshot, Store

RULE = 1
"""Version of all that decides on what is found: what was kept by another one is found anew."""
LEVEL = 0.05
LEAST_DISTANCE = 0.2
"""About that of two normal distributions half a deviation apart."""
LEAST_OF_CLASSES = 0.1
"""Of class shares: a tenth of the patients would have to be of another class."""
FEWEST = 10
"""Patients of each side."""
MOST_PATIENTS = 100
"""Of each side, whose pixels are read."""
IMAGES_OF_EACH = 10
"""Of each of these patients, at most: as many on both sides, since means of fewer images scatter more."""
PIXELS = ("brightness", "contrast", "extent")
BATCH = 256
QUANTILES = (5, 25, 50, 75, 95)
TITLES = {
    "brightness": "brightness",
    "contrast": "contrast",
    "extent": "the size of the head in the image",
    "slices": "the number of slices a patient",
    "classes": "the share of each class",
    "confidence": "how sure the network is",
}
UNITS = {
    "brightness": "mean grey level, of 1",
    "contrast": "deviation of the grey levels, of 1",
    "extent": "part of the image's side",
    "slices": "slices",
    "confidence": "highest probability, mean of the slices",
}
"""Of values, for people."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Side:
    """Images of one side, and whose they are."""

    rows: np.ndarray
    """int64, (n,), of the snapshot."""
    patient: np.ndarray
    """int64, (n,)."""


def keep_drift(run: RunDir) -> Drift | None:
    """Find the drift since the run that a run goes on from, and keep it; None where it goes on from none.

    What an earlier rule has found is found anew, and stays where it cannot be.
    """
    settings = load_training(run)
    if not settings.continue_from:
        return None
    kept = read_drift(run)
    if kept and kept.rule >= RULE:
        return kept
    before = Path(settings.continue_from).name
    try:
        found = replace(_of_run(run), before=before)
    except UserError as error:
        return kept or Drift(before=before, reason=_without_folders(str(error), run, settings))
    except OSError:
        reason = "that run, or the images of either, are not where they were"
        return kept or Drift(before=before, reason=reason)
    # A run that may not be written to is reported all the same.
    with contextlib.suppress(OSError):
        write_drift(run, found)
    return found


def _without_folders(words: str, run: RunDir, settings: TrainingSettings) -> str:
    """Return words that tell no folder, which a page must not: names alone."""
    for path in (Path(settings.store), Path(settings.continue_from), run.path):
        words = words.replace(f"{path.parent}/", "").replace(f"{path.resolve().parent}/", "")
    return re.sub(r"/[^\s'\"]*/", "", words)


def _of_run(run: RunDir) -> Drift:
    settings = load_training(run)
    ancestor = ancestor_of(settings)
    store = Store.open(Path(settings.store))
    snapshot = store.resolve(str(read_provenance(run).get("snapshot") or settings.snapshot))
    code = split_by(snapshot, settings)
    learnt = np.isin(ancestor.code, (TRAIN, VALIDATION))
    key, keys_before = np.asarray(snapshot.key), np.asarray(ancestor.snapshot.key)
    before = _side(snapshot, np.flatnonzero(np.isin(key, keys_before[learnt])))
    came = _side(snapshot, np.flatnonzero(~np.isin(key, keys_before) & np.isin(code, (TRAIN, VALIDATION))))
    is_new = ~np.isin(came.patient, before.patient)
    since = Side(rows=came.rows[is_new], patient=came.patient[is_new])
    _classes, every = read_whole(run)
    predictions = [row for row in every if row.split != "test"]
    if (before.patient < 0).any() or (came.patient < 0).any() or not all(row.patient for row in predictions):
        # Slices of one patient are alike: each as a patient, nearly all would be called drifted.
        raise UserError("images name no patients, and slices of one patient do not count as several")
    with store.reader(snapshot, is_read_once=True) as reader:
        values = {
            **_of_pixels(reader, before, since),
            "slices": (_counts(before), _counts(since)),
            "confidence": confidence(predictions, frozenset(keys_before.tolist())),
        }
    shares = _shares(snapshot, before), _shares(snapshot, since)
    return Drift(
        before="",
        predictions=digest_of_predictions(run),
        rule=RULE,
        classes=snapshot.classes,
        measures=compare(values, shares, snapshot.classes),
        num_both=len(np.unique(came.patient[~is_new])),
    )


def compare(
    values: dict[str, tuple[np.ndarray, np.ndarray]],
    shares: tuple[np.ndarray, np.ndarray],
    classes: tuple[str, ...],
) -> tuple[Measure, ...]:
    """Compare both sides by all measures.

    values: by measure, a number of each patient before and since; shares: patients of each class.
    """
    found = [_compared(name, *both) for name, both in values.items()]
    found.append(_compared_classes(*shares))
    comparable = [one for one in found if one.p is not None]
    adjusted = dict(
        zip((one.name for one in comparable), holm([one.p or 0.0 for one in comparable]), strict=True)
    )
    return tuple(_judged(one, adjusted.get(one.name), classes) for one in found)


def _compared(name: str, before: np.ndarray, since: np.ndarray) -> Measure:
    is_enough = min(len(before), len(since)) >= FEWEST
    distance, p = of_values(before, since) if is_enough else (None, None)
    return _measure(name, _group(before), _group(since), distance, p)


def _compared_classes(before: np.ndarray, since: np.ndarray) -> Measure:
    is_enough = min(before.sum(), since.sum()) >= FEWEST
    distance, p = of_classes(before, since) if is_enough else (None, None)
    return _measure("classes", _group_of_classes(before), _group_of_classes(since), distance, p)


def _group_of_classes(counts: np.ndarray) -> Group:
    num = int(counts.sum())
    return Group(num=num, quantiles=tuple((counts / max(num, 1)).tolist()))


def _measure(name: str, before: Group, since: Group, distance: float | None, p: float | None) -> Measure:
    return Measure(
        name=name, title=TITLES[name], before=before, since=since, distance=distance, p=p,
        is_drifted=False, sentence="",
    )  # fmt: skip


def _group(values: np.ndarray) -> Group:
    quantiles = np.percentile(values, QUANTILES).tolist() if len(values) else []
    return Group(num=len(values), quantiles=tuple(float(f"{one:.4g}") for one in quantiles))


def _judged(one: Measure, p: float | None, classes: tuple[str, ...]) -> Measure:
    least = LEAST_OF_CLASSES if one.name == "classes" else LEAST_DISTANCE
    is_drifted = p is not None and one.distance is not None and p <= LEVEL and one.distance >= least
    judged = replace(one, p=p, is_drifted=is_drifted)
    return replace(judged, sentence=_sentence(judged, classes))


def _sentence(one: Measure, classes: tuple[str, ...]) -> str:
    title = f"{one.title[0].upper()}{one.title[1:]}"
    if one.p is None:
        drawn = f", of at most {MOST_PATIENTS} drawn a side" if one.name in PIXELS else ""
        fewest = (
            f"{one.since.num} patients since, {one.before.num} before{drawn}, and {FEWEST} of each are needed"
        )
        return f"{title}: too few to tell ({fewest})"
    verdict = "other than before" if one.is_drifted else "no drift found"
    if one.name == "classes":
        shares = zip(classes, one.since.quantiles, one.before.quantiles, strict=True)
        words = ", ".join(
            f"{name} {100 * since:.0f} % (before {100 * before:.0f} %)" for name, since, before in shares
        )
        return f"{title}: {verdict}. Of {one.since.num} patients since, {words}"
    low, middle, high = one.since.quantiles[1:4]
    was_low, was, was_high = one.before.quantiles[1:4]
    return (
        f"{title}: {verdict}. {UNITS[one.name][0].upper()}{UNITS[one.name][1:]}: {middle:.3g} since "
        f"(half of {one.since.num} patients: {low:.3g} to {high:.3g}), before {was:.3g} "
        f"(of {one.before.num}: {was_low:.3g} to {was_high:.3g})"
    )


def _side(snapshot: Snapshot, rows: np.ndarray) -> Side:
    return Side(rows=rows, patient=np.asarray(snapshot.patient)[rows].astype(np.int64))


def sample(side: Side) -> Side:
    """Draw patients by chance that is the same each time, and images evenly spread over those of each."""
    patients, number, counts = np.unique(side.patient, return_inverse=True, return_counts=True)
    drawn = np.random.default_rng(0).permutation(len(patients))[:MOST_PATIENTS]
    images = np.split(np.argsort(number, kind="stable"), np.cumsum(counts)[:-1])
    chosen = [_spread(images[at]) for at in drawn.tolist()]
    at = np.sort(np.concatenate([np.zeros(0, np.int64), *chosen]))
    return Side(rows=side.rows[at], patient=side.patient[at])


def _spread(images: np.ndarray) -> np.ndarray:
    num = min(len(images), IMAGES_OF_EACH)
    return images[((np.arange(num) + 0.5) * len(images) / max(num, 1)).astype(np.int64)]


def _of_pixels(reader: Reader, before: Side, since: Side) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Measure a sample of the images of a sample of the patients on each side."""
    sides = [sample(side) for side in (before, since)]
    looks = [np.concatenate([np.zeros((0, 3)), *_looks(reader, side.rows)]) for side in sides]
    return {
        name: (_means(looks[0][:, at], sides[0]), _means(looks[1][:, at], sides[1]))
        for at, name in enumerate(PIXELS)
    }


def _looks(reader: Reader, rows: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), BATCH):
        for image in reader.read(rows[start : start + BATCH]):
            grey = grey_of(image)
            yield np.array([[grey.mean(), grey.std(), np.mean(extent_of(grey))]])


def _means(values: np.ndarray, side: Side) -> np.ndarray:
    """Average over the images of each patient: float64, (patients,)."""
    _names, number = np.unique(side.patient, return_inverse=True)
    return np.bincount(number, values) / np.bincount(number)


def _counts(side: Side) -> np.ndarray:
    return np.unique(side.patient, return_counts=True)[1].astype(np.float64)


def _shares(snapshot: Snapshot, side: Side) -> np.ndarray:
    """Count the patients of each class, one of several by the first of the patient's images: int64, (k,)."""
    _names, first = np.unique(side.patient, return_index=True)
    label = np.asarray(snapshot.label)[side.rows[first]]
    return np.bincount(label[label >= 0], minlength=len(snapshot.classes)).astype(np.int64)


def confidence(rows: list[Prediction], keys_before: frozenset[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return how sure the run is of each validation patient: of those who were there, and of others.

    Of those who were there, by their images of then alone.
    """
    of_patient: dict[str, list[tuple[bool, float]]] = {}
    for row in rows:
        was_there = int(row.key, 16) in keys_before
        of_patient.setdefault(row.patient, []).append((was_there, max(row.probabilities)))
    both: tuple[list[float], list[float]] = ([], [])
    for images in of_patient.values():
        earlier = [sure for was_there, sure in images if was_there]
        both[0 if earlier else 1].append(float(np.mean(earlier or [sure for _there, sure in images])))
    return np.array(both[0]), np.array(both[1])
