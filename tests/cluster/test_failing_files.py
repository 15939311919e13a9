"""Promise 9 where the run's file system fails: it is waited for a while, and then Slurm's word counts."""

import errno
import json
import os
import signal
import sys

import pytest

from mri_hpc.base.exit_status import USER_CAN_FIX
from mri_hpc.cluster import batch, local, outcome
from mri_hpc.cluster.batch import after_ranks
from mri_hpc.cluster.choice import phase_of
from mri_hpc.cluster.on_this_machine import SUPERVISOR_LOG, process_began, start_supervisor
from mri_hpc.cluster.rank_exits import read_exits, record_exit
from mri_hpc.cluster.requeue import decide_without_ledger
from mri_hpc.cluster.scheduler import Phase
from mri_hpc.cluster.slurm_answers import JobState
from mri_hpc.rundir import ledger
from mri_hpc.rundir.decisions import Action, Cause
from mri_hpc.rundir.layout import Attempt
from mri_hpc.rundir.ledger import Kind, read_events, record

RUNNING = JobState(state="RUNNING")
FIRST = Attempt(submission=1, restart=0)


@pytest.fixture
def run(planned_run):
    run = planned_run()
    run.claim_submission()
    return run


@pytest.fixture
def end_ranks(run, monkeypatch):
    """Plays the batch script's part after the ranks; returns (its exit status, the jobs it had requeued)."""
    monkeypatch.setattr(outcome, "INTERVAL_S", 0.01)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    requeued = []

    def end(job, status):
        monkeypatch.setattr("mri_hpc.cluster.slurm.job_state", lambda _job_id: job)
        monkeypatch.setattr("mri_hpc.cluster.slurm.requeue", lambda job_id: requeued.append(job_id) or "")
        return after_ranks(run, 1, status=status, signal_ahead_s=90), requeued

    return end


@pytest.fixture
def failing(monkeypatch):
    """Has appending to the ledger fail, for a number of times or for good; returns how often it was tried."""
    real = ledger.append_line

    def fail(times=None, *, code=errno.ESTALE, after_writing=""):
        tried = []
        if times is None:
            # What comes back is waited for as long as in earnest, however slow this machine is.
            monkeypatch.setattr(outcome, "PATIENCE_S", 0.05)
            monkeypatch.setattr(outcome, "PATIENCE_OF_A_JOB_THAT_ENDS_S", 0.05)

        def append_line(path, line):
            if after_writing and json.loads(line)["event"] != after_writing:
                return real(path, line)
            if after_writing:
                real(path, line)
            tried.append(line)
            if times is None or len(tried) <= times:
                raise OSError(code, os.strerror(code), str(path))
            return None if after_writing else real(path, line)

        monkeypatch.setattr(ledger, "append_line", append_line)
        return tried

    return fail


@pytest.fixture
def newer_ledger(run):
    """A version has written to the ledger that is newer than this one."""
    run.events.write_text('{"format": 99, "time": 1.0, "attempt": "1.0", "event": "starting"}\n')


def decisions(run):
    return [
        (e.values["decision"], e.values["cause"], e.values["reason"])
        for e in read_events(run)
        if e.kind == Kind.DECIDED
    ]


def test_a_file_server_that_flakes_is_waited_for(run, end_ranks, failing):
    tried = failing(times=2)
    assert end_ranks(RUNNING, 1) == (75, ["7"])
    assert decisions(run) == [("again", "crash", "crashed with status 1, attempt 1 at this checkpoint")]
    assert len(tried) == 4


@pytest.mark.parametrize("code", [errno.ESTALE, errno.EIO, errno.EDQUOT, errno.ENOSPC])
@pytest.mark.parametrize(
    "job",
    [
        JobState(state="PREEMPTED"),
        JobState(state="RUNNING", is_preempted=True),
        JobState(state="RUNNING", is_out_of_time=True),
        JobState(state="NODE_FAIL"),
        JobState(state="COMPLETING", restarts=1),
    ],
    ids=str,
)
def test_without_a_ledger_what_slurm_ended_comes_back_and_says_so(end_ranks, failing, capsys, job, code):
    failing(code=code)
    assert end_ranks(job, 75) == (75, ["7"])
    assert f"events.jsonl could not be read or written: [Errno {code}]" in capsys.readouterr().out


def test_without_a_ledger_the_notes_of_the_ranks_still_tell(run, end_ranks, failing):
    """The step's status is that of a rank which was killed after all had saved ahead of the time limit."""
    record_exit(run, FIRST, 0, 75)
    failing()
    ahead = JobState(state="RUNNING", end_s=outcome.time.time() + 80)
    assert end_ranks(ahead, 137) == (75, ["7"])


@pytest.mark.parametrize(
    ("job", "status", "exits"),
    [
        (RUNNING, 1, 1),
        (RUNNING, 75, 1),
        (None, 75, 1),
        (RUNNING, 2, 1),
        (JobState(state="CANCELLED"), 75, 0),
        # All ranks say that it is done.
        (RUNNING, 0, 0),
    ],
)
def test_without_a_ledger_nothing_comes_back_that_might_do_so_for_ever_or_that_is_over(
    end_ranks, failing, job, status, exits
):
    failing()
    assert end_ranks(job, status) == (exits, [])


