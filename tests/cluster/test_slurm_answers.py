"""What Slurm 22.05 printed on the sandbox is understood."""

import subprocess

import pytest

from mri_hpc.base.errors import UserError
from mri_hpc.cluster import slurm
from mri_hpc.cluster.choice import scheduler_for
from mri_hpc.cluster.jobs import slurm_job
from mri_hpc.cluster.on_slurm import Slurm
from mri_hpc.cluster.partitions import (
    Partition,
    parse_partitions,
    partition_of_job,
    refuse_what_cannot_start,
)
from mri_hpc.cluster.sbatch_options import cluster_named, typed_options, weaker_variables
from mri_hpc.cluster.scheduler import Phase
from mri_hpc.cluster.slurm import (
    array_job,
    array_share,
    controller_answers,
    is_pending_already,
    place,
    without_slurm,
)
from mri_hpc.cluster.slurm_answers import JobState, parse_accounting, parse_job, parse_queue
from mri_hpc.rundir.place import Place
from mri_hpc.rundir.settings import JobSettings

# scontrol --oneliner show job, with SLURM_TIME_FORMAT=%s.
SHOWN = (
    "JobId=2 JobName=mri-run UserId=root(0) GroupId=root(0) MCS_label=N/A Priority=4294901758 Nice=0 "
    "Account=root QOS=normal JobState=RUNNING Reason=None Dependency=(null) Requeue=1 Restarts=2 "
    "BatchFlag=1 Reboot=0 ExitCode=0:0 RunTime=00:00:04 TimeLimit=00:30:00 TimeMin=N/A "
    "SubmitTime=1795411108 EligibleTime=1795411108 AccrueTime=1795411108 StartTime=1795411108 "
    "EndTime=1795412908 Deadline=N/A PreemptEligibleTime=1795411108 PreemptTime=None SuspendTime=None "
    "SecsPreSuspend=0 Partition=low NodeList=n[1-2] BatchHost=n1 NumNodes=2 Command=/tmp/q'uo "
    "te/JobState=FAILED s.sh WorkDir=/work StdErr=/tmp/q'uo te/out.log Power=\n"
)
STEP_ENVIRONMENT = {
    "SLURM_JOB_ID": "4", "SLURM_STEP_ID": "0", "SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_NTASKS": "4",
    "SLURM_STEP_NUM_TASKS": "4", "SLURMD_NODENAME": "n2",
}  # fmt: skip


def test_a_running_job_is_read_and_a_path_that_looks_like_a_state_does_not_confuse():
    state = parse_job(SHOWN, now=1795411200.0)
    assert state == JobState(state="RUNNING", restarts=2, end_s=1795412908.0)
    assert state.is_live
    assert not state.is_waiting


def test_a_job_within_its_grace_time_is_known_as_preempted():
    assert parse_job(SHOWN.replace("PreemptTime=None", "PreemptTime=1795411111"), now=0.0).is_preempted


def test_a_job_that_ran_its_whole_time_is_out_of_time():
    assert parse_job(SHOWN.replace("RunTime=00:00:04", "RunTime=00:30:01"), now=0.0).is_out_of_time
    assert not parse_job(SHOWN.replace("TimeLimit=00:30:00", "TimeLimit=UNLIMITED"), now=0.0).is_out_of_time
    long = SHOWN.replace("RunTime=00:00:04", "RunTime=1-00:00:01").replace(
        "TimeLimit=00:30:00", "TimeLimit=1-00:00:00"
    )
    assert parse_job(long, now=0.0).is_out_of_time


@pytest.mark.parametrize(
    ("accounting", "state"),
    [
        ("PREEMPTED\n", "PREEMPTED"),
        ("CANCELLED by 0\n", "CANCELLED"),
        ("TIMEOUT\n", "TIMEOUT"),
        # The accounting is behind.
        ("RUNNING\n", "COMPLETING"),
        ("PENDING\n", "COMPLETING"),
        ("", "COMPLETING"),
    ],
)
def test_while_a_job_is_cleared_away_the_accounting_says_what_it_ends_as(accounting, state):
    shown = parse_job(SHOWN.replace("JobState=RUNNING", "JobState=COMPLETING"), now=0.0)
    known = parse_accounting(accounting, shown)
    assert (known.state, known.restarts) == (state, 2)
    # Its ranks may still be saving.
    assert known.is_live
    assert not known.is_waiting


