"""Figures by plane, kind, scanner, site and slices a patient, so that what is lost in the mean is seen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mri_hpc.results.statistics.figure_of_merit import Figure
from mri_hpc.results.statistics.metrics import ACCURACY, BALANCED_ACCURACY, Metric, Metrics, measure
from mri_hpc.results.statistics.patient_model import PatientModel
from mri_hpc.results.statistics.patients import image_outcomes, patient_outcomes, pool_patients
from mri_hpc.rundir.predictions import Prediction

FEWEST = 10
"""Patients (or images that name none), of fewer of whom no interval is printed: none would hold."""
MOST_VALUES = 12
"""Of a column, those of most images."""
SLICES = "slices a patient"
UP_TO = (1, 2, 5, 10, 20)
"""Ends of the groups by slices a patient; the last group has no end."""
FIGURES: tuple[Metric, ...] = (BALANCED_ACCURACY, ACCURACY)


@dataclass(frozen=True, kw_only=True)
class Subgroup:
    """The images that have one value of a column, judged by themselves."""

    column: str
    value: str
    """Empty where it is not known."""
    images: int
    num: int
    """Units of the figures: patients, by their images in this group, where there are patients."""
    figures: tuple[Figure, ...]
    """As in FIGURES."""

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        figures = {metric.name: f.to_dict() for metric, f in zip(FIGURES, self.figures, strict=True)}
        return {"column": self.column, "value": self.value, "images": self.images, "n": self.num, **figures}


def subgroups(
    classes: tuple[str, ...],
    labelled: Sequence[Prediction],
    columns: Mapping[str, Mapping[str, str]],
    model: PatientModel | None,
) -> tuple[Subgroup, ...]:
    """Judge each group of a column that has several. columns: by name, the value by key of the image."""
    found = []
    for column, value_of in {**columns, **_by_slices(labelled)}.items():
        groups: dict[str, list[Prediction]] = {}
        for row in labelled:
            groups.setdefault(value_of.get(row.key, ""), []).append(row)
        if len(groups) < 2:
            continue
        largest = sorted(groups, key=lambda value: (-len(groups[value]), value))[:MOST_VALUES]
        order = [value for value in value_of.values() if value in largest] if column == SLICES else largest
        for value in dict.fromkeys(order):
            found.append(_judged(classes, column, value, groups[value], model))
    return tuple(found)


def _by_slices(labelled: Sequence[Prediction]) -> dict[str, dict[str, str]]:
    """Group images by how many their patient has, few first."""
    count: dict[str, int] = {}
    for row in labelled:
        if row.patient:
            count[row.patient] = count.get(row.patient, 0) + 1
    named = sorted((count[row.patient], row.key) for row in labelled if row.patient)
    return {SLICES: {key: _range(slices) for slices, key in named}} if named else {}


def _range(slices: int) -> str:
    for before, end in zip((0, *UP_TO), UP_TO, strict=False):
        if slices <= end:
            return str(end) if end == before + 1 else f"{before + 1} to {end}"
    return f"more than {UP_TO[-1]}"


def _judged(
    classes: tuple[str, ...],
    column: str,
    value: str,
    rows: Sequence[Prediction],
    model: PatientModel | None,
) -> Subgroup:
    patients = pool_patients(classes, rows, model) if model else []
    outcomes = patient_outcomes(classes, patients) if patients else image_outcomes(classes, rows)
    metrics = measure(outcomes)
    return Subgroup(
        column=column,
        value=value,
        images=len(rows),
        num=metrics.num,
        figures=tuple(_figures(metrics, "patients" if patients else "images")),
    )


def _figures(metrics: Metrics, units: str) -> Sequence[Figure]:
    figures = [metrics.figures[metric] for metric in FIGURES]
    if metrics.num_clusters >= FEWEST:
        return figures
    return [figure.without_interval(f"fewer than {FEWEST} {units}: no interval") for figure in figures]
