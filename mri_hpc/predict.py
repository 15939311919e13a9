"""``mri-hpc predict``: probabilities for images and patients, from a finished run alone."""

import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from mri_hpc.base.command import counted, print_json, progress, run_command
from mri_hpc.base.errors import UsageError, UserError
from mri_hpc.base.exit_status import USER_CAN_FIX
from mri_hpc.base.marks import POSITIONAL, Flag, Word
from mri_hpc.intake.labels.images import PatientFrom, Rejected, as_text
from mri_hpc.intake.labels.pseudonyms import key_path
from mri_hpc.run import Run
from mri_hpc.rundir.folds import is_of_folds, runs_at
from mri_hpc.rundir.layout import RunDir

if TYPE_CHECKING:
    from mri_hpc.registry.asking import NamedModel
    from mri_hpc.results.answers.answer import Answer
    from mri_hpc.results.answers.kept_back import KeptBack

MOST_THREADS = 8


@dataclass(frozen=True, kw_only=True)
class Options:
    """Probabilities for images and for patients, from a finished run; needs no store. Research use only."""

    run: Annotated[Path, POSITIONAL]
    """Folder of the run."""
    paths: Annotated[tuple[Path, ...], POSITIONAL, Word(value="[IMAGES ...]")]
    """Images, and folders of images."""
    out: Path | None = None
    """Folder for predictions.csv, patients.csv, rejected.csv and pages/ with a page a patient, for this user
    alone; without it, tables are printed."""
    patient_from: PatientFrom = "folder"
    """folder: patient is the one whom a DICOM header names, else the first folder that is no class, split or
    study, else the one given; file: each file."""
    names: Flag = False
    """Name patients by the id in their source, and files by their paths; else by pseudonyms, of the site's
    key where this user has it, and by keys."""
    prevalence: str = ""
    """Shares of all classes where the patients come from, as CLASS=SHARE,...: probabilities are recomputed
    for them, in place of validation's."""
    also: tuple[Path, ...] = ()
    """Other runs of the same classes, such as folds or seeds: probabilities are the mean of all, with the
    lowest and the highest beside it. For all folds of a folder, name that folder as the run."""
    json: Flag = False
    """Print JSON."""
    model: str = ""
    """In place of a run: current, or the name of a model that mri-hpc models keeps; all paths are images."""
    models: Path = Path("models")
    """Folder of models, with --model."""

    def __post_init__(self) -> None:
        for path in (self.run, *self.also):
            # Nothing would ask whether a retraction took out what it has learnt from.
            if RunDir(path).record.is_file():
                raise UserError(
                    f"{path} is a model that is kept: mri-hpc predict --model {path.name} "
                    f"--models {path.parent} asks it"
                )
        # Images behind --also would pass for more runs.
        for path in self.also:
            if not (is_of_folds(path) or RunDir(path).settings.is_file()):
                raise UsageError(f"--also: {str(path)!r} is no folder of a run or of folds")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    example = "mri-hpc predict runs/resnet18-1a2b3c4d scans/ --out predicted/"
    return run_command("mri-hpc predict", Options, predict, argv, example=example)


def predict(options: Options) -> int | None:
    """Judge every image that can be read; status 2 only where there was none."""
    # As Ctrl-C: at once, since there is nothing to save.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    asked = _asked(options)
    runs = [one.path for folder in (asked.run, *options.also) for one in runs_at(folder)]
    if not asked.paths:
        raise UserError("no image given: name files or folders after the run")
    if options.out and options.out.exists() and not options.out.is_dir():
        raise UserError(f"--out {options.out} is a file: choose a folder")
    if options.out and (RunDir(options.out).recipe.exists() or RunDir(options.out).record.exists()):
        # Its own predictions.csv would be written over.
        raise UserError(f"--out {options.out} is a run, a store or a kept model: choose another folder")
    _use_threads()
    kept_back = None if options.names else _names_kept_back(asked.paths)
    answer = Run(runs[0]).predict(
        asked.paths,
        also=runs[1:],
        patient_from=options.patient_from,
        keep_pictures=options.out is not None,
        prevalence=options.prevalence or None,
        on_rejected=lambda bad: _print_rejected(kept_back.of_rejected(bad) if kept_back else bad),
        progress=lambda images: progress(images, what="images", total=len(images)),
    )
    named = answer
    if kept_back:
        answer = kept_back.of_answer(answer)
    answer = _with_models(options, asked, answer)
    # What could not be judged takes nobody's earlier predictions away.
    is_kept = options.out is not None and not answer.images and (options.out / "predictions.csv").exists()
    if options.out and not is_kept:
        from mri_hpc.results.pages.answer_tables import write_tables

        write_tables(options.out, answer)
        _note_pages(RunDir(runs[0]), options.out, asked, answer, named)
    _print(options, runs, answer)
    if answer.left_out_series:
        from mri_hpc.intake.kinds import left_out_text

        print(f"{left_out_text(answer.left_out_series)} than the run's", file=sys.stderr)
    if answer.images:
        if kept_back and kept_back.is_passing:
            print(
                f"the site's key, {key_path(os.environ)}, is not there: pseudonyms are of this prediction "
                "alone (MRI_KEY_FILE names the key; --names names patients)",
                file=sys.stderr,
            )
        return None
    kept = f"; {options.out} keeps the predictions that it holds" if is_kept else ""
    which = "" if options.names else ", --names tells of which files"
    print(
        f"mri-hpc predict: none of the files given could be judged; the reasons stand above{which}{kept}",
        file=sys.stderr,
    )
    return USER_CAN_FIX


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """A run, and the images that it is asked about."""

    run: Path
    paths: tuple[Path, ...]
    named: "NamedModel | None" = None


