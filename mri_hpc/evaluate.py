"""``mri-hpc evaluate``: metrics of a run, by slice and by patient, with intervals."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from mri_hpc.base.command import print_json, run_command
from mri_hpc.base.command_line import PLACE, Flag
from mri_hpc.results.evaluation import Evaluation, evaluate_split, read_provenance
from mri_hpc.results.metrics import CLASS_FIGURES, FIGURES, Figure, Metrics
from mri_hpc.rundir.layout import RunDir, open_run


@dataclass(frozen=True, kw_only=True)
class Options:
    """Metrics of a finished run, by slice and by patient, each with its 95 % interval. Research use only."""

    run: Annotated[Path, PLACE]
    """Folder of the run."""
    split: Literal["test", "validation"] = "test"
    """Which images to judge by; the best epoch was chosen on validation."""
    json: Flag = False
    """Print JSON."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run_command(
        "mri-hpc evaluate", Options, evaluate, argv, example="mri-hpc evaluate runs/resnet18-1a2b3c4d"
    )


def evaluate(options: Options) -> None:
    """Read the run's predictions and print what they are worth."""
    run = open_run(options.run)
    evaluation = evaluate_split(run, options.split)
    if options.json:
        print_json(as_json(run, evaluation))
    else:
        print_tables(run, evaluation)


def as_json(run: RunDir, evaluation: Evaluation) -> dict[str, Any]:
    """The whole evaluation as one JSON document."""
    provenance = read_provenance(run)
    digests = {name: provenance.get(name) for name in ("weights_digest", "model_digest")}
    return {"run": str(run.path), "finished": run.is_finished, **digests, **evaluation.to_dict()}


def print_tables(run: RunDir, evaluation: Evaluation) -> None:
    """Tables for people: the figures, then the classes, of patients first."""
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
        for reason in _reasons(metrics):
            console.print(f"[yellow]– by {unit}: {escape(reason)}[/]")
    console.print(
        f"Chance: {_percent(baseline.chance)} balanced accuracy. "
        f"Always {escape(repr(baseline.majority_class))}: "
        f"{_percent(baseline.majority_accuracy)} accuracy by {evaluation.unit} "
        f"({100 * baseline.majority_low:.1f}–{_percent(baseline.majority_high)})."
    )
    console.print(f"[dim]{evaluation.method} Research use only.[/]")


def _figures_table(evaluation: Evaluation) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    table.add_column("")
    levels = _levels(evaluation)
    for unit, metrics in levels:
        table.add_column(f"by {unit} (n = {metrics.num})", justify="left")
    for name, title in FIGURES.items():
        table.add_row(title, *(_interval(name, getattr(metrics, name)) for _unit, metrics in levels))
    return table


def _classes_table(unit: str, metrics: Metrics) -> Any:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    for title in (f"by {unit}", "n", "sensitivity", "specificity", "precision", "AUROC"):
        table.add_column(title, justify="right" if title == "n" else "left")
    for name, values in metrics.classes.items():
        table.add_row(
            escape(name),
            str(values.support),
            *(_interval(figure, getattr(values, figure)) for figure in CLASS_FIGURES),
        )
    return table


def _levels(evaluation: Evaluation) -> list[tuple[str, Metrics]]:
    by_slice = ("slice", evaluation.slice_level)
    return [("patient", evaluation.patient_level), by_slice] if evaluation.patient_level else [by_slice]


def _reasons(metrics: Metrics) -> list[str]:
    """Why some figures cannot be computed, each reason once."""
    figures = [getattr(metrics, name) for name in FIGURES]
    figures += [getattr(values, name) for values in metrics.classes.values() for name in CLASS_FIGURES]
    return list(dict.fromkeys(figure.reason for figure in figures if figure.value is None))


def _interval(name: str, figure: Figure) -> str:
    """A figure beside its interval: areas as they are, shares in percent."""
    if figure.value is None or figure.low is None or figure.high is None:
        return "–"
    value, low, high = figure.value, figure.low, figure.high
    if name == "auroc":
        return f"[bold]{value:.3f}[/] [dim]{low:.3f}–{high:.3f}[/]"
    return f"[bold]{100 * value:5.1f}[/] [dim]{100 * low:5.1f}–{100 * high:.1f} %[/]"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


if __name__ == "__main__":
    sys.exit(main())
