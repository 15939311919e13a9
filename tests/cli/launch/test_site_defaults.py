"""launch takes from the site file what nobody typed, saved or exported, and heeds its ceilings."""

from mri_hpc import launch as launch_module
from mri_hpc.rundir.settings import JobSettings


def test_what_was_typed_comes_before_what_was_saved_and_that_before_the_site(
    planned_run, launch, tmp_path, monkeypatch
):
    (tmp_path / "site.toml").write_text(
        '[defaults]\npartition = "site"\naccount = "site"\ntime_limit_min = 99\n[ceilings]\nnodes = 4\n'
    )
    monkeypatch.setenv("MRI_SITE", str(tmp_path / "site.toml"))
    run = planned_run(job=JobSettings(partition="saved", nodes=8))
    status, _, errors = launch("--run", run.path, "--dry-run")
    assert (status, errors.count("\n")) == (2, 1)
    assert f"--nodes 8 is above the 4 that {tmp_path}/site.toml sets for all users here" in errors
    status, _, errors = launch("--run", run.path, "--dry-run", "--nodes", 2, "--account", "typed")
    assert status == 0, errors
    assert "(default: saved)" in of_partition(launch("--run", run.path, "--help-all")[1])
    assert "(default: site)" in of_partition(launch("--help-all")[1])
    assert launch("--run", run.path, "--cancel")[0] == 0


def of_partition(page):
    """What a help page has about --partition, in one line."""
    return " ".join(page.partition("--partition")[2].partition("--account")[0].split())


def test_a_new_run_takes_and_keeps_what_the_site_sets(launch, store, tmp_path, monkeypatch):
    (tmp_path / "site.toml").write_text('[defaults]\naccount = "site"\nqos = "site"\ntime_limit_min = 99\n')
    monkeypatch.setenv("MRI_SITE", str(tmp_path / "site.toml"))
    monkeypatch.setenv("SBATCH_QOS", "shell")
    planned = []
    monkeypatch.setattr(launch_module, "describe", lambda plan, *_: planned.append(plan.job) or "")
    assert launch("--store", store, "--run", tmp_path / "run", "--dry-run", "--time-limit-min", 7)[0] == 0
    assert planned == [JobSettings(account="site", qos=None, time_limit_min=7, signal_ahead_s=90)]


def test_words_of_slurm_that_were_typed_reach_a_new_run_in_place_of_the_sites(
    launch, store, tmp_path, monkeypatch
):
    (tmp_path / "site.toml").write_text("[defaults]\ngpus_per_node = 0\nmem_gb = 8\n")
    monkeypatch.setenv("MRI_SITE", str(tmp_path / "site.toml"))
    planned = []
    monkeypatch.setattr(launch_module, "describe", lambda plan, *_: planned.append(plan.job) or "")
    words = ("--store", store, "--run", tmp_path / "run", "--dry-run", "--slurm", "mem-per-cpu=4G")
    assert launch(*words)[0] == 0
    assert (planned[0].gpus_per_node, planned[0].mem_gb) == (0, None)
