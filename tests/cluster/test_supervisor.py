"""Without Slurm, a supervisor plays the batch script's part: real processes, real signals."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from mri_hpc.cluster.choice import phase_of, scheduler_of
from mri_hpc.cluster.local import SAVE_GRACE_S, Ranks
from mri_hpc.cluster.on_this_machine import local_job, num_gpus, process_began, start_supervisor
from mri_hpc.cluster.outcome import may_start
from mri_hpc.cluster.rank import RANK_MODULE, rank_command
from mri_hpc.cluster.scheduler import Phase
from mri_hpc.rundir.layout import Attempt
from mri_hpc.rundir.ledger import Kind, read_events, record
from mri_hpc.rundir.manifests import newest_manifest
from mri_hpc.rundir.metrics_log import read_metrics

THEN = 5
# A run that works until it is interrupted, and ends soon after it was resumed.
LONG = {"steps": 100_000, "step_s": 0.02, "then": THEN}


@pytest.fixture
def supervise(wait_for):
    """Starts a supervisor of 2 ranks, and ends it after the test if need be."""
    jobs = []

    def start(run):
        attempt = run.claim_submission()
        job = start_supervisor(run, attempt.submission, ranks=2, threads=1, gpus=0, module="standin_rank")
        jobs.append(job)
        return job

    yield start
    for job in jobs:
        if process_began(job.pid) == job.began:
            os.kill(job.pid, signal.SIGKILL)
        os.waitpid(job.pid, 0)


def pid_of(run, attempt, rank, wait_for):
    file = run.attempt_folder(Attempt.parse(attempt)) / f"rank{rank}.pid"
    return int(wait_for(lambda: file.is_file() and file.read_text(), what=f"rank {rank} of {attempt}"))


def decisions(run):
    return [
        (e.attempt, e.values["decision"], e.values["cause"])
        for e in read_events(run)
        if e.kind == Kind.DECIDED
    ]


def wait_until_gone(job, wait_for, timeout_s=300.0):
    wait_for(lambda: phase_of(job) is Phase.GONE, timeout_s=timeout_s, what="the end of the supervisor")


def wait_for_steps(run, steps, wait_for):
    wait_for(lambda: len(read_metrics(run)) >= steps, what=f"step {steps}")


def test_a_supervisor_is_heard_of_while_it_lives(planned_run, supervise, wait_for, monkeypatch):
    run = planned_run(**LONG)
    with monkeypatch.context() as machine:
        machine.setattr(os, "uname", lambda: SimpleNamespace(nodename="elsewhere"))
        job = supervise(run)
    assert (job.host, Path(job.heartbeat).name) == ("elsewhere", "heartbeat")
    wait_for_steps(run, 1, wait_for)
    os.utime(job.heartbeat, (0, 0))
    assert phase_of(job) is Phase.GONE
    # It touches it whenever it looks at its ranks.
    os.kill(job.pid, signal.SIGUSR2)
    wait_for(lambda: phase_of(job) is Phase.RUNNING, what="the heartbeat")


def test_ranks_that_finish_are_not_started_again(planned_run, supervise, wait_for):
    run = planned_run()
    wait_until_gone(supervise(run), wait_for)
    assert decisions(run) == [("1.0", "finished", "finished")]
    assert run.all_attempts() == [Attempt(submission=1, restart=0)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_a_signal_to_one_rank_makes_all_save_and_resume_at_the_very_next_step(
    planned_run, supervise, wait_for, number
):
    run = planned_run(**LONG)
    job = supervise(run)
    wait_for_steps(run, 5, wait_for)
    os.kill(pid_of(run, "1.0", 1, wait_for), number)
    wait_until_gone(job, wait_for)
    assert decisions(run) == [("1.0", "again", "stopped"), ("1.1", "finished", "finished")]
    [agreed] = [event for event in read_events(run) if event.kind == Kind.STOP_AGREED]
    steps = agreed.values["step"] + THEN
    assert [line["step"] for line in read_metrics(run)] == list(range(1, steps + 1))


def test_a_signal_before_the_rank_listens_is_not_lost(planned_run, supervise, wait_for):
    run = planned_run(**LONG)
    job = supervise(run)
    # The log is there a little before Python has imported what the rank needs to listen.
    log = run.rank_log(Attempt.parse("1.0"), 0)
    wait_for(log.is_file)
    children = Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGTERM)
    wait_until_gone(job, wait_for)
    # Not killed by it: told to save.
    assert [e.attempt for e in read_events(run) if e.kind == Kind.STOP_AGREED] == ["1.0"]
    assert decisions(run) == [("1.0", "again", "stopped"), ("1.1", "finished", "finished")]


def test_a_killed_rank_takes_its_peers_along_and_the_run_resumes(planned_run, supervise, wait_for):
    run = planned_run(**LONG)
    job = supervise(run)
    wait_for_steps(run, 3, wait_for)
    os.kill(pid_of(run, "1.0", 1, wait_for), signal.SIGKILL)
    wait_until_gone(job, wait_for)
    assert decisions(run) == [("1.0", "again", "crash"), ("1.1", "finished", "finished")]


def test_a_run_that_crashes_without_progress_ends_at_the_third_attempt_with_the_last_words(
    planned_run, supervise, wait_for
):
    run = planned_run(fail=[{"rank": 1, "step": 0, "how": 1}], steps=500)
    wait_until_gone(supervise(run), wait_for)
    assert decisions(run) == [
        ("1.0", "again", "crash"),
        ("1.1", "again", "crash"),
        ("1.2", "give_up", "crash"),
    ]
    last = read_events(run)[-1].values
    assert last["reason"] == "crashed with status 1: 3 attempts without a new checkpoint"
    assert last["last_words"][-1] == "dying: 1"


def test_crashes_with_progress_between_them_go_on(planned_run, supervise, wait_for):
    crashes = [{"attempt": f"1.{n}", "rank": 0, "step": 3 * (n + 1), "how": 1} for n in range(4)]
    run = planned_run(fail=crashes, steps=20, save_every=2)
    wait_until_gone(supervise(run), wait_for)
    assert [decision for _, decision, _ in decisions(run)] == ["again"] * 4 + ["finished"]


def test_an_error_that_the_user_can_mend_ends_the_run_at_once(planned_run, supervise, wait_for):
    run = planned_run(fail=[{"rank": 0, "step": 2, "how": 2}])
    wait_until_gone(supervise(run), wait_for)
    assert decisions(run) == [("1.0", "give_up", "user_error")]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_supervisor_cancels_the_ranks_save_and_nothing_comes_back(
    planned_run, supervise, wait_for, number
):
    run = planned_run(**LONG)
    job = supervise(run)
    wait_for_steps(run, 5, wait_for)
    os.kill(job.pid, number)
    wait_until_gone(job, wait_for)
    assert decisions(run) == [("1.0", "stay_away", "cancelled")]
    assert newest_manifest(run).progress.step >= 5
    [agreed] = [event for event in read_events(run) if event.kind == Kind.STOP_AGREED]
    assert agreed.values["left_s"] == pytest.approx(SAVE_GRACE_S)


def test_a_cancelled_job_of_this_machine_ends(planned_run, supervise, wait_for):
    run = planned_run(**LONG)
    job = supervise(run)
    wait_for_steps(run, 1, wait_for)
    record(run, Attempt.parse("1.0"), Kind.CANCELLED, by="somebody")
    scheduler_of(job).cancel(job)
    wait_until_gone(job, wait_for)
    assert decisions(run) == [("1.0", "stay_away", "cancelled")]


@pytest.mark.parametrize(("first", "speaks"), [(75, 75), (0, 137), (1, 1)])
def test_a_rank_that_is_slow_to_leave_is_a_crash_only_where_nobody_was_told_to_stop(first, speaks, wait_for):
    ranks = Ranks({0: ["sh", "-c", f"exit {first}"], 1: ["sleep", "600"]}, {0: os.environ, 1: os.environ})
    wait_for(ranks.reap)
    ranks.kill()
    wait_for(ranks.reap)
    assert ranks.are_gone
    assert ranks.status == speaks


def test_a_rank_that_lost_another_does_not_speak_for_the_one_that_it_lost(wait_for):
    words = {0: ["sh", "-c", "exit 69"], 1: ["sh", "-c", "kill -KILL $$"], 2: ["sleep", "600"]}
    ranks = Ranks(words, dict.fromkeys(words, os.environ))
    pids = {rank: process.pid for rank, process in ranks._processes.items()}
    for rank in (0, 1):
        # As one that was waited for before the other.
        os.waitid(os.P_PID, pids[rank], os.WEXITED | os.WNOWAIT)
    ranks.reap()
    assert (ranks.status, ranks.failed_rank) == (137, 1)
    ranks.kill()
    wait_for(ranks.reap)
    assert ranks.failed_rank == 1


def test_ranks_that_only_lost_one_another_say_so_also_when_the_last_is_killed(wait_for):
    ranks = Ranks({0: ["sh", "-c", "exit 69"], 1: ["sleep", "600"]}, {0: os.environ, 1: os.environ})
    wait_for(ranks.reap)
    ranks.kill()
    wait_for(ranks.reap)
    assert (ranks.status, ranks.failed_rank) == (69, 0)


def test_a_killed_supervisor_leaves_no_rank_behind(planned_run, supervise, wait_for):
    run = planned_run(**LONG)
    job = supervise(run)
    pids = [pid_of(run, "1.0", rank, wait_for) for rank in (0, 1)]
    os.kill(job.pid, signal.SIGKILL)
    wait_for(lambda: not any(process_began(pid) for pid in pids), what="the end of the ranks")
    assert decisions(run) == []


def test_a_rank_whose_parent_died_before_it_could_ask_ends_itself():
    code = "from mri_hpc.cluster.rank import die_with_parent; die_with_parent(1); print('alive')"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (1, "")


def test_a_rank_that_cannot_write_down_how_it_ended_still_says_so_by_its_status(planned_run):
    run = planned_run(fail=[{"rank": 0, "step": 2, "how": 2}])
    attempt = run.claim_submission()
    # In place of a full disk: the name of its note is taken by a folder.
    (run.attempt_folder(attempt) / "rank0.exit.json").mkdir()
    ran = subprocess.run(rank_command(run.path, attempt.submission, "standin_rank"))
    assert ran.returncode == 2
    log = run.rank_log(attempt, 0).read_text()
    assert "rank 0 ended with 2, which is not written down" in log
    assert "Traceback" not in log


def test_nothing_starts_once_the_run_is_done(planned_run, supervise, wait_for):
    run = planned_run()
    run.mark_done()
    wait_until_gone(supervise(run), wait_for)
    assert not read_events(run)


def test_nothing_starts_once_the_run_is_cancelled(planned_run):
    run = planned_run()
    assert may_start(run, 1)
    record(run, Attempt.parse("1.0"), Kind.CANCELLED, by="somebody")
    assert not may_start(run, 1)
    # Launched again.
    assert may_start(run, 2)


def test_a_supervisor_that_newer_hands_have_replaced_does_not_come_back(planned_run, supervise, wait_for):
    run = planned_run(**LONG)
    job = supervise(run)
    wait_for_steps(run, 1, wait_for)
    run.claim_submission()
    os.kill(pid_of(run, "1.0", 0, wait_for), signal.SIGTERM)
    wait_until_gone(job, wait_for)
    assert decisions(run) == [("1.0", "stay_away", "superseded")]


def test_a_process_is_named_by_its_pid_and_its_beginning():
    job = local_job(os.getpid())
    assert phase_of(job) is Phase.RUNNING
    other = type(job)(**{**job.__dict__, "began": "another boot:1"})
    assert phase_of(other) is Phase.GONE


def test_gpus_are_those_that_the_shell_leaves_visible():
    assert num_gpus({"CUDA_VISIBLE_DEVICES": ""}) == 0
    assert num_gpus({"CUDA_VISIBLE_DEVICES": "-1"}) == 0
    assert num_gpus({"CUDA_VISIBLE_DEVICES": "0,3"}) == 2
    assert num_gpus({"CUDA_VISIBLE_DEVICES": "MIG-0aa0-11,MIG-1bb1-22"}) == 2


def test_ranks_run_a_module_that_takes_the_run_and_the_submission(tmp_path):
    words = ["--run", str(tmp_path / "gone"), "--submission", "1"]
    ran = subprocess.run([sys.executable, "-m", RANK_MODULE, *words], capture_output=True, text=True)
    # It got as far as looking for the run.
    assert (ran.returncode, f"{tmp_path / 'gone'} does not exist" in ran.stderr) == (2, True), ran.stderr
