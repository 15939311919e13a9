"""The ledger of a run: events with their time and attempt. Lines are only ever appended."""

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from mri_hpc.base.atomic import append_line
from mri_hpc.base.documents import parse_lines, with_format, without_format
from mri_hpc.rundir import server_clock
from mri_hpc.rundir.layout import Attempt, RunDir

FORMAT = 1
CLOCKS = "clocks"
"""Value of any kind of event: machine → seconds by which its clock is ahead of the ledger's, where it is."""


UNSEEN = "unseen"
"""Value of `starting`: node → paths that it does not see, where there are any."""


class Kind(StrEnum):
    """Kinds of events of a run. Beside each: its writer, and the values it carries."""

    SUBMITTED = (
        # launch: cluster, job_id, nodes, ranks, gpus (of all nodes, where there are any), and
        "submitted"  # least_ranks where any number may come
    )
    STARTING = "starting"  # batch script or local supervisor, starting the ranks: unseen (node → paths)
    PROBING = "probing"  # rank 0: steps are timed before the first one
    STARTED = "started"  # rank 0: ranks, host, job_id, resumed_step, epoch, device, steps (how)
    LOST = "lost"  # rank 0, on resuming: steps (that earlier attempts did in vain), seconds, last_step_s
    CHANGED = "changed"  # rank 0: condition, before, now (bit-equality cannot be expected)
    FIRST_STEP = "first_step"  # rank 0: seconds since the process began, by part; seconds of the step
    STOP_AGREED = "stop_agreed"  # rank 0: signal, rank, phase, step, agreed_after_s, unfinished_s, way, why
    # rank 0: seconds for which ranks waited, reason (interval, epoch, stop); of one beside the training also
    # written_s until it was durable, work_s of these with a core at hand, slowed_s by which steps took longer
    SAVED = "saved"  # step, seconds, bytes, reason, written_s, work_s, slowed_s
    # rank 0, with each save, as use.Use has it: has_gpu, gpu_busy, gpu_bytes, gpu_limit_bytes, is_of_job, and
    USED = "used"  # seconds, cores_used, cores, memory_bytes, memory_limit_bytes
    # rank 0, where the interval between saves is auto, and another than before: as SavingInterval has it
    INTERVAL = "interval"  # seconds, held_s, between_s, failures, watched_s
    DAMAGED = "damaged"  # rank 0: checkpoint, reason
    EPOCH = "epoch"  # rank 0: epoch, validation_loss, balanced_accuracy, training_s, validation_s
    ADOPTED = "adopted"  # rank 0, of a run that follows its store: as following.Adoption has it
    FOLLOWED = "followed"  # rank 0: epoch, reason (for which no newer snapshot is adopted any more)
    CAUGHT_UP = "caught_up"  # rank 0: epoch, step (the ranks leave: nothing new to learn)
    TRAINED = "trained"  # rank 0: epoch, step, reason (patience, epochs)
    PREDICTED = "predicted"  # rank 0: images, seconds
    RANKS_GONE = "ranks_gone"  # batch script or local supervisor: status
    ACCOUNTED = "accounted"  # batch script: the same of all ranks, by the scheduler's accounting
    DECIDED = "decided"  # they too: decision, cause, reason, step (saved), status; giving up: last_words
    CANCELLED = "cancelled"  # launch --cancel: by (the user's name)


@dataclass(frozen=True, kw_only=True)
class Event:
    """One line of the ledger."""

    time: float
    """Unix time in seconds."""
    attempt: str
    """The attempt it belongs to, as ``submission.restart``."""
    kind: str
    """One of Kind."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """Values that the kind carries."""


# Keys of a line for time, attempt and kind of its event; all others are its values.
NAMED = ("time", "attempt", "event")


def record(run: RunDir, attempt: Attempt, kind: Kind, **values: Any) -> Event:
    """Append one event, durably, with its time by the file server's clock; return it."""
    ahead_s = server_clock.ahead_s(run.attempts)
    if ahead_s:
        # So that it can be said whose clock is off.
        values[CLOCKS] = {**values.get(CLOCKS, {}), os.uname().nodename: round(ahead_s, 1)}
    event = Event(time=time.time() - ahead_s, attempt=str(attempt), kind=kind.value, values=values)
    # Each line says its format: attempts of several versions may write to one ledger.
    line = {"time": round(event.time, 6), "attempt": event.attempt, "event": event.kind, **values}
    append_line(run.events, json.dumps(with_format(FORMAT, line)))
    return event


def read_events(run: RunDir) -> list[Event]:
    """Read all events in the order written, but for lines cut short by a full disk or a lost node.

    UserError where a newer version has written in a newer format.
    """
    path = run.events
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return [event for values in parse_lines(lines) if (event := _event(values, of=path))]


def _event(line: Mapping[str, Any], *, of: Path) -> Event | None:
    try:
        values = without_format(line, of=of, reads=FORMAT)
        when, attempt, kind = (values.pop(key) for key in NAMED)
    except (ValueError, KeyError):
        return None
    # By hand: whoever decides on the end of a job reads the ledger, and has seconds, imports among them.
    is_event = type(when) in (int, float) and isinstance(attempt, str) and isinstance(kind, str)
    return Event(time=float(when), attempt=attempt, kind=kind, values=values) if is_event else None
