"""A run in one look: a pure fold over its ledger, its metrics and its newest checkpoint."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from mri_hpc.rundir.decisions import Action, Cause
from mri_hpc.rundir.efficiency import advise
from mri_hpc.rundir.following import adoptions_of, why_followed
from mri_hpc.rundir.layout import Attempt
from mri_hpc.rundir.ledger import CLOCKS, UNSEEN, Event, Kind
from mri_hpc.rundir.manifests import Manifest
from mri_hpc.rundir.probe import Probe
from mri_hpc.rundir.saving_interval import words_of
from mri_hpc.rundir.settings import TrainingSettings
from mri_hpc.rundir.use import Use, uses_of
from mri_hpc.rundir.wall_clock import Cost, WallClock, account

STEPS_FOR_SPEED = 20
# Events after which a run stands otherwise than before.
TURNS = {Kind.SUBMITTED, Kind.STARTING, Kind.STARTED, Kind.CANCELLED, Kind.DECIDED}


class State(StrEnum):
    """States of a run."""

    PENDING = "pending"  # submitted; no ranks were started
    STARTING = "starting"  # the ranks were started, and come to their first step
    RUNNING = "running"
    REQUEUED = "requeued"  # waits to be run again
    STOPPED = "stopped"  # nothing runs, and no decision says so
    FINISHED = "finished"
    CANCELLED = "cancelled"
    FAILED = "failed"  # by an error that the user can fix
    CAUGHT_UP = "caught_up"  # it follows its store, and has learnt what is there
    GAVE_UP = "gave_up"  # it crashed too often


# By what was decided last: how the run stands when nothing has happened since.
STATE_OF_ACTION: Mapping[str, State] = {
    Action.FINISHED: State.FINISHED,
    Action.AGAIN: State.REQUEUED,
    Action.STAY_AWAY: State.CANCELLED,
    Action.GIVE_UP: State.GAVE_UP,
}


@dataclass(frozen=True, kw_only=True)
class Restart:
    """The end of one attempt, other than by finishing."""

    attempt: str
    time: float
    """Unix time."""
    cause: str
    decision: str
    reason: str
    steps_lost: int = 0
    """Steps that the next attempt had to do again."""
    seconds_lost: float = 0.0
    """Seconds that these had taken, and what it never finished, until its death was noticed."""
    seconds_down: float = 0.0
    """From the end of its work to the first step of the next attempt: stopping, queueing, starting."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A run in one look."""

    state: str
    """One of State."""
    epoch: int = 0
    """Epochs done."""
    step: int = 0
    """Last step that was done; that of the last checkpoint where nothing runs."""
    saved_step: int = 0
    """Step of the newest complete checkpoint."""
    restarts: int = 0
    """Attempts after the first."""
    causes: Mapping[str, int] = field(default_factory=dict)
    """Causes for which attempts ended, with the number of each; finishing is no cause."""
    steps_lost: int = 0
    """Steps that had to be done again, over all attempts."""
    seconds_lost: float = 0.0
    """Seconds that these had taken."""
    ledger: Mapping[str, float] = field(default_factory=dict)
    """Seconds of the wall clock by part, as WallClock names them."""
    ettr: float | None = None
    """Effective training time ratio: useful seconds / seconds in which the run ran or waited to run."""
    ettr_without_queueing: float | None = None
    """The same while its ranks ran."""
    weights_digest: str = ""
    """Digest of the newest checkpoint's weights; of the model's once the run is finished."""
    samples_digest: str = ""
    """Digest of every sample so far, in order."""
    loss: float | None = None
    """Loss of the last step."""
    validation_loss: float | None = None
    """Loss of the last validation."""
    best_validation_loss: float | None = None
    best_epoch: int | None = None
    """Epoch of the best validation loss, from 0."""
    images_per_s: float | None = None
    """Speed over the last steps."""
    time_left_s: float | None = None
    """Seconds until all epochs are done; early stopping may come sooner. None where that is unknown."""
    batch_size: int | None = None
    """Images a step, over all ranks; None until auto is settled."""
    highest_lr: float | None = None
    """The learning rate after the warm-up; None until auto is settled."""
    continued_from: str = ""
    """The run whose model this one started from."""
    attempt: str = ""
    """The newest attempt, as submission.restart."""
    job_id: str = ""
    """Slurm's number of the newest job."""
    ranks: int | None = None
    sizes: tuple[int, ...] = ()
    """Ranks of each attempt that began, oldest first."""
    host: str = ""
    reason: str = ""
    """Reason why nothing runs."""
    saving: str = ""
    """Interval between its checkpoints, and the reason for it."""
    steps: str = ""
    """Way in which the newest attempt computes them; empty before it began, and of attempts of before."""
    last_stop: str = ""
    """Way in which the ranks stopped when they last were to, and the reason for that way."""
    clocks: Mapping[str, float] = field(default_factory=dict)
    """Machines of the newest attempt whose clock is off, with the seconds by which it is ahead."""
    unseen: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Nodes of the newest attempt that do not see something, with the paths."""
    snapshots: Mapping[int, str] = field(default_factory=dict)
    """Snapshots that a run which follows its store was trained on, by the epoch from which on, from 1."""
    followed: str = ""
    """Reason for which it adopts no newer one any more."""
    changed: tuple[str, ...] = ()
    """Conditions of bit-equality that changed as the run went on: a line each."""
    last_words: tuple[str, ...] = ()
    """End of the log of the rank that failed."""
    since_s: float | None = None
    """Seconds since the last sign of life in the ledger."""
    history: tuple[Restart, ...] = ()
    """Attempts that ended without finishing, oldest first."""
    probe: Probe | None = None
    """Steps that were timed before the first one, and what they say; None where they were not."""
    uses: tuple[Use, ...] = ()
    """Use of cores, memory and GPU by attempt, oldest first; attempts of before have none."""
    advice: tuple[str, ...] = ()
    """Advice on what to ask for instead, by that use, a sentence each."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**asdict(self), "probe": self.probe.to_dict() if self.probe else None}


