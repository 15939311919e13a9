"""What is left until the kill, as Slurm 22.05 told it in a sandbox with GraceTime=12 and KillWait=8."""

import subprocess

import pytest

from mri_hpc.base.stop_flag import StopRequest
from mri_hpc.cluster import slurm
from mri_hpc.cluster.choice import kill_time_of
from mri_hpc.cluster.rank import SAVE_GRACE
from mri_hpc.cluster.slurm import kill_time
from mri_hpc.cluster.slurm_answers import parse_kill_time

CONFIG = "Configuration data as of 2026-11-25\nKillOnBadExit           = 0\nKillWait                = 8 sec\n"
TOLD_S = 1795575211.8


def shown(state, end_s, preempted="None"):
    return (
        f"JobId=1 JobName=wrap Restarts=0 JobState={state} Reason=None RunTime=00:00:04 TimeLimit=00:10:00 "
        f"StartTime=1795575207 EndTime={end_s} PreemptTime={preempted} Partition=low\n"
    )


@pytest.mark.parametrize(
    ("shown", "kill_s"),
    [
        # Preempted: EndTime is the signal + GraceTime, and KillWait follows.
        (shown("RUNNING", 1795575223, preempted=1795575211), 1795575223 + 8),
        # Ahead of the time limit.
        (shown("RUNNING", 1795575267), 1795575267 + 8),
        # scontrol requeue, and preemption without GraceTime: EndTime is already that of the next run.
        (shown("COMPLETING", 1795575811), TOLD_S + 8),
        # scancel, and the time limit itself.
        (shown("COMPLETING", 1795575211), TOLD_S + 8),
        (shown("RUNNING", 1795575210), TOLD_S + 8),
        (shown("RUNNING", "Unknown"), TOLD_S + 8),
    ],
)
def test_the_kill_follows_the_end_of_a_running_job_and_the_signal_to_one_that_is_cleared_away(shown, kill_s):
    assert parse_kill_time(shown, CONFIG, TOLD_S) == kill_s


def test_where_slurm_does_not_tell_nobody_guesses():
    assert parse_kill_time("", CONFIG, TOLD_S) is None
    assert parse_kill_time(shown("RUNNING", 1795575223), "", TOLD_S) is None


def test_where_slurm_does_not_answer_its_newer_versions_have_told_the_limit_before(monkeypatch):
    monkeypatch.setattr(slurm, "_ask", lambda _words, **_limits: None)
    assert kill_time("1", TOLD_S, {}) is None
    assert kill_time("1", TOLD_S, {"SLURM_JOB_END_TIME": "1795575267"}) == 1795575267
    assert kill_time("1", TOLD_S, {"SLURM_JOB_END_TIME": str(int(TOLD_S) - 1)}) is None


def test_a_rank_asks_slurm_about_its_own_job(monkeypatch):
    asked = []

    def answer(words, **_limits):
        asked.append(words)
        return subprocess.CompletedProcess(
            words, 0, CONFIG if "config" in words else shown("COMPLETING", 1), ""
        )

    monkeypatch.setattr(slurm, "_ask", answer)
    rank = {"SLURM_JOB_ID": "4711", "SLURM_STEP_ID": "0", "SLURM_PROCID": "0"}
    request = StopRequest(signal_name="SIGUSR2", received_s=TOLD_S)
    assert kill_time_of(rank)(request) == TOLD_S + 8
    assert asked[0][-1] == "4711"


def test_the_supervisor_kills_after_its_grace_and_nobody_else_does_on_this_machine():
    told = StopRequest(signal_name="SIGTERM", received_s=TOLD_S)
    assert kill_time_of({SAVE_GRACE: "30.0"})(told) == TOLD_S + 30
    assert kill_time_of({SAVE_GRACE: "30.0"})(StopRequest(signal_name="SIGUSR2", received_s=TOLD_S)) is None
    assert kill_time_of({})(told) is None


@pytest.mark.parametrize("ahead_s", [-120, 120])
def test_the_kill_is_told_by_this_nodes_clock_where_slurms_is_another(monkeypatch, ahead_s):
    """The node reads TOLD_S + ahead_s as the signal comes, and the controller writes its own time."""
    answers = {
        "job": shown("RUNNING", 1795575267),
        "config": f"Configuration data as of {int(TOLD_S)}\nKillWait                = 8 sec\n",
    }
    monkeypatch.setattr(
        slurm,
        "_ask",
        lambda argv, **_how: subprocess.CompletedProcess(
            argv, 0, answers[argv[-1] if argv[-1] in answers else "job"], ""
        ),
    )
    monkeypatch.setattr(slurm.time, "time", lambda: TOLD_S + ahead_s)
    assert kill_time("1", TOLD_S + ahead_s, {}) == pytest.approx(1795575267 + 8 + ahead_s, abs=1)
