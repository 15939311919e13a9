"""status of many runs: a table that takes a login node little, and Slurm's controller one question."""

import errno
import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from mri_hpc.cluster import choice, slurm
from mri_hpc.cluster.jobs import Job, publish_job
from mri_hpc.cluster.on_slurm import Slurm
from mri_hpc.cluster.slurm_answers import JobState
from mri_hpc.cluster.views import Watcher, glance_at
from mri_hpc.rundir.folds import write_folds
from mri_hpc.rundir.layout import Attempt, RunDir
from mri_hpc.rundir.ledger import Kind, read_events, record
from mri_hpc.rundir.metrics_log import read_metrics, skim_metrics
from mri_hpc.status import main

MANY = 200
MOST_MB = 150
STATUS = f"""
import pathlib, re, sys
from mri_hpc.status import main
status = main(sys.argv[1:])
heavy = {{"torch", "numpy", "h5py", "rich", "submitit"}} & set(sys.modules)
most_kb = int(re.search("VmHWM:\\\\s*(\\\\d+)", pathlib.Path("/proc/self/status").read_text())[1])
sys.exit(status or heavy and f"imports {{heavy}}" or most_kb > {MOST_MB} * 1024 and f"takes {{most_kb}} kB")
"""


@pytest.fixture
def waiting_runs(make_run, tmp_path):
    """Makes as many runs below tmp_path/runs, all of which wait to be requeued as jobs of Slurm."""

    def make(number):
        (tmp_path / "runs").mkdir()
        first = make_run("runs/run-000", finished=False)
        publish_job(first, 1, Job(cluster="slurm", job_id="1000"))
        runs = [first]
        for one in range(1, number):
            run = RunDir(tmp_path / "runs" / f"run-{one:03}")
            shutil.copytree(first.path, run.path)
            file = run.attempts / "1.0" / "job.json"
            file.write_text(file.read_text().replace('"1000"', f'"{1000 + one}"'))
            runs.append(run)
        return runs

    return make


@pytest.fixture
def queue(monkeypatch):
    """Pretends what Slurm has in its queue; returns the questions so far."""
    asked = []

    def pretend(states):
        def answer(job_ids, _cluster=""):
            asked.append(len(job_ids))
            return {job: state for job in job_ids if (state := states(job))}

        monkeypatch.setattr("mri_hpc.cluster.slurm.job_states", answer)
        monkeypatch.setattr(choice, "SCHEDULERS", {**choice.SCHEDULERS, "slurm": Slurm()})
        return asked

    return pretend


