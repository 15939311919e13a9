"""Files and folders of a run."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from mri_hpc.base.atomic import publish_new_bytes
from mri_hpc.base.documents import with_format
from mri_hpc.base.errors import UserError

FORMAT = 1
# Of those beside a path that is none.
RUNS_TO_NAME = 5
RECORD = "record.json"


@dataclass(frozen=True, order=True, kw_only=True)
class Attempt:
    """One start of a run's ranks. Later attempts compare greater; an older one may not write any more."""

    submission: int
    """Counts the times that launch submitted the run, from 1."""
    restart: int
    """Counts requeues of that submission, from 0."""

    def __str__(self) -> str:
        return f"{self.submission}.{self.restart}"

    @classmethod
    def parse(cls, text: str) -> "Attempt":
        """Parse ``submission.restart``; ValueError if the text is no such name."""
        submission, restart = text.split(".")
        return cls(submission=int(submission), restart=int(restart))


@dataclass(frozen=True)
class RunDir:
    """The folder of a run, and the names in it."""

    path: Path

    @property
    def settings(self) -> Path:
        """Settings of the run: [training] and [job]."""
        return self.path / "settings.toml"

    @property
    def recipe(self) -> Path:
        """Copy of the store's recipe, by which images become arrays: for predicting without the store."""
        return self.path / "recipe.json"

    @property
    def done(self) -> Path:
        """Mark that is written last: the run is finished and never starts again."""
        return self.path / "DONE"

    @property
    def events(self) -> Path:
        """The ledger."""
        return self.path / "events.jsonl"

    @property
    def metrics(self) -> Path:
        """One line a step, one line a validation."""
        return self.path / "metrics.jsonl"

    @property
    def provenance(self) -> Path:
        """Versions, devices and digests that produced the model."""
        return self.path / "provenance.json"

    @property
    def batch_size(self) -> Path:
        """Batch size that the first attempt found for --batch-size auto."""
        return self.path / "batch_size.json"

    @property
    def probe(self) -> Path:
        """Steps that --probe has timed before the first one, and what they say."""
        return self.path / "probe.json"

    @property
    def checkpoints(self) -> Path:
        """Folder of checkpoints, one folder each, named by step."""
        return self.path / "checkpoints"

    @property
    def attempts(self) -> Path:
        """Folder of attempts, one folder each."""
        return self.path / "attempts"

    @property
    def submitit(self) -> Path:
        """Folder of submitit's pickles and scripts; never read for state."""
        return self.path / "submitit"

    @property
    def tensorboard(self) -> Path:
        """TensorBoard's event files."""
        return self.path / "tensorboard"

    @property
    def model(self) -> Path:
        """Weights of the last epoch, or of the best one: by --published-epoch."""
        return self.path / "model.safetensors"

    @property
    def predictions(self) -> Path:
        """One row an image of the validation and test splits."""
        return self.path / "predictions.csv"

    @property
    def decision(self) -> Path:
        """Classes to be found in patients, and how surely, where evaluate was told."""
        return self.path / "decision.json"

    @property
    def controls(self) -> Path:
        """Answers of control models about the same images, once evaluate or report has asked them."""
        return self.path / "controls.json"

    @property
    def calibration(self) -> Path:
        """Temperatures of the probabilities, fitted on validation."""
        return self.path / "calibration.json"

    @property
    def attention(self) -> Path:
        """Weights of gated attention over a patient's slices, where it was tried."""
        return self.path / "attention.safetensors"

    @property
    def attention_answers(self) -> Path:
        """One row an image of the predictions: what attention says of it."""
        return self.path / "attention.csv"

    @property
    def pooling(self) -> Path:
        """Choice between attention and the mean, by validation, where attention was tried."""
        return self.path / "pooling.json"

    @property
    def choices(self) -> Path:
        """Count of models among which validation patients chose, of a model that is kept without its run."""
        return self.path / "choices.json"

    @property
    def record(self) -> Path:
        """Description of a model that is kept without its run: what it is asked by never changes."""
        return self.path / RECORD

    @property
    def resemblance(self) -> Path:
        """Appearance of the training images, and how far from them validation patients lie."""
        return self.path / "resemblance.json"

    @property
    def report(self) -> Path:
        """The page."""
        return self.path / "report.html"

    @property
    def review(self) -> Path:
        """Folder of model card, checklists for reviewers, and figures as tables."""
        return self.path / "review"

    @property
    def where_it_looks(self) -> Path:
        """Score of the model's heat maps, where report --pictures has made them."""
        return self.path / "where_it_looks.json"

    @property
    def continued(self) -> Path:
        """Patients gained and forgotten since the run that it goes on from, once report has asked."""
        return self.path / "continued.json"

    @property
    def drift(self) -> Path:
        """Drift of what came since that run from what it had learnt from, once report has asked."""
        return self.path / "drift.json"

    @property
    def look(self) -> Path:
        """Look at the test patients that its figures are, once they were shown."""
        return self.path / "look.json"

    @property
    def who_looked(self) -> Path:
        """Account that looked, where the store could not take it."""
        return self.private / "who_looked.json"

    @property
    def private(self) -> Path:
        """Folder of what shows patients, for the owner alone."""
        return self.path / "private"

    @property
    def private_report(self) -> Path:
        """The page with pictures of patients."""
        return self.private / "report.html"

    @property
    def is_finished(self) -> bool:
        """Tell whether the run has reached its end."""
        return self.done.exists()

    def attempt_folder(self, attempt: Attempt) -> Path:
        """Return the folder of one attempt: logs of its ranks, and the address at which they meet."""
        return self.attempts / str(attempt)

    def rank_log(self, attempt: Attempt, rank: int) -> Path:
        """Return the file of what one rank prints."""
        return self.attempt_folder(attempt) / f"rank{rank}.log"

    def all_attempts(self) -> list[Attempt]:
        """List the attempts that were claimed, oldest first."""
        if not self.attempts.is_dir():
            return []
        names = [folder.name for folder in self.attempts.iterdir()]
        return sorted(Attempt.parse(name) for name in names if re.fullmatch(r"\d+\.\d+", name))

    def newest_attempt(self) -> Attempt | None:
        """Return the attempt that may write; None before the first."""
        return max(self.all_attempts(), default=None)

    def claim_attempt(self, attempt: Attempt) -> None:
        """Make the attempt's folder. May be called by every rank of the attempt."""
        self.attempt_folder(attempt).mkdir(parents=True, exist_ok=True)

    def claim_submission(self) -> Attempt:
        """Claim the next submission for the caller alone, also when two launch at once; restart is 0."""
        self.attempts.mkdir(parents=True, exist_ok=True)
        number = max((attempt.submission for attempt in self.all_attempts()), default=0) + 1
        while True:
            attempt = Attempt(submission=number, restart=0)
            try:
                self.attempt_folder(attempt).mkdir()
                return attempt
            except FileExistsError:
                number += 1

    def mark_done(self) -> None:
        """Write DONE; harmless when it is there."""
        publish_new_bytes(self.done, json.dumps(with_format(FORMAT, {})).encode() + b"\n")


def open_run(path: Path) -> RunDir:
    """Open the run at `path`; UserError if there is none."""
    run = RunDir(path)
    if run.settings.is_file():
        return run
    start = f"start a run with: python -m mri_hpc.launch --run {path}"
    if (path / "commits").is_dir():
        raise UserError(
            f"{path} is a store, not a run; train on it with: python -m mri_hpc.launch --store {path}"
        )
    if path.exists():
        within = _runs_in(path)
        what = f"it holds runs, give one: {', '.join(within[:RUNS_TO_NAME])}" if within else start
        raise UserError(f"{path} is not a run directory (found something else, no settings.toml); {what}")
    others = _runs_in(path.parent)
    here = f"runs here: {', '.join(others[:RUNS_TO_NAME])}" if others else start
    raise UserError(f"{path} does not exist; {here}")


def runs_below(folder: Path) -> list[RunDir]:
    """List the runs whose folders lie in this one, by name; none where it is a run itself."""
    if RunDir(folder).settings.is_file():
        return []
    return [RunDir(folder / name) for name in _runs_in(folder)]


def _runs_in(folder: Path) -> list[str]:
    return sorted(file.parent.name for file in folder.glob("*/settings.toml"))
