"""Where a site has several clusters, a run of the other one is submitted, asked about and ended there."""

import json

import pytest

from mri_hpc.cluster import choice
from mri_hpc.cluster.jobs import job_of
from mri_hpc.cluster.on_slurm import Slurm as SlurmScheduler
from mri_hpc.launch import main as launch
from mri_hpc.status import main as status
from tests.slurm.test_launch_on_slurm import Runs, decisions, speak_to

OTHER = "other"
THERE = {"slurm": (f"clusters={OTHER}",)}


@pytest.fixture(scope="module")
def runs(slurm, tmp_path_factory):
    """Launched from a shell of the sandbox's own cluster; their numbers are of two clusters, and alike."""
    slurm.sandbox("add-cluster", OTHER)
    with pytest.MonkeyPatch.context() as monkeypatch:
        speak_to(slurm, monkeypatch)
        yield Runs(tmp_path_factory.mktemp("clusters"), slurm)


def on_other(runs, command, *words):
    return runs.slurm.run([command, f"--clusters={OTHER}", *words]).stdout


def state_there(runs, run):
    shown = on_other(
        runs, "sacct", "-X", "--noheader", "--parsable2", "--format=State", f"--jobs={runs.job_id(run)}"
    )
    return (shown.split() or [""])[0]


@pytest.fixture(scope="module")
def launched(runs):
    """One that is told to stop and comes back there, one that waits there, one that the shell sends there."""
    told = runs.launch("told", job=THERE)
    held = runs.launch("held", job={"slurm": (*THERE["slurm"], "hold=")}, steps=5)
    with pytest.MonkeyPatch.context() as shell:
        shell.setenv("SLURM_CLUSTERS", OTHER)
        by_shell = runs.launch("by shell", steps=5)
    runs.wait_for_steps(told)
    return {"told": told, "held": held, "by shell": by_shell}


@pytest.fixture(autouse=True)
def just_asked(monkeypatch):
    """What Slurm has said of a job counts for half a minute: each test is a command of its own."""
    monkeypatch.setattr(choice, "SCHEDULERS", {**choice.SCHEDULERS, "slurm": SlurmScheduler()})


def test_a_job_is_of_the_cluster_that_was_named(runs, launched):
    for run in launched.values():
        assert job_of(run, 1).slurm_cluster == OTHER
    jobs = on_other(runs, "squeue", "--noheader", "--format=%i").split()
    assert runs.job_id(launched["told"]) in jobs


def test_status_asks_the_cluster_of_each_run_whatever_the_shell_names(runs, launched, capsys, monkeypatch):
    monkeypatch.setenv("SLURM_CLUSTERS", "elsewhere")
    assert status([str(launched["told"].path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "running"
    number = runs.job_id(launched["held"])
    assert status([str(launched["held"].path)]) == 0
    assert f"scontrol --clusters={OTHER} release {number}" in " ".join(capsys.readouterr().out.split())


def test_a_run_that_lives_there_is_not_submitted_again(runs, launched, capsys):
    run = launched["told"]
    assert launch(["--run", str(run.path)]) == 0
    said = capsys.readouterr().out
    assert f"already in the hands of Slurm job {runs.job_id(run)} of cluster {OTHER}" in said
    assert run.newest_attempt().submission == 1


def test_a_run_comes_back_there_and_is_ended_from_here(runs, launched, capsys):
    run = launched["told"]
    on_other(runs, "scancel", "--signal=USR2", runs.job_id(run))
    runs.wait_for_decisions(run, 2)
    assert decisions(run) == [("1.0", "again", "stopped"), ("1.1", "finished", "finished")]
    held = launched["held"]
    assert launch(["--run", str(held.path), "--cancel"]) == 0
    assert f"Slurm job {runs.job_id(held)} of cluster {OTHER} cancelled" in capsys.readouterr().out
    for ended, state in ((held, "CANCELLED"), (launched["by shell"], "COMPLETED")):
        runs.slurm.wait_until(
            lambda ended=ended, state=state: state_there(runs, ended) == state, what=f"{state} in the books"
        )
