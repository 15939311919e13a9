"""calibration.json: temperatures that make a run's probabilities mean what they say.

There is one of patients and one of slices. The patient's works on the pooled probabilities, not on those of
the slices before they are pooled: so no patient's answer changes, whichever way slices are pooled, and what
pooling does to how sure they are is made good, too. The slices' own is for images that are judged by
themselves. Both are fitted on validation and hold for its share of classes; predictions.csv stays as the
network says it.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from mri_hpc.base.atomic import replace_bytes
from mri_hpc.base.documents import with_format
from mri_hpc.base.errors import UserError
from mri_hpc.base.sealed_json import seal
from mri_hpc.base.settings import nearest
from mri_hpc.results.answers.pooling_choice import patient_model_of
from mri_hpc.results.answers.temperature import cross_fitted, fit_temperature, tempered
from mri_hpc.results.answers.whole_predictions import read_whole
from mri_hpc.results.statistics.patients import Outcomes, image_outcomes, patient_outcomes, pool_patients
from mri_hpc.results.statistics.scores import log_loss_of
from mri_hpc.rundir.kept import read_of_model
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.predictions import that_calibrate
from mri_hpc.rundir.provenance import read_provenance

log = logging.getLogger(__name__)
FORMAT = 1
LARGEST_ERROR = 0.001
"""Of the sum of shares that are typed."""
FEWEST = 20
"""Validation patients, below which no temperature is fitted."""
NO_HELP = "a temperature fitted on some of the {} validation patients did not help the others"
NOT_CALIBRATED = "Probabilities are those of the network: the run ended before runs were calibrated."


@dataclass(frozen=True, kw_only=True)
class Temperature:
    """A temperature for units of one kind, and the validation that it was found on."""

    temperature: float
    """By which probabilities are tempered; 1 leaves them as they are."""
    num: int
    """Units that it was fitted on."""
    num_clusters: int
    """Independent ones among them: patients, or images that name none."""
    fractions: dict[str, float]
    """Fraction of each class among the units."""
    log_loss: float | None = None
    """Of the units, as the network says."""
    cross_fitted: float | None = None
    """Of the units, each at the temperature that the other patients give."""
    reason: str = ""
    """Reason for which it is 1; empty where it was fitted."""

    def __post_init__(self) -> None:
        if not 0 < self.temperature < float("inf"):
            raise ValueError(f"temperature is {self.temperature!r}")

    @property
    def is_fitted(self) -> bool:
        """Tell whether probabilities are changed."""
        return not self.reason


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The temperatures of one run."""

    model_digest: str
    """Of the model that it was fitted for; empty where its provenance names none."""
    split: str
    """That it was fitted on: calibration, whose patients chose nothing, or validation."""
    slice: Temperature | None
    """None where validation has no images that could be used."""
    patient: Temperature | None
    """None where no patients are judged."""

    def of(self, unit: str) -> Temperature | None:
        """Return that of units of a kind: patient or slice."""
        return self.patient if unit == "patient" else self.slice

    def apply(self, unit: str, probabilities: np.ndarray) -> np.ndarray:
        """Temper probabilities of units of a kind: float64, (n, k)."""
        found = self.of(unit)
        return tempered(probabilities, found.temperature) if found and found.is_fitted else probabilities

    def judged(self, unit: str, outcomes: Outcomes, split: str) -> Outcomes:
        """Temper the outcomes of a split; those it was fitted on by the temperature of other patients."""
        found = self.of(unit)
        if not found or not found.is_fitted:
            return outcomes
        if split == self.split:
            return replace(outcomes, probabilities=cross_fitted(outcomes))
        return replace(outcomes, probabilities=self.apply(unit, outcomes.probabilities))

    def reweighed(self, unit: str, probabilities: np.ndarray, prevalence: Mapping[str, float]) -> np.ndarray:
        """Recompute probabilities for other shares of classes: float64, (n, k).

        By Bayes' rule, each class times its new share over that among the units of validation, as if patients
        of one class looked alike in both places (Saerens and others, Neural Computation 14, 2002).
        prevalence: of all classes, adding up to 1. UserError where validation has no unit of a class.
        """
        found = self.of(unit)
        shares = found.fractions if found else {}
        absent = [name for name, share in shares.items() if share == 0] or (
            [] if shares else sorted(prevalence)
        )
        if absent:
            raise UserError(
                f"--prevalence: validation has no {unit} of {', '.join(absent)}, so it is not known for "
                "which share the probabilities stand; leave the option out"
            )
        weighed = probabilities * np.array([prevalence[name] / share for name, share in shares.items()])
        return np.asarray(weighed / weighed.sum(axis=1, keepdims=True))

    def in_words(self, unit: str) -> str:
        """Say for which clinic the probabilities hold, and by what they were fitted."""
        found = self.of(unit)
        if not found:
            return f"Probabilities are those of the network: validation has no labelled {unit}."
        shares = ", ".join(f"{name} {100 * share:.0f} %" for name, share in found.fractions.items())
        if not found.is_fitted:
            return f"Probabilities are those of the network (temperature 1): {found.reason}."
        chose = "chose nothing else" if self.split == "calibration" else "also chose the epoch"
        of_patients = "" if unit == "patient" else f" of {found.num_clusters} patients"
        return (
            f"Probabilities are calibrated for validation's share of classes ({shares}): temperature "
            f"{found.temperature:.2f}, fitted on {found.num} validation {unit}s{of_patients} that {chose}; "
            f"log loss there {found.log_loss:.3f} before, and {found.cross_fitted:.3f} "
            "cross-fitted."
        )

    def images_in_words(self) -> str:
        """Say, where temperatures differ, that a patient's are no mean of its images' as shown; else ""."""
        if not (self.slice and self.patient) or self.slice.temperature == self.patient.temperature:
            return ""
        return (
            f" Images have a temperature of their own, {self.slice.temperature:.2f}: a patient's are pooled "
            "from what the network says of them before that."
        )


