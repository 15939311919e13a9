"""The journal of rank 0 while a run goes on: metrics, curves, the ledger and checkpoints."""

import logging
import math
import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mri_hpc.base.errors import UserError
from mri_hpc.rundir.layout import Attempt, RunDir
from mri_hpc.rundir.ledger import Kind, read_events, record
from mri_hpc.rundir.metrics_log import MetricsLog, read_metrics
from mri_hpc.rundir.progress import Progress
from mri_hpc.rundir.saving_interval import Pace
from mri_hpc.rundir.settings import TrainingSettings
from mri_hpc.training.agreed_stop import AgreedStop
from mri_hpc.training.evaluation import Answers
from mri_hpc.training.learner import Learner
from mri_hpc.training.saver import Saver
from mri_hpc.training.saves import Saves, Surroundings
from mri_hpc.training.start_times import StartTimes
from mri_hpc.training.step_loss import StepLoss
from mri_hpc.training.use_meter import UseMeter

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

LOG_INTERVAL_S = 10.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class StepDone:
    """One step, whose loss the device may still be computing."""

    progress: Progress
    """After the step."""
    loss: StepLoss
    num_images: int
    """Over all ranks."""
    seconds: float
    """Since the step before."""


def diverged(what: str) -> UserError:
    """Tell that a run has come to where nothing can be learnt any more, and what to do."""
    return UserError(
        f"{what}: launch a new run with a lower --lr, or with --precision fp32; of this one they are a part"
    )


class StepsUnderWay:
    """Steps whose losses have not been read: on a GPU they are read a step later, so that no step waits.

    On every rank: all of them see the same losses, and stop at the same one that is no number.
    """

    def __init__(self, *, is_late: bool) -> None:
        self._lag = 1 if is_late else 0
        self._waiting: deque[StepDone] = deque()
        self._last_s = time.monotonic()

    def start(self) -> None:
        """Begin to time: what came before is not part of the first step's time."""
        self._last_s = time.monotonic()

    def add(self, progress: Progress, loss: StepLoss, num_images: int) -> list[StepDone]:
        """Take up a step; gives those that can be written down. UserError at a loss that is no number."""
        now = time.monotonic()
        seconds, self._last_s = now - self._last_s, now
        self._waiting.append(StepDone(progress=progress, loss=loss, num_images=num_images, seconds=seconds))
        return self._finished(self._lag)

    def leave_out(self, seconds: float) -> None:
        """Take no part of these seconds into the next step's time: they went into something else."""
        self._last_s += seconds

    def rest(self) -> list[StepDone]:
        """Return all that are left; raises UserError as add does."""
        return self._finished(0)

    def are_sound(self) -> bool:
        """Tell whether the losses of all steps under way are numbers; waits for them."""
        return all(math.isfinite(step.loss.value()) for step in self._waiting)

    def _finished(self, lag: int) -> list[StepDone]:
        finished = []
        while len(self._waiting) > lag:
            step = self._waiting.popleft()
            if not math.isfinite(step.loss.value()):
                raise diverged(f"the loss of step {step.progress.step} is {step.loss.value()}")
            finished.append(step)
        return finished


