"""The network beside the control models: the same figures of the same patients, and the difference."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from mri_hpc.results.runs.control_models import IN_WORDS
from mri_hpc.results.runs.control_run import NoControls, controls_of
from mri_hpc.results.statistics.differences import differences
from mri_hpc.results.statistics.figure_of_merit import Figure
from mri_hpc.results.statistics.metrics import ACCURACY, BALANCED_ACCURACY, Metric, Metrics, measure
from mri_hpc.results.statistics.patient_model import PatientModel
from mri_hpc.results.statistics.patients import Outcomes, image_outcomes, patient_outcomes, pool_patients
from mri_hpc.rundir.control_answers import ControlAnswers, Reach
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.predictions import Prediction

SHUFFLES = 1000


@dataclass(frozen=True, kw_only=True)
class Control:
    """One control model, and by how much the network is better."""

    name: str
    words: str
    slice_level: Metrics
    patient_level: Metrics | None
    better_by: Figure
    """The network's main figure less the control's, on the same patients (without these: images)."""

    @property
    def headline(self) -> Metrics:
        """The figures to judge by: by patient where there are patients."""
        return self.patient_level or self.slice_level

    @property
    def is_beaten(self) -> bool:
        """Tell whether the whole interval of the difference lies above 0."""
        return self.better_by.low is not None and self.better_by.low > 0

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return {
            "slice": self.slice_level.to_dict(),
            "patient": self.patient_level.to_dict() if self.patient_level else None,
            "network_better_by": self.better_by.to_dict(),
            "is_clearly_beaten": self.is_beaten,
        }


@dataclass(frozen=True, kw_only=True)
class Chance:
    """Main figure of the network's own answers where the classes of patients are dealt out anew."""

    mean: float
    low: float
    """95 of 100 shuffles lie between it and `high`."""
    high: float


