"""Tables of an evaluation, for people: the figures, then the classes, of patients first."""

import shlex
from collections.abc import Sequence
from typing import Any

from mri_hpc.results.decision import Tally
from mri_hpc.results.evaluation import Evaluation
from mri_hpc.results.figure_of_merit import PERCENT, Figure
from mri_hpc.results.metrics import Metrics
from mri_hpc.rundir.layout import RunDir


def print_tables(run: RunDir, evaluation: Evaluation) -> None:
    """Print tables for people: the figures, then the classes, of patients first."""
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False, soft_wrap=False)
    counts, baseline = evaluation.counts, evaluation.baseline
    of_patients = f"{counts.patients} patients, " if counts.patients else ""
    console.print(
        f"[bold]{escape(run.path.name)}[/]: {evaluation.split} split by [bold]{evaluation.unit}[/]: "
        f"{of_patients}{counts.images} images"
    )
    for note in evaluation.notes:
        console.print(f"[yellow]{escape(note)}[/]")
    console.print(_figures_table(evaluation))
    for unit, metrics in _levels(evaluation):
        console.print(_classes_table(unit, metrics))
        for reason in metrics.reasons():
            console.print(f"[yellow]– by {unit}: {escape(reason)}[/]")
    console.print(
        f"Chance: {_percent(baseline.chance)} balanced accuracy. "
        f"Always {escape(repr(baseline.majority_class))}: "
        f"{_percent(baseline.majority_accuracy)} accuracy by {evaluation.unit} "
        f"({PERCENT.number(baseline.majority_low)}–{_percent(baseline.majority_high)})."
    )
    console.print(_most_sure(evaluation))
    for words in evaluation.decision.words:
        console.print(escape(f"{words}."))
    if tallies := evaluation.decision.tallies(evaluation.split):
        console.print(_decision_table(tallies))
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


def _classes_table(unit: str, metrics: Metrics) -> Any:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    table.add_column(f"by {unit}")
    table.add_column("n", justify="right")
    for metric in metrics.class_metrics:
        table.add_column(metric.title)
    for name, values in metrics.classes.items():
        table.add_row(escape(name), str(values.support), *map(_interval, values.figures.values()))
    return table


def _most_sure(evaluation: Evaluation) -> str:
    """Write the error of ever fewer units in a line."""
    parts = [
        f"{_percent(part.error.value or 0.0)} ({PERCENT.number(part.error.low or 0.0)}–"
        f"{_percent(part.error.high or 0.0)}) of {part.num}"
        for part in evaluation.most_sure
    ]
    others = f"; where it is most sure, {', '.join(parts[1:])}" if len(parts) > 1 else ""
    return f"Wrong answers by {evaluation.unit}: {parts[0]}{others}."


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


def _interval(figure: Figure) -> str:
    """Write a figure beside its interval, the points of one scale below each other."""
    if figure.value is None:
        return "–"
    unit = f" {figure.scale.unit}" if figure.scale.unit else ""
    value = f"[bold]{figure.scale.number(figure.value):>5}[/]"
    if figure.low is None or figure.high is None:
        return f"{value}{unit} [dim]no interval[/]"
    low, high = map(figure.scale.number, (figure.low, figure.high))
    return f"{value} [dim]{low:>5}–{high}{unit}[/]"


def _percent(fraction: float) -> str:
    return f"{PERCENT.number(fraction)} {PERCENT.unit}"