class Journal:
    """Writes for one attempt; on rank 0 only."""

    def __init__(
        self,
        run: RunDir,
        attempt: Attempt,
        settings: TrainingSettings,
        learner: Learner,
        saver: Saver,
        *,
        resumed: Progress,
        conditions: Mapping[str, Any],
        stop: AgreedStop,
        times: StartTimes,
        meter: UseMeter,
    ) -> None:
        self._run, self._attempt, self._stop = run, attempt, stop
        self._record_loss(resumed)
        self._metrics = MetricsLog(run, attempt, resumed_step=resumed.step, resumed_epoch=resumed.epoch)
        self._resumed_step = resumed.step
        self._kept_s = time.monotonic()
        self._saves = Saves(
            run, attempt, saver,
            Surroundings(
                state=lambda progress: learner.state(progress, conditions),
                # What comes before a checkpoint is never made again.
                before=self._metrics.sync, stop=stop, meter=meter,
                pace=Pace(settings.checkpoint_interval_s, read_events(run), time.time()),
            ),
        )  # fmt: skip
        self._logged_s = 0.0
        self._start: StartTimes | None = times

    def event(self, kind: Kind, **values: Any) -> None:
        """Add a line to the ledger and to the log."""
        record(self._run, self._attempt, kind, **values)
        self._kept_s = time.monotonic()
        log.info("%s %s", kind.value, " ".join(f"{name}={value}" for name, value in values.items()))

    def steps(self, steps: Iterable[StepDone]) -> None:
        """Write down steps whose losses are known."""
        for step in steps:
            if self._start:
                self._start.end_of("first_step")
                self.event(Kind.FIRST_STEP, **self._start.parts, seconds=round(step.seconds, 3))
                self._start = None
            loss, lr = step.loss.value(), step.loss.lr
            number, epoch = step.progress.step, step.progress.epoch
            norm = step.loss.gradient_norm()
            others = {} if norm is None else {"gradient_norm": norm}
            self._metrics.step(
                step=number, epoch=epoch, loss=loss, lr=lr,
                images=step.num_images, seconds=step.seconds, **others,
            )  # fmt: skip
            for name, value in {"loss": loss, "lr": lr, **others}.items():
                self._board.add_scalar(f"training/{name}", value, number)
            if time.monotonic() - self._logged_s >= LOG_INTERVAL_S:
                self._logged_s = time.monotonic()
                rate = step.num_images / max(step.seconds, 1e-9)
                log.info("epoch=%d step=%d loss=%.4f lr=%.3g images/s=%.0f", epoch, number, loss, lr, rate)
            self._saves.add_step(step.seconds)
            self._kept_s = time.monotonic()

    def epoch(self, before: Progress, answers: Answers, *, training_s: float, validation_s: float) -> None:
        """Write down a validation. before: progress when the epoch was trained but not yet counted."""
        loss, accuracy = answers.mean_loss, answers.balanced_accuracy
        self._metrics.validation(step=before.step, epoch=before.epoch, loss=loss, balanced_accuracy=accuracy)
        self.event(
            Kind.EPOCH,
            epoch=before.epoch,
            validation_loss=loss,
            balanced_accuracy=round(accuracy, 6),
            training_s=round(training_s, 3),
            validation_s=round(validation_s, 3),
        )

    def save_epoch(self, progress: Progress, before: Progress, answers: Answers, *, is_last: bool) -> None:
        """Save an epoch that was validated, and add the validation to the curves once that is durable.

        After the last one, which no training follows, that is waited for.
        Before, it may be done again: an attempt that goes on after the last step of an epoch takes nothing of
        that step out of the curves.
        """
        self._flush()
        save = self._saves.save if is_last else self._saves.begin
        save(progress, reason="epoch", is_checked=True, then=lambda: self._draw_validation(before, answers))

    def save_if_due(self, progress: Progress, steps: StepsUnderWay) -> None:
        """Save when the interval has passed, and never a state that an unsound loss or step has led to.

        Where it is not saved, the other ranks learn why from the next loss, or at the end of the epoch.
        """
        if self._saves.is_due() and steps.are_sound():
            self.steps(steps.rest())
            began = time.monotonic()
            self._flush()
            self._saves.begin(progress, reason="interval", is_checked=False)
            steps.leave_out(time.monotonic() - began)

    def save(self, progress: Progress, *, reason: str) -> bool:
        """Save while the training waits; False where a newer attempt owns the run: this one then stops."""
        self._flush()
        return self._saves.save(progress, reason=reason, is_checked=True)

    def stop_agreed(self, progress: Progress) -> None:
        """Write down that the ranks agreed to stop, and how long they had been at what is not kept."""
        assert self._stop.agreed
        unfinished_s = round(time.monotonic() - self._kept_s, 3)
        self.event(
            Kind.STOP_AGREED, step=progress.step, **asdict(self._stop.agreed), unfinished_s=unfinished_s
        )

    @cached_property
    def _board(self) -> "SummaryWriter":
        # Only once a step is done: importing it would hold up the first one, on which all ranks wait.
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(self._run.tensorboard), purge_step=self._resumed_step + 1)

    def close(self) -> None:
        """Wait for the save under way, and close the files."""
        self._saves.close()
        self._metrics.close()
        if "_board" in vars(self):
            self._board.close()

    def _draw_validation(self, before: Progress, answers: Answers) -> None:
        self._board.add_scalar("validation/loss", answers.mean_loss, before.step)
        self._board.add_scalar("validation/balanced_accuracy", answers.balanced_accuracy, before.step)
        self._board.flush()

    def _flush(self) -> None:
        """Hand to the system what the curves hold so far."""
        if "_board" in vars(self):
            self._board.flush()

    def _record_loss(self, resumed: Progress) -> None:
        """Record steps that an earlier attempt did in vain, unless one that died as it began has done so."""
        steps = [line for line in read_metrics(self._run) if "loss" in line]
        in_vain = [line for line in steps if line["step"] > resumed.step]
        if not in_vain:
            return
        last_step_s = round(self._run.metrics.stat().st_mtime, 3)
        # Of the same file: an attempt replaces it as soon as it has recorded what was lost.
        recorded = [e.values for e in read_events(self._run) if e.kind == Kind.LOST]
        recorded = [values for values in recorded if values.get("last_step_s") == last_step_s]
        num_steps = in_vain[-1]["step"] - resumed.step - sum(values["steps"] for values in recorded)
        seconds = sum(line["seconds"] for line in in_vain) - sum(values["seconds"] for values in recorded)
        if num_steps > 0:
            self.event(Kind.LOST, steps=num_steps, seconds=round(seconds, 3), last_step_s=last_step_s)
