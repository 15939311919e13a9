"""Runs without Slurm: each submission has a supervisor on this machine."""

import contextlib
import dataclasses
import math
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from mri_hpc.base.errors import UserError
from mri_hpc.base.process import look_at
from mri_hpc.base.stop_flag import StopRequest
from mri_hpc.cluster import rank, slurm
from mri_hpc.cluster.jobs import Cluster, Job, heartbeat_of
from mri_hpc.cluster.scheduler import Phase, Scheduler, Sizes, Standing
from mri_hpc.rundir import server_clock
from mri_hpc.rundir.layout import Attempt, RunDir
from mri_hpc.rundir.node_range import NodeRange
from mri_hpc.rundir.settings import JobSettings

SUPERVISOR_LOG = "supervisor.log"
# The supervisor touches it once a minute.
SILENCE_S = 600.0
GPU_DEVICES = "nvidia[0-9]*"
NO_MAIL = "--mail: Slurm would send it, and this machine has none: nothing is mailed"


class ThisMachine(Scheduler):
    """This machine, whose supervisors play the batch script's part."""

    is_queue = False

    def sizes(self, settings: JobSettings) -> Sizes:
        """Return the ranks on this machine. NCCL refuses two on one GPU, so there are at most as many."""
        there_are = num_gpus()
        gpus = there_are if settings.gpus_per_node is None else settings.gpus_per_node
        if gpus > there_are:
            raise UserError(
                f"--gpus-per-node {gpus} is more than this machine has ({there_are}): "
                f"ask for at most {there_are}"
            )
        nodes = settings.node_range
        asked = nodes.most * (settings.tasks_per_node or 1)
        if gpus and settings.tasks_per_node and asked > gpus:
            raise UserError(
                f"{asked} ranks need {asked} GPUs and this machine gives {gpus}: "
                "ask for fewer ranks, or for none of the GPUs with --gpus-per-node 0"
            )
        ranks = asked if settings.tasks_per_node or not gpus else gpus
        # The command of a cluster starts here what there is room for: no error, and not to be passed over.
        note = (
            f"--nodes {settings.nodes} gives {ranks} rank(s) on this machine: "
            "one for each GPU that the job may use"
        )
        return Sizes(
            nodes=1, ranks_per_node=ranks, gpus_per_node=gpus, threads=_threads(settings, ranks),
            notes=(*((note,) if ranks < asked else ()), *((NO_MAIL,) if settings.mail else ())),
            # GPUs are as many as there are.
            free=nodes if settings.takes_any_number and not gpus else None,
        )  # fmt: skip

    def where(self, sizes: Sizes) -> str:
        """Name this machine."""
        return "this machine (no Slurm)"

    def describe(self, run: RunDir, submission: int, settings: JobSettings, sizes: Sizes) -> str:
        """Return the supervisor's and the ranks' command lines."""
        supervisor = supervisor_command(
            run, submission, ranks=sizes.ranks, threads=sizes.threads, gpus=sizes.gpus_per_node,
            module=rank.RANK_MODULE, free=sizes.free,
        )  # fmt: skip
        one_rank = rank.rank_command(run.path, submission, rank.RANK_MODULE)
        return (
            f"# Without Slurm a supervisor on this machine starts {sizes.ranks_in_words} of:\n"
            f"#   {shlex.join(one_rank)}\n{shlex.join(supervisor)}"
        )

    def submit(self, run: RunDir, submission: int, settings: JobSettings, sizes: Sizes) -> Job:
        """Start a supervisor."""
        return start_supervisor(
            run, submission, ranks=sizes.ranks, threads=sizes.threads, gpus=sizes.gpus_per_node,
            module=rank.RANK_MODULE, free=sizes.free,
        )  # fmt: skip

    def name(self, job: Job) -> str:
        """Name the supervisor by process and machine."""
        return f"supervisor {job.pid} on {job.host}"

    def ask_about(self, jobs: Sequence[Job]) -> None:
        """Ask about none: to look at each is as quick."""

    def standing(self, job: Job, age_s: float = math.inf) -> Standing:
        """Look whether the supervisor lives; on another machine, whether it was heard of in ten minutes."""
        is_alive = _is_heard_of(job) if self.is_out_of_reach(job) else process_began(job.pid) == job.began
        return Standing(phase=Phase.RUNNING if is_alive else Phase.GONE)

    def is_out_of_reach(self, job: Job) -> bool:
        """Tell whether the supervisor is on another machine."""
        return job.host != os.uname().nodename

    def why_not_begun(self, job: Job) -> str:
        """Return nothing: a supervisor begins at once."""
        return ""

    def past_end(self, job: Job, restart: int) -> str:
        """Return nothing: a supervisor's end is in the ledger, or unknown."""
        return ""

    def cancel(self, job: Job) -> None:
        """Send the supervisor SIGTERM."""
        if self.is_out_of_reach(job):
            raise UserError(
                f"{self.name(job)} cannot be told from {os.uname().nodename}: cancel it there; "
                f"or, if that machine is gone, launch again: the run goes on here"
            )
        with contextlib.suppress(ProcessLookupError):
            os.kill(job.pid, signal.SIGTERM)

    def kill_time(self, environment: Mapping[str, str], request: StopRequest) -> float | None:
        """Return when the supervisor's patience ends; None for ranks that have no supervisor."""
        grace = environment.get(rank.SAVE_GRACE)
        # The supervisor kills after this signal only.
        is_fatal = grace and request.signal_name == signal.SIGTERM.name
        return request.received_s + float(grace) if grace and is_fatal else None


