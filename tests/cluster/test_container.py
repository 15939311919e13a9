"""On a container site the batch script enters the image by MRI_PYTHON: before, as, and after the ranks."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from mri_hpc.base.errors import UserError
from mri_hpc.cluster.choice import scheduler_for
from mri_hpc.cluster.jobs import job_of
from mri_hpc.cluster.launching import sizes_of
from mri_hpc.cluster.submission import batch_script, job_python, submit
from mri_hpc.rundir.ledger import Kind, read_events
from mri_hpc.rundir.settings import JobSettings

WRAPPER = Path(__file__).parents[2] / "hpc" / "slurm" / "apptainer_python.sh"
INSIDE = Path(sys.executable).parent

# Notes how it was called; what follows the image then runs with the image's own python first on the PATH.
APPTAINER = f"""#!/bin/bash
printf '%s\\n' "$*" >> "$CALLS"
while [ "$1" != site.sif ]; do shift; done
shift
PATH={shlex.quote(str(INSIDE))}:$PATH exec "$@"
"""
# Runs the command that follows its options, as one task.
SRUN = """#!/bin/bash
while [ "${1#-}" != "$1" ]; do [ "$1" = --output ] && shift; shift; done
export SLURM_STEP_ID=0 SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_STEP_NUM_TASKS=1
exec "$@"
"""
PROGRAMS = {
    "apptainer": APPTAINER,
    "srun": SRUN,
    "sbatch": "#!/bin/bash\necho Submitted batch job 7\n",
    "scontrol": "#!/bin/bash\necho JobId=7 JobState=RUNNING Requeue=1 Restarts=0\n",
    "sacct": "#!/bin/bash\n",
}


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A site with Slurm's commands and Apptainer, all pretended; returns the file of Apptainer's calls."""
    (tmp_path / "bin").mkdir()
    for name, text in PROGRAMS.items():
        program = tmp_path / "bin" / name
        program.write_text(text)
        program.chmod(0o755)
    calls = tmp_path / "calls"
    values = {"MRI_IMAGE": "site.sif", "MRI_PYTHON": str(WRAPPER), "CALLS": str(calls)}
    for name, value in {**values, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}.items():
        monkeypatch.setenv(name, value)
    return calls


def script_of(run):
    return batch_script(run, 1, JobSettings(cluster="slurm"), ranks_per_node=1, gpus=0)


def test_a_run_starts_and_ends_inside_the_container(site, planned_run):
    run = planned_run(steps=3, step_s=0.0)
    run.claim_submission()
    job = submit(
        run, 1, JobSettings(cluster="slurm"), ranks_per_node=1, gpus=0, module="standin_rank"
    )  # fmt: skip
    assert job.job_id == "7"
    inside_job = {**os.environ, "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n1", "SLURM_NTASKS": "1"}
    ran = subprocess.run(
        ["bash"], input=script_of(run), env=inside_job, capture_output=True, text=True, timeout=300
    )
    assert ran.returncode == 0, ran.stderr
    assert "finished: finished" in ran.stdout
    assert run.is_finished
    assert job_of(run, 1).job_id == "7"
    assert [e.values["decision"] for e in read_events(run) if e.kind == Kind.DECIDED] == ["finished"]
    entered = [call.split("site.sif python3 ")[1] for call in site.read_text().splitlines()]
    batch, ranks = "-m mri_hpc.cluster.batch", "-u -m submitit.core._submit "
    parts = (f"{batch} before ", ranks, f"{batch} after ")
    assert len(entered) == len(parts)
    assert all(words.startswith(part) for words, part in zip(entered, parts, strict=True)), entered


def test_nothing_of_the_batch_script_names_the_python_inside(site, planned_run):
    script = script_of(planned_run())
    assert str(INSIDE) not in script
    # Thrice each to ask every node for it, and to run.
    assert script.count(shlex.quote(str(WRAPPER))) == 6


