"""Slurm: whether it answers, and how its settings fit what launch relies on."""

import dataclasses
import getpass
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mri_hpc.cluster import expediting, sbatch_options, slurm
from mri_hpc.cluster.doctor.finding import Check, Finding, Site, fine, note, problem
from mri_hpc.cluster.doctor.fixes import line_in_site_env

LEAST_KILL_WAIT_S = 10
"""In which ranks finish a step and save: that of small networks."""


def look(site: Site) -> Iterator[Finding]:
    """Ask Slurm for its settings, partitions and this user's accounts; nothing is submitted."""
    if not slurm.controller_answers():
        yield note(
            "no Slurm here: launch trains on this machine, and a run ends with it",
            "on a cluster: load Slurm's module, then run this again",
        )
        return
    settings = slurm.configuration()
    yield fine(f"Slurm {settings.get('SLURM_VERSION', '?')} of {settings.get('ClusterName', '?')} answers")
    if elsewhere := sbatch_options.cluster_named({}, site.environment):
        yield note(
            f"this shell sends jobs to another cluster, {elsewhere}; what follows is about the one at hand"
        )
    yield from of_settings(settings)
    partitions, by_shell = slurm.partition_settings(), slurm.partition_of_shell(site.environment)
    yield from of_partitions(partitions, by_shell, site.clone)
    if settings.get("AccountingStorageType", "").endswith("slurmdbd"):
        enforces = "associations" in settings.get("AccountingStorageEnforce", "").lower()
        yield from _of_accounts(slurm.accounts(getpass.getuser()), site, is_needed=enforces)


def of_settings(settings: Mapping[str, str]) -> Iterator[Finding]:
    """Judge what ``scontrol show config`` says."""
    kill_wait_s = int((settings.get("KillWait", "").split() or ["30"])[0])
    says = (
        f"from a stop signal to the kill there are {kill_wait_s} s (KillWait), beside a partition's GraceTime"
    )
    if kill_wait_s < LEAST_KILL_WAIT_S:
        yield note(
            f"{says}: a save may take longer, and steps are then lost",
            "launch --checkpoint-interval-s 120; ask your help desk for a longer KillWait",
        )
    else:
        yield fine(says)
    if settings.get("JobRequeue") == "0":
        yield fine("jobs are not requeued by default here (JobRequeue=0): launch asks for it itself")
    if expediting.is_on(settings.get("SlurmctldParameters", "")):
        yield fine(
            f"requeued jobs start again at once, not after two minutes ({expediting.PARAMETER}): launch asks "
            f"for it, with commands of Slurm {'.'.join(map(str, expediting.SINCE))} or later"
        )
    if not settings.get("AccountingStorageType", "").endswith("slurmdbd"):
        yield note(
            "no accounting: why a job ended is told by Slurm's controller alone, for minutes; the runs keep "
            "what their ranks saw"
        )
    yield fine(f"an array may have {settings.get('MaxArraySize', '?')} tasks (MaxArraySize)")
    ports = settings.get("SrunPortRange", "")
    if ports and not ports.startswith("0"):
        yield dataclasses.replace(
            fine(f"this site keeps ports {ports} open between nodes for srun (SrunPortRange)"),
            cure=f"launch --port-range {ports}, where ranks do not reach each other on others",
        )


def of_partitions(
    partitions: Sequence[Mapping[str, str]], by_shell: str | None, clone: Path | None = None
) -> Iterator[Finding]:
    """Say of each partition what launch would have to know, and whether the default one has GPUs."""
    if not partitions:
        yield note("Slurm does not show its partitions", "sinfo --summarize")
        return
    for one in partitions:
        yield fine(_in_words(one))
    defaults = [one for one in partitions if one.get("Default") == "YES"]
    of_gpus = [one["PartitionName"] for one in partitions if _has_gpus(one)]
    names = [one["PartitionName"] for one in partitions]
    # Which of several is meant, only the user knows.
    only = next((one["PartitionName"] for one in defaults), names[0] if len(names) == 1 else "")
    fix = line_in_site_env(clone, "SBATCH_PARTITION", only) if only else None
    if by_shell and not set(by_shell.split(",")) <= set(names):
        yield problem(
            f"SBATCH_PARTITION={by_shell} does not exist here; there are: {', '.join(names)}",
            f"export SBATCH_PARTITION={only or names[0]}, in site.env",
            fix=fix,
        )
    elif not by_shell and not defaults:
        yield problem(
            "no partition is the default here: a job has to name one",
            f"export SBATCH_PARTITION={names[0]}, in site.env; launch --partition {(of_gpus or names)[0]}",
            fix=fix,
        )
    if of_gpus and defaults and not by_shell and not any(_has_gpus(one) for one in defaults):
        yield note(
            f"the default partition has no GPUs; {', '.join(of_gpus)} has", f"launch --partition {of_gpus[0]}"
        )


def _in_words(one: Mapping[str, str]) -> str:
    is_default = " (default)" if one.get("Default") == "YES" else ""
    grace = one.get("GraceTime", "0")
    return (
        f"partition {one['PartitionName']}{is_default}: {one.get('TotalNodes', '?')} nodes, at most "
        f"{one.get('MaxTime', '?')}, {'GPUs' if _has_gpus(one) else 'no GPUs'}, "
        f"PreemptMode {one.get('PreemptMode', '?')}, GraceTime {grace} s"
    )


def _has_gpus(one: Mapping[str, str]) -> bool:
    return "gres/gpu" in one.get("TRES", "")


def _of_accounts(found: Sequence[str] | None, site: Site, *, is_needed: bool) -> Iterator[Finding]:
    named = site.environment.get("SBATCH_ACCOUNT")
    if found is None:
        yield note(
            "the accounting does not say which accounts you have", "sacctmgr show user $USER withassoc"
        )
    elif named and found and named not in found:
        yield problem(
            f"SBATCH_ACCOUNT={named} is none of your accounts: {', '.join(found)}",
            f"export SBATCH_ACCOUNT={found[0]}, in site.env",
            fix=line_in_site_env(site.clone, "SBATCH_ACCOUNT", found[0]) if len(found) == 1 else None,
        )
    elif found:
        needed = f"export SBATCH_ACCOUNT={found[0]}, in site.env, where jobs without one are refused"
        yield dataclasses.replace(fine(f"your accounts: {', '.join(found)}"), cure="" if named else needed)
    elif is_needed:
        yield problem(
            "you have no account here, and jobs without one are refused", "ask your cluster's help desk"
        )


CHECK = Check(name="slurm", title="Slurm", look=look)