def test_a_job_that_slurm_has_forgotten_is_known_from_the_accounting_alone():
    assert parse_accounting("COMPLETED\n", None) == JobState(state="COMPLETED")
    assert parse_accounting("", None) is None


@pytest.mark.parametrize("state", ["EXPEDITING", "REQUEUE_HOLD", "SPECIAL_EXIT", "POWERING_UP", "A_NEW_ONE"])
def test_a_job_in_a_state_that_is_no_end_is_still_slurms_and_waits(state):
    job = JobState(state=state)
    assert job.is_live
    assert job.is_waiting


@pytest.mark.parametrize("state", ["LAUNCH_FAILED", "RECONFIG_FAIL", "REVOKED", "DEADLINE", "BOOT_FAIL"])
def test_a_job_that_ended_in_a_rare_way_is_gone(state):
    job = JobState(state=state)
    assert not job.is_live
    assert not job.is_waiting


def test_a_refusal_because_the_job_is_pending_anyway_is_no_failure():
    assert is_pending_already("Job is pending execution for job 4\n")
    assert not is_pending_already("Invalid job id specified for job 99999\n")


def test_gpus_are_looked_for_in_the_partition_that_sbatch_would_take():
    text = "cpu*|(null)\ngpu|gpu:2\nmixed|(null)\nmixed|gpu:a100:8\n"
    assert not parse_partitions(text, None).has_gpus
    assert parse_partitions(text, "gpu").has_gpus
    assert parse_partitions(text, "mixed").has_gpus
    assert parse_partitions(text, "cpu,gpu").has_gpus


# sinfo --format=%P|%G|%l|%D|%s
PARTITIONS = """cpu*|(null)|infinite|4|1-infinite
gpu|gpu:2|2-00:00:00|3|1-infinite
gpu|gpu:8|2-00:00:00|1|1-infinite
short|(null)|30:00|40|1-2
"""


@pytest.mark.parametrize(
    ("wanted", "minutes", "nodes"),
    [(None, float("inf"), 4), ("gpu", 2880, 4), ("short", 30, 2), ("short,gpu", 2880, 4)],
)
def test_the_limits_of_a_partition_are_those_of_all_its_nodes(wanted, minutes, nodes):
    partition = parse_partitions(PARTITIONS, wanted)
    assert (partition.most_minutes, partition.most_nodes) == (minutes, nodes)
    refuse_what_cannot_start(partition, nodes=nodes, minutes=30)
    with pytest.raises(UserError, match=f"--nodes {nodes + 1} .* ask for at most {nodes}$"):
        refuse_what_cannot_start(partition, nodes=nodes + 1, minutes=30)


def test_a_time_limit_that_would_wait_for_ever_is_refused():
    with pytest.raises(UserError, match=r"^--time-limit-min 31 is more than .* \(30\): ask for at most 30;"):
        refuse_what_cannot_start(parse_partitions(PARTITIONS, "short"), nodes=1, minutes=31)


def test_an_unknown_partition_is_refused_by_naming_those_there_are():
    with pytest.raises(UserError, match=r"--partition gpus does not exist; this cluster has: cpu, gpu"):
        parse_partitions("cpu*|(null)\ngpu|gpu:2\n", "gpus")


def test_the_partition_of_the_shell_is_named_by_its_variable(monkeypatch):
    answer = subprocess.CompletedProcess([], 0, "cpu*|(null)\n", "")
    monkeypatch.setattr("mri_hpc.cluster.slurm._ask", lambda _words, **_limits: answer)
    monkeypatch.setenv("SBATCH_PARTITION", "gpus")
    with pytest.raises(UserError, match=r"^SBATCH_PARTITION gpus does not exist; this cluster has: cpu$"):
        partition_of_job(None)
    with pytest.raises(UserError, match=r"^--partition gpu does not exist"):
        partition_of_job("gpu")


def test_a_rank_finds_its_place_in_the_step_and_the_first_run_has_no_restart_count():
    assert place(STEP_ENVIRONMENT) == Place(
        rank=3, local_rank=1, world_size=4, host="n2", restart=0, job_id="4"
    )
    assert place({**STEP_ENVIRONMENT, "SLURM_RESTART_COUNT": "2"}).restart == 2


def test_the_batch_shell_itself_is_no_rank():
    assert place({"SLURM_JOB_ID": "4", "SLURM_PROCID": "0", "SLURM_NTASKS": "4"}) is None


