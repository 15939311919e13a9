"""Several launches of one run: one submits, and what one leaves unfinished does not block the next."""

import multiprocessing
import os
import signal
import threading
import time
from functools import partial

from mri_hpc.cluster import choice, launching
from mri_hpc.cluster.batch import MAY_NOT_START, before_ranks
from mri_hpc.cluster.choice import scheduler_for
from mri_hpc.cluster.jobs import Job, job_of, publish_job
from mri_hpc.cluster.launching import CLAIM_TIMEOUT_S, Plan, end_job, submit_once
from mri_hpc.cluster.on_slurm import Slurm
from mri_hpc.cluster.outcome import may_start
from mri_hpc.cluster.scheduler import Phase, Sizes
from mri_hpc.cluster.slurm_answers import JobState
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.ledger import Kind, read_events, record
from mri_hpc.rundir.settings import JobSettings

LONG = {"steps": 5000, "step_s": 0.02}
MEETING_S = 120


def submit_one_of_many(path):
    """One of several launches of the same run; in a process of its own."""
    from mri_hpc.cluster import rank
    from mri_hpc.rundir.settings import load_training

    rank.RANK_MODULE = "standin_rank"
    run = RunDir(path)
    plan = Plan(run=run, training=load_training(run), job=JobSettings(cluster="local"), is_new=False)
    launched = submit_once(plan, scheduler_for(plan.job), Sizes(nodes=1, ranks_per_node=1, gpus_per_node=0))
    return launched.state, launched.submission


def meet_at(barrier):
    """In a process of a pool: where it meets the others before each launch."""
    global all_there
    all_there = barrier


def submit_with_the_others(path):
    all_there.wait(timeout=MEETING_S)
    return submit_one_of_many(path)


def test_of_several_launches_at_once_one_submits_and_the_others_name_its_job(planned_run):
    runs = [planned_run(f"run{number}", **LONG) for number in range(5)]
    context = multiprocessing.get_context("spawn")
    with context.Pool(3, initializer=meet_at, initargs=(context.Barrier(3),)) as pool:
        for run in runs:
            launched = pool.map(submit_with_the_others, [run.path] * 3, chunksize=1)
            assert sorted(launched) == [("live", 1)] * 2 + [("submitted", 1)]
            assert sum(event.kind == Kind.SUBMITTED for event in read_events(run)) == 1
            os.kill(job_of(run, 1).pid, signal.SIGKILL)


def test_a_launch_that_was_cut_short_does_not_block_the_run_for_good(planned_run):
    run = planned_run(**LONG)
    abandoned = run.claim_submission()
    long_ago = run.attempt_folder(abandoned).stat().st_mtime - CLAIM_TIMEOUT_S - 1
    os.utime(run.attempt_folder(abandoned), (long_ago, long_ago))
    assert submit_one_of_many(run.path) == ("submitted", 2)
    os.kill(job_of(run, 2).pid, signal.SIGKILL)


def test_a_login_node_whose_clock_is_ahead_waits_for_the_launch_of_another_as_well(planned_run, monkeypatch):
    run, clock = planned_run(), time.time
    run.claim_submission()
    publish = partial(publish_job, run, 1, Job(cluster="slurm", job_id="7"))
    monkeypatch.setattr(launching.time, "time", lambda: clock() + 2 * CLAIM_TIMEOUT_S)
    monkeypatch.setattr(launching.time, "sleep", lambda _s: publish())
    assert launching._job_of_submission(run, 1) == Job(cluster="slurm", job_id="7")


def test_cancelling_while_a_launch_submits_waits_for_its_job_and_ends_it(planned_run, monkeypatch):
    run, told = planned_run(), []
    claimed = run.claim_submission()
    publishing = threading.Timer(1.0, publish_job, (run, 1, Job(cluster="slurm", job_id="7")))
    monkeypatch.setattr(
        "mri_hpc.cluster.slurm.job_state",
        lambda _job_id: JobState(state="CANCELLED" if told else "PENDING"),
    )
    monkeypatch.setattr("mri_hpc.cluster.slurm.cancel", lambda job_id, _cluster: told.append(job_id))
    monkeypatch.setattr(choice, "SCHEDULERS", {"slurm": Slurm()})
    publishing.start()
    assert end_job(run) == "Slurm job 7 cancelled"
    publishing.join()
    assert told == ["7"]
    assert not may_start(run, claimed.submission)


def test_a_job_that_has_begun_since_it_was_asked_about_is_not_gone_once_it_is_cancelled(monkeypatch):
    scheduler, job, said = Slurm(), Job(cluster="slurm", job_id="7"), ["PENDING", "RUNNING"]
    monkeypatch.setattr("mri_hpc.cluster.slurm.job_state", lambda _job_id: JobState(state=said.pop(0)))
    monkeypatch.setattr("mri_hpc.cluster.slurm.cancel", lambda *_: None)
    assert scheduler.standing(job).phase is Phase.PENDING
    scheduler.cancel(job)
    assert scheduler.standing(job).phase is Phase.RUNNING


def test_a_job_that_ends_while_cancelling_waits_for_it_is_said_to_have_ended(planned_run, monkeypatch):
    run, clock, told_s = planned_run(), [1e9], []
    run.claim_submission()
    publish_job(run, 1, Job(cluster="slurm", job_id="7"))

    def job_state(_job_id):
        return JobState(state="CANCELLED" if told_s and clock[0] >= told_s[0] + 33 else "RUNNING")

    def sleep(seconds):
        clock[0] += seconds

    monkeypatch.setattr("mri_hpc.cluster.slurm.job_state", job_state)
    monkeypatch.setattr("mri_hpc.cluster.slurm.cancel", lambda *_: told_s.append(clock[0]))
    monkeypatch.setattr(choice, "SCHEDULERS", {"slurm": Slurm()})
    for name, call in (("time", lambda: clock[0]), ("monotonic", lambda: clock[0]), ("sleep", sleep)):
        monkeypatch.setattr(launching.time, name, call)
    assert end_job(run) == "Slurm job 7 cancelled"


def test_what_a_launch_that_was_cut_short_has_submitted_does_not_start_once_it_was_cancelled(planned_run):
    run = planned_run()
    abandoned = run.claim_submission()
    long_ago = run.attempt_folder(abandoned).stat().st_mtime - CLAIM_TIMEOUT_S - 1
    os.utime(run.attempt_folder(abandoned), (long_ago, long_ago))
    assert may_start(run, abandoned.submission)
    assert end_job(run) == "nothing of it runs"
    assert before_ranks(run, abandoned.submission) == MAY_NOT_START
    assert submit_one_of_many(run.path) == ("submitted", 2)
    os.kill(job_of(run, 2).pid, signal.SIGKILL)


def test_ranks_that_were_started_by_hand_are_nobody_s_to_cancel(planned_run):
    run = planned_run()
    record(run, run.claim_submission(), Kind.STARTED, ranks=2)
    assert end_job(run) == "nothing of it runs"
    assert may_start(run, 1)


def test_a_refused_submission_says_so_and_does_not_keep_the_next_from_submitting(planned_run):
    run = planned_run(**LONG)
    refused = run.claim_submission()
    publish_job(run, refused.submission, Job(cluster="", failure="Slurm refused the job"))
    assert submit_one_of_many(run.path) == ("submitted", 2)
    os.kill(job_of(run, 2).pid, signal.SIGKILL)
