"""Runs as jobs of Slurm."""

import math
import time
from collections.abc import Mapping, Sequence

from mri_hpc.base.errors import UserError
from mri_hpc.base.stop_flag import StopRequest
from mri_hpc.cluster import partitions, rank, sbatch_options, slurm, waiting
from mri_hpc.cluster.jobs import Job
from mri_hpc.cluster.program import Program
from mri_hpc.cluster.scheduler import Phase, Scheduler, Sizes, Standing
from mri_hpc.cluster.slurm_answers import JobState
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.settings import JobSettings


class Slurm(Scheduler):
    """Slurm, through its own commands and submitit. What it said of a job counts for half a minute."""

    is_queue = True

    def __init__(self, program: Program | None = None) -> None:
        """program: what jobs run in place of training."""
        self._program = program
        self._heard: dict[Job, Standing | UserError] = {}
        self._asked_s: dict[Job, float] = {}
        """Unix times."""

    def sizes(self, settings: JobSettings) -> Sizes:
        """Return ranks and GPUs of a node. NCCL refuses two ranks on one GPU."""
        typed = sbatch_options.typed_options(settings.slurm)
        partition = partitions.partition_of_job(settings.partition, sbatch_options.cluster_named(typed))
        nodes = settings.node_range
        partitions.refuse_what_cannot_start(partition, nodes=nodes.least, minutes=settings.time_limit_min)
        gpus = settings.gpus_per_node
        if gpus is None:
            named = sbatch_options.gpu_options(typed)
            if settings.takes_any_number and "gpus-per-task" in named:
                raise UserError(
                    f"--nodes {settings.nodes} has no number of tasks to give GPUs (--slurm gpus-per-task, "
                    "or SBATCH_GPUS_PER_TASK): ask by --gpus-per-node"
                )
            gpus = sbatch_options.gpus_named(named, nodes=nodes.most, ranks_per_node=settings.tasks_per_node)
        if gpus is None:
            # Who has a node alone pays for all of its GPUs.
            of_node = partition.least_gpus if "exclusive" in typed else 1
            gpus = (settings.tasks_per_node or of_node) if partition.has_gpus else 0
        ranks_per_node = settings.tasks_per_node or gpus or 1
        if 0 < gpus < ranks_per_node:
            raise UserError(
                f"--tasks-per-node {ranks_per_node} needs as many GPUs a node, and --gpus-per-node is "
                f"{gpus}: ask for {ranks_per_node}, or for none with --gpus-per-node 0"
            )
        return Sizes(
            nodes=nodes.most, ranks_per_node=ranks_per_node, gpus_per_node=gpus,
            free=nodes if settings.takes_any_number else None,
        )  # fmt: skip

    def where(self, sizes: Sizes) -> str:
        """Name the nodes by their number."""
        return f"{sizes.free.least} to {sizes.nodes} nodes" if sizes.free else f"{sizes.nodes} node(s)"

    def describe(self, run: RunDir, submission: int, settings: JobSettings, sizes: Sizes) -> str:
        """Return the batch script."""
        # The one importer of submitit, which takes a while.
        from mri_hpc.cluster.submission import batch_script

        return batch_script(
            run, submission, settings, ranks_per_node=sizes.ranks_per_node, gpus=sizes.gpus_per_node
        )

    def submit(self, run: RunDir, submission: int, settings: JobSettings, sizes: Sizes) -> Job:
        """Submit the batch script; UserError with Slurm's own words where it is refused."""
        from mri_hpc.cluster.submission import submit

        program = self._program or Program(module=rank.RANK_MODULE)
        job = submit(
            run, submission, settings, ranks_per_node=sizes.ranks_per_node, gpus=sizes.gpus_per_node,
            module=program.module, question=program.question,
        )  # fmt: skip
        # It has been taken a moment ago.
        self._remember([job], {job: Standing(phase=Phase.PENDING)})
        return job

    def name(self, job: Job) -> str:
        """Name the job by Slurm's number."""
        elsewhere = _cluster_of(job)
        return f"Slurm job {job.job_id}" + (f" of cluster {elsewhere}" if elsewhere else "")

    def ask_about(self, jobs: Sequence[Job], age_s: float = math.inf) -> None:
        """Ask each cluster once about all its jobs of which it has said nothing in half a minute.

        age_s: as by `Scheduler.standing`.
        """
        recently = time.time() - min(age_s, slurm.ASK_EVERY_S)
        due = [job for job in dict.fromkeys(jobs) if self._asked_s.get(job, 0.0) <= recently]
        by_cluster: dict[str, list[Job]] = {}
        for name in dict.fromkeys(job.slurm_cluster for job in due):
            of_name = [job for job in due if job.slurm_cluster == name]
            by_cluster.setdefault(slurm.elsewhere(name), []).extend(of_name)
        for cluster, of_cluster in by_cluster.items():
            asked_s = time.time()
            try:
                states = slurm.job_states([job.job_id for job in of_cluster], cluster)
            except UserError as error:
                self._remember(of_cluster, dict.fromkeys(of_cluster, error))
            else:
                found = {job: _standing(job, states.get(job.job_id), asked_s, cluster) for job in of_cluster}
                self._remember(of_cluster, found)

    def standing(self, job: Job, age_s: float = math.inf) -> Standing:
        """Return how the job stands, and Slurm's word for what it waits for or how it ended."""
        self.ask_about([job], age_s)
        heard = self._heard[job]
        if isinstance(heard, UserError):
            raise heard
        return heard

    def is_out_of_reach(self, job: Job) -> bool:
        """Return False: every job can be reached where Slurm answers."""
        return False

    def why_not_begun(self, job: Job) -> str:
        """Name the node that could not open the job's output, which lies in the run's folder."""
        node = slurm.node_without_output(job.job_id, _cluster_of(job))
        if not node:
            return ""
        return (
            f"node {node} could not open its output in the run's folder: it does not see that folder, or may "
            f"not write there; put runs (--run) on a file system that all nodes share, or leave it out: "
            f"--slurm exclude={node}"
        )

    def past_end(self, job: Job, restart: int) -> str:
        """Return the state of that run of the job in Slurm's accounting."""
        return slurm.past_state(job.job_id, restart, _cluster_of(job))

    def cancel(self, job: Job) -> None:
        """Cancel the job, and forget what was said of it before: it may have begun since."""
        slurm.cancel(job.job_id, _cluster_of(job))
        self._asked_s.pop(job, None)

    def kill_time(self, environment: Mapping[str, str], request: StopRequest) -> float | None:
        """Return the end of the job that the rank belongs to, with what Slurm waits beyond it."""
        return slurm.kill_time(slurm.own_job_id(environment), request.received_s)

    def _remember(self, jobs: Sequence[Job], heard: Mapping[Job, Standing | UserError]) -> None:
        self._heard |= heard
        self._asked_s |= dict.fromkeys(jobs, time.time())


def _cluster_of(job: Job) -> str:
    """Return the cluster that has to be asked by name; empty for the one at hand."""
    return slurm.elsewhere(job.slurm_cluster)


def _standing(job: Job, state: JobState | None, asked_s: float, cluster: str) -> Standing:
    """cluster: of the job, where it is not the one at hand."""
    if state is None or not state.is_live:
        return Standing(phase=Phase.GONE, end=state.state if state else "", asked_s=asked_s)
    if not state.is_waiting:
        return Standing(phase=Phase.RUNNING, asked_s=asked_s)
    return Standing(phase=Phase.PENDING, wait=waiting.plain(job.job_id, state, cluster), asked_s=asked_s)
