"""``mri-hpc predict``: probabilities for images and patients, from a finished run alone."""

import contextlib
import csv
import io
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from mri_hpc.base.atomic import replace_bytes
from mri_hpc.base.command import counted, print_json, progress, run_command
from mri_hpc.base.command_line import PLACE, Flag
from mri_hpc.base.errors import BadSource, UserError
from mri_hpc.base.exit_status import USER_CAN_MEND
from mri_hpc.base.stop_flag import STOP_SIGNALS, StopFlag
from mri_hpc.intake.patient_folders import PatientFolder, names_of, patient_folders
from mri_hpc.intake.recipe import Recipe, load_recipe
from mri_hpc.intake.samples import Sample, decode_source
from mri_hpc.intake.sources import list_sources
from mri_hpc.results.evaluation import read_provenance
from mri_hpc.results.patients import pool
from mri_hpc.rundir.layout import RunDir, open_run

IMAGES_AT_ONCE = 64
MOST_THREADS = 8
MOST_ROWS_SHOWN = 40
LEAST_NAME_WIDTH = 16
"""Columns of the terminal for the name of a file, which is folded to them where there are no more."""
GAP = 2
WIDE = 10_000

PatientFrom = Literal["folder", "file", "none"]
Model = Callable[[np.ndarray], np.ndarray]
"""From images, uint8 (n, H, W), to probabilities, float64 (n, classes)."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Probabilities for images and for patients, from a finished run; needs no store. Research use only."""

    run: Annotated[Path, PLACE]
    """Folder of the run."""
    paths: Annotated[tuple[Path, ...], PLACE]
    """Images, and folders of images."""
    out: Path | None = None
    """Folder for predictions.csv, patients.csv and rejected.csv; without it, tables are printed."""
    patient_from: PatientFrom = "folder"
    """folder: patient is the first that is no class, split or study, else the one given; file: each file."""
    json: Flag = False
    """Print JSON."""


@dataclass(frozen=True, kw_only=True)
class Image:
    """One file to be judged."""

    path: Path
    patient: str
    """Empty where nothing names one."""


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """One file or folder that could not be judged, and why."""

    path: Path
    reason: str


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What the model says about one image."""

    name: str
    """Path, with #frame where the file holds several images."""
    patient: str
    probabilities: np.ndarray
    """float64, (classes,)."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came of it all."""

    classes: tuple[str, ...]
    images: tuple[Judged, ...]
    rejected: tuple[Rejected, ...]

    def patients(self) -> list[tuple[str, int, np.ndarray]]:
        """Name, number of images and mean probabilities of each patient, by name."""
        named = [image for image in self.images if image.patient]
        if not named:
            return []
        names = [image.patient for image in named]
        patients, means, num_images = pool(names, np.stack([image.probabilities for image in named]))
        return list(zip(patients, num_images.tolist(), means, strict=True))

    def predicted(self, probabilities: np.ndarray) -> str:
        """The most probable class."""
        return self.classes[int(probabilities.argmax())]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    example = "mri-hpc predict runs/resnet18-1a2b3c4d scans/ --out predicted/"
    return run_command("mri-hpc predict", Options, predict, argv, example=example)


def predict(options: Options) -> int | None:
    """Judge every image that can be read; status 2 only where there was none."""
    # As Ctrl-C: at once, since there is nothing to save.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    run = open_run(options.run)
    if not options.paths:
        raise UserError("no image given: name files or folders after the run")
    if options.out and options.out.exists() and not options.out.is_dir():
        raise UserError(f"--out {options.out} is a file: choose a folder")
    classes, ask = _model(run)
    images, rejected = find_images(options.paths, options.patient_from, classes)
    for bad in rejected:
        _say(bad)
    answer = judge(images, load_recipe(run.recipe), classes, ask)
    answer = replace(answer, rejected=(*rejected, *answer.rejected))
    if options.out:
        write_tables(options.out, answer)
    if options.json:
        print_json(as_json(run, answer))
    elif options.out:
        print(
            f"{options.out}: {counted(len(answer.images), 'image')}, "
            f"{counted(len(answer.patients()), 'patient')}, "
            f"{len(answer.rejected)} rejected. Research use only."
        )
    elif answer.images:
        print_tables(answer)
    if answer.images:
        return None
    print(
        "mri-hpc predict: none of the files given could be judged; the reasons stand above", file=sys.stderr
    )
    return USER_CAN_MEND


