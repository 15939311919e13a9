"""The outcome of an attempt, written down once its ranks have gone: by batch script or supervisor."""

import contextlib
import dataclasses
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from mri_hpc.base.errors import UserError
from mri_hpc.base.exit_status import DONE
from mri_hpc.cluster.rank_exits import read_exits
from mri_hpc.cluster.requeue import (
    CAUSE_OF_STATE,
    Decision,
    Ending,
    attempts_in_vain,
    decide,
    decide_without_ledger,
    find_cause,
    speaking_status,
)
from mri_hpc.cluster.slurm import own_job_id
from mri_hpc.cluster.slurm_answers import JobState
from mri_hpc.rundir import server_clock
from mri_hpc.rundir.decisions import Action, Cause
from mri_hpc.rundir.following import has_caught_up
from mri_hpc.rundir.layout import Attempt, RunDir
from mri_hpc.rundir.ledger import Event, Kind, read_events, record
from mri_hpc.rundir.manifests import newest_step
from mri_hpc.rundir.settings import load_training

LAST_LINES = 12
LOG_TAIL_BYTES = 8192
# A file server that is away comes back, as Slurm's controller does.
PATIENCE_S = 300.0
# Slurm ends the batch script as well: KillWait, by default 30 s, after it signalled the ranks.
PATIENCE_OF_A_JOB_THAT_ENDS_S = 8.0
INTERVAL_S = 2.0
OWN_WORDS = "mri_hpc: "
"""Begins what this module says of itself in the output of the job."""

T = TypeVar("T")


def may_start(run: RunDir, submission: int) -> bool:
    """Tell whether ranks may start: not once the run is finished, cancelled, or in newer hands."""
    newest = run.newest_attempt()
    if run.is_finished or (newest and newest.submission > submission):
        return False
    return not is_cancelled(run, submission)


def is_cancelled(run: RunDir, submission: int) -> bool:
    """Tell whether the user has cancelled this submission."""
    return _has_cancelled(read_events(run), submission)


def conclude(
    run: RunDir,
    attempt: Attempt,
    *,
    status: int,
    rank: int | None = None,
    failed_s: float | None = None,
    is_cancelled_here: bool = False,
    job: JobState | None = None,
    signal_ahead_s: int = 0,
) -> Decision:
    """Record that the ranks have gone and what is decided about it; the caller carries it out.

    rank, failed_s: whose log explains the status and when it died, where the caller saw it; else the ranks'
    own notes tell. Where the run's files cannot be read and written for long, or the ledger is of a newer
    version, what is decided follows from what is known without them.
    """
    known = Ending(
        status=status, restart=attempt.restart, is_done=status == DONE, is_cancelled=is_cancelled_here,
        stopped_s=server_clock.now(run.attempts), signal_ahead_s=signal_ahead_s, job=job,
    )  # fmt: skip
    is_ending = job is not None and find_cause(known) in CAUSE_OF_STATE.values()
    try:
        return patiently(
            lambda: _conclude(run, attempt, known, rank=rank, failed_s=failed_s),
            patience_s=PATIENCE_OF_A_JOB_THAT_ENDS_S if is_ending else PATIENCE_S,
        )
    except OSError as error:
        say(f"mri_hpc: the ledger {run.events} could not be read or written: {error}")
        if rank is None:
            with contextlib.suppress(OSError):
                status, _ = speaking_status(status, read_exits(run, attempt))
        known = dataclasses.replace(known, status=status, is_done=status == DONE)
        return decide_without_ledger(find_cause(known), status)


def patiently(ask: Callable[[], T], *, patience_s: float = PATIENCE_S) -> T:
    """Return what `ask` returns, asking again while the run's files are out of reach; OSError in the end."""
    give_up_s = time.monotonic() + patience_s
    while True:
        try:
            return ask()
        except OSError as error:
            if time.monotonic() >= give_up_s:
                raise
            say(f"mri_hpc: {error}; trying again")
        time.sleep(INTERVAL_S)


def say(text: str) -> None:
    """Print a line, if it can be: the job's output may lie where nothing can be written."""
    with contextlib.suppress(OSError):
        print(text, flush=True)


def _conclude(
    run: RunDir, attempt: Attempt, known: Ending, *, rank: int | None, failed_s: float | None
) -> Decision:
    """Record and decide by all that lies in the run's folder. May be called again where it raised OSError."""
    status = known.status
    if rank is None:
        status, rank = speaking_status(status, read_exits(run, attempt))
    record(run, attempt, Kind.RANKS_GONE, status=status)
    events = _readable_events(run, attempt)
    before_s = failed_s and failed_s - server_clock.ahead_s(run.attempts)
    stop = _agreed_stop(events or [], attempt, before_s=before_s)
    newest = run.newest_attempt()
    ending = dataclasses.replace(
        known,
        status=status,
        is_done=run.is_finished,
        is_superseded=newest is not None and newest > attempt,
        has_caught_up=has_caught_up(events or [], str(attempt)),
        is_cancelled=known.is_cancelled or _has_cancelled(events or [], attempt.submission),
        stop_signal=str(stop.values.get("signal", "")) if stop else "",
        stopped_s=stop.time if stop else known.stopped_s,
    )
    step = newest_step(run)
    cause = find_cause(ending)
    if events is None:
        decision = decide_without_ledger(cause, status)
    else:
        decision = decide(cause, status, attempts_in_vain(events, attempt.submission, step))
    record_decision(run, attempt, decision, step=step, rank=rank, status=status)
    if decision.cause is Cause.CAUGHT_UP and _is_to_finish(run):
        # Launch was told to finish while the run had its ranks. Read after the decision is written: a launch
        # of later sees that nothing runs.
        decision = Decision(action=Action.AGAIN, cause=Cause.CAUGHT_UP, reason="told to finish: goes on")
        record_decision(run, attempt, decision, step=step, rank=rank, status=status)
    return decision


