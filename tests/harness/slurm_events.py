"""What can happen to a run on a cluster, one row an event: how it is brought about, and what must follow."""

import contextlib
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mri_hpc.rundir.ledger import Kind
from tests.harness.real_run import CHECKPOINT_INTERVAL_S, RealRun

# A node that is silent for so long is down.
SANDBOX = ("--nodes", "2", "--gpus-per-node", "0", "--slurmd-timeout", "10")
TAKE_THE_NODES = ("-p", "high", "-N2", "--exclusive", "-o", "/dev/null")
# Seconds; also how long ranks wait for each other when they start.
HANG_S = 30
# Ranks stay 5 s when they have written their stacks; srun then waits for KillWait, 30 s or less, and 2 more.
MOST_HANG_S = HANG_S + 5 + 30 + 2 + 10
CUT_S = 5.0
# For logs and the ledger; a checkpoint takes ten times as many.
PAGES_LEFT = 100
GROUP_PATIENCE_S = 30.0
CGROUPS = Path("/sys/fs/cgroup/memory")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One event."""

    name: str
    """As the table says it."""
    interrupt: Callable[[RealRun], None]
    """Brings it about in a run that is under way; returns when the run goes on by itself, or has ended."""
    decisions: Sequence[str]
    """What the ledger must hold in the end."""
    states: Sequence[str]
    """What Slurm's accounting must hold in the end, of all jobs of the run."""
    newer_states: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """The same of newer releases that keep other books: 24.11, 26.05."""
    other_course: tuple[tuple[str, ...], tuple[str, ...]] | None = None
    """Decisions and states of another course that Slurm may take."""
    may_lose: bool = False
    """Steps of up to one checkpoint interval may have to be done again; else none."""
    is_finished: bool = True
    """The run ends with the digests of the uninterrupted one; else it stays away."""
    options: Sequence[str] = ()
    """Of launch."""
    sandbox: Sequence[str] = ()
    """Of `sandbox up`, beyond the usual ones."""
    epochs: int = 3
    checkpoint_interval_s: float = CHECKPOINT_INTERVAL_S
    begin: Callable[[RealRun], object] = RealRun.launch
    """How somebody launches it."""
    has_own_disk: bool = False

    def states_of(self, release: str) -> Sequence[str]:
        """What the accounting of a Slurm must hold in the end. release: 24.11.5."""
        return self.newer_states.get(release.rpartition(".")[0], self.states)


def nothing(run: RealRun) -> None:
    """Leave it alone."""


def reach_the_limit(run: RealRun) -> None:
    """The time limit comes near, and Slurm says so; the next attempt has time enough."""
    run.wait_for_work_to_lose()
    hours, minutes, _ = run.slurm.job(run.job_id)["RunTime"].split(":")
    # Slurm looks every 30 s, and tells the ranks 90 s ahead, or up to 30 s sooner.
    run.set_time_limit(60 * int(hours) + int(minutes) + 2)
    run.wait_for(lambda: run.events(Kind.STOP_AGREED), "the signal ahead of the time limit")
    run.event_s = run.events(Kind.STOP_AGREED)[0].time
    run.wait_for_decisions(1)
    run.wait_for_state("PENDING")
    run.set_time_limit(20)


def take_the_nodes(run: RealRun) -> None:
    """A job of a higher partition needs all nodes."""
    run.wait_for_work_to_lose()
    run.now()
    run.slurm.sbatch(*TAKE_THE_NODES, "--wrap", "sleep 2")


def suspend(run: RealRun) -> None:
    """A job of a higher partition has the nodes for longer than a rank may hang, and gives them back."""
    run.wait_for_work_to_lose()
    high = run.slurm.sbatch(*TAKE_THE_NODES, "--wrap", f"sleep {2.5 * HANG_S:g}")
    run.wait_for_state("SUSPENDED")
    assert run.status()["reason"] == "Slurm: SUSPENDED", run.status()
    step = run.step()
    run.slurm.wait_end(high, timeout_s=6 * HANG_S)
    run.now()
    run.wait_for_steps_after(step)


def requeue(run: RealRun) -> None:
    """scontrol requeue."""
    run.wait_for_work_to_lose()
    run.now()
    run.slurm.run(["scontrol", "requeue", run.job_id])


