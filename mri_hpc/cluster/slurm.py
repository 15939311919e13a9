"""Slurm's environment and commands: nothing else reads SLURM_* or calls scontrol, sacct, sinfo."""

import contextlib
import math
import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mri_hpc.base.errors import UserError
from mri_hpc.cluster.slurm_answers import (
    QUEUE_FORM,
    JobState,
    first_word,
    parse_accounting,
    parse_job,
    parse_kill_time,
    parse_queue,
    unix_time,
)

if TYPE_CHECKING:
    from mri_hpc.rundir.place import Place

NOT_INSTALLED = "is not on the PATH here"
COMMAND_NOT_FOUND = 127
COMMAND_TIMEOUT_S = 60
LOOK_TIMEOUT_S = 20
# A controller serves a whole site: what one command has asked it, it does not ask again for so long.
ASK_EVERY_S = 30.0
# How sinfo is to tell of each kind of node of each partition: name (a star: the default), devices, longest
# time, nodes of this kind, least and most nodes of a job.
PARTITION_FORM = "%P|%G|%l|%D|%s"
# The ranks stop meanwhile, and would not wait longer.
KILL_TIME_TIMEOUT_S = 5
# Nobody waits for it but the nodes of the job.
USE_TIMEOUT_S = 10
USE_FIELDS = (
    "JobID", "ElapsedRaw", "TotalCPU", "AllocCPUS", "NTasks", "NNodes", "MaxRSS", "TRESUsageInAve", "JobName",
)  # fmt: skip
# Nothing of a run hangs on its mail.
MAIL_TIMEOUT_S = 10
QUESTION_STEP = "mri-nodes"
"""Name of the job steps that ask the nodes something, before that of the ranks."""
REQUEUE_PATIENCE_S = 300
# Slurm's exit code of a batch script that it could not start, as where its output cannot be opened.
NO_OUTPUT = "0:53"
LEAST_CLOCK_DIFFERENCE_S = 5.0
REQUEUE_INTERVAL_S = 5
# What else scontrol requeue may answer is a controller that is away, and comes back.
REFUSED_FOR_GOOD = ("Invalid job", "disabled", "denied", "not permitted", NOT_INSTALLED)
# How scontrol says that no Slurm is configured, in its words since 20.11 and before.
UNCONFIGURED = ("establish a configuration source", "stat file", "status file")
CLUSTER_VARIABLES = ("SBATCH_CLUSTERS", "SLURM_CLUSTERS")
"""Of a shell, the first wins: where sbatch sends a job, of several clusters."""
CONF_FILES = (
    "/etc/slurm/slurm.conf", "/etc/slurm-llnl/slurm.conf", "/run/slurm/conf/slurm.conf",
    "/var/spool/slurmd/conf-cache/slurm.conf", "/opt/slurm/etc/slurm.conf", "/usr/local/etc/slurm.conf",
)  # fmt: skip
"""Slurm's settings unless SLURM_CONF says so: as packages, sites and configless nodes have them."""
# By which people have these commands show something else, or to other people, by default.
OF_PEOPLE = ("SQUEUE_", "SINFO_", "SACCT_", "SCANCEL_", "SLURM_CLUSTERS")
_answers: dict[tuple[str, ...], tuple[float, "subprocess.CompletedProcess[str] | None"]] = {}
"""By question and cluster, what was answered last, and when (monotonic, in seconds)."""
ADDRESSES = "MRI_ADDRESSES"
"""Variable with NODE=ADDRESS of each node of the job, as Slurm is set up, by the batch script."""


def place(environment: Mapping[str, str] = os.environ) -> "Place | None":
    """Return the place of this process in a job step of srun; None outside of one."""
    if "SLURM_STEP_ID" not in environment or "SLURM_PROCID" not in environment:
        return None
    # Of ranks; whoever decides on the end of a job has none, and seconds.
    from mri_hpc.rundir.place import Place

    return Place(
        rank=int(environment["SLURM_PROCID"]),
        local_rank=int(environment.get("SLURM_LOCALID", "0")),
        world_size=int(environment.get("SLURM_STEP_NUM_TASKS", environment.get("SLURM_NTASKS", "1"))),
        host=environment.get("SLURMD_NODENAME", os.uname().nodename),
        restart=restart_count(environment),
        job_id=environment.get("SLURM_JOB_ID", ""),
        addresses=_addresses(environment),
    )