def test_the_share_of_an_array_task_is_its_place_between_first_and_last():
    array = {"SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_MAX": "7", "SLURM_ARRAY_TASK_STEP": "2"}
    assert array_share({**array, "SLURM_ARRAY_TASK_ID": "5"}) == (2, 4)
    assert array_share({}) is None
    assert array_job({"SLURM_ARRAY_JOB_ID": "12", "SLURM_RESTART_COUNT": "1"}) == "12.1"
    assert array_job({}) is None


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch):
    """What one test has pretended, the next does not hear."""
    monkeypatch.setattr(slurm, "_answers", {})


@pytest.fixture
def says(monkeypatch):
    """Pretends what sinfo prints, and that no SLURM_CONF is set."""
    monkeypatch.delenv("SLURM_CONF", raising=False)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")

    def say(stdout="", stderr="", status=1):
        answer = subprocess.CompletedProcess([], status, stdout, stderr)
        monkeypatch.setattr(slurm, "_ask", lambda *_words, **_limits: answer)
        monkeypatch.setattr(slurm, "_answers", {})

    return say


UNCONFIGURED = "sinfo: fatal: Could not establish a configuration source\n"
AWAY = "slurm_load_partitions: Unable to contact slurm controller (connect failure)\n"


def test_a_machine_without_slurm_or_with_clients_that_nobody_configured_has_none(says, monkeypatch):
    says(stderr=UNCONFIGURED)
    assert not controller_answers()
    monkeypatch.setattr("shutil.which", lambda _name: None)
    assert not controller_answers()


def test_one_question_tells_whether_slurm_answers_and_what_its_partitions_are(says, monkeypatch):
    says(stdout=PARTITIONS, status=0)
    assert controller_answers()
    says(stderr=AWAY)
    asked = []
    answer = subprocess.CompletedProcess([], 0, PARTITIONS, "")
    monkeypatch.setattr(slurm, "_ask", lambda words, **_limits: asked.append(words) or answer)
    assert controller_answers()
    assert partition_of_job("gpu").has_gpus
    assert len(asked) == 1
    # Another cluster is another question.
    assert partition_of_job("gpu", "b").has_gpus
    assert "--clusters=b" in asked[1]


def test_inside_a_job_without_slurms_commands_nothing_is_started_unasked(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda _name: None)
    monkeypatch.setenv("SLURM_JOB_ID", "71")
    with pytest.raises(UserError, match=r"^this is inside Slurm's job 71, .* launch on a login node"):
        scheduler_for(JobSettings(cluster="auto"))
    # Who asks for it trains there.
    assert (
        scheduler_for(JobSettings(cluster="local")).where(sizes(cluster="local")).startswith("this machine")
    )


def test_a_slurm_that_is_configured_and_does_not_answer_is_not_taken_for_none(says, monkeypatch):
    says(stderr=AWAY)
    with pytest.raises(UserError, match=r"configured here but does not answer: .*controller.*; try again"):
        controller_answers()
    says(stderr=UNCONFIGURED)
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm.conf")
    with pytest.raises(UserError, match=r"does not answer: .*; try again, or use --cluster local"):
        controller_answers()


def test_a_refusal_is_told_in_the_words_of_sbatch_without_its_hint():
    from mri_hpc.cluster.submission import _essence

    text = "FAILED\nsbatch: unrecognized option '--foo=1'\nTry \"sbatch --help\" for more information\n"
    assert _essence(text) == "unrecognized option '--foo=1'"
    assert _essence("x sbatch: error: invalid partition\nsbatch: error: Batch failed") == (
        "invalid partition; Batch failed"
    )


def sizes(**settings):
    asked = JobSettings(**settings)
    return scheduler_for(asked).sizes(asked)


def test_more_gpus_than_this_machine_has_are_refused(monkeypatch):
    monkeypatch.setattr("mri_hpc.cluster.on_this_machine.num_gpus", lambda: 1)
    with pytest.raises(UserError, match=r"--gpus-per-node 2 is more than this machine has \(1\)"):
        sizes(cluster="local", gpus_per_node=2)


