"""status tells how a run stands, also where its ledger alone would not know."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from mri_hpc.base.errors import UserError
from mri_hpc.cluster import choice, slurm
from mri_hpc.cluster.choice import name_of, phase_of
from mri_hpc.cluster.jobs import Job, publish_job
from mri_hpc.cluster.on_slurm import Slurm
from mri_hpc.cluster.on_this_machine import local_job, process_began
from mri_hpc.cluster.run_picture import BAR_WIDTH, duration
from mri_hpc.cluster.scheduler import Phase
from mri_hpc.cluster.slurm_answers import JobState
from mri_hpc.cluster.views import Watcher, glance_at
from mri_hpc.rundir.layout import Attempt
from mri_hpc.rundir.ledger import Kind, record
from mri_hpc.rundir.metrics_log import MetricsLog
from mri_hpc.rundir.settings import load_job, load_training, save_settings
from mri_hpc.rundir.settled_batch import SettledBatch, publish_settled
from mri_hpc.rundir.summary import State
from mri_hpc.rundir.wall_clock import WallClock
from mri_hpc.status import main


@pytest.fixture
def status(capsys):
    def run(*words):
        capsys.readouterr()
        code = main([str(word) for word in words])
        return code, capsys.readouterr().out

    return run


@pytest.fixture
def as_job(monkeypatch):
    """Pretends what Slurm says about a job."""

    def say(state, reason=""):
        answer = JobState(state=state, reason=reason) if state else None
        monkeypatch.setattr(slurm, "job_state", lambda _job_id: answer)
        # Nothing that it said before is remembered.
        monkeypatch.setattr(choice, "SCHEDULERS", {**choice.SCHEDULERS, "slurm": Slurm()})

    return say


def test_a_finished_run_is_shown_with_its_restart_its_loss_and_the_digests_of_the_model(make_run, status):
    run = make_run()
    code, out = status(run.path)
    assert code == 0
    shown = (
        "finished", "1 (preempted × 1)", "1.0 preempted: 2 steps lost, down 0 s",
        "2 steps done again", "% of the time that it ran or waited to run", "3e" * 20,
    )  # fmt: skip
    assert [part for part in shown if part not in out.replace("\n", "")] == []
    assert out.splitlines()[-1].startswith("  next    python -m mri_hpc.evaluate ")


def test_the_settled_batch_size_and_the_run_that_is_continued_are_shown(make_run, status):
    run = make_run(finished=False)
    training = replace(load_training(run), batch_size="auto", continue_from=str(run.path.parent / "first"))
    save_settings(run, training, load_job(run))
    code, out = status(run.path)
    assert code == 0
    assert "auto: not settled yet" in out
    found = SettledBatch(batch_size=256, lr=2e-3, head_lr=None, images_a_rank=128, ranks=2, device="cpu")
    publish_settled(run, found)
    code, out = status(run.path)
    assert "256 images a step, learning rate up to 0.002" in out
    assert f"continues{run.path.parent / 'first'}" in "".join(out.split())
    values = json.loads(status(run.path, "--json")[1])
    assert (values["batch_size"], values["highest_lr"]) == (256, 0.002)
    assert values["continued_from"].endswith("first")


def test_conditions_of_bit_equality_that_changed_are_named(make_run, status):
    run = make_run()
    assert "changed" not in status(run.path)[1]
    again = Attempt(submission=1, restart=1)
    record(run, again, Kind.CHANGED, condition="device", before="a GPU", now="another GPU")
    line = "device: a GPU before 1.1, another GPU now"
    assert f"changed {line}" in " ".join(status(run.path)[1].split())
    assert json.loads(status(run.path, "--json")[1])["changed"] == [line]


def test_in_which_way_steps_are_computed_is_shown_where_it_is_not_the_plain_one(make_run, status):
    run = make_run(finished=False)
    again = Attempt(submission=1, restart=1)
    started = {"ranks": 1, "host": "a", "job_id": "", "resumed_step": 0, "epoch": 0, "device": "cpu"}
    for way, is_shown in (("plain", False), ("fused optimizer, channels last", True)):
        record(run, again, Kind.STARTED, **started, steps=way)
        shown = "computed with a fused optimizer, channels last" in " ".join(status(run.path)[1].split())
        assert shown == is_shown
        assert json.loads(status(run.path, "--json")[1])["steps"] == way


def test_how_the_ranks_last_stopped_is_shown_and_why(make_run, status):
    run = make_run(finished=False)
    why = "relies on the last checkpoint: 3.0 s left, a save takes 8.0 s"
    values = {"signal": "SIGTERM", "rank": 0, "phase": "training", "step": 57, "way": "rely", "why": why}
    record(run, Attempt(submission=1, restart=0), Kind.STOP_AGREED, **values)
    assert f"last stop SIGTERM in training, step 57: {why}" in " ".join(status(run.path)[1].split())
    assert why in json.loads(status(run.path, "--json")[1])["last_stop"]


def test_last_words_are_shown_as_they_are_brackets_and_all(make_run, status):
    run = make_run(finished=False)
    words = ["[rank0]: boom", "[/not/a/tag]"]
    attempt = Attempt(submission=1, restart=0)
    record(run, attempt, Kind.DECIDED, decision="give_up", cause="crash", reason="!", last_words=words)
    code, out = status(run.path)
    assert code == 0
    assert all(line in out for line in words)


def test_json_has_the_keys_that_scripts_rest_on(make_run, status):
    run = make_run()
    values = json.loads(status(run.path, "--json")[1])
    wanted = (
        "state",
        "epoch",
        "step",
        "restarts",
        "causes",
        "steps_lost",
        "weights_digest",
        "samples_digest",
    )
    assert values["ledger"].keys() == WallClock().parts.keys()
    assert 0 < values["ettr"] <= values["ettr_without_queueing"]
    assert values["history"][0]["seconds_lost"] == 0.4
    assert [values[key] for key in wanted] == [
        "finished", 6, 120, 1, {"preempted": 1}, 2, "3e" * 32, "5a" * 32
    ]  # fmt: skip


def test_a_validation_loss_that_is_no_number_is_null_in_json(make_run, status):
    run = make_run(finished=False)
    metrics = MetricsLog(run, Attempt(submission=1, restart=0), resumed_step=57, resumed_epoch=2)
    metrics.validation(step=60, epoch=2, loss=math.nan, balanced_accuracy=0.5)
    metrics.close()

    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    values = json.loads(status(run.path, "--json")[1], parse_constant=refuse)
    assert values["validation_loss"] is None
    assert values["best_validation_loss"] > 0


def test_watching_has_no_json(make_run, capsys):
    assert main([str(make_run().path), "--watch", "--json"]) == 2
    assert "--watch shows the run again and again, not as one JSON document" in capsys.readouterr().err


def test_a_folder_that_is_no_run_ends_with_2(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert "is not a run directory" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("slurm_says", "state"),
    [
        ("PENDING", State.REQUEUED),
        ("RUNNING", State.STARTING),
        ("COMPLETING", State.STARTING),
        ("CANCELLED", State.CANCELLED),
        ("NODE_FAIL", State.STOPPED),
        (None, State.STOPPED),
    ],
)
def test_the_job_puts_right_what_the_ledger_cannot_know(make_run, as_job, slurm_says, state):
    """The ledger's last word is: preempted, comes again."""
    run = make_run(finished=False)
    publish_job(run, 1, Job(cluster="slurm", job_id="4711"))
    as_job(slurm_says)
    assert Watcher(run).look().summary.state == state


