"""The rules by which ranks start again, or not, once they have gone; for batch script and supervisor."""

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mri_hpc.base.exit_status import AGAIN, DONE, LOST_PEER, USER_CAN_FIX
from mri_hpc.cluster.slurm_answers import JobState
from mri_hpc.rundir.decisions import Action, Cause
from mri_hpc.rundir.layout import Attempt
from mri_hpc.rundir.ledger import Event, Kind

MAX_ATTEMPTS_WITHOUT_PROGRESS = 3
# Slurm may send the signal ahead of the limit up to a minute early.
SIGNAL_SLACK_S = 60
# Of a rank that had yet to listen. SIGTERM says nothing: srun -K sends it, whatever the first rank died of.
STOP_SIGNAL_UNHEARD = {128 + number for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT)}
KILLED_BY_TERM = 128 + signal.SIGTERM
# Slurm's words for the end of a job, and the causes that they name.
CAUSE_OF_STATE = {
    "CANCELLED": Cause.CANCELLED,
    "PREEMPTED": Cause.PREEMPTED,
    "TIMEOUT": Cause.TIME_LIMIT,
    "DEADLINE": Cause.TIME_LIMIT,
    "NODE_FAIL": Cause.NODE_FAILURE,
    "BOOT_FAIL": Cause.NODE_FAILURE,
    "REQUEUED": Cause.REQUEUED,
    "PENDING": Cause.REQUEUED,
}
# Causes without a fault of the run, unless they come again and again before a step is done.
ENDED_EARLY = {Cause.TIME_LIMIT, Cause.STOPPED}


@dataclass(frozen=True, kw_only=True)
class Ending:
    """Facts about an attempt whose ranks have gone."""

    status: int
    """Exit status that speaks for all ranks: that of the first to fail, else 75 if any said "again"."""
    restart: int = 0
    """Number of the attempt's restart within its submission."""
    is_done: bool = False
    """DONE is there."""
    is_superseded: bool = False
    """A newer attempt has the run."""
    has_caught_up: bool = False
    """The run follows its store, and the ranks have left since that holds nothing new to learn."""
    is_cancelled: bool = False
    """The user has cancelled the run."""
    stop_signal: str = ""
    """The signal on which the ranks agreed to stop; empty if they did not."""
    stopped_s: float = 0.0
    """Unix time of that agreement, or at which the ranks were gone without one."""
    signal_ahead_s: int = 0
    """Seconds before the time limit at which the ranks are signalled."""
    job: JobState | None = None
    """State of the job in Slurm; None without Slurm, or where it does not answer."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The action to take, and its reason."""

    action: Action
    cause: Cause
    reason: str
    """For people: one line."""


def find_cause(ending: Ending) -> Cause:
    """Find why the ranks have gone. Slurm is believed before the status: dying ranks fail in many ways."""
    for is_so, cause in (
        (ending.is_done, Cause.FINISHED),
        (ending.is_superseded, Cause.SUPERSEDED),
        (ending.is_cancelled, Cause.CANCELLED),
        (ending.has_caught_up and ending.status in (DONE, AGAIN), Cause.CAUGHT_UP),
    ):
        if is_so:
            return cause
    by_slurm = _cause_by_slurm(ending, ending.job) if ending.job else None
    if by_slurm is Cause.CANCELLED or ending.status != USER_CAN_FIX:
        return by_slurm or _cause_by_status(ending)
    return Cause.USER_ERROR


def decide(cause: Cause, status: int, in_vain: int) -> Decision:
    """Decide on the action for a cause: here alone it is decided whether a run comes back.

    in_vain: earlier attempts of this submission, as `attempts_in_vain` counts them.
    """

    def decision(action: Action, reason: str) -> Decision:
        return Decision(action=action, cause=cause, reason=reason)

    tries = in_vain + 1
    match cause:
        case Cause.FINISHED:
            return decision(Action.FINISHED, "the run is finished")
        case Cause.SUPERSEDED:
            return decision(Action.STAY_AWAY, "a newer attempt has the run")
        case Cause.CANCELLED:
            return decision(Action.STAY_AWAY, "cancelled by the user; launch again to resume")
        case Cause.CAUGHT_UP:
            return decision(
                Action.STAY_AWAY,
                "nothing new to learn; launch again once the store has grown, with more --epochs where only "
                "the last ones are left, or with --no-follow to finish",
            )
        case Cause.USER_ERROR:
            return decision(
                Action.GIVE_UP, "the ranks ended with an error that you can fix; the last words say which"
            )
        case Cause.PREEMPTED | Cause.NODE_FAILURE | Cause.REQUEUED | Cause.VANISHED:
            return decision(
                Action.AGAIN, f"{cause.value.replace('_', ' ')}: resumes from the last checkpoint"
            )
        case Cause.TIME_LIMIT if tries < MAX_ATTEMPTS_WITHOUT_PROGRESS:
            return decision(Action.AGAIN, "time limit: resumes from the last checkpoint")
        case Cause.TIME_LIMIT:
            reason = (
                f"{tries} attempts reached the time limit without a new checkpoint: raise --time-limit-min"
            )
            return decision(Action.GIVE_UP, reason)
        case Cause.STOPPED if tries < MAX_ATTEMPTS_WITHOUT_PROGRESS:
            return decision(Action.AGAIN, "stopped by a signal: resumes from the last checkpoint")
        case Cause.STOPPED:
            reason = (
                f"{tries} attempts were stopped by a signal without a new checkpoint: see the job's output "
                f"in submitit/ for who sent it"
            )
            return decision(Action.GIVE_UP, reason)
        case Cause.CRASH if tries < MAX_ATTEMPTS_WITHOUT_PROGRESS:
            return decision(Action.AGAIN, f"{_end_of(status)}, attempt {tries} at this checkpoint")
    reason = f"{_end_of(status)}: {tries} attempts without a new checkpoint"
    return decision(Action.GIVE_UP, reason)


