"""On a real Slurm, the batch script outlives its ranks and decides by the cause. Ranks are stand-ins.

Real ones are interrupted in test_event_matrix.
"""

import json
import sys
from pathlib import Path

import pytest

from mri_hpc.cluster import choice, rank
from mri_hpc.cluster.choice import scheduler_for
from mri_hpc.cluster.jobs import job_of
from mri_hpc.cluster.launching import Plan, sizes_of, submit_once
from mri_hpc.cluster.on_slurm import Slurm as SlurmScheduler
from mri_hpc.cluster.partitions import partition_of_job
from mri_hpc.cluster.scheduler import Sizes
from mri_hpc.cluster.slurm import controller_answers
from mri_hpc.cluster.views import Watcher
from mri_hpc.cluster.watching import watch
from mri_hpc.doctor import main as doctor
from mri_hpc.launch import main
from mri_hpc.rundir.layout import Attempt, RunDir
from mri_hpc.rundir.ledger import Kind, read_events
from mri_hpc.rundir.metrics_log import read_metrics
from mri_hpc.rundir.settings import JobSettings, TrainingSettings, save_settings
from mri_hpc.status import main as status

# Runs that work until they are interrupted, and end soon after they were resumed.
LONG = {"steps": 100_000, "step_s": 0.05, "then": 20}


class Runs:
    """Runs on one sandbox, all launched at once so that their waits overlap."""

    def __init__(self, folder, slurm):
        self.folder, self.slurm = folder, slurm

    def launch(self, name, *, job=None, **plan):
        """Launch a run of two ranks on one node."""
        run = RunDir(self.folder / name)
        run.path.mkdir()
        (run.path / "standin.json").write_text(json.dumps({**LONG, **plan}))
        training = TrainingSettings(snapshot="ab12", schedule_epochs=30)
        settings = JobSettings(cluster="slurm", tasks_per_node=2, gpus_per_node=0, **(job or {}))
        save_settings(run, training, settings)
        sizes = Sizes(nodes=settings.nodes, ranks_per_node=2, gpus_per_node=0)
        submit_once(
            Plan(run=run, training=training, job=settings, is_new=False), scheduler_for(settings), sizes
        )
        return run

    def wait_for_steps(self, run, steps=5):
        self.slurm.wait_until(
            lambda: len(read_metrics(run)) >= steps, what=f"step {steps} of {run.path.name}", timeout_s=180
        )

    def job_id(self, run):
        return job_of(run, run.newest_attempt().submission).job_id

    def wait_for_end(self, run):
        """The job's last state, once the batch script has gone for good."""
        return self.slurm.wait_end(self.job_id(run), timeout_s=180)

    def wait_for_decisions(self, run, number):
        self.slurm.wait_until(
            lambda: len(decisions(run)) >= number, what=f"decision {number}: {read_events(run)}"
        )


def decisions(run):
    return [
        (e.attempt, e.values["decision"], e.values["cause"])
        for e in read_events(run)
        if e.kind == Kind.DECIDED
    ]


def left_s(run):
    """What was left until the kill when the ranks were first told to stop."""
    return next(event for event in read_events(run) if event.kind == Kind.STOP_AGREED).values["left_s"]


def steps_done(run):
    return [line["step"] for line in read_metrics(run)]


def speak_to(slurm, monkeypatch):
    """Point launch at a sandbox, and let its ranks be stand-ins."""
    for name in ("SLURM_CONF", "MRI_SANDBOX_DIR"):
        monkeypatch.setenv(name, slurm.env[name])
    standin = str(Path(__file__).parents[1] / "cluster")
    monkeypatch.setenv("PYTHONPATH", standin)
    monkeypatch.setattr(rank, "RANK_MODULE", "standin_rank")