def calibrate(run: RunDir) -> None:
    """Fit the temperatures on the validation rows of predictions.csv, and write calibration.json."""
    try:
        split, of_images, of_patients = _validation(run)
    except UserError as error:
        # Training is done, and evaluate says it again: no reason to give the run up.
        log.warning("not calibrated: %s", error)
        split, of_images, of_patients = "validation", None, None
    found = Calibration(
        model_digest=str(read_provenance(run).get("model_digest", "")),
        split=split,
        slice=fit(of_images) if of_images else None,
        patient=fit(of_patients) if of_patients else None,
    )
    replace_bytes(run.calibration, seal(with_format(FORMAT, asdict(found))))


def fit(outcomes: Outcomes) -> Temperature:
    """Fit a temperature, kept only if it lowers the log loss of patients that it was not fitted on."""
    counts = np.bincount(outcomes.label, minlength=len(outcomes.classes))
    found = Temperature(
        temperature=1.0,
        num=len(outcomes),
        num_clusters=outcomes.num_clusters,
        fractions=dict(zip(outcomes.classes, (counts / len(outcomes)).tolist(), strict=True)),
        log_loss=float(log_loss_of(outcomes).mean()),
    )
    if outcomes.num_clusters < FEWEST:
        few = f"validation has {outcomes.num_clusters} patients, and fewer than {FEWEST} tell no temperature"
        return replace(found, reason=few)
    loss = float(log_loss_of(replace(outcomes, probabilities=cross_fitted(outcomes))).mean())
    found = replace(found, cross_fitted=loss)
    assert found.log_loss is not None
    if loss >= found.log_loss:
        return replace(found, reason=NO_HELP.format(outcomes.num_clusters))
    return replace(found, temperature=fit_temperature(outcomes))


def load_calibration(run: RunDir) -> Calibration | None:
    """Read calibration.json; None of a run that ended before there was one. UserError where it is damaged."""
    return read_of_model(run.calibration, run, Calibration, reads=FORMAT)


def prevalence_of(given: Mapping[str, float] | str, classes: Sequence[str]) -> dict[str, float]:
    """Check shares of all classes, by name or as CLASS=SHARE,...; UserError where they are none."""
    if isinstance(given, str):
        pairs = [part.rpartition("=") for part in given.split(",")]
        named = {name.strip(): _share(share) for name, _equals, share in pairs}
    else:
        named = dict(given)
    usage = f"--prevalence: give a share of each class, as {_example(classes)}"
    if isinstance(given, str) and (bare := [part for part in given.split(",") if "=" not in part]):
        raise UserError(f"{usage}; {bare[0]!r} has no share")
    for name in named:
        if name not in classes:
            raise UserError(f"{usage}; there is no class {name!r}{nearest(name, classes)}")
    missing = [name for name in classes if name not in named]
    if missing:
        raise UserError(f"{usage}; missing: {', '.join(missing)}")
    if not all(0 < share < 1 for share in named.values()):
        raise UserError(f"{usage}; each share lies above 0 and below 1")
    if abs(sum(named.values()) - 1) > LARGEST_ERROR:
        raise UserError(f"{usage}; shares add up to 1, found {sum(named.values()):g}")
    return {name: named[name] for name in classes}


def _example(classes: Sequence[str]) -> str:
    """Write shares that would be taken: nearly alike, of hundredths."""
    share = round(1 / len(classes), 2)
    first = 1 - share * (len(classes) - 1)
    return ",".join(f"{name}={share if n else first:.2g}" for n, name in enumerate(classes))


def _share(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _validation(run: RunDir) -> tuple[str, Outcomes | None, Outcomes | None]:
    """Return a split, the outcomes of its labelled images and of their patients; UserError: of no use."""
    classes, rows = read_whole(run)
    split, rows = that_calibrate(rows)
    if not rows:
        return split, None, None
    model = patient_model_of(run, classes)
    patients = pool_patients(classes, rows, model) if model else []
    return split, image_outcomes(classes, rows), patient_outcomes(classes, patients) if patients else None