def summarise(
    events: Sequence[Event],
    metrics: Sequence[Mapping[str, Any]],
    manifest: Manifest | None,
    now: float,
    *,
    epochs: int | None = None,
    settings: TrainingSettings | None = None,
    probe: Probe | None = None,
    is_finished: bool = False,
) -> Summary:
    """Sum up a run from what lies in its directory.

    epochs: the most that the run may take, for the time left. settings: settled, where they are known.
    """
    uses = uses_of(events)
    steps = [line for line in metrics if "loss" in line]
    validations = [line for line in metrics if "validation_loss" in line]
    step = _step(steps, manifest)
    decided = _decided(events)
    clock = account(events, metrics, now)
    return Summary(
        state=(State.FINISHED if is_finished else _state(events)).value,
        epoch=_epochs_done(validations, manifest),
        step=step,
        time_left_s=None if is_finished else _time_left(steps, validations, step, epochs),
        since_s=round(max(0.0, now - events[-1].time), 1) if events else None,
        history=tuple(_restarts(decided, clock.costs)),
        probe=probe,
        uses=uses,
        advice=advise(uses),
        **_of_checkpoint(manifest),
        **_of_metrics(steps, _comparable(validations, events)),
        **_of_attempts(events, decided),
        **({} if is_finished else _of_ending(events)),
        **clock_values(clock),
        **(_recipe(settings) if settings else {}),
        saving=words_of(events, settings.checkpoint_interval_s) if settings else "",
    )


def summarise_briefly(
    events: Sequence[Event],
    metrics: Sequence[Mapping[str, Any]],
    manifest: Manifest | None,
    *,
    is_finished: bool = False,
) -> Summary:
    """Sum up what a row of a table shows; all that takes the time of every step has its neutral value.

    metrics: all validations, and the last steps.
    """
    steps = [line for line in metrics if "loss" in line]
    validations = [line for line in metrics if "validation_loss" in line]
    return Summary(
        state=(State.FINISHED if is_finished else _state(events)).value,
        epoch=_epochs_done(validations, manifest),
        step=_step(steps, manifest),
        **_of_checkpoint(manifest),
        **_of_metrics(steps, _comparable(validations, events)),
        **_of_attempts(events, _decided(events)),
        **({} if is_finished else _of_ending(events)),
    )


def _step(steps: Sequence[Mapping[str, Any]], manifest: Manifest | None) -> int:
    return max(steps[-1]["step"] if steps else 0, manifest.progress.step if manifest else 0)


def _of_checkpoint(manifest: Manifest | None) -> dict[str, Any]:
    if manifest is None:
        return {}
    return {
        "saved_step": manifest.progress.step,
        "weights_digest": manifest.weights_digest,
        "samples_digest": manifest.progress.samples_digest,
    }