def test_two_hundred_runs_are_a_table_for_one_question_and_little_memory(waiting_runs, tmp_path):
    waiting_runs(MANY)
    calls = tmp_path / "calls"
    for name in ("squeue", "scontrol", "sacct"):
        command = tmp_path / "bin" / name
        command.parent.mkdir(exist_ok=True)
        lines = "seq 1000 1199 | sed 's/$/|PENDING|Priority|Unknown/'" if name == "squeue" else "true"
        command.write_text(f"#!/bin/sh\necho {name} >> {calls}\n{lines}\n")
        command.chmod(0o755)
    shown = subprocess.run(
        [sys.executable, "-c", STATUS, str(tmp_path / "runs")], capture_output=True, text=True, timeout=300,
        env={**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert shown.returncode == 0, shown.stderr
    assert calls.read_text().split() == ["squeue"]
    title, *rows, reason = shown.stdout.splitlines()
    assert re.split("  +", title)[:4] == ["run", "state", "epochs", "step"]
    assert [row.split()[:3] for row in rows] == [[f"run-{n:03}", "requeued", "2/30"] for n in range(MANY)]
    named = "run-000, run-001, run-002, run-003, run-004 and 195 more"
    assert reason == f"{named}: others are before it in the queue (Slurm: Priority)"


def test_a_table_touches_the_first_run_of_a_file_system_that_may_be_written(waiting_runs, queue, monkeypatch):
    runs, utime, touched = waiting_runs(3), os.utime, []
    queue(lambda _job: JobState(state="RUNNING"))

    def note(path):
        if path == runs[0].attempts:
            raise PermissionError(path)
        touched.append(path)
        utime(path)

    monkeypatch.setattr(os, "utime", note)
    assert len(glance_at(runs)) == 3
    assert touched == [runs[1].attempts]


def test_why_a_job_could_not_begin_is_asked_of_one_run_and_not_of_each_row(waiting_runs, queue, monkeypatch):
    runs, asked = waiting_runs(3), []
    queue(lambda _job: JobState(state="FAILED"))
    monkeypatch.setattr(
        slurm, "node_without_output", lambda job_id, _cluster: (asked.append(job_id), "n3")[1]
    )
    [reason, *_] = [view.summary.reason for view in glance_at(runs)]
    assert reason == "Slurm job 1000 ended as FAILED before it could say why: launch again to resume"
    assert asked == []
    monkeypatch.setattr(slurm, "job_state", lambda _job_id: JobState(state="FAILED"))
    assert "node n3 could not open its output" in Watcher(runs[1]).look().summary.reason
    assert asked == ["1001"]


def test_a_glance_at_a_run_shows_what_a_whole_look_shows(make_run):
    for run in (make_run("finished"), make_run("stopped", finished=False)):
        [brief], whole = glance_at([run]), Watcher(run).look()
        assert brief.epochs == whole.epochs
        names = ("state", "epoch", "step", "saved_step", "restarts", "steps_lost", "best_validation_loss")
        for name in (*names, "reason", "images_per_s", "loss", "best_epoch"):
            assert getattr(brief.summary, name) == getattr(whole.summary, name), name
        lines = read_metrics(run)
        assert [line for line in skim_metrics(run) if "validation_loss" in line] == [
            line for line in lines if "validation_loss" in line
        ]
        assert skim_metrics(run)[-1] == lines[-1]
        assert len(skim_metrics(run)) < len(lines)


def test_runs_and_folders_of_them_are_one_table_and_what_is_to_be_typed_stands_below(
    waiting_runs, make_run, tmp_path, monkeypatch, queue, capsys
):
    monkeypatch.chdir(tmp_path)
    waiting_runs(2)
    write_folds(tmp_path / "cv", (1, 2))
    make_run("cv/fold-1")
    reasons = {"1000": "JobHeldUser", "1001": "PartitionTimeLimit"}
    asked = queue(lambda job: JobState(state="PENDING", reason=reasons[job]))
    assert main(["runs", "cv"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in shown[1:5]] == [
        ["runs/run-000", "requeued"], ["runs/run-001", "requeued"],
        ["cv/fold-1", "finished"], ["cv/fold-2", "not"],
    ]  # fmt: skip
    assert shown[5].startswith(
        "runs/run-000: it is held; let it go: scontrol release 1000 (Slurm: JobHeldUser)"
    )
    assert "again with a smaller --time-limit-min" in shown[6]
    assert asked == [2]


def test_a_folder_of_runs_and_of_folds_shows_both(make_run, tmp_path, capsys):
    write_folds(tmp_path / "runs" / "cv", (1,))
    make_run("runs/b")
    make_run("runs/cv/fold-1")
    assert main([str(tmp_path / "runs")]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["run", "b", "cv/fold-1"]
    assert main([str(tmp_path / "runs"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["state"] for one in found["runs"]] == ["finished", "finished"]
    assert main([str(tmp_path / "runs"), "--watch"]) == 2
    assert "--watch shows one run: name one, such as" in capsys.readouterr().err


def test_json_of_many_asks_slurm_once_however_long_reading_them_takes(
    waiting_runs, queue, tmp_path, monkeypatch, capsys
):
    runs = waiting_runs(3)
    asked = queue(lambda _job: JobState(state="PENDING", reason="Priority"))
    real, clock = time.time, [0.0]

    def slowly(run):
        clock[0] += slurm.ASK_EVERY_S
        return read_events(run)

    monkeypatch.setattr(slurm, "job_state", lambda job: asked.append(job))
    monkeypatch.setattr("mri_hpc.cluster.views.read_events", slowly)
    monkeypatch.setattr(time, "time", lambda: real() + clock[0])
    assert main([str(tmp_path / "runs"), "--json"]) == 0
    assert asked == [3]
    documents = json.loads(capsys.readouterr().out)["runs"]
    assert [one["state"] for one in documents] == ["requeued"] * 3
    monkeypatch.undo()
    alone = Watcher(runs[0]).look().summary.to_dict()
    assert documents[0].keys() == {"run", "epochs", *alone}
    assert documents[0]["history"] == [asdict(one) for one in Watcher(runs[0]).look().summary.history]


def test_runs_that_their_own_files_tell_are_over_are_not_asked_about(waiting_runs, queue):
    run, live = waiting_runs(2)
    asked = queue(lambda _job: JobState(state="RUNNING"))
    values = {"decision": "give_up", "cause": "crash", "reason": "crashed thrice", "status": 1}
    record(run, Attempt(submission=1, restart=0), Kind.DECIDED, **values)
    assert main([str(run.path), str(live.path)]) == 0
    assert asked == [1]


def test_a_folder_beside_that_is_closed_to_this_user_hides_no_run_and_no_reason(
    make_run, tmp_path, monkeypatch, capsys
):
    """Where folders of several people lie side by side, one of them keeps the own to themselves."""
    (tmp_path / "runs").mkdir()
    make_run("runs/own")
    write_folds(tmp_path / "runs" / "folds", (0, 1))
    closed, real = tmp_path / "runs" / "closed", Path.stat
    closed.mkdir()

    def stat(path, **how):
        if closed in path.parents:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, **how)

    monkeypatch.setattr(Path, "stat", stat)
    assert main([str(tmp_path / "runs" / "typo")]) == 2
    assert capsys.readouterr().err.endswith(f"{tmp_path}/runs/typo does not exist; runs here: own\n")
    assert main([str(tmp_path / "runs"), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)["runs"]
    for folder in ("links", "jobs"):
        (tmp_path / "runs" / "chain" / folder).mkdir(parents=True)
    assert main([str(tmp_path / "runs" / "typo")]) == 2
    assert capsys.readouterr().err.endswith(
        f"typo does not exist; chains here: {tmp_path}/runs/chain; runs here: own\n"
    )
    assert [Path(one["run"]).name for one in shown] == ["own", "fold-0", "fold-1"]