def cancel(run: RealRun) -> None:
    """scancel; it stays away until somebody launches again."""
    run.wait_for_work_to_lose()
    run.slurm.run(["scancel", run.job_id])
    assert run.wait_for_end_of_job() == "CANCELLED"
    run.wait_for_decisions(1)
    assert run.status()["state"] == "cancelled", run.status()
    run.launch_again()


def lose_node(name: str) -> Callable[[RealRun], None]:
    """The power of one node goes, and comes back once Slurm has missed it."""

    def lose(run: RealRun) -> None:
        run.wait_for_work_to_lose()
        run.now()
        run.slurm.sandbox("kill-node", name)
        run.wait_for_state("PENDING")
        run.slurm.sandbox("start-node", name)

    return lose


def cut_link_for_seconds(run: RealRun) -> None:
    """A cable out and in again before Slurm misses the node."""
    run.wait_for_work_to_lose()
    run.now()
    run.slurm.sandbox("cut-link", "n2")
    time.sleep(CUT_S)
    run.slurm.sandbox("heal-link", "n2")
    run.wait_for_steps_after(run.step())


def cut_link_until_missed(run: RealRun) -> None:
    """A cable out for so long that Slurm gives the node up; its ranks live on meanwhile."""
    run.wait_for_work_to_lose()
    run.now()
    run.slurm.sandbox("cut-link", "n2")
    run.wait_for_state("PENDING")
    run.slurm.sandbox("heal-link", "n2")


def kill_a_rank(run: RealRun) -> None:
    """SIGKILL, as of somebody's hand."""
    run.wait_for_work_to_lose()
    run.now()
    run.signal(2, signal.SIGKILL)


def stop_a_rank(run: RealRun) -> None:
    """SIGSTOP to one rank: it does nothing any more, and says nothing."""
    run.wait_for_work_to_lose()
    began_s = run.now()
    run.signal(3, signal.SIGSTOP)
    run.wait_for_decisions(1)
    waited_s = run.events(Kind.DECIDED)[0].time - began_s
    assert waited_s < MOST_HANG_S, f"it took {waited_s:.0f} s until the hung attempt was ended"
    logs = run.logs("1.0")
    silent = [rank for rank in range(3) if "all stacks follow" not in logs[f"1.0/rank{rank}.log"]]
    assert not silent, f"no stacks of ranks {silent}"


def run_out_of_memory(run: RealRun) -> None:
    """The kernel's OOM killer takes a rank that needs more memory than its group may have."""
    run.wait_for_work_to_lose()
    run.now()
    with memory_limit(run.process_of(1), most_bytes=1 << 20) as kills:
        run.wait_for(lambda: kills() > 0, "the OOM killer")
        run.wait_for_decisions(1)


def ask_for_too_little_memory(run: RealRun) -> None:
    """Slurm ends every attempt, until it is given up; launching again asks for more."""
    run.wait_for_end_of_job()
    assert run.status()["state"] == "gave_up", run.status()
    assert "--mem-gb asks for more" in run.status()["reason"], run.status()
    run.launch_again("--mem-gb", "8")


@contextlib.contextmanager
def memory_limit(process: int, *, most_bytes: int) -> Iterator[Callable[[], int]]:
    """Limit what a process may take from now on; gives how many the kernel has killed for it."""
    group = CGROUPS / f"mri-events-{os.getpid()}-{process}"
    group.mkdir()
    try:
        (group / "memory.limit_in_bytes").write_text(str(most_bytes))
        (group / "cgroup.procs").write_text(str(process))
        control = group / "memory.oom_control"
        yield lambda: int(control.read_text().rpartition("oom_kill ")[2])
    finally:
        # Where another process of the rank is left, the kernel keeps it until that one has gone too.
        deadline = time.monotonic() + GROUP_PATIENCE_S
        while group.exists() and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                group.rmdir()
            time.sleep(0.1)


def become_no_number(run: RealRun) -> None:
    """The loss is no number any more: nothing comes back by itself."""
    run.wait_for_end_of_job()
    run.wait_for_decisions(1)
    [word] = [word for word in run.last_words() if "the loss of step" in word]
    assert "lower --lr" in word, word
    assert run.status()["state"] == "failed", run.status()


