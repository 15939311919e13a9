"""On nodes as other sites have them ranks meet, or it is known within seconds which cannot, and why."""

import contextlib
import json
import sys
from pathlib import Path

import pytest

from mri_hpc.cluster import rank
from mri_hpc.cluster import slurm as slurm_commands
from mri_hpc.cluster.choice import scheduler_for
from mri_hpc.cluster.jobs import job_of
from mri_hpc.cluster.launching import Plan, submit_once
from mri_hpc.cluster.scheduler import Sizes
from mri_hpc.cluster.views import Watcher
from mri_hpc.rundir.layout import Attempt, RunDir
from mri_hpc.rundir.ledger import read_events
from mri_hpc.rundir.settings import JobSettings, TrainingSettings, load_job, load_training, save_settings
from tests.harness import sites

OPEN = (50000, 50099)


class Site:
    """Runs of two ranks on two nodes, n3 and n4, of the sandbox that all tests here share."""

    def __init__(self, folder, slurm):
        self.folder, self.slurm = folder, slurm

    def make(self, name, **job):
        """A run that has yet to be submitted."""
        run = RunDir(self.folder / name / "run")
        store = self.folder / name / "store"
        for folder in (run.path, store):
            folder.mkdir(parents=True)
        (store / "recipe.json").write_text("{}")
        settings = JobSettings(
            cluster="slurm", nodes=2, tasks_per_node=1, gpus_per_node=0, slurm=("nodelist=n3,n4",), **job
        )
        save_settings(run, TrainingSettings(snapshot="ab12", schedule_epochs=30, store=str(store)), settings)
        return run

    def submit(self, run):
        job = load_job(run)
        plan = Plan(run=run, training=load_training(run), job=job, is_new=False)
        submit_once(plan, scheduler_for(job), Sizes(nodes=2, ranks_per_node=1, gpus_per_node=0))

    def launch(self, name, **job):
        run = self.make(name, **job)
        self.submit(run)
        return run

    def end(self, run):
        """Wait for the end of the run's job; what is seen of the run then."""
        self.slurm.wait_end(job_of(run, run.newest_attempt().submission).job_id, timeout_s=120)
        return Watcher(run).look().summary


@pytest.fixture(scope="module")
def site(slurm, tmp_path_factory):
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name in ("SLURM_CONF", "MRI_SANDBOX_DIR"):
            monkeypatch.setenv(name, slurm.env[name])
        monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1] / "cluster"))
        monkeypatch.setattr(rank, "RANK_MODULE", "meeting_rank")
        # Each look here is as a command's first one.
        monkeypatch.setattr(slurm_commands, "ASK_EVERY_S", 0.0)
        yield Site(tmp_path_factory.mktemp("a site"), slurm)


def met(run):
    """What each of the two ranks noted."""
    return [json.loads((run.path / f"met{number}.json").read_text()) for number in range(2)]


