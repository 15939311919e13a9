import functools
import os
import shlex
import subprocess

import pytest

from mri_hpc.base.exit_status import AGAIN
from mri_hpc.cluster import batch, expediting
from mri_hpc.cluster.slurm import QUESTION_STEP
from mri_hpc.cluster.submission import _after_srun, _before_srun, _executor
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.ledger import read_events
from mri_hpc.rundir.settings import JobSettings


@pytest.fixture
def called(monkeypatch):
    """What the two parts of the batch script are called with."""
    calls = []

    def note(part):
        def noted(run, submission, **more):
            calls.append((part, run, submission, more))
            return AGAIN

        return noted

    monkeypatch.setattr(batch, "before_ranks", note("before"))
    monkeypatch.setattr(batch, "after_ranks", note("after"))
    return calls


def words_of(lines):
    """The words of the line that calls batch.py, behind its name."""
    (line,) = (line for line in lines if "mri_hpc.cluster.batch" in line)
    words = shlex.split(line.replace("$ranks_status", "75").partition(" || ")[0])
    return words[words.index("mri_hpc.cluster.batch") + 1 :]


def test_what_the_batch_script_says_is_what_decides(tmp_path, called):
    run = RunDir(tmp_path / "--a run's folder")
    before = words_of(_before_srun(run, 3, "python", has_gpus=True, nodes=1, question=()))
    after = words_of(_after_srun(run, 3, "python", 90))
    assert batch.main(before) == batch.main(after) == AGAIN
    assert called == [
        ("before", run, 3, {}),
        ("after", run, 3, {"status": 75, "signal_ahead_s": 90}),
    ]


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """A folder for programs, before all others on the PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def write(name, text):
        (folder / name).write_text(f"#!/bin/bash\n{text}\n")
        (folder / name).chmod(0o755)

    return write


@pytest.mark.parametrize(
    ("decided", "ended", "requeued"), [(76, AGAIN, "requeue 7\n"), (1, 1, ""), (0, 0, "")]
)
def test_the_shell_requeues_where_the_python_of_a_container_cannot(
    commands, tmp_path, decided, ended, requeued
):
    calls = tmp_path / "calls"
    calls.touch()
    commands("scontrol", f"echo $* >> {calls}")
    commands("python", f"exit {decided}")
    lines = _after_srun(RunDir(tmp_path / "run"), 1, "python", 90)
    ran = subprocess.run(["bash", "-c", "\n".join(lines)], env={**os.environ, "SLURM_JOB_ID": "7"})
    assert ran.returncode == ended
    assert calls.read_text() == requeued


def test_a_python_without_scontrol_leaves_the_requeue_to_the_shell(planned_run, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    run = planned_run()
    run.claim_submission()
    assert batch.after_ranks(run, 1, status=AGAIN, signal_ahead_s=90) == batch.REQUEUE_BY_SHELL
    assert read_events(run)[-1].values["decision"] == "again"


def test_where_nobody_could_requeue_no_rank_starts_and_it_is_said_at_once(planned_run, monkeypatch, tmp_path):
    run = planned_run()
    run.claim_submission()
    words = words_of(_before_srun(run, 1, "python", has_gpus=False, nodes=1, question=()))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv(batch.SHELL_HAS_SCONTROL, "0")
    assert batch.main(words) == batch.REFUSED
    # As a script of before says it, which knows of no other status.
    assert batch.main(words[: words.index("--refused")]) == batch.MAY_NOT_START
    assert read_events(run)[-1].values["reason"].startswith("scontrol is on the PATH of neither the job's")
    monkeypatch.setenv(batch.SHELL_HAS_SCONTROL, "1")
    assert batch.main(words) == 0


def test_the_shell_says_whether_it_has_scontrol(commands, tmp_path):
    commands("python", "echo $MRI_SHELL_HAS_SCONTROL")
    script = "\n".join(
        _before_srun(RunDir(tmp_path / "run"), 1, "python", has_gpus=True, nodes=1, question=())
    )
    has_none = {**os.environ, "PATH": str(tmp_path / "bin")}
    assert subprocess.check_output(["/bin/bash", "-c", script], env=has_none, text=True) == "0\n"
    commands("scontrol", "")
    assert subprocess.check_output(["/bin/bash", "-c", script], env=has_none, text=True) == "1\n"


@pytest.mark.parametrize("question", [(), ("ask --nodes",)])
def test_nodes_are_asked_once_whoever_asks(question, commands, tmp_path):
    commands("sbatch", "")
    commands("srun", "")
    script = _executor(
        RunDir(tmp_path / "run"), 1, JobSettings(nodes=2), ranks_per_node=1, gpus=0, question=question
    ).script()
    assert script.count(f"--job-name={QUESTION_STEP}") + script.count("ask --nodes") == 1
    # Whoever asks knows where Slurm finds each node.
    addresses, asked = script.index("MRI_ADDRESSES="), script.index(*question or [QUESTION_STEP])
    assert addresses < asked < script.index("batch before")


def test_the_last_words_of_ranks_that_could_not_start_are_those_of_srun(planned_run, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setattr("mri_hpc.cluster.slurm.job_state", lambda _job_id: None)
    run = planned_run()
    run.claim_submission()
    run.submitit.mkdir()
    said = "slurmstepd: error: execve(): /site/python: No such file or directory"
    (run.submitit / "7_0_log.out").write_text(f"mri_hpc: ranks ended with 2\n{said}\n")
    (run.submitit / "8_0_log.out").write_text("of another job\n")
    batch.after_ranks(run, 1, status=2, signal_ahead_s=90)
    assert read_events(run)[-1].values["last_words"] == [said]


@pytest.mark.parametrize(
    ("state", "status", "asked"),
    [
        ("PREEMPTED", AGAIN, ["update JobId=7 MailType=NONE"]),
        ("COMPLETING", 2, ["update JobId=7 MailType=NONE", "update JobId=7 MailType=END,FAIL"]),
    ],
)
def test_slurm_mails_at_the_end_alone(planned_run, monkeypatch, commands, tmp_path, state, status, asked):
    calls = tmp_path / "calls"
    commands(
        "scontrol",
        f'case "$*" in update*) echo "$*" >> {calls};; *show*job*) echo JobState={state};; esac',
    )
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv(batch.MAILS, "1")
    run = planned_run()
    run.claim_submission()
    assert batch.before_ranks(run, 1) == 0
    batch.after_ranks(run, 1, status=status, signal_ahead_s=90)
    assert calls.read_text().splitlines() == asked


def test_a_run_that_cannot_be_used_is_mailed_about_and_its_job_has_failed(
    planned_run, monkeypatch, commands, tmp_path
):
    calls, run = tmp_path / "calls", planned_run()
    commands("scontrol", f'echo "$*" >> {calls}')
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv(batch.MAILS, "1")
    run.claim_submission()
    batch.refuse_ranks(run, 1, "no settings")
    assert calls.read_text() == "update JobId=7 MailType=END,FAIL\n"
    commands("python", f"exit {batch.REFUSED}")
    script = "\n".join(_before_srun(run, 1, "python", has_gpus=True, nodes=1, question=()))
    assert subprocess.run(["bash", "-c", script], check=False).returncode == batch.GAVE_UP


def test_a_job_that_slurm_refuses_to_requeue_has_failed(planned_run, monkeypatch, commands):
    commands("scontrol", 'case "$1" in requeue) echo "requests are disabled" >&2; exit 1;; esac')
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    run = planned_run()
    run.claim_submission()
    assert batch.after_ranks(run, 1, status=AGAIN, signal_ahead_s=90) == batch.GAVE_UP
    assert read_events(run)[-1].values["reason"].startswith("Slurm refused to requeue job 7")


@pytest.mark.parametrize(
    ("version", "parameters", "asked", "is_asked_for"),
    [
        ("22.05.8", "enable_expedited_requeue", False, False),
        ("25.05.3", "enable_expedited_requeue", False, False),
        ("25.11.0", "enable_configless", True, False),
        ("26.05.5", "enable_configless,Enable_Expedited_Requeue", True, True),
        ("unknown", "enable_expedited_requeue", False, False),
    ],
)
def test_a_requeued_job_may_start_at_once_where_the_site_has_it_so(
    version, parameters, asked, is_asked_for, commands, tmp_path, monkeypatch
):
    monkeypatch.setattr(expediting, "is_offered", functools.cache(expediting.is_offered.__wrapped__))
    calls = tmp_path / "calls"
    calls.touch()
    commands("sbatch", "")
    commands("srun", f"echo slurm-wlm {version}")
    commands("scontrol", f'echo "$*" >> {calls}; echo "SlurmctldParameters     = {parameters}"')
    for _run in range(2):
        script = _executor(RunDir(tmp_path / "run"), 1, JobSettings(), ranks_per_node=1, gpus=0).script()
        assert ("#SBATCH --requeue=expedite\n" in script) is is_asked_for
        assert ("#SBATCH --requeue\n" in script) is not is_asked_for
        assert (expediting.LINES[-1] in script) is is_asked_for
    assert calls.read_text().splitlines() == ["show config"] * asked


@pytest.mark.parametrize(
    ("ends", "is_answered", "told", "status"),
    [(0, True, "", 0), (AGAIN, True, "", AGAIN), (1, True, "update JobId=7 Requeue=0\n", 1),
     (127, True, "update JobId=7 Requeue=0\n", 127), (1, False, "", 0)],
)  # fmt: skip
def test_a_job_that_is_requeued_at_once_is_not_held_where_it_fails(
    ends, is_answered, told, status, commands, tmp_path
):
    calls = tmp_path / "calls"
    calls.touch()
    commands("scontrol", f'echo "$*" >> {calls}' if is_answered else "exit 1")
    script = "\n".join([*expediting.LINES, f"exit {ends}"])
    ran = subprocess.run(["bash", "-c", script], env={**os.environ, "SLURM_JOB_ID": "7"}, check=False)
    assert (ran.returncode, calls.read_text()) == (status, told)


@pytest.mark.parametrize(
    ("last", "restarts", "cause"),
    [("PREEMPTION", 1, "preempted"), ("JOB REQUEUE", 1, "requeued"), ("PREEMPTION", 0, "cancelled")],
)
def test_without_accounting_the_output_of_the_job_tells_that_it_was_preempted(
    last, restarts, cause, planned_run, monkeypatch, commands
):
    commands("scontrol", f"echo JobState=COMPLETING Restarts={restarts}")
    commands("sacct", "exit 1")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    run = planned_run()
    run.claim_submission()
    run.submitit.mkdir()
    said = "slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT 2026-11-30T19:38:25 DUE TO"
    lines = [f"{said} PREEMPTION ***", f"{said} JOB REQUEUE ***", f"{said} {last} ***", "srun: done"]
    (run.submitit / "7_0_log.out").write_text("\n".join(lines))
    batch.after_ranks(run, 1, status=AGAIN, signal_ahead_s=90)
    assert read_events(run)[-1].values["cause"] == cause
