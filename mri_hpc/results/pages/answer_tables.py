"""Tables of what a model says about images and patients: as files, and for people."""

import contextlib
import csv
import io
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mri_hpc.base.atomic import replace_bytes
from mri_hpc.base.stop_flag import STOP_SIGNALS, StopFlag
from mri_hpc.intake.labels.images import as_text
from mri_hpc.results.answers.answer import Answer, JudgedPatient
from mri_hpc.results.answers.decision import BELOW, Decision
from mri_hpc.results.answers.earlier_models import EarlierModel
from mri_hpc.results.answers.promised_sets import PromisedSets
from mri_hpc.results.answers.resemblance import Verdict

MOST_ROWS_SHOWN = 40
LIKE = ("like_scores", "like_scores_had_it", "share", "share_low", "share_high")
"""Columns of patients.csv on validation patients of like scores; the last three empty where there are few."""
UNLIKE = "not_like_training"
"""Column of yes and no: of the patient, or of a picture without one; none where nothing is known."""
BEFORE = ("model_before", "made_before", "predicted_before")
"""Columns of patients.csv on the last prediction, where some patient's was by another model."""
SET, BETWEEN = "promised_set", ";"
"""Column of patients.csv of the classes that can be promised, and what stands between them."""
TRAINING, NOT_LIKE_IT = "training data", "not like"
"""Column of the terminal, where some patient is not like the training data, and its word."""
WITH_SPREAD = "100.0 (100.0–100.0)"
LEAST_NAME_WIDTH = 16
"""Columns of the terminal for the name of a file, which is folded to them where there are no more."""
GAP = 2
WIDE = 10_000


@dataclass(frozen=True, kw_only=True, eq=False)
class _Row:
    name: str
    num_images: str
    decision: str
    """Empty where there is none."""
    probabilities: np.ndarray
    spread: np.ndarray | None
    is_unlike: bool


def write_tables(out: Path, answer: Answer) -> None:
    """Write predictions.csv, patients.csv and rejected.csv, for this user alone; the last also if empty."""
    out.mkdir(mode=0o700, parents=True, exist_ok=True)
    columns = [f"p:{name}" for name in answer.classes]
    likeness = [_yes_or_no(verdict) for verdict in answer.verdicts()]
    knows = any(likeness)
    spread = _spread_columns(answer)
    origin = _origin(answer)
    changed = answer.changed()
    images = [
        [
            image.name,
            image.patient,
            answer.predicted(image.probabilities),
            *_digits(image.probabilities),
            *_ends(image.spread),
            *([is_unlike] if knows else []),
            *origin.values(),
        ]
        for image, is_unlike in zip(answer.images, likeness, strict=True)
    ]
    decides, promises = isinstance(answer.decision, Decision), isinstance(answer.sets, PromisedSets)
    patients = [
        [
            one.patient,
            one.num_images,
            answer.predicted(one.probabilities),
            *([answer.decide(one)] if decides else []),
            *([BETWEEN.join(answer.set_of(one))] if promises else []),
            *_digits(one.probabilities),
            *_ends(one.spread),
            *([_yes_or_no(one.verdict)] if knows else []),
            *(_like(answer, one) if answer.validation else []),
            *origin.values(),
            *(_before(changed.get(one.patient)) if changed else []),
        ]
        for one in answer.patients()
    ]
    of_patients = [
        "patient",
        "images",
        "predicted",
        *(["decision"] if decides else []),
        *([SET] if promises else []),
        *columns,
        *spread,
        *([UNLIKE] if knows else []),
        *(LIKE if answer.validation else []),
        *origin,
        *(BEFORE if changed else []),
    ]
    of_images = ["path", "patient", "predicted", *columns, *spread, *([UNLIKE] if knows else []), *origin]
    rejected = [[as_text(bad.path), bad.reason] for bad in answer.rejected]
    from mri_hpc.results.pages.patient_page import write_pages

    with _uninterrupted():
        if any(image.kept for image in answer.images):
            write_pages(out, answer)
        _write_table(out / "predictions.csv", of_images, images)
        _write_table(out / "patients.csv", of_patients, patients)
        _write_table(out / "rejected.csv", ["path", "reason"], rejected)


def _origin(answer: Answer) -> dict[str, str]:
    """Return the columns that say by which model, and when; none where the model is not known."""
    if not answer.model_digest:
        return {}
    named = {"model": answer.model_name, "model_since": answer.model_since} if answer.model_name else {}
    by_rule = {"model_promoted": "auto"} if answer.model_is_automatic else {}
    return {"model_digest": answer.model_digest, "made": answer.made, **named, **by_rule}


def _before(found: EarlierModel | None) -> list[str]:
    """Return the cells of BEFORE, empty of a patient for whom the model is the same, or not known."""
    return [found.digest, found.made, found.predicted] if found else [""] * len(BEFORE)


