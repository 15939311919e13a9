"""``--nodes LOW-HIGH``: a job of as many nodes as are free, of a run whose arithmetic does not go by them."""

import os
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from mri_hpc.base.errors import UserError
from mri_hpc.cluster import local, partitions
from mri_hpc.cluster.local import Supervisor
from mri_hpc.cluster.partitions import Partition
from mri_hpc.planning import RunSettings, plan_of
from mri_hpc.rundir.layout import Attempt, RunDir
from mri_hpc.rundir.ledger import Kind, read_events
from mri_hpc.rundir.metrics_log import read_metrics
from mri_hpc.rundir.node_range import NodeRange
from mri_hpc.rundir.settings import (
    FIXED,
    JobSettings,
    TrainingSettings,
    load_job,
    load_training,
    save_settings,
)


@pytest.fixture
def asked(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return RunSettings(training=TrainingSettings(store=str(store)), job=JobSettings(nodes="1-4"))


@pytest.mark.parametrize(("nodes", "line"), [("1-4", "1-4"), (3, "3")])
def test_slurm_is_asked_for_the_range_and_srun_for_all_that_came_of_it(
    nodes, line, launch, store, tmp_path, monkeypatch
):
    monkeypatch.setattr(partitions, "partition_of_job", lambda *_where: Partition(has_gpus=False))
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    words = ("--store", store, "--run", tmp_path / "run", "--nodes", nodes, "--tasks-per-node", 2)
    status, out, errors = launch(*words, "--dry-run", "--cluster", "slurm")
    assert status == 0, errors
    assert f"#SBATCH --nodes={line}\n" in out
    # Slurm would never give more nodes than the tasks that it counts of the least.
    assert ("#SBATCH --ntasks-per-node=2\n" in out) == (nodes == 3)
    assert ("#SBATCH --cpus-per-task=2\n" in out) == (nodes == "1-4")
    counts = 'export SLURM_NTASKS="$((2 * SLURM_JOB_NUM_NODES))"'
    assert (counts in out) == (nodes == "1-4")
    assert subprocess.run(["bash", "-n"], input=out, text=True).returncode == 0


def test_gpus_a_task_are_refused_beside_a_range_as_slurm_would_in_words_of_its_own(
    launch, store, tmp_path, monkeypatch
):
    monkeypatch.setattr(partitions, "partition_of_job", lambda *_where: Partition(has_gpus=True))
    monkeypatch.setenv("SBATCH_GPUS_PER_TASK", "1")
    words = ("--store", store, "--run", tmp_path / "run", "--cluster", "slurm", "--nodes", "1-4")
    status, _, errors = launch(*words, "--dry-run")
    assert (status, errors.rstrip().endswith("SBATCH_GPUS_PER_TASK): ask by --gpus-per-node")) == (2, True), (
        errors
    )


def test_a_run_of_any_number_of_nodes_keeps_its_arithmetic_whatever_it_is_launched_on(
    launch, store, tmp_path, monkeypatch
):
    monkeypatch.setenv("STANDIN_PLAN", '{"steps": 5, "step_s": 0.01}')
    run = RunDir(tmp_path / "run")
    words = ("--store", store, "--run", run.path, "--nodes", "1-3", "--tasks-per-node", 2, "--accumulate", 2)
    status, out, errors = launch(*words, "--dry-run")
    assert status == 0, errors
    assert "starts 2 to 6 ranks of" in out
    assert "--free 1-3" in out
    status, out, errors = launch(*words)
    assert status == 0, errors
    assert "2 to 6 ranks on this machine (no Slurm)" in out
    [submitted] = [e.values for e in read_events(run) if e.kind == Kind.SUBMITTED]
    assert (submitted["ranks"], submitted["least_ranks"]) == (6, 2)
    assert (load_training(run).sums, load_training(run).micro_batches, load_job(run).nodes) == (
        FIXED,
        12,
        "1-3",
    )
    # On one number of nodes it stays the same run.
    status, out, errors = launch("--run", run.path, "--nodes", 2, "--dry-run", "--cancel")
    assert status == 0, errors
    status, _, errors = launch("--run", run.path, "--nodes", 2)
    assert status == 0, errors
    assert load_training(run).micro_batches == 12
    status, _, errors = launch("--run", run.path, "--micro-batches", 8)
    assert (status, "micro_batches  saved 12, asked 8" in errors) == (2, True)


def test_the_same_command_is_the_same_run_and_one_number_of_nodes_another(asked):
    first = plan_of(asked)
    first.run.path.mkdir(parents=True)
    save_settings(first.run, first.training, first.job)
    again = plan_of(asked)
    assert (again.run, again.training, again.is_new) == (first.run, first.training, False)
    assert plan_of(replace(asked, job=JobSettings(nodes=4))).run != first.run
    more = replace(asked.training, micro_batches=12)
    assert plan_of(replace(asked, training=more)).training.micro_batches == 12


def test_a_run_whose_steps_are_summed_over_its_ranks_takes_no_range(asked):
    fixed = plan_of(replace(asked, job=JobSettings(nodes=2)))
    fixed.run.path.mkdir(parents=True)
    save_settings(fixed.run, fixed.training, fixed.job)
    with pytest.raises(
        UserError, match=r"--nodes 1-4: steps of .* are summed over its ranks.*: give one number"
    ):
        plan_of(asked, path=fixed.run.path)


def test_a_group_of_ranks_starts_for_all_cores_that_it_needs_within_the_range(tmp_path, monkeypatch):
    free = NodeRange(least=2, most=4)
    supervisor = Supervisor(RunDir(tmp_path), 1, ranks=8, threads=3, gpus=0, module="none", free=free)
    found = []
    for cores in (1, 12, 18, 23, 64):
        monkeypatch.setattr(local.os, "sched_getaffinity", lambda _pid, cores=cores: set(range(cores)))
        found.append(free.within(supervisor._nodes_with_room()))
    assert found == [2, 2, 3, 3, 4]


def test_each_attempt_has_the_ranks_for_which_there_is_room_when_it_starts(
    planned_run, standin_rank, monkeypatch, wait_for
):
    from mri_hpc.cluster.on_this_machine import start_supervisor

    run = planned_run(steps=100_000, step_s=0.02, then=3)
    every = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(every)})
    try:
        attempt = run.claim_submission()
        free = NodeRange(least=1, most=2)
        job = start_supervisor(
            run, attempt.submission, ranks=2, threads=1, gpus=0, module="standin_rank", free=free
        )  # fmt: skip
    finally:
        os.sched_setaffinity(0, every)
    wait_for(lambda: read_metrics(run), what="a step")
    assert not run.rank_log(attempt, 1).exists()
    os.sched_setaffinity(job.pid, every)
    [rank] = Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()
    os.kill(int(rank), signal.SIGTERM)
    os.waitpid(job.pid, 0)
    again = Attempt(submission=1, restart=1)
    assert run.rank_log(again, 1).exists() == (len(every) > 1)
    assert run.rank_log(again, 0).exists()