@dataclass(frozen=True, kw_only=True)
class Controls:
    """All control models beside the network."""

    unit: str
    """Of the main figure: patient or slice."""
    metric: Metric
    """The main figure: balanced accuracy, or accuracy where a class is absent."""
    network: Metrics
    """The network's figures by that unit, on what the controls were asked about."""
    network_by_slice: Metrics
    controls: tuple[Control, ...]
    shuffled: Chance
    facts: tuple[str, ...]
    reach: Reach

    @property
    def best(self) -> Control:
        """The control with the largest main figure, of equals the first."""
        return max(self.controls, key=lambda control: control.headline.figures[self.metric].value or 0.0)

    @property
    def is_clearly_beaten(self) -> bool:
        """Tell whether the network is clearly better than the best of them."""
        return self.best.is_beaten

    @property
    def is_judged(self) -> bool:
        """Tell whether it could be said that the network is clearly better, or that it is not."""
        return self.best.better_by.low is not None

    def without_intervals(self, reason: str) -> "Controls":
        """Return the network's figures alone, for this reason; those of the controls keep their intervals."""
        return replace(
            self,
            network=self.network.without_intervals(reason),
            network_by_slice=self.network_by_slice.without_intervals(reason),
            controls=tuple(
                replace(control, better_by=control.better_by.without_interval(reason))
                for control in self.controls
            ),
        )

    @property
    def verdict(self) -> str:
        """The sentence that stands first where the network does not clearly beat the best control."""
        best, network = self.best, self.network.figures[self.metric]
        figure, by = best.headline.figures[self.metric], best.better_by
        assert figure.value is not None and network.value is not None and by.value is not None
        percent = self.metric.scale.number
        found = (
            f"{percent(network.value)} % {self.metric.title} by {self.unit} for the network, "
            f"{percent(figure.value)} % for {best.name}; difference {by.scale.number(by.value)} points"
        )
        if by.low is not None and by.high is not None:
            found += f" ({by.scale.number(by.low)} to {by.scale.number(by.high)})"
        if not self.is_judged:
            return f"Beside the best control, without an interval, so that nothing is clear: {found}"
        if self.is_clearly_beaten:
            return f"The network clearly beats the best control: {found}"
        return f"The network does not clearly beat a control that has learnt nothing of disease: {found}"

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on what the controls are."""
        reach = self.reach
        facts = (
            f"What the store says beside the pixels: {', '.join(self.facts)}"
            if self.facts
            else ("The store says nothing beside the pixels")
        )
        part = (
            f"Of whole patients drawn by chance: the controls learnt from {reach.trained_images} of "
            f"{reach.of_trained_images} training images, and the table, the network's row too, is of the "
            f"{reach.judged_images} of {reach.of_judged_images} images that they were asked about"
        )
        return (
            "Controls learn from the run's training images, and are judged as the network is",
            f"{facts}. The mode, size and depth of the files are not kept in a store",
            f"Shuffled labels: the network's answers held against {SHUFFLES} deals in which each "
            f"{self.unit} is given another one's class. So chance does; no network is trained for it",
            *([] if reach.is_whole else [part]),
        )

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return {
            "unit": self.unit,
            "metric": self.metric.name,
            "verdict": self.verdict,
            "network_clearly_beats_best": self.is_clearly_beaten if self.is_judged else None,
            "best": self.best.name,
            "network": self.network.figures[self.metric].to_dict(),
            "controls": {control.name: control.to_dict() for control in self.controls},
            "shuffled_labels": asdict(self.shuffled),
            "facts": list(self.facts),
            "reach": asdict(self.reach),
        }


def judge_controls(
    run: RunDir,
    classes: tuple[str, ...],
    rows: Sequence[Prediction],
    labelled: Sequence[Prediction],
    model: PatientModel | None,
) -> tuple[Controls | NoControls, ControlAnswers | None]:
    """Judge the controls on labelled images of one split; return also what they answered.

    rows: of predictions.csv.
    """
    found = controls_of(run, classes, rows)
    if isinstance(found, NoControls):
        return found, None
    number = {key: at for at, key in enumerate(found.keys)}
    asked = [row for row in labelled if row.key in number]
    if not asked:
        return NoControls(reason="they were asked about no image of this split"), found
    network = _levels(classes, asked, model)
    metric = BALANCED_ACCURACY if _main(network)[1].figures[BALANCED_ACCURACY].value is not None else ACCURACY
    controls = []
    for name, answers in found.answers.items():
        answered = [_with(row, answers[number[row.key]]) for row in asked]
        levels = _levels(classes, answered, model)
        controls.append(
            Control(
                name=name,
                words=IN_WORDS[name],
                slice_level=levels[-1][1],
                patient_level=levels[0][1] if len(levels) > 1 else None,
                better_by=differences(_main(network)[0], _main(levels)[0])[metric],
            )
        )
    outcomes, metrics = _main(network)
    judged = Controls(
        unit="patient" if len(network) > 1 else "slice",
        metric=metric,
        network=metrics,
        network_by_slice=network[-1][1],
        controls=tuple(controls),
        shuffled=shuffle(outcomes),
        facts=found.facts,
        reach=found.reach,
    )
    return judged, found


Level = tuple[Outcomes, Metrics]


def _levels(classes: tuple[str, ...], rows: Sequence[Prediction], model: PatientModel | None) -> list[Level]:
    """Judge by patient, where there are patients, then by slice."""
    images = image_outcomes(classes, rows)
    levels = [(images, measure(images))]
    patients = pool_patients(classes, rows, model) if model else []
    if patients:
        outcomes = patient_outcomes(classes, patients)
        levels.insert(0, (outcomes, measure(outcomes)))
    return levels


def _main(levels: Sequence[Level]) -> Level:
    return levels[0]


def _with(row: Prediction, probabilities: tuple[float, ...]) -> Prediction:
    return Prediction(
        key=row.key, patient=row.patient, split=row.split, label=row.label, probabilities=probabilities
    )


def shuffle(outcomes: Outcomes) -> Chance:
    """Deal the classes out anew, those of units in one cluster together; the mean over classes that occur."""
    random = np.random.default_rng(0)
    first = np.unique(outcomes.cluster, return_index=True)[1]
    own, num = outcomes.label[first], len(outcomes.classes)
    found = np.empty(SHUFFLES)
    for turn in range(SHUFFLES):
        label = random.permutation(own)[outcomes.cluster]
        total = np.bincount(label, minlength=num)
        right = np.bincount(label[outcomes.predicted == label], minlength=num)
        found[turn] = (right[total > 0] / total[total > 0]).mean()
    low, high = np.percentile(found, (2.5, 97.5))
    return Chance(mean=float(found.mean()), low=float(low), high=float(high))
