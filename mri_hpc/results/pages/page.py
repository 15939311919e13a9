"""The report: one page that stands alone, made of what the run says about itself and nothing else.

The same run gives the same bytes: no clock of this machine, no order that may change, and no path, only the
last name of one: folders name users and studies, and a page is made to be shared.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from markupsafe import Markup

from mri_hpc.results.pages.cohort_table import splits_of, tabulate, totals
from mri_hpc.results.pages.drift_figure import drift_figure
from mri_hpc.results.pages.figures import (
    CLASS_DASHES,
    accuracy_curve,
    class_colour,
    class_pattern,
    loss_curves,
    reliability_diagram,
    roc_curves,
)
from mri_hpc.results.pages.history import AttemptHistory, attempts_of, resumed_steps
from mri_hpc.results.pages.pictures import Pictures
from mri_hpc.results.pages.record import looks_of
from mri_hpc.results.pages.templates import environment
from mri_hpc.results.runs.controls import Controls
from mri_hpc.results.runs.drift import RULE as DRIFT_RULE
from mri_hpc.results.runs.evaluation import Evaluation, evaluate_split
from mri_hpc.results.statistics.metrics import ClassMetric, Metric, Metrics, roc_curve
from mri_hpc.results.statistics.patients import Outcomes, PatientResult, patient_outcomes
from mri_hpc.results.statistics.scores import reliability
from mri_hpc.results.statistics.subgroups import FIGURES
from mri_hpc.rundir.continued import Continued
from mri_hpc.rundir.decisions import Action
from mri_hpc.rundir.drift import Drift
from mri_hpc.rundir.efficiency import words
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.ledger import read_events
from mri_hpc.rundir.metrics_log import read_metrics
from mri_hpc.rundir.predictions import read_predictions
from mri_hpc.rundir.probe import read_probe
from mri_hpc.rundir.progress import EarlyStopping
from mri_hpc.rundir.provenance import read_provenance
from mri_hpc.rundir.recipes import default_of
from mri_hpc.rundir.settings import TrainingSettings, load_job, load_training
from mri_hpc.rundir.summary import summarise

TEMPLATE = "report.html.j2"
MOST_PATIENTS = 2000
"""Rows of the table of patients: more would make the page too heavy to open."""
DECISIONS = {
    Action.AGAIN: "started again", Action.FINISHED: "done", Action.STAY_AWAY: "stays stopped",
    Action.GIVE_UP: "gave up",
}  # fmt: skip

NEVER_TESTED = (
    "Images of other hospitals, scanners and sequences than those in the data. Expect worse figures there.",
    "Images of anything but the classes above. The model can only answer these: anything else, such as "
    "another disease or no brain at all, is given one of these names.",
    "Other seeds and other splits. The intervals cover which patients were tested, not the luck of one "
    "training.",
    "Use in the care of patients, alone or beside a radiologist.",
)

NOT_HELD_AGAINST = (
    "Controls: whether nearest neighbours, intensity statistics or what the store says beside the pixels do "
    "as well, since {}."
)

NOT_LOOKED_FOR = (
    "Near-copies: whether test images have mirrored, rotated or re-encoded twins among the training images."
)


def make_page(
    run: RunDir,
    pictures: Pictures | None = None,
    *,
    evaluation: Evaluation | None = None,
    continued: Continued | None = None,
    drift: Drift | None = None,
    unseen: str = "",
) -> str:
    """Make the report as HTML; of a run that is not finished, what there is.

    pictures: of patients, for a page that is not to be shared. evaluation: of the test split, where it is at
    hand. continued, drift: since the run that it goes on from. unseen: why test figures are not to be on it.
    """
    events, metrics = read_events(run), read_metrics(run)
    attempts = attempts_of(events)
    if evaluation is None and run.predictions.exists() and not unseen:
        evaluation = evaluate_split(run, "test")
    provenance = read_provenance(run)
    classes = evaluation.classes if evaluation else tuple(provenance.get("classes", ()))
    leaks = provenance.get("test_images_trained_on")
    training, restarts = load_training(run), resumed_steps(attempts)
    validation_chance = _validation_chance(classes, provenance)
    summary = summarise(
        events, metrics, None, events[-1].time if events else 0.0,
        probe=read_probe(run), is_finished=run.is_finished,
    )  # fmt: skip
    return environment().get_template(TEMPLATE).render(
        name=run.path.resolve().name,
        is_finished=run.is_finished and evaluation is not None,
        unseen=unseen,
        continued=continued,
        drift=drift,
        drift_rule=DRIFT_RULE,
        drift_figure=Markup(drift_figure(drift.measures)) if drift else "",
        model=training.model,
        is_deterministic=training.deterministic,
        last_event_s=events[-1].time if events else None,
        classes=[
            {
                "name": name, "colour": class_colour(number), "pattern": class_pattern(number),
                "dashes": CLASS_DASHES[class_pattern(number)],
            }
            for number, name in enumerate(classes)
        ],
        validation_chance=validation_chance,
        provenance=_provenance(provenance, attempts),
        settings=_settings(run),
        sides=_sides(load_training(run)),
        loss=Markup(loss_curves(metrics, restarts, _model_epoch(provenance, metrics, training))),
        accuracy=Markup(accuracy_curve(metrics, restarts, validation_chance)),
        summary=summary,
        wall_clock=_wall_clock(summary.ledger),
        uses=[(use.attempt, ", ".join(words(use)) or "–") for use in summary.uses],
        attempts=attempts,
        decisions=DECISIONS,
        again=Action.AGAIN,
        never_tested=never_tested(provenance, evaluation, unseen),
        no_leaks=leaks == 0,
        looks=looks_of(run, provenance),
        pictures=pictures,
        **(_results(run, evaluation, provenance) if evaluation else {}),
    )  # fmt: skip


def never_tested(
    provenance: Mapping[str, Any], evaluation: Evaluation | None, unseen: str = ""
) -> tuple[str, ...]:
    """List in sentences what the figures say nothing of."""
    is_looked_for = provenance.get("test_images_trained_on") is not None
    return (
        *([] if is_looked_for else [NOT_LOOKED_FOR]),
        *_without_controls(evaluation, unseen),
        *NEVER_TESTED,
    )


def _without_controls(evaluation: Evaluation | None, unseen: str) -> list[str]:
    """Say why the network was not held against controls, where it was not."""
    if evaluation is None:
        why = "its test figures are not shown" if unseen else "the run is not finished"
        return [NOT_HELD_AGAINST.format(why)]
    found = evaluation.controls
    return [] if isinstance(found, Controls) else [NOT_HELD_AGAINST.format(found.reason)]


def _model_epoch(
    provenance: Mapping[str, Any], metrics: Sequence[dict[str, Any]], training: TrainingSettings
) -> int:
    """Return the epoch, from 0, whose weights are the model's, or would be if the run ended now; -1: none.

    Not that of the lowest loss: a loss that is lower by less than min_improvement is no improvement.
    """
    for name in ("model_epoch", "best_epoch"):
        # Runs of before there was a choice name the best one, which was the model's.
        if name in provenance:
            return int(provenance[name]) - 1
    if training.published_epoch == "last" and training.decay_epochs:
        return -1
    stopping = EarlyStopping()
    for line in metrics:
        if "validation_loss" in line:
            loss = line["validation_loss"]
            stopping = stopping.after_epoch(line["epoch"], line["step"], loss, training.min_improvement)
    return stopping.best_epoch


def _validation_chance(classes: Sequence[str], provenance: Mapping[str, Any]) -> float:
    """Return the chance level of the logged balanced accuracy, over occurring classes; 0: not known."""
    of_classes = (provenance.get("split_counts") or {}).get("validation", {}).get("classes", {})
    occurring = [name for name in classes if of_classes.get(name, {}).get("images", 1)]
    return 1 / len(occurring) if occurring else 0.0


def _wall_clock(ledger: Mapping[str, float]) -> list[tuple[str, float, float]]:
    """List the wall clock's parts as (name, seconds, fraction), largest first, without those of no second."""
    total = sum(ledger.values())
    if total <= 0:
        return []
    parts = sorted(ledger.items(), key=lambda part: -part[1])
    return [
        (name.replace("_", " "), seconds, seconds / total) for name, seconds in parts if abs(seconds) >= 0.5
    ]