def _of_metrics(
    steps: Sequence[Mapping[str, Any]], validations: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    numbers = [line for line in validations if math.isfinite(line["validation_loss"])]
    best = min(numbers, key=lambda line: line["validation_loss"], default=None)
    return {
        "loss": steps[-1]["loss"] if steps else None,
        "images_per_s": _images_a_second(steps),
        "validation_loss": validations[-1]["validation_loss"] if validations else None,
        "best_validation_loss": best["validation_loss"] if best else None,
        "best_epoch": best["epoch"] if best else None,
    }


def _comparable(
    validations: Sequence[Mapping[str, Any]], events: Sequence[Event]
) -> Sequence[Mapping[str, Any]]:
    """Return the validations on the newest snapshot: others are of other images."""
    since = max(adoptions_of(events), default=0)
    return [line for line in validations if line["epoch"] >= since] or validations


def _of_attempts(events: Sequence[Event], decided: Sequence[Event]) -> dict[str, Any]:
    """Return what the ledger says of attempts. decided: the last decision on each."""
    ended = [event.values["cause"] for event in decided if event.values.get("cause") != Cause.FINISHED]
    lost = [event.values for event in events if event.kind == Kind.LOST]
    begun = {event.attempt for event in events if event.kind == Kind.STARTED}
    return {
        "restarts": max(0, len(begun | {event.attempt for event in decided}) - 1),
        "causes": dict(Counter(ended)),
        "steps_lost": sum(int(values.get("steps", 0)) for values in lost),
        "seconds_lost": round(sum(float(values.get("seconds", 0.0)) for values in lost), 1),
        "attempt": events[-1].attempt if events else "",
        "job_id": _newest_value(events, "job_id", Kind.STARTED, Kind.SUBMITTED),
        "ranks": _newest_value(events, "ranks", Kind.STARTED, Kind.SUBMITTED) or None,
        "sizes": _sizes(events),
        "host": _newest_value(events, "host", Kind.STARTED),
        "steps": _newest_value(events, "steps", Kind.STARTED),
        "last_stop": _last_stop(events),
        **_of_nodes(events),
        "changed": _changed(events),
        "snapshots": {one.epoch + 1: one.snapshot for one in adoptions_of(events).values()},
        "followed": why_followed(events),
    }


def _sizes(events: Sequence[Event]) -> tuple[int, ...]:
    of_attempt = {e.attempt: e.values.get("ranks") for e in events if e.kind == Kind.STARTED}
    return tuple(ranks for ranks in of_attempt.values() if ranks)


def _of_nodes(events: Sequence[Event]) -> dict[str, Any]:
    """Return what the newest attempt has written of the machines that it runs on."""
    newest = [event.values for event in events if event.attempt == events[-1].attempt]
    return {
        "clocks": {node: s for values in newest for node, s in values.get(CLOCKS, {}).items()},
        "unseen": {node: paths for values in newest for node, paths in values.get(UNSEEN, {}).items()},
    }


def clock_values(clock: WallClock) -> dict[str, Any]:
    """Return the values of a summary that come from the wall clock."""
    return {
        "ledger": clock.parts, "ettr": clock.ettr, "ettr_without_queueing": clock.ettr_without_queueing
    }  # fmt: skip


def _last_stop(events: Sequence[Event]) -> str:
    stops = [event.values for event in events if event.kind == Kind.STOP_AGREED and "why" in event.values]
    return "{signal} in {phase}, step {step}: {why}".format_map(stops[-1]) if stops else ""


def _changed(events: Sequence[Event]) -> tuple[str, ...]:
    changes = [event for event in events if event.kind == Kind.CHANGED]
    return tuple(
        "{condition}: {before} before {attempt}, {now} now".format(**event.values, attempt=event.attempt)
        for event in changes
    )


def _recipe(settings: TrainingSettings) -> dict[str, Any]:
    """Return batch size and rate of the settings once they are numbers, and the run continued from."""
    recipe: dict[str, Any] = {"continued_from": settings.continue_from}
    if settings.batch_size != "auto":
        recipe |= {"batch_size": settings.batch_size, "highest_lr": settings.lr}
    return recipe


def _decided(events: Sequence[Event]) -> list[Event]:
    """Return the last decision on each attempt, oldest attempt first."""
    last = {event.attempt: event for event in events if event.kind == Kind.DECIDED}
    return sorted(last.values(), key=lambda event: Attempt.parse(event.attempt))


def _state(events: Sequence[Event]) -> State:
    """Return the state by the ledger alone. Whether a job really lives has to be asked elsewhere."""
    state = State.PENDING
    for event in _of_newest(events):
        match event.kind:
            case Kind.SUBMITTED:
                # The supervisor may be faster than the launch that notes it.
                state = state if state in (State.STARTING, State.RUNNING) else State.PENDING
            case Kind.STARTING:
                state = State.STARTING
            case Kind.STARTED:
                state = State.RUNNING
            case Kind.CANCELLED:
                state = State.CANCELLED
            case Kind.DECIDED:
                is_users = event.values.get("cause") == Cause.USER_ERROR
                decided = STATE_OF_ACTION.get(str(event.values.get("decision")), State.STOPPED)
                caught_up = event.values.get("cause") == Cause.CAUGHT_UP and decided is State.CANCELLED
                state = State.FAILED if is_users else State.CAUGHT_UP if caught_up else decided
    return state


def _of_ending(events: Sequence[Event]) -> dict[str, Any]:
    """Return why nothing runs, by the newest decision, if nothing has happened since."""
    turns = [event for event in _of_newest(events) if event.kind in TURNS]
    if not turns or turns[-1].kind != Kind.DECIDED:
        return {}
    values = turns[-1].values
    return {"reason": str(values.get("reason", "")), "last_words": tuple(values.get("last_words", ()))}


def _of_newest(events: Sequence[Event]) -> list[Event]:
    """Return the events but for those of attempts that still wrote after a newer one had begun."""
    newest, own = Attempt(submission=0, restart=0), []
    for event in events:
        attempt = Attempt.parse(event.attempt)
        if attempt >= newest:
            newest = attempt
            own.append(event)
    return own


def _restarts(decided: Sequence[Event], costs: Sequence[Cost]) -> list[Restart]:
    """Return the attempts that ended without finishing, and what that has cost."""
    # Where a clock was set back, an attempt may have no time of its own.
    by_attempt = {event.attempt: Cost(attempt=event.attempt) for event in decided}
    by_attempt |= {cost.attempt: cost for cost in costs}
    return [
        Restart(
            attempt=event.attempt,
            time=event.time,
            cause=str(event.values.get("cause", "")),
            decision=str(event.values.get("decision", "")),
            reason=str(event.values.get("reason", "")),
            steps_lost=by_attempt[event.attempt].steps_lost or 0,
            seconds_lost=by_attempt[event.attempt].seconds_lost,
            seconds_down=by_attempt[event.attempt].seconds_down,
        )
        for event in decided
        if event.values.get("cause") != Cause.FINISHED
    ]


def _newest_value(events: Sequence[Event], name: str, *kinds: Kind) -> Any:
    values = (event.values.get(name) for event in reversed(events) if event.kind in kinds)
    return next((value for value in values if value), "")


def _epochs_done(validations: Sequence[Mapping[str, Any]], manifest: Manifest | None) -> int:
    validated = validations[-1]["epoch"] + 1 if validations else 0
    return max(validated, manifest.progress.epoch if manifest else 0)


def _seconds_a_step(steps: Sequence[Mapping[str, Any]]) -> float | None:
    seconds = [line["seconds"] for line in steps[-STEPS_FOR_SPEED:] if line.get("seconds")]
    return sum(seconds) / len(seconds) if seconds else None


def _images_a_second(steps: Sequence[Mapping[str, Any]]) -> float | None:
    timed = [line for line in steps[-STEPS_FOR_SPEED:] if line.get("seconds")]
    seconds = sum(line["seconds"] for line in timed)
    return round(sum(line["images"] for line in timed) / seconds, 1) if seconds else None


def _time_left(
    steps: Sequence[Mapping[str, Any]],
    validations: Sequence[Mapping[str, Any]],
    step: int,
    epochs: int | None,
) -> float | None:
    """Estimate the seconds left, at the present speed; None until one epoch has shown its steps."""
    seconds_a_step = _seconds_a_step(steps)
    if not validations or not steps or seconds_a_step is None or epochs is None:
        return None
    steps_an_epoch = validations[-1]["step"] / (validations[-1]["epoch"] + 1)
    return round(max(0.0, (epochs * steps_an_epoch - step) * seconds_a_step), 1)


def steps_an_epoch(metrics: Sequence[Mapping[str, Any]]) -> int | None:
    """Return the number of steps of one epoch; None until one was validated."""
    validations = [line for line in metrics if "validation_loss" in line]
    return round(validations[-1]["step"] / (validations[-1]["epoch"] + 1)) if validations else None
