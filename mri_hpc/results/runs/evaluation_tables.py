"""Tables of an evaluation, for people: the figures, then the classes, of patients first."""

import shlex
from collections.abc import Sequence
from typing import Any

from mri_hpc.results.answers.decision import Tally
from mri_hpc.results.answers.promised_sets import PromisedSets
from mri_hpc.results.runs.comparison import Comparison
from mri_hpc.results.runs.controls import Controls
from mri_hpc.results.runs.evaluation import Evaluation
from mri_hpc.results.statistics.figure_of_merit import PERCENT, Figure
from mri_hpc.results.statistics.metrics import Metrics
from mri_hpc.results.statistics.subgroups import FIGURES, Subgroup
from mri_hpc.rundir.layout import RunDir


def print_tables(run: RunDir, evaluation: Evaluation) -> None:
    """Print tables for people: the figures, then the classes, of patients first."""
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False, soft_wrap=False)
    counts, baseline = evaluation.counts, evaluation.baseline
    controls = evaluation.controls
    if isinstance(controls, Controls) and controls.is_judged and not controls.is_clearly_beaten:
        console.print(f"[bold red]{escape(controls.verdict)}.[/]")
    of_patients = f"{counts.patients} patients, " if counts.patients else ""
    console.print(
        f"[bold]{escape(run.path.name)}[/]: {evaluation.split} split by [bold]{evaluation.unit}[/]: "
        f"{of_patients}{counts.images} images"
    )
    for note in evaluation.notes:
        console.print(f"[yellow]{escape(note)}[/]")
    console.print(_figures_table(evaluation))
    for unit, metrics in _levels(evaluation):
        for is_of_scores in (False, True):
            console.print(_classes_table(unit, metrics, is_of_scores=is_of_scores))
        for reason in metrics.reasons():
            console.print(f"[yellow]– by {unit}: {escape(reason)}[/]")
        for reason in metrics.reasons_without_interval():
            console.print(f"[dim]no interval by {unit}: {escape(reason)}[/]")
    console.print(
        f"Chance: {_percent(baseline.chance)} balanced accuracy. "
        f"Always {escape(repr(baseline.majority_class))}: "
        f"{_percent(baseline.majority_accuracy)} accuracy by {evaluation.unit} "
        f"({PERCENT.number(baseline.majority_low)}–{_percent(baseline.majority_high)})."
    )
    if isinstance(controls, Controls):
        console.print(_controls_table(controls))
        if controls.is_clearly_beaten or not controls.is_judged:
            console.print(escape(f"{controls.verdict}."))
    else:
        console.print(escape(f"Controls: none, as {controls.reason}."))
    if evaluation.subgroups:
        console.print(_subgroups_table(evaluation.subgroups, evaluation.unit))
    console.print(_most_sure(evaluation))
    for words in evaluation.decision.words:
        console.print(escape(f"{words}."))
    if tallies := evaluation.decision.tallies(evaluation.split):
        console.print(_decision_table(tallies))
    for words in _sets(evaluation):
        console.print(escape(f"{words}."))
    console.print(f"[dim]{escape(evaluation.probabilities_mean)}[/]")
    console.print(f"[dim]{escape(evaluation.method)} Research use only.[/]")
    page = f"mri-hpc report {shlex.quote(str(run.path))}"
    # whole, however narrow the window: it is there to be copied
    console.print(f"all of this on one page: {escape(page)}", soft_wrap=True)


def _figures_table(evaluation: Evaluation) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    table.add_column("")
    levels = _levels(evaluation)
    for unit, metrics in levels:
        table.add_column(f"by {unit} (n = {metrics.num})", justify="left")
    for metric in evaluation.headline.figures:
        table.add_row(metric.title, *(_interval(metrics.figures[metric]) for _unit, metrics in levels))
    return table


def _classes_table(unit: str, metrics: Metrics, *, is_of_scores: bool) -> Any:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    table.add_column(f"by {unit}")
    table.add_column("n", justify="right")
    for metric in metrics.class_metrics:
        if metric.is_of_scores == is_of_scores:
            table.add_column(metric.title)
    for name, values in metrics.classes.items():
        figures = values.figures_of(is_of_scores=is_of_scores)
        table.add_row(escape(name), str(values.support), *map(_interval, figures))
    return table


