"""RUN/review: what reviewers ask for, as pages, CSV and JSON: model card, checklists, and all figures.

As of the report: the same run gives the same bytes, and no path and no picture is in it.
"""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from mri_hpc.base.atomic import replace_bytes
from mri_hpc.base.documents import with_format
from mri_hpc.results.pages.record import Record, read_record
from mri_hpc.results.pages.templates import environment
from mri_hpc.results.reviewers.checklist import Checklist, Filled
from mri_hpc.results.reviewers.claim import CLAIM
from mri_hpc.results.reviewers.model_card import fill_card
from mri_hpc.results.reviewers.statements_on_results import levels
from mri_hpc.results.reviewers.tripod import TRIPOD
from mri_hpc.results.runs.evaluation import Evaluation
from mri_hpc.results.runs.joining import Joined, Part
from mri_hpc.results.statistics.figure_of_merit import Figure
from mri_hpc.rundir.layout import RunDir

FORMAT = 1
CHECKLISTS = (CLAIM, TRIPOD)
STATES = ("filled", "in part", "only you know")
OF_ITEMS = ("section", "item", "asks", "state", "run_says", "only_you_know")
OF_FIGURES = ("by", "n", "class", "figure", "value", "low", "high", "reason")

Items = dict[str, list[Filled]]
"""Filled items by section."""


def write_review(run: RunDir, evaluation: Evaluation) -> None:
    """Write the folder; what it held before is replaced. evaluation: of the test split of a finished run."""
    record = read_record(run, evaluation)
    figures = _csv(OF_FIGURES, figure_rows(evaluation))
    _write(run.review, record.name, [record], figures, {"evaluation": evaluation.to_dict()})


def write_joined_review(folder: Path, name: str, joined: Joined) -> None:
    """Write one of several runs: what all say alike stands there once, the rest by run. name: of them all."""
    records = [replace(read_record(part.run, part.evaluation), name=_named(part)) for part in joined.parts]
    rows = [[one.name, *row] for one in records for row in figure_rows(one.evaluation)]
    values = joined.to_dict()
    for record, of_run in zip(records, values["runs"], strict=True):
        of_run["run"] = record.name
    together = [f"{len(records)} runs of one study", *joined.lines(), *joined.pooled_lines()]
    evaluations = {record.name: record.evaluation.to_dict() for record in records}
    _write(
        folder,
        name,
        records,
        _csv(("run", *OF_FIGURES), rows),
        {"together": values, "evaluations": evaluations},
        together,
    )


def _named(part: Part) -> str:
    """Name a run as it differs from the others; no path is in it."""
    return f"Seed {part.seed}" if part.fold is None else f"Fold {part.fold}, seed {part.seed}"


def _write(
    folder: Path,
    name: str,
    records: Sequence[Record],
    figures: str,
    values: dict[str, Any],
    together: Sequence[str] = (),
) -> None:
    """Write all files. figures: of figures.csv; values: more of review.json; together: of several runs."""
    card = fill_card(records)
    filled = {checklist.name: checklist.fill(records) for checklist in CHECKLISTS}
    lines = [(section, title, words) for section, of in card.items() for title, words in of]
    files = {
        "model_card.html": _page("model_card.html.j2", name=name, card=card, together=together),
        "model_card.csv": _csv(("section", "title", "words"), lines),
        "figures.csv": figures,
        "review.json": _json(
            {
                "run": name,
                "model_card": {section: dict(of) for section, of in card.items()},
                **{name: [_item(*one) for one in _each(items)] for name, items in filled.items()},
                **values,
            }
        ),
    }
    for checklist in CHECKLISTS:
        items = filled[checklist.name]
        files[f"{checklist.name}.html"] = _checklist_page(name, checklist, items, together)
        files[f"{checklist.name}.csv"] = _csv(OF_ITEMS, (_item(*one).values() for one in _each(items)))
    folder.mkdir(exist_ok=True)
    for file, text in files.items():
        replace_bytes(folder / file, text.encode())


def figure_rows(evaluation: Evaluation) -> list[list[Any]]:
    """List all figures of the test split, over all classes and of each."""
    rows = []
    for unit, metrics in levels(evaluation):
        for metric, figure in metrics.figures.items():
            rows.append([unit, metrics.num, "", metric.name, *_limits(figure)])
        for name, values in metrics.classes.items():
            for of_class, figure in values.figures.items():
                rows.append([unit, values.support, name, of_class.name, *_limits(figure)])
    return rows


def _limits(figure: Figure) -> list[Any]:
    return ["" if v is None else v for v in (figure.value, figure.low, figure.high)] + [figure.reason]


def _checklist_page(run_name: str, checklist: Checklist, items: Items, together: Sequence[str]) -> str:
    states = [one.state for _section, one in _each(items)]
    return _page(
        "checklist.html.j2",
        name=run_name,
        checklist=checklist,
        items=items,
        together=together,
        counts=[(state, states.count(state)) for state in STATES],
        num=len(states),
    )


def _each(items: Items) -> list[tuple[str, Filled]]:
    return [(section, one) for section, of in items.items() for one in of]


def _item(section: str, one: Filled) -> dict[str, str]:
    says = asdict(one)
    values = {"section": section, "item": says.pop("number"), "state": one.state, **says}
    return {name: values[name] for name in OF_ITEMS}


def _page(template: str, **values: Any) -> str:
    return environment().get_template(template).render(**values)


def _json(values: dict[str, Any]) -> str:
    return json.dumps(with_format(FORMAT, values), indent=1, ensure_ascii=False) + "\n"


def _csv(header: Sequence[str], rows: Iterable[Iterable[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