def _is_to_finish(run: RunDir) -> bool:
    """Tell whether a run that followed its store is to do so no more."""
    with contextlib.suppress(UserError):
        return not load_training(run).follow
    return False


def _readable_events(run: RunDir, attempt: Attempt) -> list[Event] | None:
    """Read the events but for decisions on the attempt; None where a newer version has written there."""
    try:
        # An earlier call may have written its decision and failed after that.
        return [e for e in read_events(run) if e.kind != Kind.DECIDED or e.attempt != str(attempt)]
    except UserError as error:
        say(f"mri_hpc: {error}")
        return None


def record_decision(
    run: RunDir, attempt: Attempt, decision: Decision, *, step: int, rank: int | None, status: int
) -> None:
    """Write the decision into the ledger, with the last words of the rank that failed, if one did."""
    words = _last_words(run, attempt, rank) if decision.action is Action.GIVE_UP else []
    record(
        run, attempt, Kind.DECIDED, decision=decision.action.value, cause=decision.cause.value,
        reason=decision.reason, step=step, status=status, **({"last_words": words} if words else {}),
    )  # fmt: skip


def explain_vanished(run: RunDir, attempt: Attempt, *, state: str, otherwise: Cause) -> None:
    """Record why an attempt ended, unless it could say so itself: its node died, or it would not stop.

    state: as what Slurm's accounting holds it; empty where there is no word.
    """
    if is_decided(run, attempt):
        return
    cause = CAUSE_OF_STATE.get(state, otherwise)
    reason = f"vanished before it could say why; Slurm's accounting: {state or 'nothing'}"
    decision = Decision(action=Action.AGAIN, cause=cause, reason=reason)
    record_decision(run, attempt, decision, step=-1, rank=None, status=-1)


def is_over(run: RunDir, submission: int) -> bool:
    """Tell whether the ledger says that nothing of a submission runs, nor comes back by itself."""
    decided = [
        event
        for event in read_events(run)
        if event.kind == Kind.DECIDED and Attempt.parse(event.attempt).submission == submission
    ]
    return (
        bool(decided)
        and decided[-1].attempt == str(run.newest_attempt())
        and decided[-1].values.get("decision") in (Action.FINISHED, Action.GIVE_UP, Action.STAY_AWAY)
    )


def is_decided(run: RunDir, attempt: Attempt) -> bool:
    """Tell whether the ledger holds a decision on an attempt."""
    return any(event.kind == Kind.DECIDED and event.attempt == str(attempt) for event in read_events(run))


def _has_cancelled(events: list[Event], submission: int) -> bool:
    """Tell whether the user's cancelling of a submission is among the events."""
    return any(
        event.kind == Kind.CANCELLED and Attempt.parse(event.attempt).submission == submission
        for event in events
    )


def _agreed_stop(events: list[Event], attempt: Attempt, *, before_s: float | None) -> Event | None:
    """Return the agreement to stop; None where it only followed the death of a rank."""
    agreed = [e for e in events if e.kind == Kind.STOP_AGREED and e.attempt == str(attempt)]
    return agreed[-1] if agreed and (before_s is None or agreed[-1].time < before_s) else None


def _last_words(run: RunDir, attempt: Attempt, rank: int | None) -> list[str]:
    """Read the last lines of the failing rank's log; of rank 0's where none is known to have failed first."""
    path = run.rank_log(attempt, rank or 0)
    if path.is_file():
        return tail(path)
    # A rank that could not be started has no log: what srun and submitit printed of it lies here.
    words = [line for line in words_of_job(run, own_job_id()) if not line.startswith(OWN_WORDS)]
    return words[-LAST_LINES:] or [f"no log at {path}: the rank did not come to write one"]


def says_preempted(run: RunDir, job_id: str) -> bool:
    """Tell whether by its output a job was preempted in the end: without accounting, nothing else tells."""
    ends: list[str] = []
    for file in sorted(run.submitit.glob(f"{job_id}_*_log.out")):
        with contextlib.suppress(OSError):
            ends += re.findall(r"\*\*\* .* CANCELLED AT \S+ DUE TO (\w+)", _end_of(file))
    return ends[-1:] == ["PREEMPTION"]


def words_of_job(run: RunDir, job_id: str) -> list[str]:
    """Return the last lines that a job of Slurm, srun and submitit have printed, each once."""
    printed = sorted(run.submitit.glob(f"{job_id or '-'}_*_log.out"))
    return list(dict.fromkeys(line for file in printed for line in tail(file)))


def tail(path: Path) -> list[str]:
    """Read the last lines of a file that say something."""
    return [line for line in _end_of(path).splitlines() if line.strip()][-LAST_LINES:]


def _end_of(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - LOG_TAIL_BYTES))
        return file.read().decode(errors="replace")