def _controls_table(controls: Controls) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    for title in (
        "beside controls",
        f"{controls.metric.title} by {controls.unit}",
        "network better by, points",
    ):
        table.add_column(title)
    table.add_row("the network", _interval(controls.network.figures[controls.metric]), "")
    for control in controls.controls:
        of_control = _interval(control.headline.figures[controls.metric])
        table.add_row(control.name, of_control, _interval(control.better_by, with_unit=False))
    chance = controls.shuffled
    limits = f"{PERCENT.number(chance.low):>5}–{_percent(chance.high)}"
    table.add_row("shuffled labels", f"[bold]{PERCENT.number(chance.mean):>5}[/] [dim]{limits}[/]", "")
    return table


def _subgroups_table(groups: Sequence[Subgroup], unit: str) -> Any:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    table.add_column("group")
    for title in (f"{unit}s", "images"):
        table.add_column(title, justify="right")
    for metric in FIGURES:
        table.add_column(f"{metric.title} by {unit}")
    for group in groups:
        named = escape(f"{group.column}: {group.value or 'not known'}")
        table.add_row(named, str(group.num), str(group.images), *map(_interval, group.figures))
    return table


def _most_sure(evaluation: Evaluation) -> str:
    """Write the error of ever fewer units in a line."""
    parts = []
    for part in evaluation.most_sure:
        low, high = part.error.low, part.error.high
        limits = "" if low is None or high is None else f" ({PERCENT.number(low)}–{_percent(high)})"
        parts.append(f"{_percent(part.error.value or 0.0)}{limits} of {part.num}")
    others = f"; where it is most sure, {', '.join(parts[1:])}" if len(parts) > 1 else ""
    return f"Wrong answers by {evaluation.unit}: {parts[0]}{others}."


def _sets(evaluation: Evaluation) -> tuple[str, ...]:
    """Say what is promised of sets, and what the split shows of it."""
    sets = evaluation.sets
    shown = sets.shown if isinstance(sets, PromisedSets) else None
    return (*sets.words, *([shown.in_words(evaluation.split)] if shown else []))


def _decision_table(tallies: Sequence[tuple[str, Tally]]) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    table.add_column("at the threshold")
    for split, _tally in tallies:
        table.add_column(f"in {split}")
    of_splits = [tally for _split, tally in tallies]
    found = [f"{_interval(tally.sensitivity)} of {tally.with_finding}" for tally in of_splits]
    below = [f"{_interval(tally.specificity)} of {tally.without_finding}" for tally in of_splits]
    table.add_row("sensitivity", *found)
    table.add_row("specificity", *below)
    return table


def _levels(evaluation: Evaluation) -> list[tuple[str, Metrics]]:
    by_slice = ("slice", evaluation.slice_level)
    return [("patient", evaluation.patient_level), by_slice] if evaluation.patient_level else [by_slice]


def _interval(figure: Figure, *, with_unit: bool = True) -> str:
    """Write a figure beside its interval, the points of one scale below each other."""
    if figure.value is None:
        return "–"
    unit = f" {figure.scale.unit}" if figure.scale.unit and with_unit else ""
    if figure.low is None or figure.high is None:
        return f"[bold]{figure.scale.number(figure.value):>5}[/]{unit} [dim]no interval[/]"
    value, low, high = map(figure.scale.number, (figure.value, figure.low, figure.high))
    # A dash before a negative number would be read as another sign.
    to = " to " if figure.low < 0 else "–"
    return f"[bold]{value:>5}[/] [dim]{low:>5}{to}{high}{unit}[/]"


def _percent(fraction: float) -> str:
    return f"{PERCENT.number(fraction)} {PERCENT.unit}"


def print_comparison(found: Comparison) -> None:
    """Print two runs beside each other, and their difference."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False, soft_wrap=False)
    console.print(f"[bold]{escape(found.sentence)}.[/]")
    for note in found.notes:
        console.print(f"[yellow]{escape(note)}.[/]")
    for level in found.levels:
        table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
        for title in (f"by {level.unit} (n = {level.first.num})", *found.names, "first less second"):
            table.add_column(escape(title))
        for metric, by in level.differences.items():
            both = (_interval(metrics.figures[metric]) for metrics in (level.first, level.second))
            table.add_row(metric.title, *both, _interval(by))
        console.print(table)
    console.print(
        "[dim]Differences in pairs: of proportions by Bonett and Price, of AUROC by MOVER. "
        "Research use only.[/]"
    )
