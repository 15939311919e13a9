"""On nodes as other sites have them ranks meet, or it is known within seconds which cannot, and why."""

import contextlib
import json
from pathlib import Path

import pytest

from mri_hpc.cluster import rank
from mri_hpc.cluster.choice import scheduler_for
from mri_hpc.cluster.jobs import job_of
from mri_hpc.cluster.launching import Plan, submit_once
from mri_hpc.cluster.scheduler import Sizes
from mri_hpc.cluster.watching import Watcher
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.settings import JobSettings, TrainingSettings, save_settings
from tests.harness import sites

OPEN = (50000, 50099)


class Site:
    """Runs of two ranks on two nodes, n3 and n4, of the sandbox that all tests here share."""

    def __init__(self, folder, slurm):
        self.folder, self.slurm = folder, slurm

    def launch(self, name, **job):
        run = RunDir(self.folder / name / "run")
        store = self.folder / name / "store"
        for folder in (run.path, store):
            folder.mkdir(parents=True)
        (store / "recipe.json").write_text("{}")
        training = TrainingSettings(snapshot="ab12", schedule_epochs=30, store=str(store))
        settings = JobSettings(
            cluster="slurm", nodes=2, tasks_per_node=1, gpus_per_node=0, slurm=("nodelist=n3,n4",), **job
        )
        save_settings(run, training, settings)
        plan = Plan(run=run, training=training, job=settings, is_new=False)
        sizes = Sizes(nodes=2, ranks_per_node=1, gpus_per_node=0)
        submit_once(plan, scheduler_for(settings), sizes)
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
    # Of the ten minutes of a rank that hangs; looks are counted, so that a slow machine may take longer.
    assert met(apart)[1]["seconds"] < 120
    assert typed_summary.state == "finished", typed_summary
    assert all(OPEN[0] <= port <= OPEN[1] for one in met(typed) for port in one["ports"])
    assert all(one["ports"] for one in met(typed))


def test_an_interface_that_a_node_lacks_is_named_with_those_that_it_has(site):
    run = site.launch("interface", interface="ib0")
    summary = site.end(run)
    assert summary.state == "failed", summary
    assert any("has no interface ib0" in line and "it has eth0 (" in line for line in summary.last_words)
