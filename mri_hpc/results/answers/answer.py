"""Answers of a finished model about images that a user names: by image, and by patient."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from mri_hpc.base.errors import UserError
from mri_hpc.intake.labels.images import Rejected, as_text
from mri_hpc.results.answers.calibration import NOT_CALIBRATED, Calibration
from mri_hpc.results.answers.decision import Decision, NoDecision
from mri_hpc.results.answers.earlier_models import EarlierModel
from mri_hpc.results.answers.kept_pictures import KeptPicture
from mri_hpc.results.answers.like_scores import LikeScores, like_scores
from mri_hpc.results.answers.promised_sets import NoSets, PromisedSets
from mri_hpc.results.answers.resemblance import NOT_LIKE, NoResemblance, Resemblance, Verdict
from mri_hpc.results.statistics.patient_model import MeanOfImages, PatientModel
from mri_hpc.results.statistics.patients import ValidationPatients

BY_RULE = "promoted by --promote auto and by no person"
UNASKED = NoDecision(reason="the run was not asked for one")
NO_SETS = NoSets(reason="the run was not asked for one")
OTHER_SHARES = NoSets(
    reason="it would hold for validation's shares of classes, and --prevalence asks for others"
)
UNKNOWN = NoResemblance(reason="nothing of them was kept")
NOT_DECIDED = (
    f"No decision: nothing is promised for a patient who is {NOT_LIKE}; judge this one without the model"
)
NOT_KNOWN = f"No guarantee where the patient is {NOT_LIKE}, which is not known here"
NO_SET = f"No set of classes: nothing is promised for a patient who is {NOT_LIKE}"
NOT_ALIKE = f"Validation patients do not show how often this is right for a patient who is {NOT_LIKE}"
ANOTHER_CLASS = (
    "Validation patients of like scores are of the network's own class, and --prevalence makes another one "
    "the most probable"
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """The model's answer about one image."""

    name: str
    """Path, with #frame where the file holds several images."""
    patient: str
    """Empty where nothing names one."""
    probabilities: np.ndarray
    """float64, (classes,)."""
    kept: KeptPicture | None = None
    """The image as the network saw it; None where it was not asked for."""
    place: tuple[tuple[int, str], ...] = ()
    """Sorts images as people count; of their paths, whatever they are named by."""
    of_network: np.ndarray | None = None
    """Those before calibration, by which patients are pooled; None where there was none."""
    attention: np.ndarray | None = None
    """float64, (1 + classes,), as a Prediction has it; None where patients are not pooled by it."""
    distance: float = 0.0
    """From the training images; of no meaning where the run kept nothing of them."""
    spread: np.ndarray | None = None
    """Lowest and highest of several runs: float64, (2, classes); None of one."""

    @property
    def picture(self) -> bytes:
        """PNG of what the network saw; empty where it was not asked for."""
        return self.kept.read() if self.kept else b""


