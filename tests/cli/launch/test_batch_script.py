"""What launch hands to Slurm: the script that --dry-run shows, and the user's own options of sbatch in it."""

import os
import shlex
import subprocess

import pytest

from mri_hpc.cluster import partitions
from mri_hpc.cluster.partitions import Partition


@pytest.mark.parametrize("cluster", ["local", "slurm"])
def test_a_dry_run_shows_what_would_be_submitted_and_leaves_nothing(
    launch, store, tmp_path, monkeypatch, cluster
):
    monkeypatch.setattr(partitions, "partition_of_job", lambda *_where: Partition(has_gpus=True))
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    before = sorted(tmp_path.rglob("*"))
    status, out, errors = launch(
        "--store", store, "--run", tmp_path / "r 'un", "--dry-run", "--cluster", cluster, "--slurm", "nice=5"
    )
    assert status == 0, errors
    assert shlex.quote(str(tmp_path / "r 'un")) in out
    if cluster == "slurm":
        for line in ("--requeue", "--open-mode=append", "--signal=USR2@90", "--gpus-per-node=1", "--nice=5"):
            assert f"#SBATCH {line}\n" in out
        [srun] = [line for line in out.splitlines() if line.startswith("srun --unbuffered")]
        assert "--kill-on-bad-exit=1" in srun
        # Once the ranks have gone, no signal keeps the batch script from deciding.
        assert out.index(srun) < out.index("trap '' TERM USR1 USR2 INT") < out.index("cluster.batch after")
        assert subprocess.run(["bash", "-n"], input=out, text=True).returncode == 0
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "option", ["requeue", "no-requeue", "open-mode", "signal", "output", "error", "array", "open_mode"]
)
def test_sbatch_options_on_which_resuming_rests_cannot_be_taken_away(
    planned_run, launch, monkeypatch, option
):
    monkeypatch.setattr(partitions, "partition_of_job", lambda *_where: Partition(has_gpus=False))
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    words = ("--run", planned_run().path, "--dry-run", "--cluster", "slurm", "--slurm", f"{option}=")
    status, _, errors = launch(*words)
    assert status == 2
    assert f"--slurm {option.replace('_', '-')}=... cannot be set" in errors


@pytest.mark.parametrize("word", ["=5", "--=5", "nice 5=5", "Ä=1"])
def test_what_can_be_no_option_of_sbatch_is_refused_by_its_name(planned_run, launch, monkeypatch, word):
    monkeypatch.setattr(partitions, "partition_of_job", lambda *_where: Partition(has_gpus=False))
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    run = planned_run()
    status, _, errors = launch("--run", run.path, "--dry-run", "--cluster", "slurm", f"--slurm={word}")
    assert (status, errors.count("\n")) == (2, 1)
    assert "is no option of sbatch: give its long name, as in nice=5" in errors


@pytest.fixture
def refusing(monkeypatch, tmp_path):
    """Makes a Slurm that refuses every job in words of its own, and knows the user's accounts."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr(partitions, "partition_of_job", lambda *_where: Partition(has_gpus=False))

    def refuse(complaint, accounts=""):
        scripts = {"sbatch": f'echo "sbatch: {complaint}" >&2\nexit 1', "sacctmgr": f"echo {accounts}"}
        for name, script in {**scripts, "srun": ""}.items():
            program = tmp_path / "bin" / name
            program.write_text(f"#!/bin/sh\n{script}\n")
            program.chmod(0o755)

    return refuse


@pytest.mark.parametrize(
    ("accounts", "cure"),
    [
        (
            "chem2041",
            "; yours: chem2041: --account chem2041, or export SBATCH_ACCOUNT=chem2041 in site.env\n",
        ),
        ("", "; --account names one, and your cluster's help desk which you have\n"),
    ],
)
def test_where_an_account_has_to_be_named_those_of_the_user_are(
    planned_run, launch, refusing, accounts, cure
):
    refusing("error: Please specify your project with --account", accounts)
    status, _, errors = launch("--run", planned_run().path, "--cluster", "slurm")
    assert (status, errors.count("\n")) == (2, 1)
    assert errors.endswith(f"Slurm refused the job: Please specify your project with --account{cure}")


def test_a_limit_of_the_accounting_is_not_taken_for_an_account(planned_run, launch, refusing):
    complaint = "Batch job submission failed: Job violates accounting/QOS policy (job submit limit)"
    refusing(f"error: {complaint}", "chem2041")
    status, _, errors = launch("--run", planned_run().path, "--cluster", "slurm")
    assert (status, errors.endswith(f"Slurm refused the job: {complaint}\n")) == (2, True), errors


def test_an_option_that_sbatch_does_not_know_is_told_in_its_words(planned_run, launch, refusing):
    refusing("unrecognized option '--nise=5'")
    status, _, errors = launch("--run", planned_run().path, "--cluster", "slurm", "--slurm", "nise=5")
    assert (status, errors.count("\n")) == (2, 1)
    assert (
        "Slurm refused the job: unrecognized option '--nise=5'; see sbatch --help for what --slurm" in errors
    )
