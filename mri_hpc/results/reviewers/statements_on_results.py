"""Statements about the results of a run, each made of what the run has written down.

One that returns no words has nothing to go by: a run of before did not write it down.
"""

from collections.abc import Iterable

from mri_hpc.base.command import counted
from mri_hpc.results.answers.decision import is_of_nothing_found
from mri_hpc.results.answers.promised_sets import PromisedSets
from mri_hpc.results.pages.page import never_tested
from mri_hpc.results.pages.record import Record
from mri_hpc.results.reviewers.statements import sentences, shown
from mri_hpc.results.runs.controls import Controls
from mri_hpc.results.runs.evaluation import Evaluation
from mri_hpc.results.statistics.figure_of_merit import brief
from mri_hpc.results.statistics.metrics import Metrics
from mri_hpc.results.statistics.subgroups import FEWEST, FIGURES

BRACKETS = "95 % intervals in brackets"


def headline(record: Record) -> str:
    """Give the figure to judge by, and the patients and images that it rests on."""
    found, counts = record.evaluation, record.evaluation.counts
    of = (
        f"{counts.patients} patients, {counts.images} images"
        if counts.patients
        else f"{counts.images} images"
    )
    return (
        f"Balanced accuracy by {found.unit}, test split: {shown(found.headline['balanced_accuracy'])}; {of}; "
        f"guessing gives {100 * found.baseline.chance:.1f} %"
    )


def measures(record: Record) -> str:
    """List the figures, and what they stand beside."""
    found = record.evaluation.headline
    of_all = ", ".join(metric.title for metric in found.figures)
    of_each = ", ".join(metric.title for metric in found.class_metrics)
    return (
        f"{of_all}; of each class {of_each}; reliability diagram, ROC curves, confusion matrix, error where "
        "the model is most sure; beside controls that have learnt nothing of disease"
    )


def uncertainty(record: Record) -> str:
    """Say how intervals are made."""
    return record.evaluation.method


def groups(record: Record) -> str:
    """Give the figures of each group, with the patients in it."""
    unit = record.evaluation.unit
    of_groups = [
        f"{group.column} {group.value or 'not known'}, {counted(group.num, unit)}: "
        + ", ".join(f"{m.title} {brief(f)}" for m, f in zip(FIGURES, group.figures, strict=True))
        for group in record.evaluation.subgroups
    ]
    few = f"{BRACKETS}; of fewer than {FEWEST} {unit}s none holds"
    return sentences((few, *of_groups)) if of_groups else ""


def controls(record: Record) -> str:
    """Say what the network was held against."""
    found = record.evaluation.controls
    return found.verdict if isinstance(found, Controls) else f"Held against no control, as {found.reason}"


def explained(record: Record) -> str:
    """Say whether heat maps were made, and whether they tell anything."""
    looks = record.looks
    if looks is None:
        return "No heat map was made"
    if not looks.hits:
        return f"No heat map is shown: {looks.reason}"
    worth = "beat" if looks.beats_centre else "do not beat"
    hits = looks.hits
    return (
        f"Grad-CAM, scored against boxes of findings in {looks.patients} test patients: the heat maps "
        f"{worth} a spot on the centre of the head (hottest point in the box "
        f"{100 * hits.network.value:.1f} % against {100 * hits.centre.value:.1f} %)"
    )


def external(_record: Record) -> str:
    """Say that nothing outside was tested."""
    return "None by this run: test patients are of the store that the model learnt from"


def figures(record: Record) -> str:
    """Give all figures over all classes, by patient where there are patients, then by slice."""
    found = levels(record.evaluation)
    return sentences(
        (
            BRACKETS,
            *(
                f"by {unit}, n = {metrics.num}: "
                + "; ".join(f"{m.title} {brief(f)}" for m, f in metrics.figures.items())
                for unit, metrics in found
            ),
            *_reasons(metrics for _unit, metrics in found),
        )
    )


def class_figures(record: Record) -> str:
    """Give all figures of each class by the unit to judge by."""
    found = record.evaluation
    return sentences(
        (
            BRACKETS,
            *(
                f"of {name}, {counted(values.support, found.unit)}: "
                + "; ".join(f"{m.title} {brief(f)}" for m, f in values.figures.items())
                for name, values in found.headline.classes.items()
            ),
            *_reasons([found.headline]),
        )
    )


def _reasons(levels: Iterable[Metrics]) -> list[str]:
    """List why some figures are none, or have no interval, each reason once."""
    return list(dict.fromkeys(why for m in levels for why in (*m.reasons(), *m.reasons_without_interval())))


def failures(record: Record) -> str:
    """Say which classes were taken for which, by the unit to judge by."""
    found = record.evaluation
    names, rows = found.classes, found.headline.confusion
    wrong = [
        f"{given} taken for {answered}: {rows[i][j]} of {sum(rows[i])}"
        for i, given in enumerate(names)
        for j, answered in enumerate(names)
        if i != j and rows[i][j]
    ]
    num = sum(rows[i][j] for i in range(len(names)) for j in range(len(names)) if i != j)
    listed = f": {'; '.join(wrong)}" if wrong else ""
    return f"{num} of {found.headline.num} {found.unit}s answered wrongly{listed}"


def probabilities(record: Record) -> str:
    """Say what the probabilities mean."""
    return record.evaluation.probabilities_mean


def decision(record: Record) -> str:
    """Say which threshold is given, and what is promised of it."""
    return sentences(record.evaluation.decision.words)


def sets(record: Record) -> str:
    """Return what is promised of sets of classes, and what the split shows of it."""
    found = record.evaluation.sets
    of_split = found.shown if isinstance(found, PromisedSets) else None
    return sentences((*found.words, *([of_split.in_words(record.evaluation.split)] if of_split else [])))


def notes(record: Record) -> str:
    """Repeat what belongs beside every figure."""
    return sentences(record.evaluation.notes)


def untested(record: Record) -> str:
    """List what was never tested."""
    return sentences(never_tested(record.provenance, record.evaluation))


def cannot_answer(record: Record) -> str:
    """Say which questions the model has no answer for."""
    names = record.evaluation.classes
    absent = (
        ""
        if any(map(is_of_nothing_found, names))
        else "No class stands for the absence of a finding: whether there is one at all is not answered"
    )
    return sentences(
        (
            f"It can only answer {', '.join(names)}: anything else is given one of these names",
            absent,
        )
    )


def updating(record: Record) -> str:
    """Say that test results changed nothing."""
    return f"No model was updated after the test. {probabilities(record)}"


def levels(found: Evaluation) -> list[tuple[str, Metrics]]:
    """List the figures by patient, where there are patients, then by slice."""
    by_slice = ("slice", found.slice_level)
    return [("patient", found.patient_level), by_slice] if found.patient_level else [by_slice]