def test_a_machine_that_has_fewer_gpus_than_nodes_were_asked_for_says_what_it_gives(monkeypatch):
    monkeypatch.setattr("mri_hpc.cluster.on_this_machine.num_gpus", lambda: 4)
    few = sizes(cluster="local", nodes=8)
    assert few.ranks == 4
    assert few.notes == ("--nodes 8 gives 4 rank(s) on this machine: one for each GPU that the job may use",)
    assert sizes(cluster="local", nodes=2).notes == ()
    without = sizes(cluster="local", nodes=8, gpus_per_node=0)
    assert (without.ranks, without.notes) == (8, ())


def test_every_rank_on_slurm_gets_a_gpu_of_its_own_or_the_job_is_refused(monkeypatch):
    monkeypatch.setattr(
        "mri_hpc.cluster.partitions.partition_of_job", lambda *_where: Partition(has_gpus=True)
    )
    by_default = sizes(cluster="slurm", tasks_per_node=4)
    assert (by_default.ranks_per_node, by_default.gpus_per_node) == (4, 4)
    with pytest.raises(UserError, match="--tasks-per-node 4 needs as many GPUs a node"):
        sizes(cluster="slurm", tasks_per_node=4, gpus_per_node=1)
    without = sizes(cluster="slurm", tasks_per_node=4, gpus_per_node=0)
    assert (without.ranks_per_node, without.gpus_per_node) == (4, 0)


@pytest.mark.parametrize(
    ("typed", "environment", "cluster"),
    [
        ((), {}, ""),
        ((), {"SLURM_CLUSTERS": "b"}, "b"),
        (("clusters=c",), {"SLURM_CLUSTERS": "b"}, "c"),
        (("clusters=a",), {}, ""),
        ((), {"SBATCH_CLUSTERS": "", "SLURM_CLUSTERS": "a"}, ""),
    ],
)
def test_a_job_goes_to_the_cluster_that_is_named_unless_it_is_the_one_at_hand(
    tmp_path, typed, environment, cluster
):
    conf = tmp_path / "slurm.conf"
    conf.write_text("# ClusterName=z\nClusterName=a\nSlurmctldHost=head\n")
    shell = {"SLURM_CONF": str(conf), **environment}
    assert cluster_named(typed_options(typed), shell) == cluster


@pytest.mark.parametrize(
    ("typed", "environment", "said"),
    [
        ((), {"SLURM_CLUSTERS": "all"}, "SLURM_CLUSTERS=all"),
        ((), {"SBATCH_CLUSTERS": "b,c"}, "SBATCH_CLUSTERS=b,c"),
        (("clusters=b,c",), {}, "--slurm clusters=b,c"),
    ],
)
def test_of_several_clusters_slurm_may_not_choose_one_that_later_nobody_knows(typed, environment, said):
    with pytest.raises(UserError, match=f"^{said} names no one cluster: choose it by --slurm"):
        cluster_named(typed_options(typed), environment)


def test_a_run_of_another_cluster_is_asked_and_cancelled_there_whatever_the_shell_names(
    monkeypatch, tmp_path
):
    conf = tmp_path / "slurm.conf"
    conf.write_text("ClusterName=a\n")
    monkeypatch.setenv("SLURM_CONF", str(conf))
    monkeypatch.setenv("SLURM_CLUSTERS", "c")
    asked = []

    def answer(words, **changes):
        asked.append((words, changes["env"].get("SLURM_CLUSTERS")))
        return subprocess.CompletedProcess(words, 0, "CLUSTER: b\n7|RUNNING|None|17\n", "")

    monkeypatch.setattr(subprocess, "run", answer)
    scheduler, here, there = Slurm(), slurm_job("7", "a"), slurm_job("7", "b")
    assert scheduler.standing(there).phase is Phase.RUNNING
    assert scheduler.name(there) == "Slurm job 7 of cluster b"
    scheduler.past_end(there, 0)
    scheduler.cancel(there)
    scheduler.why_not_begun(there)
    slurm.first_node("7", "b")
    commands = ["squeue", "sacct", "scancel", "scontrol", "scontrol"]
    assert [words[:2] for words, _ in asked] == [[command, "--clusters=b"] for command in commands]
    monkeypatch.setattr(slurm, "job_states", lambda *_: {"7": JobState(state="REQUEUE_HOLD")})
    assert "scontrol --clusters=b release 7" in scheduler.standing(there).wait
    scheduler.cancel(here)
    assert asked[-1] == (["scancel", "7"], None)
    assert scheduler.name(here) == "Slurm job 7"