@pytest.fixture(scope="module")
def runs(slurm, tmp_path_factory):
    """A path with spaces and quotes."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        speak_to(slurm, monkeypatch)
        yield Runs(tmp_path_factory.mktemp("it's a run"), slurm)


@pytest.fixture(scope="module")
def warning_slurm(sandboxes):
    """A Slurm that warns before it preempts. It comes up before any run loads the machine."""
    return sandboxes.start("--nodes", 2, "--grace-time", 30, "--send-user-signal", "--slurmd-timeout", 10)


def python_that_starts_no_rank_at_first(folder):
    """A python as on a busy node: where it starts ranks for the first time it gets no further."""
    script = folder / "busy python"
    script.write_text(
        "#!/bin/sh\n"
        'case "${SLURM_RESTART_COUNT:-0} $*" in "0 "*submitit*) exec sleep 600;; esac\n'
        f'exec {sys.executable} "$@"\n'
    )
    script.chmod(0o755)
    return script


def python_that_is_not_on(slurm, node, folder):
    """A python in a folder of which one node sees nothing."""
    program = folder / "installed here" / "python"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    program.chmod(0o755)
    slurm.sandbox("exec", node, "mount", "-t", "tmpfs", "none", program.parent)
    return program


@pytest.fixture(scope="module")
def started(runs, warning_slurm):
    """Runs that are under way, by how each is going to be interrupted."""
    launched = {
        # Slurm sends the signal up to half a minute early: the ranks have 20 s to be there.
        "time limit": runs.launch("time limit", job={"time_limit_min": 1, "signal_ahead_s": 10}),
        "requeued": runs.launch("requeued", job={"mail": True}),
        "cancelled": runs.launch("cancelled"),
        "scancelled": runs.launch("scancelled"),
        "crashing": runs.launch("crashing", job={"mail": True}, fail=[{"rank": 1, "step": 0, "how": 1}]),
        "mistaken": runs.launch("mistaken", fail=[{"rank": 1, "step": 3, "how": 2}]),
        "told": runs.launch("told"),
        "quick": runs.launch("quick", job={"mail": True}, steps=5),
    }
    with pytest.MonkeyPatch.context() as site:
        # As where sites export nothing; but the stand-ins' folder is named by this.
        site.setenv("SBATCH_EXPORT", "PYTHONPATH")
        launched["bare"] = runs.launch("bare", steps=5)
    with pytest.MonkeyPatch.context() as site:
        # As modules of sites set them: what is typed is stronger, and the run is no array.
        for name, value in {
            "PARTITION": "high",
            "ARRAY_INX": "1-3",
            "MEM_PER_CPU": "64",
            "GRES": "gpu:2",
        }.items():
            site.setenv(f"SBATCH_{name}", value)
        launched["typed"] = runs.launch("typed", job={"partition": "low", "mem_gb": 1}, steps=5)
    launched["held"] = runs.launch("held", job={"slurm": ("hold=",)}, steps=5)
    with pytest.MonkeyPatch.context() as site:
        site.setenv("MRI_PYTHON", str(python_that_is_not_on(runs.slurm, "n4", runs.folder)))
        absent = {"nodes": 2, "slurm": ("nodelist=n3,n4",)}
        launched["absent"] = runs.launch("absent", job=absent, steps=5)
    with pytest.MonkeyPatch.context() as busy:
        busy.setenv("MRI_PYTHON", str(python_that_starts_no_rank_at_first(runs.folder)))
        limit = {"time_limit_min": 1, "signal_ahead_s": 50}
        launched["early"] = runs.launch("early", job=limit, steps=5)
    for name in ("requeued", "cancelled", "scancelled", "told"):
        runs.wait_for_steps(launched[name])
    return launched


@pytest.fixture(scope="module")
def graceful(warning_slurm, tmp_path_factory):
    """Two runs on a Slurm that warns before it preempts: one is preempted, the node of the other dies."""
    slurm = warning_slurm
    with pytest.MonkeyPatch.context() as monkeypatch:
        speak_to(slurm, monkeypatch)
        runs = Runs(tmp_path_factory.mktemp("graceful"), slurm)
        preempted = runs.launch("preempted", job={"slurm": ("nodelist=n1",)})
        unlucky = runs.launch("unlucky", job={"slurm": ("exclude=n1",)}, save_every=2)
        for run in (preempted, unlucky):
            runs.wait_for_steps(run)
        slurm.sandbox("kill-node", "n2")
        slurm.sbatch("-p", "high", "-w", "n1", "--exclusive", "-o", "/dev/null", "--wrap", "true")
        slurm.sandbox("start-node", "n2")
    return runs, preempted, unlucky


@pytest.fixture(scope="module")
def interrupted(runs, started, graceful):
    """The same, each interrupted in its way. The other sandbox's slow events go on meanwhile."""
    runs.slurm.run(["scontrol", "requeue", runs.job_id(started["requeued"])])
    runs.slurm.run(["scancel", runs.job_id(started["scancelled"])])
    runs.slurm.run(["scancel", "--signal=USR2", runs.job_id(started["told"])])
    return started


def test_ranks_start_where_a_site_exports_nothing_of_the_shell(runs, started):
    assert runs.wait_for_end(started["bare"]) == "COMPLETED"
    assert [cause for _, _, cause in decisions(started["bare"])] == ["finished"]


