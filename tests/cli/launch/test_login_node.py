"""A login node is small, and Slurm's controller serves a whole site: launch takes little of both."""

import json
import os
import subprocess
import sys

import pytest

from mri_hpc.cluster import choice, slurm
from mri_hpc.cluster.jobs import slurm_job
from mri_hpc.cluster.on_slurm import Slurm

MOST_MB = 280
"""Of memory, which a launch on Slurm may take; it takes a third of that."""
PARTITION = "gpu*|gpu:2|1-00:00:00|4|1-infinite"
LAUNCH = f"""
import pathlib, re, sys
from mri_hpc.launch import main
status = main(sys.argv[1:])
heavy = {{"torch", "torchvision", "pandas", "scipy", "matplotlib", "rich"}} & set(sys.modules)
most_kb = int(re.search("VmHWM:\\\\s*(\\\\d+)", pathlib.Path("/proc/self/status").read_text())[1])
sys.exit(status or heavy and f"imports {{heavy}}" or most_kb > {MOST_MB} * 1024 and f"takes {{most_kb}} kB")
"""


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """Slurm's commands, which note that they were called; returns the list of those calls so far."""
    folder, calls = tmp_path / "bin", tmp_path / "calls"
    folder.mkdir()
    calls.touch()
    answers = {"sinfo": PARTITION, "sbatch": "Submitted batch job $(wc -l < calls)", "squeue": "$(cat queue)"}
    for name in ("sinfo", "sbatch", "squeue", "scontrol", "sacct", "scancel", "srun"):
        answer = answers.get(name, "").replace("calls", str(calls)).replace("queue", str(tmp_path / "queue"))
        # Their own version they tell without asking anybody.
        own = '[ "$1" = --version ] && exit'
        (folder / name).write_text(f'#!/bin/sh\n{own}\necho {name} >> {calls}\necho "{answer}"\n')
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.delenv("SLURM_CONF", raising=False)
    monkeypatch.setattr(slurm, "_answers", {})
    monkeypatch.setattr(choice, "SCHEDULERS", {**choice.SCHEDULERS, "slurm": Slurm()})
    return lambda: calls.read_text().split()


def test_a_new_run_is_launched_with_one_question_and_without_what_trains_it(store, tmp_path, commands):
    words = ["--store", store, "--run", tmp_path / "run", "--model", "resnet18"]
    launched = subprocess.run(
        [sys.executable, "-c", LAUNCH, *map(str, words)], capture_output=True, text=True, timeout=300
    )
    assert launched.returncode == 0, launched.stderr
    assert "Slurm job 2, 1 rank(s) on 1 node(s), 1 GPU" in launched.stdout
    assert commands() == ["sinfo", "sbatch"]


def test_a_model_that_there_is_not_is_refused_by_naming_the_nearest(store, launch):
    status, _, errors = launch("--store", store, "--model", "resnet81", "--cluster", "local")
    assert (status, errors.count("\n")) == (2, 1)
    assert "'resnet81' is no classifier of torchvision" in errors
    assert "did you mean 'resnet18'" in errors


def test_of_all_folds_slurm_is_asked_at_once_and_of_none_that_is_over(store, launch, commands, tmp_path):
    words = ("--store", store, "--run", tmp_path / "cv", "--folds", 3, "--cluster", "slurm")
    assert launch(*words)[0] == 0
    assert commands() == ["sinfo", "sbatch", "sbatch", "sbatch"]
    choice.SCHEDULERS["slurm"] = Slurm()
    numbers = [json.loads(file.read_text())["job_id"] for file in tmp_path.glob("cv/*/attempts/1.0/job.json")]
    (tmp_path / "queue").write_text("".join(f"{number}|PENDING|Priority|Unknown\n" for number in numbers))
    status, out, _ = launch(*words)
    assert (status, out.count("already in the hands of Slurm job")) == (0, 3)
    # What sinfo has answered counts for half a minute.
    assert commands()[4:] == ["squeue"]


def test_many_jobs_are_one_question_in_half_a_minute_however_often_one_looks(commands, tmp_path, monkeypatch):
    jobs = [slurm_job(str(number)) for number in range(1, 201)]
    (tmp_path / "queue").write_text("".join(f"{job.job_id}|PENDING|Priority|Unknown\n" for job in jobs))
    scheduler, clock = Slurm(), [1e9]
    monkeypatch.setattr("mri_hpc.cluster.on_slurm.time.time", lambda: clock[0])
    for passed_s in (0, 1, 28):
        clock[0] += passed_s
        scheduler.ask_about(jobs)
        assert {scheduler.standing(job).wait for job in jobs} == {
            "others are before it in the queue (Slurm: Priority)"
        }
    assert commands() == ["squeue"]
    clock[0] += 2
    scheduler.standing(jobs[7])
    assert commands() == ["squeue", "scontrol", "sacct"]