def test_what_squeue_says_of_several_jobs_is_read_as_of_one():
    text = (
        "1|PENDING|JobHeldUser|N/A\n2|PENDING|BeginTime|1796050008\n4|RUNNING|None|17\n5|COMPLETING|None|17\n"
        "3|PENDING|ReqNodeNotAvail, UnavailableNodes:n3|N/A\n"
    )
    assert parse_queue(text, now=1.79e9) == {
        "1": JobState(state="PENDING", reason="JobHeldUser"),
        "2": JobState(state="PENDING", reason="BeginTime", start_s=1796050008.0),
        "3": JobState(state="PENDING", reason="ReqNodeNotAvail,_UnavailableNodes:n3"),
        "4": JobState(state="RUNNING"),
        "5": JobState(state="COMPLETING", is_completing=True),
    }


@pytest.mark.parametrize(
    ("settings", "environment", "ranks", "gpus"),
    [
        ({}, {"SBATCH_GRES": "gpu:2"}, 2, 2),
        ({}, {"SBATCH_GPUS_PER_NODE": "a100:4"}, 4, 4),
        ({"gpus_per_node": 1}, {"SBATCH_GRES": "gpu:2"}, 1, 1),
        ({"slurm": ("gres=gpu:3",)}, {"SBATCH_GRES": "gpu:2"}, 3, 3),
        ({"slurm": ("exclusive=",)}, {}, 4, 4),
        ({"slurm": ("exclusive=", "gres=gpu:2")}, {}, 2, 2),
    ],
)
def test_ranks_follow_the_gpus_of_the_shell_where_none_are_typed_and_all_of_a_node_that_is_theirs_alone(
    monkeypatch, settings, environment, ranks, gpus
):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    answer = subprocess.CompletedProcess([], 0, "gpu*|gpu:8(S:0-1)|infinite|4|1\ngpu*|gpu:a100:4|1|4|1\n", "")
    monkeypatch.setattr(slurm, "_ask", lambda _words, **_limits: answer)
    found = sizes(cluster="slurm", **settings)
    assert (found.ranks_per_node, found.gpus_per_node) == (ranks, gpus)


@pytest.mark.parametrize(
    ("more", "ranks"),
    [
        (["gres=gpu:2"], 2),
        (["gres=gpu:a100:4,lscratch:10"], 4),
        (["gres=gpu:a100_1g.5gb:3"], 3),
        (["--gpus_per_node=a100:2"], 2),
        (["gpus=4"], 2),
        (["gpus-per-task=1"], 1),
        (["gres=lscratch:10", "nice=5"], 1),
    ],
)
def test_ranks_follow_the_gpus_that_are_asked_for_in_slurms_own_words(monkeypatch, more, ranks):
    monkeypatch.setattr(
        "mri_hpc.cluster.partitions.partition_of_job", lambda *_where: Partition(has_gpus=True)
    )
    assert sizes(cluster="slurm", nodes=2, slurm=tuple(more)).ranks_per_node == ranks


def test_variables_of_the_site_do_not_overrule_what_was_asked_for():
    shell = {
        "SBATCH_PARTITION": "cpu",
        "SBATCH_ACCOUNT": "a",
        "SLURM_JOB_ID": "1",
        "SLURM_CONF": "/c",
        "HOME": "/h",
    }
    assert weaker_variables(["partition", "time"], shell) == ["SBATCH_PARTITION", "SLURM_JOB_ID"]
    site = {"SBATCH_MEM_PER_CPU": "4G", "SBATCH_GRES": "gpu:1", "SBATCH_GPUS_PER_TASK": "1"}
    assert weaker_variables(["mem"], site) == ["SBATCH_MEM_PER_CPU"]
    assert weaker_variables(["gres"], site) == ["SBATCH_GPUS_PER_TASK", "SBATCH_GRES"]
    assert weaker_variables(["time"], site) == []
    # By these it would be an array, or launch would wait for the whole run.
    others = {"SBATCH_ARRAY_INX": "1-3", "SBATCH_WAIT": "1", "SBATCH_OUTPUT": "/o", "SBATCH_NO_REQUEUE": "1"}
    assert weaker_variables([], others) == sorted(others)
    assert weaker_variables(["reservation"], {"SBATCH_RESERVATION": "r"}) == ["SBATCH_RESERVATION"]
    assert without_slurm(shell) == {"SBATCH_PARTITION": "cpu", "SBATCH_ACCOUNT": "a", "HOME": "/h"}