def _addresses(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the addresses by which Slurm reaches this node: as it is set up, and as srun came to it."""
    by_setup = node_addresses(environment).get(environment.get("SLURMD_NODENAME", ""), "")
    # Of the node on which srun runs, in a job the first one, where rank 0 is.
    by_srun = (
        environment.get("SLURM_LAUNCH_NODE_IPADDR", "") if environment.get("SLURM_PROCID") == "0" else ""
    )
    return tuple(address for address in (by_setup, by_srun) if address)


def node_addresses(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return node → address, or name, by which Slurm reaches it, of the nodes of this job; empty: unsaid."""
    pairs = (pair.partition("=") for pair in environment.get(ADDRESSES, "").split())
    return {node: address for node, _, address in pairs}


def array_share(environment: Mapping[str, str] = os.environ) -> tuple[int, int] | None:
    """Return this task's share of its job array: its number, from 0, and the count; None outside of an array.

    In an array with holes (``--array=1,3,7``) every task has the one share of all: none may be left out.
    """
    if "SLURM_ARRAY_TASK_ID" not in environment:
        return None
    first, step = int(environment["SLURM_ARRAY_TASK_MIN"]), int(environment.get("SLURM_ARRAY_TASK_STEP", "1"))
    index = (int(environment["SLURM_ARRAY_TASK_ID"]) - first) // step
    count = (int(environment["SLURM_ARRAY_TASK_MAX"]) - first) // step + 1
    has_holes = int(environment.get("SLURM_ARRAY_TASK_COUNT", count)) != count
    return (0, 1) if has_holes else (index, count)


def array_job(environment: Mapping[str, str] = os.environ) -> str | None:
    """Return ``job.restart`` of the job array that this process belongs to; None outside of one."""
    job_id = environment.get("SLURM_ARRAY_JOB_ID")
    return f"{job_id}.{restart_count(environment)}" if job_id else None


def array_place(environment: Mapping[str, str] = os.environ) -> tuple[str, int, int] | None:
    """Return the array job of this process, its number in it and how many tasks it has; None outside of one.

    The same for a task that was requeued.
    """
    job_id, count = environment.get("SLURM_ARRAY_JOB_ID"), environment.get("SLURM_ARRAY_TASK_COUNT")
    return (job_id, int(environment["SLURM_ARRAY_TASK_ID"]), int(count)) if job_id and count else None


def own_job_id(environment: Mapping[str, str] = os.environ) -> str:
    """Return the number of the job that this process belongs to; empty outside of Slurm."""
    return environment.get("SLURM_JOB_ID", "")


def own_job_name(environment: Mapping[str, str] = os.environ) -> str:
    """Return the name of the job that this process belongs to; empty outside of Slurm."""
    return environment.get("SLURM_JOB_NAME", "")


def node_name(environment: Mapping[str, str] = os.environ) -> str:
    """Return Slurm's name of this node; outside of Slurm its own."""
    return environment.get("SLURMD_NODENAME") or os.uname().nodename


def own_cluster(environment: Mapping[str, str] = os.environ) -> str:
    """Return the name of the cluster whose job this process belongs to; empty outside of Slurm."""
    return environment.get("SLURM_CLUSTER_NAME", "")


def memory_of_node(environment: Mapping[str, str] = os.environ) -> int | None:
    """Return the bytes of memory that this job may use on this node; None outside of one, or where unsaid."""
    for each, number in (
        ("SLURM_MEM_PER_NODE", "1"),
        ("SLURM_MEM_PER_CPU", environment.get("SLURM_CPUS_ON_NODE", "")),
        ("SLURM_MEM_PER_GPU", environment.get("SLURM_GPUS_ON_NODE", "")),
    ):
        megabytes = environment.get(each, "")
        if megabytes.isdigit() and number.isdigit() and int(megabytes) * int(number):
            return int(megabytes) * int(number) * 2**20
    return None


def restart_count(environment: Mapping[str, str] = os.environ) -> int:
    """Return the number of times this job was requeued; on the first run Slurm leaves the variable out."""
    return int(environment.get("SLURM_RESTART_COUNT", "0"))


def cluster_at_hand(environment: Mapping[str, str] = os.environ) -> str:
    """Return the name of the cluster that Slurm's commands ask by themselves; empty where it is unknown."""
    found = re.search(r"^\s*ClusterName\s*=\s*(\S+)", conf_text(environment), re.MULTILINE | re.IGNORECASE)
    return found[1] if found else ""


def elsewhere(cluster: str) -> str:
    """Return a cluster that has to be asked by name; empty for the one at hand."""
    return "" if cluster == cluster_at_hand() else cluster


def conf_text(environment: Mapping[str, str] = os.environ) -> str:
    """Read Slurm's settings as they lie on this machine, without asking anybody; empty where they do not."""
    for file in (environment.get("SLURM_CONF"), *CONF_FILES):
        with contextlib.suppress(OSError):
            if file:
                return Path(file).read_text(encoding="utf-8", errors="replace")
    return ""


def without_slurm(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without the variables of the job that this process was started in."""
    return {name: value for name, value in environment.items() if not name.startswith("SLURM_")}


def surrounding_job(environment: Mapping[str, str] = os.environ) -> set[str]:
    """Return the names of variables that are of the job, or the cluster, in which this shell is."""
    return {name for name in environment if name.startswith("SLURM_") and name != "SLURM_CONF"}


def controller_answers() -> bool:
    """Tell whether there is a Slurm; False where its clients are absent, or installed but not configured.

    Raises UserError where one is configured and its controller does not answer, and inside a job whose
    machine lacks its commands.
    """
    # Imported here: deciding on the end of a job, in seconds, needs none of it.
    import shutil

    if shutil.which("scontrol") is None:
        if job_id := own_job_id():
            raise UserError(
                f"this is inside Slurm's job {job_id}, where Slurm's commands are not on the PATH, so that "
                f"no job can be submitted: launch on a login node, or load Slurm's module; --cluster local "
                f"trains inside this job, and ends with it"
            )
        return False
    # What a launch has to know of partitions, so that it asks once.
    answer = _partitions()
    if answer and answer.returncode == 0:
        return True
    if "SLURM_CONF" not in os.environ and answer and any(word in answer.stderr for word in UNCONFIGURED):
        return False
    raise UserError(
        f"Slurm is configured here but does not answer: {_complaint(answer)}; try again, or use "
        f"--cluster local"
    )


def has_scontrol() -> bool:
    """Tell whether this process could have a job requeued."""
    import shutil

    return shutil.which("scontrol") is not None


def partition_lines(cluster: str = "") -> str:
    """Ask for a line in PARTITION_FORM for each kind of node of each partition; UserError: no answer.

    cluster: another one than that at hand.
    """
    answer = _partitions(cluster)
    if answer is None or answer.returncode != 0:
        raise UserError(
            f"sinfo does not answer: {_complaint(answer)}; with --cluster local no Slurm is needed"
        )
    return answer.stdout


def configuration() -> dict[str, str]:
    """Ask Slurm how it is set up: name → value, as ``scontrol show config`` prints them; empty: no answer."""
    answer = _ask(["scontrol", "show", "config"], timeout_s=LOOK_TIMEOUT_S)
    text = answer.stdout if answer and answer.returncode == 0 else ""
    return {name: value.strip() for name, value in re.findall(r"^(\S+)\s*=(.*)$", text, re.MULTILINE)}


def client_version() -> str:
    """Return the version of Slurm's commands, as ``slurm-wlm 22.05.8``; no controller is asked for it."""
    answer = _ask(["srun", "--version"], timeout_s=LOOK_TIMEOUT_S)
    return answer.stdout.strip() if answer and answer.returncode == 0 else ""


def partition_settings() -> list[dict[str, str]]:
    """Ask Slurm for each partition's settings: name → value, PartitionName among them; empty: no answer."""
    answer = _ask(["scontrol", "--oneliner", "show", "partition"], timeout_s=LOOK_TIMEOUT_S)
    lines = answer.stdout.splitlines() if answer and answer.returncode == 0 else []
    return [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in lines if "PartitionName=" in line]


def accounts(user: str) -> list[str] | None:
    """Ask the accounting for the accounts of a user; None where it does not say."""
    fields = ["--noheader", "--parsable2", "show", "associations", f"user={user}", "format=account"]
    answer = _ask(["sacctmgr", *fields], timeout_s=LOOK_TIMEOUT_S)
    return sorted(set(answer.stdout.split())) if answer and answer.returncode == 0 else None


def partition_of_shell(environment: Mapping[str, str] = os.environ) -> str | None:
    """Return the partition that sbatch takes by the shell's variable; None where it names none."""
    return environment.get("SBATCH_PARTITION") or None


def job_state(job_id: str) -> JobState | None:
    """Ask Slurm for the state of a job; None where it knows nothing of it (any more).

    Raises UserError where Slurm does not answer.
    """
    shown = _ask(["scontrol", "--oneliner", "show", "job", job_id])
    if shown is None or (shown.returncode != 0 and "Invalid job id" not in shown.stderr):
        raise UserError(
            f"Slurm does not say how job {job_id} is: {_complaint(shown)}; try again when or where it does"
        )
    state = parse_job(shown.stdout, time.time())
    if state is None or state.state == "COMPLETING":
        # While a job is being cleared away only the accounting knows what it ends as.
        return parse_accounting(_account(job_id), state)
    return state


def job_states(job_ids: Sequence[str], cluster: str = "") -> dict[str, JobState]:
    """Ask Slurm for the states of jobs, all at once; those of which it knows nothing (any more) are left out.

    cluster: another one than that at hand. Raises UserError where Slurm does not answer.
    """
    if len(job_ids) == 1 and not cluster:
        state = job_state(job_ids[0])
        return {job_ids[0]: state} if state else {}
    jobs = f"--jobs={','.join(job_ids)}"
    shown = _ask(["squeue", *_of(cluster), "--noheader", "--states=all", jobs, f"--format={QUEUE_FORM}"])
    if shown is None or (shown.returncode != 0 and "Invalid job id" not in shown.stderr):
        raise UserError(
            f"Slurm does not say how {len(job_ids)} jobs are: {_complaint(shown)}; try again when it does"
        )
    states = parse_queue(shown.stdout, time.time())
    # As of one job: what the controller has forgotten, or is clearing away, the accounting knows.
    gone = [job for job in job_ids if job not in states or states[job].is_completing]
    if gone:
        ended = _ended(gone, cluster)
        found = {job: parse_accounting(ended.get(job, ""), states.get(job)) for job in gone}
        states |= {job: state for job, state in found.items() if state}
    return states


def kill_time(job_id: str, received_s: float, environment: Mapping[str, str] = os.environ) -> float | None:
    """Return the Unix time from which Slurm may kill a job that was asked to stop; None if unknown.

    received_s: when the signal arrived.
    """
    shown = _ask(["scontrol", "--oneliner", "show", "job", job_id], timeout_s=KILL_TIME_TIMEOUT_S)
    config = _config(environment)
    if not shown or not config or shown.returncode:
        end_s = unix_time(environment.get("SLURM_JOB_END_TIME", ""))
        # One that has passed is not the kill: the limit was raised, or KillWait has begun.
        return end_s if end_s and end_s > received_s else None
    # Slurm goes by its controller's clock, and this node's may be another.
    ahead_s = _ahead_of_controller_s(config, time.time())
    kill_s = parse_kill_time(shown.stdout, config, received_s - ahead_s)
    return None if kill_s is None else kill_s + ahead_s


def _ahead_of_controller_s(config: str, now: float) -> float:
    """Parse the seconds by which this clock is ahead of the controller's, in ``scontrol show config``."""
    written = re.match(r"Configuration data as of (\d+)\s", config)
    ahead_s = now - int(written[1]) if written else 0.0
    # It is told in whole seconds, and comes late.
    return ahead_s if abs(ahead_s) > LEAST_CLOCK_DIFFERENCE_S else 0.0


def past_state(job_id: str, restart: int, cluster: str = "") -> str:
    """Return the accounting's state of an earlier run of a requeued job, from 0; empty if unknown.

    cluster: another one than that at hand.
    """
    lines = _account(job_id, cluster, duplicates=True).splitlines()
    return first_word(lines[restart]) if restart < len(lines) else ""


def past_uses(job_id: str) -> str:
    """Ask the accounting for the use of each run of a job and of its steps: lines of USE_FIELDS; or empty."""
    fields = f"--format={','.join(USE_FIELDS)}"
    answer = _ask(
        ["sacct", "--noheader", "--parsable2", "--duplicates", f"--jobs={job_id}", fields],
        timeout_s=USE_TIMEOUT_S,
    )
    return answer.stdout if answer and answer.returncode == 0 else ""


def node_without_output(job_id: str, cluster: str = "") -> str:
    """Ask Slurm on which node a job could not open the file of its output; empty where that was not so.

    cluster: another one than that at hand.
    """
    shown = _ask(["scontrol", *_of(cluster), "--oneliner", "show", "job", job_id])
    text = shown.stdout if shown and shown.returncode == 0 else ""
    if not text:
        # Forgotten by the controller: the accounting keeps the first node among all.
        format_ = ["--noheader", "--parsable2", "--allocations", "--format=ExitCode,NodeList"]
        answer = _ask(["sacct", *_of(cluster), f"--jobs={job_id}", *format_])
        code, _, nodes = (answer.stdout.splitlines() or [""])[-1].partition("|") if answer else ("", "", "")
        return nodes if code == NO_OUTPUT else ""
    values = dict(re.findall(r"(\S+?)=(\S*)", text))
    return values.get("BatchHost", "") if values.get("ExitCode") == NO_OUTPUT else ""


def release_command(job_id: str, cluster: str = "") -> list[str]:
    """Return the command that lets a held job go. cluster: another one than that at hand."""
    return ["scontrol", *_of(cluster), "release", job_id]


def requeue(job_id: str) -> str:
    """Have Slurm run the job again, waiting for a controller that is away; return its complaint, or empty."""
    give_up_s = time.monotonic() + REQUEUE_PATIENCE_S
    while True:
        answer = _ask(["scontrol", "requeue", job_id])
        if answer and (answer.returncode == 0 or is_pending_already(answer.stderr + answer.stdout)):
            return ""
        complaint = _complaint(answer)
        if time.monotonic() >= give_up_s or any(word in complaint for word in REFUSED_FOR_GOOD):
            return complaint
        time.sleep(REQUEUE_INTERVAL_S)


def mail_at_end(job_id: str, *, is_wanted: bool) -> None:
    """Have Slurm mail, or not, when the job ends. Where it does not answer, nothing comes of it."""
    kinds = "END,FAIL" if is_wanted else "NONE"
    _ask(["scontrol", "update", f"JobId={job_id}", f"MailType={kinds}"], timeout_s=MAIL_TIMEOUT_S)


def is_pending_already(complaint: str) -> bool:
    """Tell whether scontrol refused because the job waits to be run again anyway."""
    return "pending execution" in complaint


def sbatch(options: Sequence[str], script: str, *, without: Sequence[str] = ()) -> str:
    """Submit a batch script; return the number of its job. UserError with Slurm's words where it is refused.

    without: variables of the shell that are kept from sbatch.
    """
    unset = [f"--unset={name}" for name in without]
    answer = _ask(["env", *unset, "sbatch", "--parsable", *options], text=script)
    if answer is None or answer.returncode != 0:
        raise UserError(f"Slurm refused the job: {_complaint(answer)}")
    return answer.stdout.strip().split(";")[0]


def cancel_command(job_id: str, cluster: str = "") -> list[str]:
    """Return the command that ends a job. cluster: another one than that at hand."""
    return ["scancel", *_of(cluster), job_id]


def cancel(job_id: str, cluster: str = "") -> None:
    """End the job for good; UserError where Slurm refuses. cluster: another one than that at hand."""
    answer = _ask(cancel_command(job_id, cluster))
    if answer is None or answer.returncode != 0:
        raise UserError(f"scancel {job_id} failed: {_complaint(answer)}")


def tell_ranks(job_id: str, number: signal.Signals) -> str:
    """Have Slurm send a signal to all ranks of a job; return its complaint, or empty."""
    answer = _ask(["scancel", f"--signal={number.name.removeprefix('SIG')}", job_id])
    return "" if answer and answer.returncode == 0 else _complaint(answer)


def node_names(nodes: str) -> list[str]:
    """Return the names in a list of Slurm's, such as n[1-3,7]; UserError where it does not say."""
    answer = _ask(["scontrol", "show", "hostnames", nodes])
    if answer is None or answer.returncode != 0:
        raise UserError(f"scontrol does not say which nodes are {nodes}: {_complaint(answer)}")
    return answer.stdout.split()


def first_node(job_id: str, cluster: str = "") -> str:
    """Return the node on which a job's script started; empty where Slurm has forgotten it.

    cluster: another one than that at hand.
    """
    shown = _ask(["scontrol", *_of(cluster), "--oneliner", "show", "job", job_id])
    found = re.search(r" BatchHost=(\S+)", shown.stdout) if shown else None
    return found[1] if found else ""


def _partitions(cluster: str = "") -> subprocess.CompletedProcess[str] | None:
    """Ask sinfo for lines in PARTITION_FORM, once in half a minute."""
    question = ("sinfo", *_of(cluster), "--noheader", f"--format={PARTITION_FORM}")
    key = (*question, os.environ.get("SLURM_CONF", ""))
    asked_s, answer = _answers.get(key, (-math.inf, None))
    if time.monotonic() - asked_s >= ASK_EVERY_S:
        answer = _ask(question, timeout_s=LOOK_TIMEOUT_S)
        _answers[key] = (time.monotonic(), answer)
    return answer


def _account(job_id: str, cluster: str = "", *, duplicates: bool = False) -> str:
    command = ["sacct", *_of(cluster), "--noheader", "--parsable2", "--allocations", f"--jobs={job_id}"]
    answer = _ask([*command, "--format=State", *(["--duplicates"] if duplicates else [])])
    return answer.stdout if answer and answer.returncode == 0 else ""


def _ended(job_ids: Sequence[str], cluster: str) -> dict[str, str]:
    """Ask the accounting for the last state of each job; those that it does not know are left out."""
    command = ["sacct", *_of(cluster), "--noheader", "--parsable2", "--allocations"]
    answer = _ask([*command, f"--jobs={','.join(job_ids)}", "--format=JobIDRaw,State"])
    lines = answer.stdout.splitlines() if answer and answer.returncode == 0 else []
    return dict(line.split("|", 1) for line in lines if "|" in line)


def _of(cluster: str) -> list[str]:
    """Return the option by which a command asks another cluster than that at hand."""
    return [f"--clusters={cluster}"] if cluster else []


def _config(environment: Mapping[str, str]) -> str:
    """Ask Slurm for its settings; where it does not answer, read them as they lie on this machine."""
    answer = _ask(["scontrol", "show", "config"], timeout_s=KILL_TIME_TIMEOUT_S)
    return answer.stdout if answer and answer.returncode == 0 else conf_text(environment)


def _ask(
    argv: Sequence[str], timeout_s: float = COMMAND_TIMEOUT_S, text: str | None = None
) -> subprocess.CompletedProcess[str] | None:
    """Run one of Slurm's commands; None where it does not come back. One that is missing complains of it.

    text: for it to read.
    """
    plain = {name: value for name, value in os.environ.items() if not name.startswith(OF_PEOPLE)}
    environment = {**plain, "SLURM_TIME_FORMAT": "%s"}
    try:
        return subprocess.run(
            list(argv), env=environment, input=text, capture_output=True, text=True, timeout=timeout_s,
            check=False,
        )  # fmt: skip
    except FileNotFoundError:
        return subprocess.CompletedProcess(argv, COMMAND_NOT_FOUND, "", f"{argv[0]} {NOT_INSTALLED}")
    except subprocess.TimeoutExpired:
        return None


def _complaint(answer: subprocess.CompletedProcess[str] | None) -> str:
    if answer is None:
        return "the command does not come back"
    return (answer.stderr.strip() or answer.stdout.strip() or f"status {answer.returncode}").splitlines()[-1]
