"""The cause decides, once, whether a run comes back."""

import pytest

from mri_hpc.cluster.requeue import (
    Ending,
    attempts_in_vain,
    decide,
    find_cause,
    speaking_status,
)
from mri_hpc.cluster.slurm_answers import JobState
from mri_hpc.rundir.decisions import Action, Cause
from mri_hpc.rundir.ledger import Event, Kind

RUNNING = JobState(state="RUNNING", end_s=10_000.0)


def cause(**known):
    return find_cause(Ending(**{"status": 75, "stopped_s": 5000.0, "signal_ahead_s": 90, **known}))


@pytest.mark.parametrize(
    ("ending", "expected"),
    [
        # What the run's own folder says comes before all else.
        ({"is_done": True, "status": 0}, Cause.FINISHED),
        ({"is_done": True, "is_cancelled": True, "status": 143}, Cause.FINISHED),
        ({"is_superseded": True}, Cause.SUPERSEDED),
        ({"is_cancelled": True}, Cause.CANCELLED),
        ({"has_caught_up": True, "status": 0}, Cause.CAUGHT_UP),
        ({"has_caught_up": True, "status": 1}, Cause.CRASH),
        # Slurm's word for the end of the job.
        ({"job": JobState(state="CANCELLED")}, Cause.CANCELLED),
        ({"job": JobState(state="CANCELLED"), "status": 2}, Cause.CANCELLED),
        ({"job": JobState(state="PREEMPTED", restarts=1), "status": 137}, Cause.PREEMPTED),
        ({"job": JobState(state="TIMEOUT"), "status": 143}, Cause.TIME_LIMIT),
        ({"job": JobState(state="NODE_FAIL"), "status": 1}, Cause.NODE_FAILURE),
        ({"job": JobState(state="REQUEUED", restarts=1)}, Cause.REQUEUED),
        # Still running, by Slurm: within the grace time, or ahead of the limit.
        ({"job": JobState(state="RUNNING", is_preempted=True)}, Cause.PREEMPTED),
        ({"job": JobState(state="RUNNING", is_preempted=True), "stop_signal": "SIGUSR2"}, Cause.PREEMPTED),
        ({"job": RUNNING, "stop_signal": "SIGUSR2", "stopped_s": 9_900.0}, Cause.TIME_LIMIT),
        ({"job": RUNNING, "stop_signal": "SIGUSR2", "stopped_s": 5_000.0}, Cause.STOPPED),
        ({"job": RUNNING, "stop_signal": "SIGTERM", "stopped_s": 9_900.0}, Cause.STOPPED),
        # Told before they had met: there is no agreement.
        ({"job": RUNNING, "stop_signal": "", "stopped_s": 9_900.0}, Cause.TIME_LIMIT),
        ({"job": RUNNING, "stop_signal": "", "stopped_s": 5_000.0}, Cause.STOPPED),
        ({"job": RUNNING, "stop_signal": "", "stopped_s": 9_900.0, "status": 1}, Cause.CRASH),
        # Being cleared away, and no accounting that says why.
        ({"job": JobState(state="COMPLETING", restarts=1)}, Cause.REQUEUED),
        ({"job": JobState(state="COMPLETING", restarts=3), "restart": 2}, Cause.REQUEUED),
        ({"job": JobState(state="COMPLETING", is_preempted=True)}, Cause.PREEMPTED),
        ({"job": JobState(state="COMPLETING", is_out_of_time=True)}, Cause.TIME_LIMIT),
        ({"job": JobState(state="COMPLETING")}, Cause.CANCELLED),
        # Nothing but the exit status: without Slurm, or Slurm sees a job that runs.
        ({}, Cause.STOPPED),
        ({"status": 143, "stop_signal": "SIGTERM"}, Cause.STOPPED),
        # As srun says of all ranks where one could not even be started.
        ({"status": 143, "job": RUNNING}, Cause.CRASH),
        # Told before they listened, by somebody or by Slurm.
        ({"status": 140}, Cause.STOPPED),
        ({"status": 140, "job": RUNNING, "stopped_s": 5_000.0}, Cause.STOPPED),
        ({"status": 140, "job": RUNNING, "stopped_s": 9_900.0}, Cause.TIME_LIMIT),
        ({"status": 143, "job": RUNNING, "stopped_s": 9_900.0}, Cause.CRASH),
        ({"status": 137}, Cause.CRASH),
        ({"status": 137, "stop_signal": "SIGTERM"}, Cause.STOPPED),
        ({"status": 1, "stop_signal": "SIGTERM"}, Cause.CRASH),
        ({"status": 1, "job": RUNNING}, Cause.CRASH),
        ({"status": 70}, Cause.CRASH),
        ({"status": 2, "job": RUNNING}, Cause.USER_ERROR),
        ({"status": 2, "job": JobState(state="RUNNING", is_preempted=True)}, Cause.USER_ERROR),
        # Ranks that claim to have finished, and no DONE.
        ({"status": 0, "job": RUNNING}, Cause.CRASH),
    ],
)
def test_the_cause_is_told_by_the_run_then_by_slurm_then_by_the_exit_status(ending, expected):
    assert cause(**ending) is expected