@pytest.mark.parametrize(
    ("job", "status", "exits", "requeued"),
    [
        (JobState(state="PREEMPTED"), 75, 75, ["7"]),
        (JobState(state="RUNNING", is_out_of_time=True), 75, 75, ["7"]),
        (RUNNING, 1, 1, []),
        (RUNNING, 2, 1, []),
        (RUNNING, 75, 1, []),
        (JobState(state="CANCELLED"), 75, 0, []),
    ],
)
def test_beside_the_ledger_of_a_newer_version_what_slurm_ended_comes_back_and_nothing_else(
    run, end_ranks, newer_ledger, capsys, job, status, exits, requeued
):
    assert end_ranks(job, status) == (exits, requeued)
    assert "events.jsonl has format 99, this version reads up to 1: use a newer mri_hpc" in (
        capsys.readouterr().out
    )
    assert '"event": "decided"' in run.events.read_text()


def test_beside_the_ledger_of_a_newer_version_a_job_whose_run_is_in_newer_hands_or_finished_stays_away(
    run, end_ranks, newer_ledger
):
    run.claim_submission()
    assert end_ranks(JobState(state="PREEMPTED"), 75) == (0, [])
    assert not outcome.may_start(run, 1)
    run.mark_done()
    assert end_ranks(JobState(state="PREEMPTED"), 75) == (0, [])


def test_beside_the_ledger_of_a_newer_version_no_ranks_start_and_the_ledger_says_why(
    run, newer_ledger, capsys
):
    assert batch.main(["before", "--run", str(run.path), "--submission", "1"]) == batch.MAY_NOT_START
    reason = f"{run.events} has format 99, this version reads up to 1: use a newer mri_hpc"
    assert capsys.readouterr().out == f"mri_hpc: {reason}\n"
    decided = json.loads(run.events.read_text().splitlines()[-1])
    assert (decided["decision"], decided["cause"], decided["reason"]) == ("give_up", "user_error", reason)


def test_a_supervisor_refuses_the_ledger_of_a_newer_version_in_one_line(run, newer_ledger, capsys):
    sizes = ["--ranks", "1", "--threads", "1", "--gpus", "0"]
    words = ["--run", str(run.path), "--submission", "1", "--module", "standin_rank", *sizes]
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        assert local.main(words) == USER_CAN_FIX
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    assert capsys.readouterr().out.endswith(": use a newer mri_hpc\n")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"status": "2", "time": 1.0}',
        '{"status": 2, "time": null}',
        '{"format": 99, "status": 2}',
    ],
)
def test_a_note_of_a_rank_that_cannot_be_read_does_not_keep_the_job_from_coming_back(run, end_ranks, text):
    (run.attempt_folder(FIRST) / "rank1.exit.json").write_text(text)
    assert end_ranks(JobState(state="PREEMPTED"), 75) == (75, ["7"])
    record_exit(run, FIRST, 0, 75)
    assert json.loads((run.attempt_folder(FIRST) / "rank0.exit.json").read_text())["format"] == 1
    assert list(read_exits(run, FIRST)) == [0]


def test_what_is_given_up_for_want_of_a_ledger_says_so():
    decision = decide_without_ledger(Cause.CRASH, 137)
    assert decision.action is Action.GIVE_UP
    assert decision.reason.endswith(
        "without the ledger nobody can count its attempts: launch again to resume"
    )
    assert decide_without_ledger(Cause.STOPPED, 75).reason.startswith("stopped by a signal, and without")


def test_a_decision_that_was_written_before_the_failure_does_not_count_as_another_crash(
    run, end_ranks, failing, monkeypatch
):
    record(run, FIRST, Kind.DECIDED, decision="again", cause="crash", reason="", step=0)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    failing(times=1, after_writing="decided")
    assert end_ranks(RUNNING, 1) == (75, ["7"])
    assert decisions(run)[-1] == ("again", "crash", "crashed with status 1, attempt 2 at this checkpoint")


def test_an_output_that_cannot_be_written_does_not_keep_the_job_from_coming_back(
    end_ranks, failing, monkeypatch
):
    def refuse(*_words):
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    failing(code=errno.EDQUOT)
    monkeypatch.setattr(sys.stdout, "write", refuse)
    assert end_ranks(JobState(state="PREEMPTED"), 75) == (75, ["7"])


def test_a_supervisor_waits_for_the_files_of_its_run(planned_run, wait_for):
    run = planned_run()
    run.claim_submission()
    # In place of a file server that is away: what is to be appended to is no file.
    run.events.mkdir()
    job = start_supervisor(run, 1, ranks=1, threads=1, gpus=0, module="standin_rank")
    try:
        log = run.attempt_folder(FIRST) / SUPERVISOR_LOG
        wait_for(lambda: "trying again" in log.read_text(), what="a failure")
        run.events.rmdir()
        wait_for(lambda: phase_of(job) is Phase.GONE, what="the end of the supervisor")
    finally:
        if process_began(job.pid) == job.began:
            os.kill(job.pid, signal.SIGKILL)
        os.waitpid(job.pid, 0)
    assert [decision for decision, _, _ in decisions(run)] == ["finished"]
