"""Options of sbatch that users and sites choose: --slurm KEY=VALUE, and variables that modules set."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence

from mri_hpc.base.errors import UserError
from mri_hpc.cluster.slurm import CLUSTER_VARIABLES, cluster_at_hand, surrounding_job

# Several words for one thing: Slurm refuses two of them at once, or adds them up.
GPU_OPTIONS = {"gres", "gpus", "gpus-per-node", "gpus-per-task", "gpus-per-socket"}
MEMORY_OPTIONS = {"mem", "mem-per-cpu", "mem-per-gpu"}
ODD_VARIABLES = {
    "time": "SBATCH_TIMELIMIT", "mem": "SBATCH_MEM_PER_NODE", "requeue": "SBATCH_NO_REQUEUE",
    "array": "SBATCH_ARRAY_INX", "switches": "SBATCH_REQ_SWITCH",
}  # fmt: skip
"""Variables of options that are not named as these are."""
OURS = {"requeue", "no-requeue", "open-mode", "signal", "output", "error", "array", "wait"}
"""Options on which submitting, preempting and resuming rest."""


def typed_options(pairs: Sequence[str]) -> dict[str, str | bool]:
    """Return the user's further options of sbatch, by their long names; UserError where one cannot be.

    pairs: as ``nice=5``; a key without a value is a flag, as in ``exclusive=``.
    """
    split = (pair.split("=", 1) for pair in pairs)
    options: dict[str, str | bool] = {
        key.strip().lstrip("-").replace("_", "-"): value or True for key, value in split
    }
    odd = [key for key in options if not re.fullmatch("[a-z][a-z0-9-]*", key)]
    if odd:
        raise UserError(f"--slurm {odd[0]!r}=... is no option of sbatch: give its long name, as in nice=5")
    if ours := OURS & set(options):
        raise UserError(f"--slurm {min(ours)}=... cannot be set: preempting and resuming rest on it")
    return options


def gpu_options(
    typed: Mapping[str, str | bool], environment: Mapping[str, str] = os.environ
) -> dict[str, str | bool]:
    """Return the options by which GPUs are asked for in Slurm's own words: typed, else of the shell."""
    of_gpus = {name: value for name, value in typed.items() if name in GPU_OPTIONS}
    by_shell = {name: environment.get(variable_of(name), "") for name in sorted(GPU_OPTIONS)}
    return of_gpus or {name: value for name, value in by_shell.items() if value}


def gpus_named(options: Mapping[str, str | bool], *, nodes: int, ranks_per_node: int | None) -> int | None:
    """Count the GPUs of a node that options ask for, as `gpu_options` gives; None where they name none."""
    for key, value in options.items():
        devices = [word for word in str(value).split(",") if key != "gres" or word.startswith("gpu")]
        counts = [word.rsplit(":", 1)[-1].split("(")[0] for word in devices]
        number = sum(int(count) if count.isdigit() else 1 for count in counts)
        if key == "gpus":
            return max(1, number // nodes) if number else 0
        if key == "gpus-per-task":
            return number * (ranks_per_node or 1)
        if devices:
            return number
    return None


def with_mail(typed: Mapping[str, str | bool]) -> dict[str, str | bool]:
    """Return the options with a mail for a job that cannot begin; one that begins says itself when to mail.

    UserError where kinds of mail are typed.
    """
    if "mail-type" in typed:
        raise UserError(
            "--mail and --slurm mail-type=... both say when Slurm mails: add --no-mail, or leave that out"
        )
    return {**typed, "mail-type": "FAIL"}


def cluster_named(more: Mapping[str, object], environment: Mapping[str, str] = os.environ) -> str:
    """Return the cluster to which options or the shell send a job; empty where it is the one at hand.

    more: options of sbatch, by their long names. Raises UserError where several are named: Slurm would choose
    one, and the run could not be asked afterwards.
    """
    typed = {"--slurm clusters": str(more["clusters"])} if "clusters" in more else {}
    by_shell = {name: environment[name] for name in CLUSTER_VARIABLES if environment.get(name)}
    for what, name in (typed | by_shell).items():
        if not re.fullmatch(r"[\w.-]+", name) or name == "all":
            raise UserError(f"{what}={name} names no one cluster: choose it by --slurm clusters=NAME")
        return "" if name == cluster_at_hand(environment) else name
    return ""


def weaker_variables(options: Iterable[str], environment: Mapping[str, str] = os.environ) -> list[str]:
    """List variables to keep from sbatch: those that would overrule `options`, and a surrounding job's.

    An sbatch script's own lines are weaker than what modules and site.env export.
    """
    overruled = {*options, *OURS}
    for alike in (GPU_OPTIONS, MEMORY_OPTIONS):
        overruled |= alike if alike & overruled else set()
    return sorted({*map(variable_of, overruled), *surrounding_job(environment)} & set(environment))


def variable_of(option: str) -> str:
    """Return the variable by which a shell gives sbatch an option."""
    return ODD_VARIABLES.get(option) or f"SBATCH_{option.upper().replace('-', '_')}"