def test_ranks_meet_where_no_name_resolves_or_leads_into_a_dead_network(site):
    """n3 knows no name; on n4 that of n3 is one of a second network, of which n4 has an interface too."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(sites.without_names(site.slurm, "n3", ["10.99.0.13 n3"]))
        stack.enter_context(sites.without_names(site.slurm, "n4", ["10.99.0.13 n3"]))
        for node, address in (("n3", "10.99.0.13"), ("n4", "10.99.0.14")):
            stack.enter_context(sites.dead_network(site.slurm, node, address))
        run = site.launch("no names")
        summary = site.end(run)
    assert summary.state == "finished", summary
    assert [one["interface"] for one in met(run)] == ["eth0", "eth0"]
    assert [one["total"] for one in met(run)] == [3, 3]


def test_ranks_that_few_ports_keep_apart_say_so_in_seconds_and_meet_on_those_that_are_typed(site):
    with sites.few_ports(site.slurm, "n3", *OPEN):
        apart = site.launch("few ports")
        summary = site.end(apart)
        typed = site.launch("few ports typed", port_range=f"{OPEN[0]}-{OPEN[1]}")
        typed_summary = site.end(typed)
    assert summary.state == "failed", summary
    [words] = [line for line in summary.last_words if "does not reach" in line]
    assert "rank 1 on n4 does not reach rank 0 on n3 (" in words
    assert ".13 port " in words
    assert " by eth0: no answer in 2 s" in words
    assert "--port-range LOW-HIGH" in words
    # At once, and not after three attempts of ten minutes.
    assert apart.all_attempts() == [Attempt(submission=1, restart=0)]
    assert json.loads((apart.path / "met1.json").read_text())["seconds"] < 600
    assert typed_summary.state == "finished", typed_summary
    assert all(OPEN[0] <= port <= OPEN[1] for one in met(typed) for port in one["ports"])
    assert all(one["ports"] for one in met(typed))


def test_an_interface_that_a_node_lacks_is_named_with_those_that_it_has(site):
    run = site.launch("interface", interface="ib0")
    summary = site.end(run)
    assert summary.state == "failed", summary
    assert any("has no interface ib0" in line and "it has eth0 (" in line for line in summary.last_words)


def python_in(folder):
    """A program that jobs start as python, in a folder of its own."""
    folder.mkdir()
    (folder / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (folder / "python").chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def half_seen(site):
    """Runs of which one of the nodes does not see something, by what that is; each has ended."""
    runs = {
        name: site.make(name, mail="first" in name)
        for name in ("store", "run", "first run", "python", "first python")
    }
    pythons = {name: python_in(site.folder / f"of {name}") for name in ("python", "first python")}
    hidden = {
        "store": ("n4", site.folder / "store" / "store"),
        "run": ("n4", runs["run"].path),
        "first run": ("n3", runs["first run"].path),
        "python": ("n4", pythons["python"]),
        "first python": ("n3", pythons["first python"]),
    }
    with contextlib.ExitStack() as stack:
        for name, (node, folder) in hidden.items():
            stack.enter_context(sites.without_folder(site.slurm, node, folder))
            with pytest.MonkeyPatch.context() as shell:
                if name in pythons:
                    shell.setenv("MRI_PYTHON", str(pythons[name] / "python"))
                site.submit(runs[name])
        return {name: (site.end(run), run, hidden[name][1]) for name, run in runs.items()}


@pytest.mark.parametrize(
    ("name", "state", "words"),
    [
        ("store", "failed", "node n4 does not see the store {path}: "),
        ("run", "failed", "node n4 does not see the run {path}: "),
        ("python", "failed", "node n4 does not see {path}/python: "),
        ("first python", "stopped", "node n3 does not see {path}/python: "),
        ("first run", "stopped", "node n3 could not open its output in the run's folder: "),
    ],
)
def test_what_a_node_does_not_see_is_named_before_any_rank_starts(half_seen, name, state, words):
    summary, run, path = half_seen[name]
    assert summary.state == state, summary
    assert words.format(path=path) in summary.reason
    assert f"--slurm exclude={'n3' if 'first' in name else 'n4'}" in summary.reason
    assert not list(run.path.glob("met*.json"))


@pytest.mark.parametrize("name", ["first run", "first python"])
def test_a_job_that_could_not_begin_is_mailed_about(half_seen, site, name):
    job = job_of(half_seen[name][1], 1).job_id
    site.slurm.wait_until(lambda: site.slurm.mails_about(job), what="a mail")
    [mail] = site.slurm.mails_about(job)
    assert "FAILED" in mail


def test_a_node_whose_clock_is_off_is_named_and_writes_by_the_file_servers(site, monkeypatch):
    clock = site.folder / "clock"
    clock.mkdir()
    standin = Path(__file__).parents[1] / "cluster"
    monkeypatch.setenv("PYTHONPATH", f"{clock}:{standin}")
    with sites.with_clock(site.slurm, "n3", -120, clock):
        run = site.launch("clock")
        summary = site.end(run)
    assert summary.state == "finished", summary
    assert set(summary.clocks) == {"n3"}
    assert summary.clocks["n3"] == pytest.approx(-120, abs=3)
    # Before, queueing was two minutes below zero.
    assert all(seconds >= 0 for seconds in summary.ledger.values()), summary.ledger
    assert [event.time for event in read_events(run)] == sorted(event.time for event in read_events(run))
