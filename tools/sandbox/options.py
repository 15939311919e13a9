"""Options of a sandbox."""

import argparse
import dataclasses
import os
import tempfile
from pathlib import Path
from typing import Any

from failure import SandboxError

ACCOUNTINGS = ("auto", "slurmdbd", "none")
PREEMPT_MODES = ("requeue", "cancel", "suspend", "off")
MAX_NODES = 64
MAX_GPUS_PER_NODE = 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Size and manners of one pretended cluster."""

    nodes: int = 4
    """Number of nodes, named n1, n2, ..."""
    cpus_per_node: int = 16
    """CPUs that each node claims to have, whatever the machine has."""
    memory_per_node_mb: int = 256_000
    """Memory that each node claims to have."""
    enforce_memory: bool = False
    """Kill job steps that take more memory than they asked for; else nothing enforces it."""
    gpus_per_node: int = 2
    """Pretended GPUs: jobs get CUDA_VISIBLE_DEVICES, and no device behind it."""
    grace_time_s: int = 0
    """GraceTime of the partition `low`: seconds between SIGTERM and the end when preempted."""
    kill_wait_s: int = 30
    """KillWait: seconds between SIGTERM and SIGKILL."""
    slurmd_timeout_s: int = 60
    """SlurmdTimeout: a node that is silent for so long is down."""
    preempt_mode: str = "requeue"
    """Fate of a job in `low` when one in `high` needs its place."""
    send_user_signal: bool = False
    """Send the signal of --signal, not SIGTERM, when preemption begins."""
    expedited_requeue: bool = False
    """Start requeued jobs of sbatch --requeue=expedite again at once, as Slurm can from 25.11 on."""
    accounting: str = "auto"
    """slurmdbd with a database of its own, or none: then sacct knows nothing, and much starts sooner.
    auto: slurmdbd where it can start. Of a sandbox that is up it is one of the other two."""
    requeue_delay_s: int = 6
    """Seconds that a requeued job waits before it may start again; 121 on a cluster with Slurm's defaults."""

    def __post_init__(self) -> None:
        check_range("--nodes", self.nodes, 1, MAX_NODES)
        check_range("--cpus-per-node", self.cpus_per_node, 1, 1024)
        check_range("--memory-per-node-mb", self.memory_per_node_mb, 1000, 10_000_000)
        check_range("--gpus-per-node", self.gpus_per_node, 0, MAX_GPUS_PER_NODE)
        check_range("--grace-time", self.grace_time_s, 0, 86_400)
        check_range("--kill-wait", self.kill_wait_s, 1, 3600)
        check_range("--slurmd-timeout", self.slurmd_timeout_s, 5, 3600)
        # A credential expires after 5 s at least: for less, Slurm takes its default, two minutes.
        check_range("--requeue-delay", self.requeue_delay_s, 6, 3600)
        if self.preempt_mode not in PREEMPT_MODES:
            choices = ", ".join(PREEMPT_MODES)
            raise SandboxError(f"--preempt-mode must be one of {choices}, got {self.preempt_mode}")
        if self.accounting not in ACCOUNTINGS:
            choices = ", ".join(ACCOUNTINGS)
            raise SandboxError(f"--accounting must be one of {choices}, got {self.accounting}")

    @property
    def has_accounting(self) -> bool:
        return self.accounting != "none"

    @property
    def node_names(self) -> list[str]:
        return [f"n{number}" for number in range(1, self.nodes + 1)]


def check_range(flag: str, value: int, low: int, high: int) -> None:
    """Refuse a number outside its bounds with a line that names flag, bounds and value."""
    if not low <= value <= high:
        raise SandboxError(f"{flag} must be between {low} and {high}, got {value}")


def default_dir() -> Path:
    """Return the sandbox named by `eval "$(sandbox env)"`, else one for each user."""
    chosen = os.environ.get("MRI_SANDBOX_DIR")
    return Path(chosen) if chosen else Path(tempfile.gettempdir()) / f"mri-sandbox-{os.getuid()}"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `up`; each one's destination is the field's name in Options."""
    numbers = {
        "--nodes": ("nodes", "nodes n1, n2, ..."),
        "--cpus-per-node": ("cpus_per_node", "CPUs that a node claims to have"),
        "--memory-per-node-mb": ("memory_per_node_mb", "memory that a node claims to have"),
        "--gpus-per-node": ("gpus_per_node", "pretended GPUs of a node"),
        "--grace-time": ("grace_time_s", "GraceTime of the partition low"),
        "--kill-wait": ("kill_wait_s", "seconds from SIGTERM to SIGKILL"),
        "--slurmd-timeout": ("slurmd_timeout_s", "a node silent for so long is down"),
        "--requeue-delay": ("requeue_delay_s", "seconds before a requeued job may start again"),
    }
    defaults = Options()
    for flag, (field, text) in numbers.items():
        default = getattr(defaults, field)
        text = f"{text} ({default})"
        parser.add_argument(flag, dest=field, type=int, default=default, metavar="N", help=text)
    mode = defaults.preempt_mode
    text = f"what becomes of a job in low when one in high needs its place ({mode})"
    parser.add_argument("--preempt-mode", choices=PREEMPT_MODES, default=mode, help=text)
    text = (
        f"slurmdbd with its database, none as on some sites, or auto: what can start ({defaults.accounting})"
    )
    parser.add_argument("--accounting", choices=ACCOUNTINGS, default=defaults.accounting, help=text)
    text = "kill job steps that take more memory than they asked for"
    parser.add_argument("--enforce-memory", action="store_true", help=text)
    text = "send the signal of --signal, not SIGTERM, when preemption begins"
    parser.add_argument("--send-user-signal", action="store_true", help=text)
    text = "start requeued jobs of sbatch --requeue=expedite again at once: Slurm 25.11 and later"
    parser.add_argument("--expedited-requeue", action="store_true", help=text)


def options_from(arguments: argparse.Namespace) -> Options:
    """Return the Options among parsed arguments."""
    names = [field.name for field in dataclasses.fields(Options)]
    chosen: dict[str, Any] = {name: getattr(arguments, name) for name in names}
    return Options(**chosen)