def test_speed_and_time_left_are_shown_only_while_it_runs_and_a_wait_with_its_reason(
    make_run, as_job, status
):
    run = make_run(finished=False)
    publish_job(run, 1, Job(cluster="slurm", job_id="4711"))
    as_job("RUNNING")
    assert "images/s" not in status(run.path)[1]
    record(run, Attempt(submission=1, restart=1), Kind.STARTED, ranks=4)
    shown = status(run.path)[1]
    assert "images/s" in shown
    assert " left" in shown
    as_job("PENDING", reason="Resources")
    shown = status(run.path)[1]
    assert "requeued  for nodes to become free (Slurm: Resources)" in shown
    assert "images/s" not in shown
    assert " left" not in shown


def test_the_bar_is_empty_where_nothing_is_known_and_all_fits_80_columns(planned_run, make_run, status):
    shown = status(planned_run().path)[1]
    assert f"\n{'░' * BAR_WIDTH} epoch 0 of 30" in shown
    run = make_run("resnet18-0f0f0f0f", finished=False)
    cancelled = {"decision": "stay_away", "cause": "cancelled"}
    reason = "cancelled by the user; launch again to resume"
    record(run, Attempt(submission=1, restart=0), Kind.DECIDED, **cancelled, reason=reason)
    assert status(run.path)[1].splitlines()[0].rstrip().endswith(reason)