def _results(run: RunDir, evaluation: Evaluation, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Collect what the page shows of a run with predictions."""
    _classes, rows = read_predictions(run.predictions)
    levels = _levels(evaluation)
    stated = provenance.get("split_counts") or {}
    table = tabulate(evaluation.classes, stated, rows)
    return {
        "evaluation": evaluation,
        "figures": [
            (heading(metric), [metrics.figures[metric] for _unit, metrics, _outcomes in levels])
            for metric in evaluation.headline.figures
        ],
        "class_tables": [
            (
                words,
                is_of_scores,
                [heading(m) for m in evaluation.headline.class_metrics if m.is_of_scores == is_of_scores],
            )
            for words, is_of_scores in (("the answers", False), ("the scores, over all thresholds", True))
        ],
        "controls": evaluation.controls if isinstance(evaluation.controls, Controls) else None,
        "subgroup_figures": [heading(metric) for metric in FIGURES],
        "levels": [_level(*level) for level in levels],
        "cohort": table,
        "cohort_totals": totals(table, stated, rows),
        "splits": splits_of(stated, rows),
        "tallies": evaluation.decision.tallies(evaluation.split),
        "patients": _by_urgency(evaluation)[:MOST_PATIENTS],
        "num_wrong": sum(patient.is_wrong for patient in evaluation.patients),
    }


def _levels(evaluation: Evaluation) -> list[tuple[str, Metrics, Outcomes]]:
    by_slice = ("slice", evaluation.slice_level, evaluation.images)
    if evaluation.patient_level is None:
        return [by_slice]
    patients = patient_outcomes(evaluation.classes, evaluation.patients)
    return [("patient", evaluation.patient_level, patients), by_slice]


def _level(unit: str, metrics: Metrics, outcomes: Outcomes) -> dict[str, Any]:
    """Collect tables and curves for units of one kind."""
    curves = [roc_curve(outcomes, number) for number in range(len(outcomes.classes))]
    return {
        "unit": unit,
        "num": metrics.num,
        "roc": Markup(roc_curves(curves, name=unit)),
        "reliability": Markup(reliability_diagram(reliability(outcomes), name=unit)),
        "classes": list(metrics.classes.items()),
        "reasons": [*metrics.reasons(), *metrics.reasons_without_interval()],
        "confusion": [
            (name, [(count, count / sum(row) if sum(row) else 0.0) for count in row])
            for name, row in zip(outcomes.classes, metrics.confusion, strict=True)
        ],
    }


def heading(metric: Metric | ClassMetric) -> str:
    """Name a metric at the start of a row or column, with its unit."""
    unit = f", {metric.scale.unit}" if metric.scale.unit else ""
    return f"{metric.title[0].upper()}{metric.title[1:]}{unit}"


def _by_urgency(evaluation: Evaluation) -> list[PatientResult]:
    """Sort wrong ones first; then by how little the model believed the class that the data give."""
    index = {name: number for number, name in enumerate(evaluation.classes)}
    return sorted(
        evaluation.patients, key=lambda p: (not p.is_wrong, p.probabilities[index[p.label]], p.patient)
    )


def _settings(run: RunDir) -> list[tuple[str, list[tuple[str, str, bool]]]]:
    """Group settings as (name, value, whether it is not the default)."""
    training, job = load_training(run), load_job(run)
    groups: dict[str, list[tuple[str, str, bool]]] = {"What was trained": [], "How it was operated": []}
    for settings in (training, job):
        for field in dataclasses.fields(settings):
            is_identity = field.metadata["kind"] == "identity"
            group = groups["What was trained" if is_identity else "How it was operated"]
            value = getattr(settings, field.name)
            shown = _plain(SHARED_AS.get(field.name, _itself)(value))
            default = field.default
            if isinstance(settings, TrainingSettings):
                default = default_of(settings.recipe, field.name)
            group.append((field.name.replace("_", " "), shown, value != default))
    return list(groups.items())


def _sides(training: TrainingSettings) -> str:
    """Say whether the model was taught that left and right are alike."""
    if training.augment and training.flip != "off":
        both = "; each answer is about an image and its mirror image" if training.mirror_answers else ""
        return f"Training exchanged left and right at random{both}: the model cannot tell a side."
    return "Training never exchanged left and right."


def _provenance(provenance: Mapping[str, Any], attempts: Sequence[AttemptHistory]) -> list[tuple[str, str]]:
    """List what made the model, as (name, value)."""
    titles = {
        "model_digest": "weights of the model",
        "weights_digest": "weights after the last step",
        "initial_weights_digest": "weights to start from",
        "samples_digest": "samples in their order",
        "test_set": "test images and their patients",
        "snapshot": "snapshot",
        "content_digest": "stored content",
        "image_shape": "image, pixels",
        "bits": "bits of a pixel",
        "num_parameters": "parameters",
        "device": "device",
        "ranks": "ranks",
    }
    sizes = [attempt.ranks for attempt in attempts if attempt.ranks]
    in_turn = {"ranks": f"{', '.join(map(str, sizes))} in turn"} if len({*sizes}) > 1 else {}
    plain = {**provenance, **in_turn, "num_parameters": _grouped(provenance.get("num_parameters"))}
    known = [(title, _plain(plain[key])) for key, title in titles.items() if plain.get(key)]
    versions = provenance.get("versions") or {}
    jobs = dict.fromkeys(attempt.job_id for attempt in attempts if attempt.job_id)
    shown = {
        *titles, "versions", "conditions", "classes", "split_counts", "has_patients", "continued_from",
        "test_images_trained_on", "commoner_in_a_class",
    }  # fmt: skip
    others = {**provenance, **(provenance.get("conditions") or {})}
    ancestors = [
        (
            "continued from",
            f"{_last_name(run['run'])}, model {run['model_digest']}, snapshot {run['snapshot']}",
        )
        for run in provenance.get("continued_from") or ()
    ]
    return [
        *known,
        *ancestors,
        *(
            (key.replace("_", " "), _plain(value))
            for key, value in sorted(others.items())
            if key not in shown and not isinstance(value, Mapping)
        ),
        *((f"version of {name}", _plain(version)) for name, version in sorted(versions.items())),
        *([("jobs", ", ".join(jobs))] if jobs else []),
    ]


def _plain(value: Any) -> str:
    """Write a value of a setting as people do."""
    if value is None or value in ("", ()):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return (
            " × ".join(map(str, value))
            if all(isinstance(v, int) for v in value)
            else ", ".join(map(str, value))
        )
    return str(value)


def _grouped(count: int | None) -> str:
    """Write a count in groups of three digits; only for what is not typed again, as they would a seed."""
    return "" if count is None else f"{count:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def _itself(value: Any) -> Any:
    return value


def _last_name(path: str) -> str:
    return PurePath(path).name


def _last_names(pairs: Sequence[str]) -> tuple[str, ...]:
    """Shorten the value of each KEY=VALUE."""
    parts = (pair.partition("=") for pair in pairs)
    return tuple(f"{key}={_last_name(path)}" for key, _equals, path in parts)


SHARED_AS: dict[str, Callable[[Any], Any]] = {
    "store": _last_name,
    "weights": _last_name,
    "continue_from": _last_name,
    "slurm": _last_names,
}
"""Settings that hold paths, of which only the last names may be shared."""