def fill_the_disk(run: RealRun) -> None:
    """The disk of the run has too little room for a checkpoint; room is made once the run has ended."""
    assert run.disk
    run.wait_for_work_to_lose()
    run.disk.leave_room(PAGES_LEFT)
    assert run.wait_for_end_of_job() == "FAILED"
    assert run.status()["state"] == "failed", run.status()
    lines = [line for line in run.logs("1.0")["1.0/rank0.log"].splitlines() if line.startswith("mri-hpc")]
    assert len(lines) == 1, lines
    assert "make room there, then run it again" in lines[0], lines
    run.disk.leave_room(100 * PAGES_LEFT)
    run.launch_again()


def damage_newest_checkpoint(run: RealRun) -> None:
    """Bytes change in the newest checkpoint while nothing runs."""
    run.wait_for_work_to_lose()
    run.slurm.run(["scancel", run.job_id])
    run.wait_for_end_of_job()
    run.wait_for_decisions(1)
    weights = run.run.checkpoints / str(run.saved_step()) / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)
    run.launch_again()


def restart_controller(run: RealRun) -> None:
    """slurmctld goes and comes back."""
    run.wait_for_work_to_lose()
    run.now()
    run.slurm.sandbox("restart-controller")
    run.wait_for_steps_after(run.step())


def restart_controller_while_preempting(run: RealRun) -> None:
    """slurmctld goes while the ranks save and the batch script is about to ask it to requeue the job."""
    run.wait_for_work_to_lose()
    run.now()
    run.slurm.sbatch(*TAKE_THE_NODES, "--wrap", "sleep 2")
    run.wait_for(lambda: run.events(Kind.STOP_AGREED), "the signal of the preemption")
    run.slurm.sandbox("restart-controller")


def launch_from_a_login_shell(run: RealRun) -> None:
    """A shell with a session of its own follows the run."""
    line = f"{shlex.join(run.launch_command('--wait'))}; true"
    run.shell = subprocess.Popen(
        ["sh", "-c", line],
        env=run.environment,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        # Ignored, and so inherited, where all of this was started by nohup.
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )


def hang_up(run: RealRun) -> None:
    """The connection to the login node breaks."""
    assert run.shell
    run.wait_for_work_to_lose()
    run.now()
    os.killpg(run.shell.pid, signal.SIGHUP)
    assert run.shell.wait(timeout=120) == -signal.SIGHUP
    run.wait_for_steps_after(run.step())