def test_a_job_that_has_yet_to_start_is_pending(planned_run, as_job):
    run = planned_run()
    attempt = run.claim_submission()
    publish_job(run, 1, Job(cluster="slurm", job_id="1"))
    record(run, attempt, Kind.SUBMITTED, cluster="slurm", job_id="1", ranks=2)
    as_job("PENDING")
    assert Watcher(run).look().summary.state == State.PENDING


def test_a_started_job_that_waits_again_was_requeued_also_if_its_node_died_without_a_word(
    planned_run, as_job
):
    run = planned_run()
    attempt = run.claim_submission()
    publish_job(run, 1, Job(cluster="slurm", job_id="1"))
    record(run, attempt, Kind.STARTED, ranks=2)
    as_job("PENDING")
    assert Watcher(run).look().summary.state == State.REQUEUED


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("PREEMPTED", "was preempted, and Slurm did not requeue it"),
        ("FAILED", "ended as FAILED before it could say why"),
        ("", "is gone, and nothing says why"),
    ],
)
def test_a_job_that_ended_without_a_word_is_stopped_and_says_as_what(planned_run, as_job, state, said):
    run = planned_run()
    attempt = run.claim_submission()
    publish_job(run, 1, Job(cluster="slurm", job_id="7"))
    record(run, attempt, Kind.STARTED, ranks=2)
    as_job(state)
    summary = Watcher(run).look().summary
    assert summary.state == State.STOPPED
    assert summary.reason == f"Slurm job 7 {said}: launch again to resume"


def test_a_suspended_job_is_shown_as_such(planned_run, as_job):
    run = planned_run()
    attempt = run.claim_submission()
    publish_job(run, 1, Job(cluster="slurm", job_id="7"))
    record(run, attempt, Kind.STARTED, ranks=2)
    as_job("SUSPENDED")
    assert Watcher(run).look().summary.reason == "Slurm: SUSPENDED"


def test_what_slurm_said_before_the_last_event_does_not_outweigh_it(planned_run, as_job):
    """A watcher asks Slurm rarely, and reads the ledger at every look."""
    run = planned_run()
    attempt = run.claim_submission()
    publish_job(run, 1, Job(cluster="slurm", job_id="1"))
    record(run, attempt, Kind.SUBMITTED, cluster="slurm", job_id="1", ranks=2)
    as_job("PENDING")
    watcher = Watcher(run)
    assert watcher.look().summary.state == State.PENDING
    record(run, attempt, Kind.STARTED, ranks=2)
    assert watcher.look().summary.state == State.RUNNING


def test_watching_touches_the_run_once(planned_run, as_job, monkeypatch):
    run, utime, touched = planned_run(), os.utime, []
    publish_job(run, run.claim_submission().submission, Job(cluster="slurm", job_id="1"))
    as_job("RUNNING")
    monkeypatch.setattr(os, "utime", lambda path: (touched.append(path), utime(path)))
    watcher = Watcher(run)
    for _look in range(3):
        watcher.look()
    assert touched == [run.attempts]


def test_who_may_not_write_to_a_run_believes_slurm_whatever_this_clock_says(planned_run, as_job, monkeypatch):
    """Events of a server minutes ahead of this machine are later than any of Slurm's answers."""
    run = planned_run()
    attempt = run.claim_submission()
    publish_job(run, 1, Job(cluster="slurm", job_id="1"))
    record(run, attempt, Kind.STARTED, ranks=2)

    def refuse(path):
        raise PermissionError(path)

    real = time.time
    monkeypatch.setattr(os, "utime", refuse)
    monkeypatch.setattr(time, "time", lambda: real() - 300)
    as_job("PENDING")
    assert Watcher(run).look().summary.state == State.REQUEUED
    assert glance_at([run])[0].summary.state == State.REQUEUED


def test_what_slurm_said_of_an_earlier_job_is_not_believed_of_the_next(planned_run, as_job):
    run = planned_run()
    run.claim_submission()
    publish_job(run, 1, Job(cluster="slurm", job_id="1"))
    as_job("FAILED")
    watcher = Watcher(run)
    assert watcher.look().summary.state == State.STOPPED
    run.claim_submission()
    publish_job(run, 2, Job(cluster="slurm", job_id="2"))
    as_job("PENDING")
    assert watcher.look().summary.state == State.PENDING