def test_a_run_told_by_scontrol_requeue_comes_back(runs, interrupted):
    run = interrupted["requeued"]
    assert runs.wait_for_end(run) == "COMPLETED"
    assert decisions(run) == [("1.0", "again", "requeued"), ("1.1", "finished", "finished")]
    # KillWait of this Slurm: the end of the job that it shows by then is that of the next run.
    assert left_s(run) == pytest.approx(10)
    assert steps_done(run) == list(range(1, len(steps_done(run)) + 1))


def test_a_signal_from_somebody_makes_it_save_and_come_back(runs, interrupted):
    run = interrupted["told"]
    assert runs.wait_for_end(run) == "COMPLETED"
    assert decisions(run) == [("1.0", "again", "stopped"), ("1.1", "finished", "finished")]


def test_a_run_ended_by_scancel_saves_and_never_comes_back(runs, interrupted):
    run = interrupted["scancelled"]
    assert runs.wait_for_end(run) == "CANCELLED"
    runs.wait_for_decisions(run, 1)
    assert decisions(run) == [("1.0", "stay_away", "cancelled")]
    assert Watcher(run).look().summary.state == "cancelled"
    assert Watcher(run).look().summary.saved_step >= 5


def test_launch_cancels_and_launching_again_resumes(runs, interrupted, capsys):
    run = interrupted["cancelled"]
    assert main(["--run", str(run.path), "--cancel"]) == 0
    saved = Watcher(run).look().summary.saved_step
    assert f"Slurm job {runs.job_id(run)} cancelled; saved at step {saved}" in capsys.readouterr().out
    assert decisions(run) == [("1.0", "stay_away", "cancelled")]
    assert main(["--run", str(run.path)]) == 0
    assert f"resumes at step {saved}: Slurm job {runs.job_id(run)}" in capsys.readouterr().out
    assert main(["--run", str(run.path)]) == 0
    assert f"already in the hands of Slurm job {runs.job_id(run)}" in capsys.readouterr().out
    assert run.newest_attempt() == Attempt(submission=2, restart=0)
    main(["--run", str(run.path), "--cancel"])


def test_an_error_that_the_user_can_mend_is_known_though_the_peers_were_killed(runs, interrupted):
    run = interrupted["mistaken"]
    assert runs.wait_for_end(run) == "FAILED"
    assert decisions(run) == [("1.0", "give_up", "user_error")]


def test_a_job_that_is_requeued_once_more_after_the_run_is_done_starts_nothing(runs, interrupted):
    run = interrupted["quick"]
    assert runs.wait_for_end(run) == "COMPLETED"
    runs.slurm.run(["scontrol", "requeue", runs.job_id(run)])

    def has_ended_again():
        job = runs.slurm.job(runs.job_id(run))
        return (job["Restarts"], job["JobState"]) == ("1", "COMPLETED")

    runs.slurm.wait_until(has_ended_again, what="its second end", timeout_s=180)
    assert run.all_attempts() == [Attempt(submission=1, restart=0)]


def test_a_run_that_crashes_without_progress_ends_at_the_third_attempt_with_the_last_words(runs, interrupted):
    run = interrupted["crashing"]
    runs.wait_for_decisions(run, 3)
    assert decisions(run) == [
        ("1.0", "again", "crash"),
        ("1.1", "again", "crash"),
        ("1.2", "give_up", "crash"),
    ]
    last = Watcher(run).look().summary
    assert last.state == "gave_up"
    assert last.last_words[-1] == "dying: 1"


def test_a_run_that_needs_longer_than_its_limit_requeues_itself_also_where_the_limit_is_short(
    runs, interrupted
):
    run = interrupted["time limit"]
    runs.wait_for_decisions(run, 1)
    assert decisions(run)[0] == ("1.0", "again", "time_limit")
    # What is left of the minute, and KillWait; on a busy machine Slurm says so when the minute is over.
    assert 9 < left_s(run) <= 60 + 10
    [agreed] = [event for event in read_events(run) if event.kind == Kind.STOP_AGREED][:1]
    assert agreed.values["signal"] == "SIGUSR2"
    assert runs.wait_for_end(run) == "COMPLETED"


def test_the_signal_ahead_of_the_limit_may_come_before_the_ranks_listen(runs, interrupted):
    run = interrupted["early"]
    runs.wait_for_decisions(run, 2)
    assert decisions(run) == [("1.0", "again", "time_limit"), ("1.1", "finished", "finished")]


def test_what_is_typed_is_stronger_than_what_modules_set(runs, started):
    assert runs.wait_for_end(started["typed"]) == "COMPLETED"
    job = runs.slurm.job(runs.job_id(started["typed"]))
    assert (job["Partition"], job["MinMemoryNode"], job.get("TresPerNode")) == ("low", "1G", None)
    assert "ArrayJobId" not in job