def print_tables(answer: Answer) -> None:
    """Print patients, then images, as many as fit a look, and how many are left out."""
    from rich.console import Console
    from rich.markup import escape

    # Into a file or a pipe no line is wrapped.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDE)
    patients = [
        _Row(
            name=one.patient,
            num_images=str(one.num_images),
            decision=answer.decide(one),
            probabilities=one.probabilities,
            spread=one.spread,
            is_unlike=one.verdict.is_unlike,
        )
        for one in answer.patients()
    ]
    images = [
        _Row(
            name=image.name,
            num_images="",
            decision="",
            probabilities=image.probabilities,
            spread=image.spread,
            is_unlike=verdict.is_unlike,
        )
        for image, verdict in zip(answer.images, answer.verdicts(), strict=True)
    ]
    decides = isinstance(answer.decision, Decision) and bool(patients)
    marks = any(row.is_unlike for row in images)
    width = _width(answer.classes, has_spread=bool(images and images[0].spread is not None))
    shows_all = width + decides * (GAP + len(BELOW)) + marks * (GAP + len(TRAINING)) <= console.width
    for title, rows in (("patient", patients), ("image", images)):
        if rows:
            console.print(_table(answer, title, rows, shows_all=shows_all))
        if len(rows) > MOST_ROWS_SHOWN:
            console.print(f"[dim]{len(rows) - MOST_ROWS_SHOWN} more {title}s; --out DIR writes all.[/]")
    if not shows_all:
        console.print("[dim]The other classes do not fit this terminal; --out DIR writes all.[/]")
    if patients:
        for words in (*answer.decision.words, *answer.sets.words):
            console.print(f"[dim]{escape(words)}.[/]")
    if not (patients and decides):
        names = ", ".join(answer.classes)
        console.print(
            f"[dim]The model can only answer {escape(names)}: anything else is given one of these names. "
            f"{escape(answer.likeness_in_words())}[/]"
        )
    elif answer.images:
        console.print(f"[dim]{escape(answer.likeness_in_words())}[/]")
    for one in answer.patients()[:MOST_ROWS_SHOWN]:
        sentences = [
            *([answer.set_in_words(one)] if isinstance(answer.sets, PromisedSets) else []),
            *([answer.like_in_words(one)] if answer.validation else []),
        ]
        if sentences:
            console.print(f"[dim]{escape(one.patient)}: {escape('. '.join(sentences))}.[/]")
    if answer.model_digest:
        console.print(f"[dim]{escape(answer.model_in_words())}.[/]")
    pooled = answer.pooling_in_words("images")
    pooling = f"a patient's are {pooled}" if pooled else "of images alone, as the run says"
    console.print(
        f"[dim]Probabilities in %; {escape(pooling)}. {escape(answer.in_words())} Research use only.[/]"
    )


def _width(classes: Sequence[str], *, has_spread: bool) -> int:
    """Return the columns of the terminal that a table with all classes needs."""
    from rich.cells import cell_len

    widths = [max(cell_len(name), len(WITH_SPREAD if has_spread else "100.0")) for name in classes]
    return sum(
        [LEAST_NAME_WIDTH, len("images"), max(*widths, len("predicted")), *widths], GAP * (2 + len(widths))
    )


def _table(answer: Answer, title: str, rows: Sequence[_Row], *, shows_all: bool) -> Any:
    """Lay rows out as a table. shows_all: a column for each class; else one for the predicted class."""
    from rich.markup import escape
    from rich.table import Table

    counts_images = any(row.num_images for row in rows)
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="dim")
    table.add_column(title, overflow="fold")
    if counts_images:
        table.add_column("images", justify="right", no_wrap=True)
    table.add_column("predicted", overflow="fold", no_wrap=shows_all)
    decides = any(row.decision for row in rows)
    if decides:
        table.add_column("decision", no_wrap=True)
    marks = any(row.is_unlike for row in rows)
    if marks:
        table.add_column(TRAINING, no_wrap=True)
    for name in answer.classes if shows_all else ["%"]:
        table.add_column(escape(name), justify="right", no_wrap=True)
    for row in rows[:MOST_ROWS_SHOWN]:
        chances = _in_percent(row) if shows_all else [_in_percent(row)[int(row.probabilities.argmax(axis=0))]]
        predicted = f"[bold]{escape(answer.predicted(row.probabilities))}[/]"
        counted = [row.num_images] if counts_images else []
        decided = [row.decision] if decides else []
        marked = [f"[bold]{NOT_LIKE_IT}[/]" if row.is_unlike else ""] if marks else []
        table.add_row(escape(row.name), *counted, predicted, *decided, *marked, *chances)
    return table


def _in_percent(row: _Row) -> list[str]:
    """Write probabilities, with the lowest and highest of several runs behind them."""
    if row.spread is None:
        return [f"{100 * chance:.1f}" for chance in row.probabilities]
    return [
        f"{100 * chance:.1f} ({100 * low:.1f}–{100 * high:.1f})"
        for chance, low, high in zip(row.probabilities, *row.spread, strict=True)
    ]


def _yes_or_no(verdict: Verdict) -> str:
    """Return the cell of the column UNLIKE; empty where nothing is known."""
    return ("yes" if verdict.is_unlike else "no") if verdict.is_known else ""


def _spread_columns(answer: Answer) -> list[str]:
    has_spread = any(image.spread is not None for image in answer.images)
    return [f"{end}:{name}" for name in answer.classes for end in ("low", "high")] if has_spread else []


def _ends(spread: np.ndarray | None) -> list[str]:
    return [] if spread is None else _digits(spread.T.ravel())


def _like(answer: Answer, one: JudgedPatient) -> list[Any]:
    if not answer.is_compared(one):
        return [""] * len(LIKE)
    found = answer.like(one)
    share = found.share
    limits = [f"{end:.4f}" for end in share] if share else ["", "", ""]
    return [found.num, found.num_had, *limits]


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Let a signal to stop wait for what is done here, so that its files are all of one prediction."""
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    flag = StopFlag().listen()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if flag.request:
        raise KeyboardInterrupt


def _digits(probabilities: np.ndarray) -> list[str]:
    return [f"{probability:.9g}" for probability in probabilities]


def _write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows(rows)
    replace_bytes(path, text.getvalue().encode(), is_private=True)
