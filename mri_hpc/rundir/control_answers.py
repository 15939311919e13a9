"""controls.json: answers of control models about the images of predictions.csv, and facts about these.

Kept with the run, so that its page is the same once the store has grown, or is gone.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from mri_hpc.base.atomic import replace_bytes
from mri_hpc.base.documents import with_format
from mri_hpc.rundir.kept import read_of_predictions
from mri_hpc.rundir.layout import RunDir

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Reach:
    """Images and patients that the control models have seen, of all those of the run."""

    trained_images: int
    trained_patients: int
    of_trained_images: int
    judged_images: int
    of_judged_images: int

    @property
    def is_whole(self) -> bool:
        """Tell whether they saw all that the network saw."""
        return self.trained_images == self.of_trained_images and self.judged_images == self.of_judged_images


@dataclass(frozen=True, kw_only=True)
class ControlAnswers:
    """Answers of control models about images, and what is known of these beside their pixels."""

    predictions: str
    """sha256 of the predictions.csv that they stand beside."""
    keys: tuple[str, ...]
    """Images that were judged, 16 hex digits each."""
    answers: Mapping[str, tuple[tuple[float, ...], ...]]
    """By control, for each image the probabilities of the classes in their order."""
    facts: tuple[str, ...]
    """Columns from which the control by facts alone has learnt."""
    reach: Reach
    columns: Mapping[str, tuple[str, ...]]
    """By column, such as plane or site, the value of every row of predictions.csv; empty where unknown."""


def read_control_answers(run: RunDir) -> ControlAnswers | None:
    """Read what was kept; None where nothing was, or of other predictions, or it is damaged.

    It can be made again then. Raises NewerFormat.
    """
    return read_of_predictions(run.controls, run, ControlAnswers, reads=FORMAT)


def write_control_answers(run: RunDir, answers: ControlAnswers) -> None:
    """Publish them, in place of those before."""
    replace_bytes(run.controls, json.dumps(with_format(FORMAT, asdict(answers))).encode() + b"\n")