@pytest.mark.parametrize(
    ("cause", "tries", "action"),
    [
        (Cause.FINISHED, 0, Action.FINISHED),
        (Cause.SUPERSEDED, 0, Action.STAY_AWAY),
        (Cause.CANCELLED, 0, Action.STAY_AWAY),
        (Cause.USER_ERROR, 0, Action.GIVE_UP),
        (Cause.PREEMPTED, 99, Action.AGAIN),
        (Cause.NODE_FAILURE, 99, Action.AGAIN),
        (Cause.REQUEUED, 99, Action.AGAIN),
        (Cause.STOPPED, 1, Action.AGAIN),
        (Cause.STOPPED, 2, Action.GIVE_UP),
        (Cause.VANISHED, 99, Action.AGAIN),
        (Cause.TIME_LIMIT, 1, Action.AGAIN),
        (Cause.TIME_LIMIT, 2, Action.GIVE_UP),
        (Cause.CRASH, 0, Action.AGAIN),
        (Cause.CRASH, 1, Action.AGAIN),
        (Cause.CRASH, 2, Action.GIVE_UP),
    ],
)
def test_the_decision_follows_from_the_cause(cause, tries, action):
    decision = decide(cause, 1, tries)
    assert decision.action is action
    assert decision.reason


def test_a_rank_that_was_killed_may_have_lacked_memory():
    assert "--mem-gb asks for more" in decide(Cause.CRASH, 137, 2).reason
    assert decide(Cause.CRASH, 69, 0).reason.startswith("lost a rank that could not say why it ended, a")
    assert decide(Cause.CRASH, 1, 0).reason == "crashed with status 1, attempt 1 at this checkpoint"


def test_every_cause_has_a_decision():
    assert {decide(cause, 1, 0).cause for cause in Cause} == set(Cause)


def decided(attempt, cause, step):
    return Event(time=0.0, attempt=attempt, kind=Kind.DECIDED.value, values={"cause": cause, "step": step})


def test_only_failures_at_the_present_checkpoint_of_this_submission_count():
    events = [
        decided("1.0", "crash", 40),
        decided("2.0", "crash", 30),
        decided("2.1", "crash", 40),
        decided("2.2", "preempted", 40),
        decided("2.3", "time_limit", 40),
    ]
    assert attempts_in_vain(events, submission=2, step=40) == 2
    assert attempts_in_vain(events, submission=2, step=50) == 0


@pytest.mark.parametrize("cause", ["time_limit", "stopped"])
def test_of_attempts_that_were_told_to_stop_only_those_without_a_step_count(cause):
    events = [
        Event(time=0.0, attempt="1.0", kind=Kind.STARTED.value, values={"resumed_step": 30}),
        decided("1.0", cause, 40),
        Event(time=0.0, attempt="1.1", kind=Kind.STARTED.value, values={"resumed_step": 40}),
        decided("1.1", cause, 40),
        decided("1.2", cause, 40),
    ]
    assert attempts_in_vain(events, submission=1, step=40) == 2


def test_the_first_rank_that_failed_speaks_for_all_and_not_those_that_were_ended_for_its_sake():
    assert speaking_status(143, {0: (1, 12.0), 1: (2, 11.0), 2: (75, 10.0)}) == (2, 1)


@pytest.mark.parametrize(
    ("step", "exits", "speaks"),
    [
        # Rank 1 was killed for want of memory, or ended as one that hung: it wrote nothing down.
        (137, {0: (69, 12.0), 2: (69, 11.0)}, (137, 2)),
        (70, {0: (69, 12.0)}, (70, 0)),
        # One that could say so.
        (137, {0: (69, 11.0), 1: (1, 12.0)}, (1, 1)),
        # The step's own status is that of ranks which were ended for the sake of these.
        (143, {0: (69, 12.0)}, (69, 0)),
        (75, {0: (69, 12.0), 1: (75, 11.0)}, (69, 0)),
        (69, {0: (69, 12.0), 1: (69, 13.0)}, (69, 0)),
    ],
)
def test_a_rank_that_lost_another_speaks_only_where_nobody_says_more(step, exits, speaks):
    assert speaking_status(step, exits) == speaks
    assert cause(status=speaks[0]) is Cause.CRASH


def test_a_rank_that_was_told_before_it_listened_says_more_than_the_peers_that_lost_it():
    status, _ = speaking_status(140, {0: (69, 12.0)})
    assert cause(status=status, job=RUNNING, stopped_s=9_900.0) is Cause.TIME_LIMIT


def test_ranks_that_said_again_are_believed_over_a_step_that_died_worse():
    assert speaking_status(143, {0: (75, 1.0), 1: (75, 2.0)}) == (75, None)


def test_where_no_rank_could_speak_the_status_of_the_step_counts():
    assert speaking_status(137, {}) == (137, None)