@dataclass(frozen=True, kw_only=True, eq=False)
class JudgedPatient:
    """The model's answer about one patient."""

    patient: str
    num_images: int
    probabilities: np.ndarray
    """float64, (classes,): pooled over the images, and calibrated where the run is."""
    of_network: np.ndarray
    """float64, (classes,): before that, by which it is decided."""
    verdict: Verdict
    """Tells whether the patient is like the training data."""
    spread: np.ndarray | None = None
    """Lowest and highest of several runs: float64, (2, classes); None of one."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
    """All answers of one prediction, and what was rejected."""

    classes: tuple[str, ...]
    images: tuple[Judged, ...]
    rejected: tuple[Rejected, ...]
    left_out_series: Mapping[str, int] = field(default_factory=dict)
    """Series of other kinds than the run has learnt from, by kind: not judged."""
    patient_model: PatientModel | None = field(default_factory=MeanOfImages)
    """By which patients are judged; None where they are not to be."""
    decision: Decision | NoDecision = UNASKED
    """About each patient, as evaluate and report give it."""
    sets: PromisedSets | NoSets = NO_SETS
    """Classes that can be promised of each patient, as evaluate and report give them."""
    validation: ValidationPatients = field(default_factory=ValidationPatients)
    """Of the run, with whom new ones are compared."""
    resemblance: Resemblance | NoResemblance = UNKNOWN
    """Appearance of the training images of the run."""
    model_digest: str = ""
    """Of the weights; empty where not known. Of several runs: all, in the order of the runs."""
    model_name: str = ""
    """Name of the model, where it is one that is kept; empty of a run."""
    model_since: str = ""
    """Day and minute, UTC, from which on it is the current one; empty where it is not."""
    model_is_automatic: bool = False
    """It is the current one by a rule, and by no person's word."""
    models_before: Mapping[str, EarlierModel] = field(default_factory=dict)
    """Models of the last predictions, by patient, as far as they are known."""
    snapshot: str = ""
    """Of the store, that the run was trained on; empty where not known."""
    made: str = ""
    """Day and minute of the prediction, UTC."""
    calibration: Calibration | None = None
    """By which probabilities were calibrated; None: as the network says."""
    prevalence: Mapping[str, float] | None = None
    """Shares of the classes for which probabilities were recomputed; None: those of validation."""

    def renamed(self, rename: Callable[[Judged], Judged], rejected: tuple[Rejected, ...]) -> "Answer":
        """Return the same answer about images of other names."""
        return replace(self, images=tuple(rename(image) for image in self.images), rejected=rejected)

    def model_in_words(self) -> str:
        """Name the model, by its digest too, and from when on it is the current one."""
        name = f"{self.model_name}, " if self.model_name else ""
        return f"Model {name}{self.model_digest}{self.since_in_words}, {self.made}"

    @property
    def since_in_words(self) -> str:
        """Say from when on the model is the current one, and by whose word; empty where it is not."""
        if not self.model_since:
            return ""
        by_rule = f", {BY_RULE}" if self.model_is_automatic else ""
        return f" (current since {self.model_since}{by_rule})"

    def changed(self) -> dict[str, EarlierModel]:
        """Return the models by which patients were predicted last, of those for whom it was another one."""
        found = {one: self.model_before(one) for one in sorted({image.patient for image in self.images})}
        return {patient: model for patient, model in found.items() if model}

    def model_before(self, patient: str) -> EarlierModel | None:
        """Return the model by which a patient was predicted last; None where it is this one, or not known."""
        before = self.models_before.get(patient)
        return before if before and before.digest != self.model_digest else None

    def changes_in_words(self) -> str:
        """Say how many patients were predicted by another model last time; empty where none was."""
        changed = self.changed()
        if not changed:
            return ""
        latest = max(changed.values(), key=lambda one: one.made)
        were = "patient was" if len(changed) == 1 else "patients were"
        return f"{len(changed)} {were} last predicted by another model, {latest.words}."

    def is_compared(self, one: JudgedPatient) -> bool:
        """Tell whether validation patients of like scores show how often it is right."""
        return not one.verdict.is_unlike and not self._is_another_class(one)

    def _is_another_class(self, one: JudgedPatient) -> bool:
        """Tell whether --prevalence makes another class the most probable one than the network's own."""
        if not self.prevalence or isinstance(self.decision, Decision):
            return False
        return bool(one.of_network.argmax() != one.probabilities.argmax())

    def like_in_words(self, one: JudgedPatient) -> str:
        """Say in one sentence how often validation patients of like scores had it, or why none tells."""
        if one.verdict.is_unlike:
            return NOT_ALIKE
        return ANOTHER_CLASS if self._is_another_class(one) else self.like(one).words

    def like(self, one: JudgedPatient) -> LikeScores:
        """Compare a patient with those of validation whose scores are alike."""
        finding = self.decision.investigate if isinstance(self.decision, Decision) else ()
        return like_scores(one.of_network, self.classes, finding, self.validation)

    def decided_in_words(self, one: JudgedPatient) -> str:
        """Say in one sentence what is decided about a patient, or why nothing is."""
        sentence = self.decision.in_a_sentence(one.of_network)
        if isinstance(self.decision, NoDecision) or one.verdict.is_known:
            return NOT_DECIDED if one.verdict.is_unlike else sentence
        return f"{sentence}. {NOT_KNOWN}"

    def decide(self, one: JudgedPatient) -> str:
        """Return what is decided about a patient; empty where no threshold is given, or none holds."""
        if not isinstance(self.decision, Decision) or one.verdict.is_unlike:
            return ""
        return self.decision.of(one.of_network)

    def set_of(self, one: JudgedPatient) -> tuple[str, ...]:
        """Return the classes that can be promised of a patient; none where nothing is promised."""
        if not isinstance(self.sets, PromisedSets) or one.verdict.is_unlike:
            return ()
        return self.sets.of(one.of_network)

    def set_in_words(self, one: JudgedPatient) -> str:
        """Say in one sentence which classes can be promised of a patient, or why none are."""
        if isinstance(self.sets, NoSets):
            return self.sets.words[0]
        if one.verdict.is_unlike:
            return NO_SET
        sentence = self.sets.in_a_sentence(one.of_network)
        return sentence if one.verdict.is_known else f"{sentence}. {NOT_KNOWN}"

    def verdicts(self) -> list[Verdict]:
        """Tell of each image whether its patient is like the training data, or the picture by itself."""
        distances = self._distances()
        of_patient = {name: self.resemblance.verdict(found) for name, found in distances.items()}
        return [
            of_patient[image.patient] if image.patient else self.resemblance.verdict([image.distance])
            for image in self.images
        ]

    def _distances(self) -> dict[str, list[float]]:
        """Return the distances of the images of each patient that is named."""
        distances: dict[str, list[float]] = defaultdict(list)
        for image in self.images:
            if image.patient:
                distances[image.patient].append(image.distance)
        return distances

    def likeness_in_words(self) -> str:
        """Say how many patients, and pictures without one, are not like the training data."""
        whose = [(image.patient, "" if image.patient else image.name) for image in self.images]
        verdicts = list(dict(zip(whose, self.verdicts(), strict=True)).values())
        if not verdicts or not verdicts[0].is_known:
            return f"{verdicts[0].words}." if verdicts else ""
        are = "is" if (num := sum(one.is_unlike for one in verdicts)) == 1 else "are"
        kinds = {"patients" if patient else "pictures" for patient, _name in whose}
        what = " and ".join(sorted(kinds))
        return f"{num} of {len(verdicts)} {what} {are} {NOT_LIKE}."

    def calibrated(self, calibration: Calibration | None, prevalence: Mapping[str, float] | None) -> "Answer":
        """Calibrate what the network says; UserError where shares are given that cannot be used."""
        if calibration is None:
            if prevalence:
                raise UserError(
                    "--prevalence: the run has no calibration.json, so that validation's shares are unknown"
                )
            return self
        sets = OTHER_SHARES if prevalence else self.sets
        whole = replace(self, calibration=calibration, prevalence=prevalence, sets=sets)
        if not self.images:
            return whole
        chances = whole._meant("slice", np.stack([image.probabilities for image in self.images]))
        images = [
            replace(image, probabilities=found, of_network=image.probabilities)
            for image, found in zip(self.images, chances, strict=True)
        ]
        return replace(whole, images=tuple(images))

    def _meant(self, unit: str, probabilities: np.ndarray) -> np.ndarray:
        """Calibrate probabilities of units of a kind, and recompute them for other shares."""
        if self.calibration is None:
            return probabilities
        found = self.calibration.apply(unit, probabilities)
        return self.calibration.reweighed(unit, found, self.prevalence) if self.prevalence else found

    def pooling_in_words(self, images: str) -> str:
        """Say what a patient's probabilities are; empty where only images are judged."""
        return self.patient_model.in_words(images) if self.patient_model else ""

    def in_words(self) -> str:
        """Say for which clinic the probabilities hold."""
        if self.calibration is None:
            return NOT_CALIBRATED
        if self.patients():
            words = self.calibration.in_words("patient") + self.calibration.images_in_words()
        else:
            words = self.calibration.in_words("slice")
        if not self.prevalence:
            return words
        shares = ", ".join(f"{name} {100 * share:g} %" for name, share in self.prevalence.items())
        return f"{words} Recomputed for other shares (--prevalence): {shares}."

    def patients(self) -> list[JudgedPatient]:
        """Return all patients that are named, by name; none where the run judges slices only."""
        named = [image for image in self.images if image.patient]
        if not named or self.patient_model is None:
            return []
        chances = np.stack([i.probabilities if i.of_network is None else i.of_network for i in named])
        attention = [image.attention for image in named if image.attention is not None]
        pooled = self.patient_model.pool(
            [image.patient for image in named], chances, np.stack(attention) if attention else None
        )
        meant = self._meant("patient", pooled.probabilities)
        distances = self._distances()
        return [
            JudgedPatient(
                patient=name,
                num_images=num,
                probabilities=probabilities,
                of_network=own,
                verdict=self.resemblance.verdict(distances[name]),
            )
            for name, num, probabilities, own in zip(
                pooled.patients, pooled.num_images.tolist(), meant, pooled.probabilities, strict=True
            )
        ]

    def predicted(self, probabilities: np.ndarray) -> str:
        """Return the most probable class."""
        return self.classes[int(probabilities.argmax(axis=0))]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "classes": list(self.classes),
            "images": [
                {
                    "path": image.name,
                    "patient": image.patient,
                    **self._by_class(image.probabilities, image.spread),
                    **({} if image.patient else {"training_data": verdict.to_dict()}),
                }
                for image, verdict in zip(self.images, self.verdicts(), strict=True)
            ],
            "patients": [
                {
                    "patient": one.patient,
                    "images": one.num_images,
                    **self._by_class(one.probabilities, one.spread),
                    "training_data": one.verdict.to_dict(),
                    **({"decision": decided} if (decided := self.decide(one)) else {}),
                    "decision_in_words": self.decided_in_words(one),
                    **({"set": list(found)} if (found := self.set_of(one)) else {}),
                    "set_in_words": self.set_in_words(one),
                    "like_scores": self.like(one).to_dict() if self.is_compared(one) else None,
                }
                for one in self.patients()
            ],
            "decision": self.decision.to_dict(),
            "sets": self.sets.to_dict(),
            "left_out_series": dict(self.left_out_series),
            "rejected": [{"path": as_text(bad.path), "reason": bad.reason} for bad in self.rejected],
            "model_digest": self.model_digest,
            **({"model": self.model_name, "model_since": self.model_since} if self.model_name else {}),
            **({"model_promoted": "auto"} if self.model_is_automatic else {}),
            **({"models_before": before} if (before := self._changes()) else {}),
            "made": self.made,
            "calibration": self.in_words(),
            "prevalence": dict(self.prevalence) if self.prevalence else None,
            "use": "research only",
        }

    def _changes(self) -> dict[str, Any]:
        return {patient: asdict(model) for patient, model in self.changed().items()}

    def _by_class(self, probabilities: np.ndarray, spread: np.ndarray | None) -> dict[str, Any]:
        by_class = dict(zip(self.classes, probabilities.tolist(), strict=True))
        of_runs = dict(zip(self.classes, spread.T.tolist(), strict=True)) if spread is not None else {}
        return {
            "predicted": self.predicted(probabilities),
            "probabilities": by_class,
            **({"lowest_and_highest": of_runs} if of_runs else {}),
        }
