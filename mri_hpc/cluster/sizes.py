"""Where a job goes and how large it is: nodes, ranks, GPUs, threads."""

import os
from dataclasses import dataclass
from typing import Literal

from mri_hpc.base.errors import UserError
from mri_hpc.cluster import local, slurm
from mri_hpc.rundir.settings import JobSettings


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How many processes the job has, and where."""

    is_slurm: bool
    nodes: int
    ranks_per_node: int
    gpus_per_node: int
    threads: int = 1
    """Of each rank on this machine; Slurm's jobs find theirs in the environment."""
    notes: tuple[str, ...] = ()
    """For people: what was asked for and cannot be here."""

    @property
    def ranks(self) -> int:
        """All ranks together."""
        return self.nodes * self.ranks_per_node


def sizes_of(job: JobSettings, *, batch_size: int | Literal["auto"]) -> Sizes:
    """What the settings come to, here and now. Raises UserError where that cannot be.

    batch_size: of all ranks together; auto is found by the ranks.
    """
    is_slurm = slurm.controller_answers() if job.cluster == "auto" else job.cluster == "slurm"
    sizes = _sizes_on_slurm(job) if is_slurm else _sizes_here(job)
    if batch_size != "auto" and batch_size < 2 * sizes.ranks:
        raise UserError(
            f"--batch-size {batch_size} gives {sizes.ranks} ranks less than 2 images each: "
            f"ask for at least {2 * sizes.ranks}, or for fewer ranks"
        )
    return sizes


def _sizes_on_slurm(job: JobSettings) -> Sizes:
    """Ranks and GPUs of a node. NCCL refuses two ranks on one GPU."""
    gpus = job.gpus_per_node
    if gpus is None:
        gpus = (job.tasks_per_node or 1) if slurm.partition_has_gpus(job.partition) else 0
    ranks_per_node = job.tasks_per_node or gpus or 1
    if 0 < gpus < ranks_per_node:
        raise UserError(
            f"--tasks-per-node {ranks_per_node} needs as many GPUs a node, and --gpus-per-node is {gpus}: "
            f"ask for {ranks_per_node}, or for none with --gpus-per-node 0"
        )
    return Sizes(is_slurm=True, nodes=job.nodes, ranks_per_node=ranks_per_node, gpus_per_node=gpus)


def _sizes_here(job: JobSettings) -> Sizes:
    """Ranks on this machine. NCCL refuses two ranks on one GPU, so there are at most as many as GPUs."""
    there_are = local.num_gpus()
    gpus = there_are if job.gpus_per_node is None else job.gpus_per_node
    if gpus > there_are:
        raise UserError(
            f"--gpus-per-node {gpus} is more than this machine has ({there_are}): ask for at most {there_are}"
        )
    asked = job.nodes * (job.tasks_per_node or 1)
    if gpus and job.tasks_per_node and asked > gpus:
        raise UserError(
            f"{asked} ranks need {asked} GPUs and this machine gives {gpus}: "
            "ask for fewer ranks, or for none of the GPUs with --gpus-per-node 0"
        )
    ranks = asked if job.tasks_per_node or not gpus else gpus
    # The command of a cluster starts here what there is room for: no error, and not to be passed over.
    note = f"--nodes {job.nodes} gives {ranks} rank(s) on this machine: one for each GPU that the job may use"
    return Sizes(
        is_slurm=False, nodes=1, ranks_per_node=ranks, gpus_per_node=gpus, threads=_threads(job, ranks),
        notes=(note,) if ranks < asked else (),
    )  # fmt: skip


def _threads(job: JobSettings, ranks: int) -> int:
    """Threads a rank on this machine: its share of the cores, unless the user or the shell says otherwise."""
    by_shell = os.environ.get("OMP_NUM_THREADS", "")
    if job.cpus_per_task or by_shell.isdigit():
        return job.cpus_per_task or int(by_shell)
    return max(1, local.num_cores() // ranks)