def test_the_wrapper_shows_slurm_to_the_container_and_starts_where_it_was_called(site, tmp_path):
    words = ["-c", "import os, sys; print(os.getcwd(), sys.argv[1:])", "two words", "it's"]
    ran = subprocess.run([WRAPPER, *words], cwd=tmp_path, capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (0, f"{tmp_path} ['two words', \"it's\"]\n")
    called = site.read_text()
    assert called.startswith(f"exec --pwd {tmp_path} ")
    assert f"--bind {tmp_path}/bin/sbatch" in called
    only = {**os.environ, "MRI_SLURM_BIND": f"{tmp_path}/bin,/no/such"}
    subprocess.run([WRAPPER, "-c", ""], env=only, check=True)
    assert site.read_text().splitlines()[-1].count("--bind") == 1


def test_without_an_image_the_wrapper_says_which_variable_names_it(site, monkeypatch):
    monkeypatch.delenv("MRI_IMAGE")
    ran = subprocess.run([WRAPPER, "-V"], capture_output=True, text=True)
    assert ran.returncode != 0
    assert "MRI_IMAGE: names the Apptainer image; see hpc/slurm/site.env" in ran.stderr


def test_jobs_start_the_python_of_launch_unless_the_site_names_another(tmp_path, monkeypatch):
    assert job_python({}) == sys.executable
    monkeypatch.chdir(WRAPPER.parent)
    assert job_python({"MRI_PYTHON": "./apptainer_python.sh"}) == str(WRAPPER)
    with pytest.raises(UserError, match=r"MRI_PYTHON=/no/python is no program: name the python"):
        job_python({"MRI_PYTHON": "/no/python"})


def test_a_site_that_asks_for_gpus_in_its_own_words_is_not_asked_twice(site, planned_run):
    run = planned_run()
    own = JobSettings(cluster="slurm", slurm=("gres=gpu:1",))
    script = batch_script(run, 1, own, ranks_per_node=1, gpus=1)
    assert "#SBATCH --gres=gpu:1\n" in script
    assert "gpus-per-node" not in script
    plain = batch_script(run, 1, JobSettings(cluster="slurm"), ranks_per_node=1, gpus=1)
    assert "#SBATCH --gpus-per-node=1\n" in plain


def test_the_ranks_of_a_job_without_gpus_see_none(site, planned_run):
    run, hidden = planned_run(), '\nexport CUDA_VISIBLE_DEVICES=""\n'
    script = script_of(run)
    assert script.index(hidden) < script.index("\nsrun ")
    own = JobSettings(cluster="slurm", slurm=("gres=gpu:1",))
    assert hidden not in batch_script(run, 1, own, ranks_per_node=1, gpus=0)
    assert hidden not in batch_script(run, 1, JobSettings(cluster="slurm"), ranks_per_node=1, gpus=1)


def test_mail_is_of_the_end_alone_and_other_mail_is_refused_beside_it(site, planned_run):
    run, mailed = planned_run(), JobSettings(cluster="slurm", mail=True)
    script = batch_script(run, 1, mailed, ranks_per_node=1, gpus=0)
    # Of a job that cannot begin; the batch script says when there is more to mail.
    assert "#SBATCH --mail-type=FAIL\n" in script
    assert "\nexport MRI_MAILS=1\n" in script
    without = script_of(run)
    assert ("mail-type" in without, "MRI_MAILS" in without) == (False, False)
    both = JobSettings(cluster="slurm", mail=True, slurm=("mail-type=END",))
    with pytest.raises(
        UserError, match=r"^--mail and --slurm mail-type=.* both say when Slurm mails: add --no-mail, "
    ):
        batch_script(run, 1, both, ranks_per_node=1, gpus=0)


def test_an_automatic_batch_size_fits_any_number_of_ranks(monkeypatch):
    monkeypatch.setattr("mri_hpc.cluster.on_this_machine.num_gpus", lambda: 0)
    many = JobSettings(cluster="local", nodes=40)
    assert sizes_of(scheduler_for(many), many, batch_size="auto").ranks == 40
    with pytest.raises(UserError, match="gives 40 ranks less than 2 images each"):
        sizes_of(scheduler_for(many), many, batch_size=64)


def test_all_that_a_site_may_ask_for_reaches_sbatch(site, planned_run):
    asked = JobSettings(
        cluster="slurm", nodes=2, tasks_per_node=4, cpus_per_task=6, mem_gb=1.5, partition="gpu",
        account="a b", qos="high", constraint="a100&ib", time_limit_min=90, signal_ahead_s=120,
        slurm=("exclusive=", "mail_type=END", "--nice=5"),
    )  # fmt: skip
    script = batch_script(planned_run(), 1, asked, ranks_per_node=4, gpus=4)
    lines = {line.removeprefix("#SBATCH --") for line in script.splitlines() if line.startswith("#SBATCH")}
    assert lines >= {
        "nodes=2", "ntasks-per-node=4", "cpus-per-task=6", "mem=1536M", "partition=gpu", "account='a b'",
        "qos=high", "constraint='a100&ib'", "time=90", "signal=USR2@120", "gpus-per-node=4", "exclusive",
        "mail-type=END", "nice=5", "requeue", "open-mode=append",
    }  # fmt: skip