ROWS = (
    Row(
        name="nothing",
        interrupt=nothing,
        decisions=("finished: finished",),
        states=("COMPLETED",),
    ),
    Row(
        name="time limit",
        interrupt=reach_the_limit,
        decisions=("again: time_limit", "finished: finished"),
        states=("REQUEUED", "COMPLETED"),
        epochs=10,
    ),
    Row(
        name="preempted",
        interrupt=take_the_nodes,
        decisions=("again: preempted", "finished: finished"),
        states=("PREEMPTED", "COMPLETED"),
    ),
    Row(
        name="preempted, GraceTime",
        interrupt=take_the_nodes,
        decisions=("again: preempted", "finished: finished"),
        states=("REQUEUED", "COMPLETED"),
        # It requeues the job once more when its script has ended, with status 0: that one finds the run done.
        newer_states={"24.11": ("REQUEUED", "PREEMPTED", "COMPLETED")},
        sandbox=("--grace-time", "20"),
    ),
    Row(
        name="preempted, GraceTime, send_user_signal",
        interrupt=take_the_nodes,
        decisions=("again: preempted", "finished: finished"),
        states=("REQUEUED", "COMPLETED"),
        newer_states={"24.11": ("REQUEUED", "PREEMPTED", "COMPLETED")},
        sandbox=("--grace-time", "20", "--send-user-signal"),
    ),
    Row(
        name="preempted, PreemptMode=CANCEL",
        interrupt=take_the_nodes,
        decisions=("again: preempted", "finished: finished"),
        states=("REQUEUED", "COMPLETED"),
        newer_states={"26.05": ("PREEMPTED", "COMPLETED")},
        sandbox=("--preempt-mode", "cancel"),
    ),
    Row(
        name="suspended",
        interrupt=suspend,
        decisions=("finished: finished",),
        states=("COMPLETED",),
        sandbox=("--preempt-mode", "suspend"),
        options=("--hang-timeout-s", str(HANG_S)),
    ),
    Row(
        name="scontrol requeue",
        interrupt=requeue,
        decisions=("again: requeued", "finished: finished"),
        states=("REQUEUED", "COMPLETED"),
    ),
    Row(
        name="scontrol requeue, expedited",
        interrupt=requeue,
        decisions=("again: requeued", "finished: finished"),
        states=("REQUEUED", "COMPLETED"),
        sandbox=("--expedited-requeue",),
    ),
    Row(
        name="scancel",
        interrupt=cancel,
        decisions=("stay_away: cancelled", "finished: finished"),
        states=("CANCELLED", "COMPLETED"),
    ),
    Row(
        name="a node dies",
        interrupt=lose_node("n2"),
        decisions=("again: node_failure", "finished: finished"),
        states=("NODE_FAIL", "COMPLETED"),
        may_lose=True,
    ),
    Row(
        name="the first node dies",
        interrupt=lose_node("n1"),
        decisions=("again: node_failure", "finished: finished"),
        states=("NODE_FAIL", "COMPLETED"),
        may_lose=True,
    ),
    Row(
        name="link cut for 5 s",
        interrupt=cut_link_for_seconds,
        decisions=("finished: finished",),
        states=("COMPLETED",),
    ),
    Row(
        name="link cut until the node is missed",
        interrupt=cut_link_until_missed,
        decisions=("again: node_failure", "finished: finished"),
        states=("NODE_FAIL", "COMPLETED"),
        # slurmctld tells the node that is back to abort what it still runs of the job. Where it has just
        # started the job on it anew, under the same number, the new attempt may be hit (seen with 22.05.8).
        other_course=(
            ("again: node_failure", "again: stopped", "finished: finished"),
            ("NODE_FAIL", "REQUEUED", "COMPLETED"),
        ),
        may_lose=True,
    ),
    Row(
        name="a rank is killed",
        interrupt=kill_a_rank,
        decisions=("again: crash", "finished: finished"),
        states=("REQUEUED", "COMPLETED"),
        may_lose=True,
    ),
    Row(
        name="a rank hangs",
        interrupt=stop_a_rank,
        decisions=("again: crash", "finished: finished"),
        states=("REQUEUED", "COMPLETED"),
        may_lose=True,
        options=("--hang-timeout-s", str(HANG_S)),
    ),
    Row(
        name="out of memory",
        interrupt=run_out_of_memory,
        decisions=("again: crash", "finished: finished"),
        states=("REQUEUED", "COMPLETED"),
        may_lose=True,
    ),
    Row(
        name="more memory than asked for",
        interrupt=ask_for_too_little_memory,
        decisions=("again: crash", "again: crash", "give_up: crash", "finished: finished"),
        states=("REQUEUED", "REQUEUED", "FAILED", "COMPLETED"),
        options=("--mem-gb", "0.3"),
        sandbox=("--enforce-memory",),
    ),
    Row(
        name="loss is no number",
        interrupt=become_no_number,
        decisions=("give_up: user_error",),
        states=("FAILED",),
        options=("--lr", "1e30"),
        is_finished=False,
    ),
    Row(
        name="loss is no number, expedited",
        interrupt=become_no_number,
        decisions=("give_up: user_error",),
        states=("FAILED",),
        options=("--lr", "1e30"),
        sandbox=("--expedited-requeue",),
        is_finished=False,
    ),
    Row(
        name="disk full",
        interrupt=fill_the_disk,
        decisions=("give_up: user_error", "finished: finished"),
        states=("FAILED", "COMPLETED"),
        may_lose=True,
        has_own_disk=True,
    ),
    Row(
        name="newest checkpoint damaged",
        interrupt=damage_newest_checkpoint,
        decisions=("stay_away: cancelled", "finished: finished"),
        states=("CANCELLED", "COMPLETED"),
        may_lose=True,
    ),
    Row(
        name="slurmctld restarts",
        interrupt=restart_controller,
        decisions=("finished: finished",),
        states=("COMPLETED",),
    ),
    Row(
        name="slurmctld restarts while preempting",
        interrupt=restart_controller_while_preempting,
        decisions=("again: preempted", "finished: finished"),
        states=("REQUEUED", "COMPLETED"),
        newer_states={"24.11": ("REQUEUED", "PREEMPTED", "COMPLETED")},
        sandbox=("--grace-time", "20"),
    ),
    Row(
        name="login shell gone",
        interrupt=hang_up,
        decisions=("finished: finished",),
        states=("COMPLETED",),
        begin=launch_from_a_login_shell,
    ),
)