def start_supervisor(
    run: RunDir,
    submission: int,
    *,
    ranks: int,
    threads: int,
    gpus: int,
    module: str,
    free: NodeRange | None = None,
) -> Job:
    """Start a supervisor that outlives this shell; return at once. free: as of Sizes."""
    log = run.attempt_folder(Attempt(submission=submission, restart=0)) / SUPERVISOR_LOG
    heartbeat = heartbeat_of(run, submission)
    heartbeat.touch()
    command = supervisor_command(
        run, submission, ranks=ranks, threads=threads, gpus=gpus, module=module, free=free
    )
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            env=slurm.without_slurm(os.environ),
        )  # fmt: skip
    job = dataclasses.replace(local_job(process.pid), heartbeat=str(heartbeat.absolute()))
    # It is no child of ours any more: without this, letting go of the object would warn about it.
    process.returncode = 0
    return job


def supervisor_command(
    run: RunDir,
    submission: int,
    *,
    ranks: int,
    threads: int,
    gpus: int,
    module: str,
    free: NodeRange | None = None,
) -> list[str]:
    """Return the command line of the supervisor. free: as of Sizes."""
    sizes = ["--ranks", str(ranks), "--threads", str(threads), "--gpus", str(gpus)]
    sizes += ["--free", f"{free.least}-{free.most}"] if free else []
    where = ["--run", str(run.path), "--submission", str(submission), "--module", module]
    return [sys.executable, "-u", "-m", "mri_hpc.cluster.local", *where, *sizes]


def local_job(pid: int) -> Job:
    """Return the supervisor `pid` on this machine, as a job."""
    return Job(cluster=Cluster.LOCAL.value, host=os.uname().nodename, pid=pid, began=process_began(pid) or "")


def _is_heard_of(job: Job) -> bool:
    """Tell whether a supervisor elsewhere may live: one that leaves no heartbeat here counts as alive."""
    try:
        heartbeat = Path(job.heartbeat)
        return server_clock.now(heartbeat.parent) - heartbeat.stat().st_mtime < SILENCE_S
    except OSError:
        return True


def process_began(pid: int) -> str | None:
    """Return boot and clock tick at which a process began; None once it has ended, waited for or not."""
    try:
        process = look_at(pid)
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if process.state in "ZX" else f"{boot}:{process.start_ticks}"


def num_gpus(environment: Mapping[str, str] = os.environ) -> int:
    """Count the GPUs that this process may use."""
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([name for name in visible.split(",") if name.strip() and name.strip() != "-1"])
    return len(list(Path("/dev").glob(GPU_DEVICES)))


def _threads(settings: JobSettings, ranks: int) -> int:
    """Return a rank's share of the cores, unless the user or the shell says otherwise."""
    by_shell = os.environ.get("OMP_NUM_THREADS", "")
    if settings.cpus_per_task or by_shell.isdigit():
        return settings.cpus_per_task or int(by_shell)
    # Those that this process may use.
    return max(1, len(os.sched_getaffinity(0)) // ranks)