def find_images(
    paths: Sequence[Path], patient_from: PatientFrom, classes: Sequence[str]
) -> tuple[list[Image], list[Rejected]]:
    """The files that the paths name, each once, and the paths that name none."""
    found: dict[Path, tuple[Path, PatientFolder | None]] = {}
    rejected = []
    for path in paths:
        try:
            parts = list(list_sources(path)) if path.is_dir() else [""]
        except OSError as error:
            rejected.append(Rejected(path=path, reason=f"folder cannot be read: {error.strerror}"))
            continue
        if not parts or not path.exists():
            reason = "folder holds no file" if path.exists() else "does not exist"
            rejected.append(Rejected(path=path, reason=reason))
            continue
        is_folder = parts != [""]
        owners = patient_folders(path, parts, classes) if is_folder else [None]
        # Links below a folder are files of their own: git-annex keeps equal images of two patients as one.
        place = path.resolve() if is_folder else path.parent.resolve() / path.name
        for part, owner in zip(parts, owners, strict=True):
            found.setdefault(place / part, (path / part, owner))
    names = names_of(owner for _file, owner in found.values() if owner)
    return [
        Image(path=file, patient=_patient(file, names[owner] if owner else "", patient_from))
        for file, owner in found.values()
    ], rejected


def judge(images: Sequence[Image], recipe: Recipe, classes: tuple[str, ...], ask: Model) -> Answer:
    """What the model says about the images; those that cannot be read are rejected as it goes."""
    refused: list[Rejected] = []

    def readable() -> Iterator[tuple[Image, Sample]]:
        for image in progress(images, what="images", total=len(images)):
            decoded = _decode(image, recipe)
            if isinstance(decoded, Rejected):
                _say(decoded)
                refused.append(decoded)
            else:
                yield from ((image, sample) for sample in decoded)

    judged = [
        Judged(name=_name(image, sample), patient=image.patient, probabilities=probabilities)
        for batch in _in_batches(readable())
        for (image, sample), probabilities in zip(
            batch, ask(np.stack([sample.pixels for _image, sample in batch])), strict=True
        )
    ]
    return Answer(classes=classes, images=tuple(judged), rejected=tuple(refused))


def write_tables(out: Path, answer: Answer) -> None:
    """predictions.csv, patients.csv and rejected.csv; the last one also where it is empty."""
    out.mkdir(parents=True, exist_ok=True)
    columns = [f"p:{name}" for name in answer.classes]
    images = [
        [image.name, image.patient, answer.predicted(image.probabilities), *_digits(image.probabilities)]
        for image in answer.images
    ]
    patients = [
        [name, num, answer.predicted(chances), *_digits(chances)] for name, num, chances in answer.patients()
    ]
    rejected = [[_shown(bad.path), bad.reason] for bad in answer.rejected]
    with _uninterrupted():
        _write_table(out / "predictions.csv", ["path", "patient", "predicted", *columns], images)
        _write_table(out / "patients.csv", ["patient", "images", "predicted", *columns], patients)
        _write_table(out / "rejected.csv", ["path", "reason"], rejected)


def as_json(run: RunDir, answer: Answer) -> dict[str, Any]:
    """Everything as one JSON document."""

    def said(probabilities: np.ndarray) -> dict[str, Any]:
        by_class = dict(zip(answer.classes, probabilities.tolist(), strict=True))
        return {"predicted": answer.predicted(probabilities), "probabilities": by_class}

    return {
        "run": str(run.path),
        "classes": list(answer.classes),
        "images": [
            {"path": image.name, "patient": image.patient, **said(image.probabilities)}
            for image in answer.images
        ],
        "patients": [
            {"patient": name, "images": num, **said(chances)} for name, num, chances in answer.patients()
        ],
        "rejected": [{"path": _shown(bad.path), "reason": bad.reason} for bad in answer.rejected],
        "use": "research only",
    }


