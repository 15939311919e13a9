"""A run, for Python: its settings, state, figures, model and predictions."""

import datetime
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from mri_hpc.base.errors import UserError
from mri_hpc.base.settings import nearest
from mri_hpc.rundir.layout import RunDir, open_run
from mri_hpc.rundir.settings import TrainingSettings, load_training

if TYPE_CHECKING:
    from mri_hpc.intake.decoding.recipe import Recipe
    from mri_hpc.intake.labels.images import Image, PatientFrom, Rejected
    from mri_hpc.results.answers.answer import Answer
    from mri_hpc.results.answers.judging import Asked
    from mri_hpc.results.runs.evaluation import Evaluation
    from mri_hpc.rundir.summary import Summary
    from mri_hpc.training.prediction import FinishedRun


class Run:
    """A run that `mri-hpc launch` has made; nothing here changes what it is. Research use only."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open the run at `path`; UserError where there is none."""
        self._run = open_run(Path(path))

    @property
    def path(self) -> Path:
        """Folder of the run."""
        return self._run.path

    @property
    def is_finished(self) -> bool:
        """Tell whether it has come to its end."""
        return self._run.is_finished

    @property
    def settings(self) -> TrainingSettings:
        """Settings of the training; raises UserError."""
        return load_training(self._run)

    def status(self) -> "Summary":
        """Sum up its progress, its restarts and their cost: what `mri-hpc status` shows."""
        from mri_hpc.cluster.views import Watcher

        return Watcher(self._run).look().summary

    def metrics(self) -> list[dict[str, Any]]:
        """List what was written down of each step and each validation, in order."""
        from mri_hpc.rundir.metrics_log import read_metrics

        return read_metrics(self._run)

    def evaluate(
        self, split: Literal["test", "validation", "calibration"] = "test", *, look_again: bool = False
    ) -> "Evaluation":
        """Compute the figures of `mri-hpc evaluate`, by slice and by patient; UserError: not finished.

        A look at test patients is written down, as there; look_again: one after another model's is meant.
        """
        from mri_hpc.results.runs.evaluation import evaluate_split
        from mri_hpc.results.runs.further_look import look_at

        if split == "test":
            look_at([self._run], is_meant=look_again)
        return evaluate_split(self._run, split)

    def predict(
        self,
        paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        *,
        also: Iterable[str | os.PathLike[str]] = (),
        patient_from: "PatientFrom" = "folder",
        keep_pictures: bool = False,
        prevalence: Mapping[str, float] | str | None = None,
        on_rejected: "Callable[[Rejected], None]" = lambda rejected: None,
        progress: "Callable[[Sequence[Image]], Iterable[Image]]" = lambda images: images,
    ) -> "Answer":
        """Ask the finished model about images, and folders of images: by image, and by patient.

        paths: one, or several. also: other runs of the same classes, whose answers are joined with this
        one's: their mean, and how far they disagree. patient_from, prevalence: as of `mri-hpc predict`;
        shares also by name. keep_pictures: with each image, what the network saw of it. on_rejected: told at
        once of each file that cannot be read. progress: gives the images on, one by one; anew for runs of
        another recipe, since all others are asked about one and the same pixels.
        UserError where a run is not finished, or damaged, or runs do not fit each other.
        """
        from mri_hpc.intake.labels.images import PatientFrom, find_images
        from mri_hpc.results.answers.answer_of_runs import join_answers, refuse_other_classes
        from mri_hpc.results.answers.calibration import load_calibration, prevalence_of
        from mri_hpc.results.answers.judging import judge
        from mri_hpc.training.prediction import load_finished

        if patient_from not in (known := get_args(PatientFrom)):
            raise UserError(
                f"there is no patient_from {patient_from!r}{nearest(str(patient_from), known)}; "
                f"known: {', '.join(known)}"
            )
        # A text is a sequence, too: of letters, the files of which would be looked for.
        named = [paths] if isinstance(paths, str | os.PathLike) else paths
        runs = [self._run, *(open_run(Path(path)) for path in also)]
        _refuse_twice(runs)
        finished = [load_finished(run) for run in runs]
        refuse_other_classes([(run.path, one.classes) for run, one in zip(runs, finished, strict=True)])
        found = find_images([Path(path) for path in named], patient_from, finished[0].classes)
        for bad in found.rejected:
            on_rejected(bad)
        shares = prevalence_of(prevalence, finished[0].classes) if prevalence else None
        # What is damaged is said before anything is read.
        asked = [_asked(run, one) for run, one in zip(runs, finished, strict=True)]
        calibrations = [load_calibration(run) for run in runs]
        answers: dict[int, Answer] = {}
        for recipe, those in _by_recipe(runs):
            tell = on_rejected if not answers else _pass_over
            judged = judge(
                found.images,
                recipe,
                [asked[number] for number in those],
                # Those of the first run are shown.
                keep_pictures=keep_pictures and not answers,
                on_rejected=tell,
                progress=progress,
            )
            for number, answer in zip(those, judged, strict=True):
                whole = replace(answer, rejected=(*found.rejected, *answer.rejected))
                answers[number] = _whole(runs[number], whole).calibrated(calibrations[number], shares)
        in_order = [answers[number] for number in range(len(runs))]
        return in_order[0] if len(runs) == 1 else join_answers([run.path for run in runs], in_order)


def _by_recipe(runs: Sequence[RunDir]) -> "list[tuple[Recipe, list[int]]]":
    """Return the numbers of the runs of each recipe; that of the first run first."""
    from mri_hpc.intake.decoding.recipe import load_recipe

    found: list[tuple[Recipe, list[int]]] = []
    for number, recipe in enumerate(load_recipe(run.recipe) for run in runs):
        same = next((those for known, those in found if known == recipe), None)
        if same is None:
            found.append((recipe, [number]))
        else:
            same.append(number)
    return found


def _asked(run: RunDir, finished: "FinishedRun") -> "Asked":
    """Collect what asking a finished run takes."""
    from mri_hpc.results.answers.judging import Asked
    from mri_hpc.results.answers.pooling_choice import patient_model_of
    from mri_hpc.results.answers.resemblance import load_resemblance

    return Asked(
        classes=finished.classes,
        model=finished.ask,
        patient_model=patient_model_of(run, finished.classes),
        resemblance=load_resemblance(run),
    )


def _whole(run: RunDir, answer: "Answer") -> "Answer":
    """Add what a run says beside its probabilities."""
    from mri_hpc.results.answers.run_decision import decision_of, sets_of, validation_patients
    from mri_hpc.rundir.provenance import read_provenance

    provenance = read_provenance(run)
    return replace(
        answer,
        decision=decision_of(run),
        sets=sets_of(run),
        validation=validation_patients(run),
        model_digest=str(provenance.get("model_digest", "")),
        snapshot=str(provenance.get("snapshot", "")),
        made=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def _pass_over(_bad: "Rejected") -> None:
    """Pass over what another recipe's runs have been told of already."""


def _refuse_twice(runs: Sequence[RunDir]) -> None:
    resolved = [run.path.resolve() for run in runs]
    twice = next((path for path in resolved if resolved.count(path) > 1), None)
    if twice:
        raise UserError(f"{twice} is given twice: name each run once")