def test_where_slurm_does_not_answer_the_run_s_own_files_tell(make_run, monkeypatch):
    run = make_run(finished=False)
    publish_job(run, 1, Job(cluster="slurm", job_id="4711"))

    def no_answer(_job_id):
        raise UserError("Slurm does not say")

    monkeypatch.setattr(slurm, "job_state", no_answer)
    monkeypatch.setattr(choice, "SCHEDULERS", {"slurm": Slurm()})
    assert Watcher(run).look().summary.state == State.REQUEUED


def test_a_run_whose_supervisor_was_killed_is_stopped_and_says_who_is_gone(make_run):
    run = make_run(finished=False)
    gone = Job(cluster="local", host=os.uname().nodename, pid=2**22 + 1, began="never")
    publish_job(run, 1, gone)
    summary = Watcher(run).look().summary
    assert summary.state == State.STOPPED
    assert summary.reason == f"{name_of(gone)} is gone, and nothing says why: launch again to resume"
    assert process_began(gone.pid) is None
    # Its clock stopped with the last that was heard of it, whenever one looks.
    assert sum(summary.ledger.values()) < 5
    assert phase_of(local_job(os.getpid())) is Phase.RUNNING


@pytest.mark.parametrize(
    ("silent_s", "state"), [(700, State.STOPPED), (500, State.STARTING), (None, State.STARTING)]
)
def test_a_supervisor_of_another_machine_is_gone_once_it_is_silent(make_run, tmp_path, silent_s, state):
    run, heartbeat = make_run(finished=False), tmp_path / "heartbeat"
    if silent_s:
        heartbeat.touch()
        os.utime(heartbeat, (time.time() - silent_s,) * 2)
    publish_job(run, 1, Job(cluster="local", host="elsewhere", pid=7, began="then", heartbeat=str(heartbeat)))
    assert Watcher(run).look().summary.state == state


def test_watching_ends_with_ctrl_c_and_shows_the_last_state(make_run):
    run = make_run(finished=False)
    command = [sys.executable, "-u", "-m", "mri_hpc.status", str(run.path), "--watch"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline().startswith("requeued epoch=")
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=300)[0] == ""
    assert process.returncode == 0


def test_watching_ends_by_itself_where_nothing_more_will_happen(make_run, status):
    code, out = status(make_run().path, "--watch")
    assert code == 0
    assert out.startswith("finished epoch=6/30")


def test_of_many_restarts_the_last_ones_are_shown(make_run, status):
    run = make_run(finished=False)
    for restart in range(1, 8):
        attempt = Attempt(submission=1, restart=restart)
        record(run, attempt, Kind.STARTING)
        record(run, attempt, Kind.DECIDED, decision="again", cause="crash", reason="!")
    shown = status(run.path)[1]
    assert "3 earlier: see --json" in shown
    assert "1.2 crash" not in shown
    assert "1.7 crash: no step lost" in shown


def test_the_sizes_of_attempts_are_named_in_turn_where_they_differ(make_run, status):
    run = make_run(finished=False)
    assert "sizes" not in status(run.path)[1]
    first = json.loads(status(run.path, "--json")[1])["sizes"]
    for restart, ranks in enumerate([4, 1, 3], start=5):
        record(run, Attempt(submission=1, restart=restart), Kind.STARTED, ranks=ranks)
    assert json.loads(status(run.path, "--json")[1])["sizes"] == [*first, 4, 1, 3]
    before = "".join(f"{ranks}, " for ranks in first[1:])
    assert f"sizes {first[0]} ranks, then {before}4, 1, 3" in " ".join(status(run.path)[1].split())
    for restart in range(10, 22):
        record(run, Attempt(submission=1, restart=restart), Kind.STARTED, ranks=1)
    hidden = len(first) + 3
    assert f"sizes {hidden} earlier attempts, then 1 rank, then 1, 1," in " ".join(
        status(run.path)[1].split()
    )


def test_one_is_not_called_many(make_run, status):
    run = make_run(finished=False)
    attempt = Attempt(submission=1, restart=1)
    record(run, attempt, Kind.STARTED, ranks=1)
    record(run, attempt, Kind.LOST, steps=1, seconds=0.2)
    shown = status(run.path)[1]
    assert all(part in shown for part in ("1 step done again", "1 step lost", "1 rank"))


def test_durations_are_for_people():
    assert [duration(s) for s in (None, 12.3, 200, 7500)] == ["unknown", "12 s", "3 min", "2 h 05 min"]