def print_tables(answer: Answer) -> None:
    """Tables for people: patients, then images, as many as fit a look; what is left out is said."""
    from rich.console import Console

    # Into a file or a pipe no line is broken.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDE)
    patients = [(name, str(num), chances) for name, num, chances in answer.patients()]
    images = [(image.name, "", image.probabilities) for image in answer.images]
    shows_all = _width(answer.classes) <= console.width
    for title, rows in (("patient", patients), ("image", images)):
        if rows:
            console.print(_table(answer, title, rows, shows_all=shows_all))
        if len(rows) > MOST_ROWS_SHOWN:
            console.print(f"[dim]{len(rows) - MOST_ROWS_SHOWN} more {title}s; --out DIR writes all.[/]")
    if not shows_all:
        console.print("[dim]The other classes do not fit this terminal; --out DIR writes all.[/]")
    console.print("[dim]Probabilities in %; a patient's are the mean over the images. Research use only.[/]")


def _width(classes: Sequence[str]) -> int:
    """Columns of the terminal that a table with all classes needs."""
    from rich.cells import cell_len

    widths = [max(cell_len(name), len("100.0")) for name in classes]
    return sum(
        [LEAST_NAME_WIDTH, len("images"), max(*widths, len("predicted")), *widths], GAP * (2 + len(widths))
    )


def _table(
    answer: Answer, title: str, rows: Sequence[tuple[str, str, np.ndarray]], *, shows_all: bool
) -> Any:
    """shows_all: a column for each class; else one for the predicted class."""
    from rich.markup import escape
    from rich.table import Table

    counts_images = any(num for _name, num, _chances in rows)
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="dim")
    table.add_column(title, overflow="fold")
    if counts_images:
        table.add_column("images", justify="right", no_wrap=True)
    table.add_column("predicted", overflow="fold", no_wrap=shows_all)
    for name in answer.classes if shows_all else ["%"]:
        table.add_column(escape(name), justify="right", no_wrap=True)
    for name, num, probabilities in rows[:MOST_ROWS_SHOWN]:
        shares = [f"{100 * share:.1f}" for share in (probabilities if shows_all else [probabilities.max()])]
        predicted = f"[bold]{escape(answer.predicted(probabilities))}[/]"
        table.add_row(escape(name), *([num] if counts_images else []), predicted, *shares)
    return table


def _model(run: RunDir) -> tuple[tuple[str, ...], Model]:
    """Classes and model of the run, on the GPU if there is one; UserError where they are not its own."""
    import torch

    from mri_hpc.training.model import load_for_prediction, weights_digest
    from mri_hpc.training.prediction import probabilities

    torch.set_num_threads(min(len(os.sched_getaffinity(0)), MOST_THREADS))
    finished = load_for_prediction(run)
    model, digest = finished.model, read_provenance(run).get("model_digest")
    if digest and weights_digest(model.network.state_dict()) != digest:
        held = f"{run.model} does not hold the weights that {run.provenance} names"
        raise UserError(f"{held}; restore it from a backup")
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    return finished.classes, lambda images: probabilities(model, images)


def _decode(image: Image, recipe: Recipe) -> list[Sample] | Rejected:
    try:
        return decode_source(image.path, recipe)
    except BadSource as bad:
        return Rejected(path=image.path, reason=str(bad))


def _in_batches(items: Iterable[tuple[Image, Sample]]) -> Iterator[list[tuple[Image, Sample]]]:
    batch: list[tuple[Image, Sample]] = []
    for item in items:
        batch.append(item)
        if len(batch) == IMAGES_AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


def _patient(file: Path, folder: str, patient_from: PatientFrom) -> str:
    """folder: what the patient is called by the folders; empty where they name none."""
    return {"folder": _text(folder), "file": _shown(file), "none": ""}[patient_from]


def _name(image: Image, sample: Sample) -> str:
    return f"{_shown(image.path)}#{sample.frame}" if sample.frame else _shown(image.path)


def _shown(path: Path) -> str:
    return _text(str(path))


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


def _text(name: str) -> str:
    """A file's name as text that can be written: bytes of other encodings become question marks."""
    return os.fsencode(name).decode(errors="replace")


def _say(bad: Rejected) -> None:
    print(f"{_shown(bad.path)}: {bad.reason}", file=sys.stderr)


def _digits(probabilities: np.ndarray) -> list[str]:
    return [f"{share:.9g}" for share in probabilities]


def _write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows(rows)
    replace_bytes(path, text.getvalue().encode())


if __name__ == "__main__":
    sys.exit(main())