def decide_without_ledger(cause: Cause, status: int) -> Decision:
    """Decide on the action for a cause where it is unknown how often it has come."""
    if cause in (Cause.CRASH, Cause.STOPPED):
        end = _end_of(status) if cause is Cause.CRASH else "stopped by a signal"
        reason = f"{end}, and without the ledger nobody can count its attempts: launch again to resume"
        return Decision(action=Action.GIVE_UP, cause=cause, reason=reason)
    return decide(cause, status, 0)


def _end_of(status: int) -> str:
    """Describe the end of a rank, for people."""
    if status == 128 + signal.SIGKILL:
        return f"killed with status {status}, often for want of memory (--mem-gb asks for more)"
    if status == LOST_PEER:
        return "lost a rank that could not say why it ended"
    if status == KILLED_BY_TERM:
        return f"ended with status {status} before the ranks could agree on a stop"
    return f"crashed with status {status}"


def attempts_in_vain(events: Sequence[Event], submission: int, step: int) -> int:
    """Count attempts of this submission that crashed at `step`, where the run still is, or were stopped there
    without a step."""
    began = {e.attempt: e.values.get("resumed_step") for e in events if e.kind == Kind.STARTED}
    return sum(
        event.kind == Kind.DECIDED
        and Attempt.parse(event.attempt).submission == submission
        and event.values.get("step") == step
        and (
            event.values.get("cause") == Cause.CRASH
            # Those that end so after some steps have saved them.
            or (event.values.get("cause") in ENDED_EARLY and began.get(event.attempt, step) == step)
        )
        for event in events
    )


def speaking_status(status: int, exits: Mapping[int, tuple[int, float]]) -> tuple[int, int | None]:
    """Return the status that speaks for all ranks, and the rank whose log explains it.

    status: of the whole step, in which ranks that were ended for the sake of another drown the first one.
    exits: rank → (status, Unix time), of the ranks that could write it down.
    """
    failed = [
        (code == LOST_PEER, when, rank, code)
        for rank, (code, when) in exits.items()
        if code not in (DONE, AGAIN)
    ]
    if failed:
        is_lost, _, rank, code = min(failed)
        # A rank that was killed writes nothing down: of its end the step knows more than its peers.
        return (status if is_lost and says_more_than_a_peer(status) else code), rank
    if any(code == AGAIN for code, _ in exits.values()):
        return AGAIN, None
    return status, None


def says_more_than_a_peer(status: int) -> bool:
    """Tell whether an exit status says more of a crash than that of a rank which lost another."""
    return status not in {DONE, AGAIN, LOST_PEER, KILLED_BY_TERM}


def _cause_by_slurm(ending: Ending, job: JobState) -> Cause | None:
    if job.state in CAUSE_OF_STATE:
        return CAUSE_OF_STATE[job.state]
    if job.is_preempted:
        return Cause.PREEMPTED
    if job.is_out_of_time or _is_ahead_of_limit(ending, job):
        return Cause.TIME_LIMIT
    if job.restarts > ending.restart:
        return Cause.REQUEUED
    # Nothing else ends a job that still ran: asked only where there is no accounting to say so.
    return Cause.CANCELLED if job.state == "COMPLETING" else None


def _is_ahead_of_limit(ending: Ending, job: JobState) -> bool:
    # Ranks that had yet to meet, or to listen, leave without an agreement.
    is_signalled = ending.stop_signal == signal.SIGUSR2.name or (
        not ending.stop_signal and ending.status in (AGAIN, 128 + signal.SIGUSR2)
    )
    if not is_signalled or job.end_s is None:
        return False
    return job.end_s - ending.stopped_s <= ending.signal_ahead_s + SIGNAL_SLACK_S


def _cause_by_status(ending: Ending) -> Cause:
    if ending.status == AGAIN or ending.status in STOP_SIGNAL_UNHEARD:
        return Cause.STOPPED
    # After the agreement the state is saved: how the processes died no longer matters.
    if ending.stop_signal and ending.status > 128:
        return Cause.STOPPED
    return Cause.CRASH