def test_a_held_run_says_what_to_type_in_status_and_while_one_waits(runs, started, capsys):
    run = started["held"]
    number = runs.job_id(run)
    words = f"it is held; let it go: scontrol release {number} (Slurm: JobHeldUser)"
    monkeypatch = pytest.MonkeyPatch()
    with monkeypatch.context() as fresh:
        # What Slurm was asked last, by the process that launched it, counts for half a minute.
        fresh.setattr(choice, "SCHEDULERS", {**choice.SCHEDULERS, "slurm": SlurmScheduler()})
        assert status([str(run.path)]) == 0
        assert words in " ".join(capsys.readouterr().out.split())
        watch(run, is_done=lambda view: True)
        assert f"({words})" in capsys.readouterr().out
        assert status([str(run.path), str(started["bare"].path)]) == 0
        assert words in capsys.readouterr().out
    runs.slurm.run(["scontrol", "release", number])
    assert runs.wait_for_end(run) == "COMPLETED"


def test_a_python_that_a_node_lacks_is_named_with_the_node_before_a_rank_starts(runs, started):
    run = started["absent"]
    runs.wait_for_end(run)
    runs.wait_for_decisions(run, 1)
    assert decisions(run)[-1][1] == "give_up"
    summary = Watcher(run).look().summary
    words = " ".join([summary.reason, *summary.last_words])
    assert "node n4 does not see" in words and "installed here" in words


def test_a_refused_job_is_one_line_with_the_words_of_slurm(runs, capsys):
    run = runs.launch("refused", steps=1)
    runs.wait_for_end(run)
    (run.path / "DONE").unlink()
    assert main(["--run", str(run.path), "--constraint", "nowhere"]) == 2
    complaint = capsys.readouterr().err
    assert complaint.count("\n") == 1
    assert "Slurm refused the job: " in complaint
    assert "Invalid feature specification" in complaint
    # A partition that there is not is known before.
    assert main(["--run", str(run.path), "--partition", "nowhere"]) == 2
    complaint = capsys.readouterr().err
    assert complaint.count("\n") == 1
    assert "--partition nowhere does not exist; this cluster has: high, low" in complaint


def test_the_doctor_finds_slurm_ready_and_says_what_its_partitions_give(runs, capsys):
    assert doctor([str(runs.folder), "--only", "slurm", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    says = [one["says"] for one in found]
    assert [one for one in found if one["level"] != "fine"] == []
    assert any(line.startswith("Slurm 2") and line.endswith(" answers") for line in says)
    assert any("10 s (KillWait)" in line for line in says)
    assert any(line.startswith("partition low (default): 4 nodes") for line in says)
    assert any(line.startswith("your accounts: ") for line in says)


def test_the_cluster_is_asked_whether_it_answers_and_has_gpus(runs):
    assert controller_answers()
    assert partition_of_job(None).has_gpus
    settings = JobSettings(nodes=2)
    assert sizes_of(scheduler_for(settings), settings, batch_size=64) == Sizes(
        nodes=2, ranks_per_node=1, gpus_per_node=1
    )


def mails_about(runs, run):
    """What Slurm has mailed of a run's job: subjects."""
    return runs.slurm.mails_about(runs.job_id(run))


@pytest.mark.parametrize(
    ("name", "end"), [("requeued", "COMPLETED"), ("crashing", "FAILED"), ("quick", "COMPLETED")]
)
def test_one_mail_is_sent_at_the_end_of_a_run_and_none_at_its_requeues(runs, interrupted, name, end):
    run = interrupted[name]
    assert runs.wait_for_end(run) == end
    runs.slurm.wait_until(lambda: mails_about(runs, run), what="a mail")
    [mail] = mails_about(runs, run)
    assert (f"Name=mri-{name} " in mail, end in mail) == (True, True), mail


def test_a_run_that_asks_for_no_mail_gets_none(runs, interrupted):
    assert mails_about(runs, interrupted["told"]) == []


def test_a_run_that_exits_within_its_grace_time_is_requeued_by_the_batch_script(graceful):
    """Slurm before 24.05 would take the job as finished; the signal is USR2, as near the time limit."""
    runs, run, _ = graceful
    assert runs.wait_for_end(run) == "COMPLETED"
    # GraceTime and KillWait; the times that Slurm tells are whole seconds.
    assert 57 < left_s(run) <= 61
    assert decisions(run) == [("1.0", "again", "preempted"), ("1.1", "finished", "finished")]


def test_a_run_whose_node_dies_comes_back_and_says_why(graceful):
    runs, _, run = graceful
    assert runs.wait_for_end(run) == "COMPLETED"
    assert decisions(run) == [("1.0", "again", "node_failure"), ("1.1", "finished", "finished")]