def _asked(options: Options) -> _Asked:
    """Tell the run from the images: with --model the first path is an image, too."""
    if not options.model:
        return _Asked(run=options.run, paths=options.paths)
    from mri_hpc.registry.asking import model_named
    from mri_hpc.registry.layout import ModelsDir

    named = model_named(ModelsDir(options.models), options.model)
    return _Asked(run=named.run.path, paths=(options.run, *options.paths), named=named)


def _with_models(options: Options, asked: _Asked, answer: "Answer") -> "Answer":
    """Add the name of the model, and which one the patients were predicted with before, as --out tells."""
    from mri_hpc.results.answers.earlier_models import models_before

    named = asked.named
    if named:
        answer = replace(
            answer, model_name=named.name, model_since=named.since, model_is_automatic=named.is_automatic
        )
    before = models_before(options.out) if options.out else {}
    return replace(answer, models_before=before)


def _note_pages(run: RunDir, out: Path, asked: _Asked, answer: "Answer", named: "Answer") -> None:
    """Write down the pages, so that a retraction finds them. named: with the names of the source."""
    from mri_hpc.store_actions.predicted_pages import note_pages

    if any(image.kept for image in answer.images):
        note_pages(run, out, answer, named=named, paths=asked.paths, key_file=key_path(os.environ))


def _names_kept_back(paths: Sequence[Path]) -> "KeptBack":
    """Replace names by the site's key; where it is not there, by one of this prediction alone."""
    # Here and below: whoever asks for help need not wait for what decodes pictures, nor for torch.
    from mri_hpc.results.answers.kept_back import KeptBack, passing_pseudonyms, pseudonyms_here

    pseudonyms = pseudonyms_here(key_path(os.environ))
    return KeptBack(paths=paths, pseudonyms=pseudonyms or passing_pseudonyms(), is_passing=pseudonyms is None)


def _use_threads() -> None:
    import torch

    torch.set_num_threads(min(len(os.sched_getaffinity(0)), MOST_THREADS))


def _print(options: Options, runs: Sequence[Path], answer: "Answer") -> None:
    if options.json:
        also = {"also": [str(path) for path in runs[1:]]} if len(runs) > 1 else {}
        print_json({"run": str(runs[0]), **also, **answer.to_dict()})
    elif options.out and answer.images:
        which = " (--names tells which)" if answer.rejected and not options.names else ""
        print(
            f"{options.out}: {counted(len(answer.images), 'image')}, "
            f"{counted(len(answer.patients()), 'patient')}, "
            f"{len(answer.rejected)} rejected{which}. Research use only. Look into patients.csv there; "
            "predictions.csv has a row an image, rejected.csv the reasons, pages/ a page a patient. "
            f"{answer.likeness_in_words()} {answer.in_words()}"
        )
        if answer.model_digest and (answer.model_name or answer.changed()):
            print(f"{answer.model_in_words()}. {answer.changes_in_words()}".rstrip())
        if len(runs) == 1 and RunDir(runs[0]).decision.exists():
            _say_no_threshold(answer)
    elif answer.images:
        from mri_hpc.results.pages.answer_tables import print_tables

        print_tables(answer)


def _say_no_threshold(answer: "Answer") -> None:
    """Say why patients.csv has no column of a decision that was asked for."""
    from mri_hpc.results.answers.decision import NoDecision

    if isinstance(answer.decision, NoDecision):
        print(f"{answer.decision.words[0]}.")


def _print_rejected(bad: Rejected) -> None:
    print(f"{as_text(bad.path)}: {bad.reason}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
