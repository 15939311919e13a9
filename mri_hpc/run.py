"""A run, for Python: its settings, state, figures, model and predictions."""

import datetime
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from mri_hpc.base.errors import UserError
from mri_hpc.base.settings import nearest
from mri_hpc.rundir.layout import open_run
from mri_hpc.rundir.settings import TrainingSettings, load_training

if TYPE_CHECKING:
    from mri_hpc.intake.labels.images import Image, PatientFrom, Rejected
    from mri_hpc.results.answer import Answer
    from mri_hpc.results.evaluation import Evaluation
    from mri_hpc.rundir.summary import Summary


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
        from mri_hpc.cluster.watching import Watcher

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
        from mri_hpc.results.evaluation import evaluate_split
        from mri_hpc.results.further_look import look_at

        if split == "test":
            look_at([self._run], is_meant=look_again)
        return evaluate_split(self._run, split)

    def predict(
        self,
        paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        *,
        patient_from: "PatientFrom" = "folder",
        keep_pictures: bool = False,
        prevalence: Mapping[str, float] | str | None = None,
        on_rejected: "Callable[[Rejected], None]" = lambda rejected: None,
        progress: "Callable[[Sequence[Image]], Iterable[Image]]" = lambda images: images,
    ) -> "Answer":
        """Ask the finished model about images, and folders of images: by image, and by patient.

        paths: one, or several. patient_from, prevalence: as of `mri-hpc predict`; shares also by name.
        keep_pictures: with each image, what the network saw of it. on_rejected: told at once of each file
        that cannot be read. progress: gives the images on, one by one.
        UserError where the run is not finished, or damaged.
        """
        from mri_hpc.intake.decoding.recipe import load_recipe
        from mri_hpc.intake.labels.images import PatientFrom, find_images
        from mri_hpc.results.answer import judge
        from mri_hpc.results.calibration import load_calibration, prevalence_of
        from mri_hpc.results.pooling_choice import patient_model_of
        from mri_hpc.results.run_decision import decision_of, validation_patients
        from mri_hpc.rundir.provenance import read_provenance
        from mri_hpc.training.prediction import load_finished

        if patient_from not in (known := get_args(PatientFrom)):
            raise UserError(
                f"there is no patient_from {patient_from!r}{nearest(str(patient_from), known)}; "
                f"known: {', '.join(known)}"
            )
        # A text is a sequence, too: of letters, the files of which would be looked for.
        named = [paths] if isinstance(paths, str | os.PathLike) else paths
        finished = load_finished(self._run)
        found = find_images([Path(path) for path in named], patient_from, finished.classes)
        for bad in found.rejected:
            on_rejected(bad)
        shares = prevalence_of(prevalence, finished.classes) if prevalence else None
        calibration = load_calibration(self._run)
        recipe = load_recipe(self._run.recipe)
        answer = judge(
            found.images,
            recipe,
            finished.classes,
            finished.ask,
            patient_model=patient_model_of(self._run, finished.classes),
            keep_pictures=keep_pictures,
            on_rejected=on_rejected,
            progress=progress,
        )
        rejected = (*found.rejected, *answer.rejected)
        whole = replace(
            answer,
            rejected=rejected,
            decision=decision_of(self._run),
            validation=tuple(validation_patients(self._run)),
            model_digest=str(read_provenance(self._run).get("model_digest", "")),
            made=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        )
        return whole.calibrated(calibration, shares)
