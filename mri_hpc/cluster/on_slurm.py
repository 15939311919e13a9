"""Runs as jobs of Slurm."""

from collections.abc import Mapping

from mri_hpc.base.errors import UserError
from mri_hpc.base.stop_flag import StopRequest
from mri_hpc.cluster import partitions, rank, slurm, waiting
from mri_hpc.cluster.jobs import Job
from mri_hpc.cluster.program import Program
from mri_hpc.cluster.scheduler import Phase, Scheduler, Sizes, Standing
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.settings import JobSettings


class Slurm(Scheduler):
    """Slurm, through its own commands and submitit."""

    is_queue = True
    ask_every_s = 10.0
    """Its controller serves a whole site: a watcher asks it rarely."""

    def __init__(self, program: Program | None = None) -> None:
        """program: what jobs run in place of training."""
        self._program = program

    def sizes(self, settings: JobSettings) -> Sizes:
        """Return ranks and GPUs of a node. NCCL refuses two ranks on one GPU."""
        partition = partitions.partition_of_job(settings.partition)
        partitions.refuse_what_cannot_start(partition, nodes=settings.nodes, minutes=settings.time_limit_min)
        gpus = settings.gpus_per_node
        if gpus is None:
            gpus = partitions.gpus_named(
                settings.slurm, nodes=settings.nodes, ranks_per_node=settings.tasks_per_node
            )
        if gpus is None:
            gpus = (settings.tasks_per_node or 1) if partition.has_gpus else 0
        ranks_per_node = settings.tasks_per_node or gpus or 1
        if 0 < gpus < ranks_per_node:
            raise UserError(
                f"--tasks-per-node {ranks_per_node} needs as many GPUs a node, and --gpus-per-node is "
                f"{gpus}: ask for {ranks_per_node}, or for none with --gpus-per-node 0"
            )
        return Sizes(nodes=settings.nodes, ranks_per_node=ranks_per_node, gpus_per_node=gpus)

    def where(self, sizes: Sizes) -> str:
        """Name the nodes by their number."""
        return f"{sizes.nodes} node(s)"

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
        return submit(
            run, submission, settings, ranks_per_node=sizes.ranks_per_node, gpus=sizes.gpus_per_node,
            module=program.module, first=program.first,
        )  # fmt: skip

    def name(self, job: Job) -> str:
        """Name the job by Slurm's number."""
        return f"Slurm job {job.job_id}"

    def standing(self, job: Job) -> Standing:
        """Ask Slurm how the job stands, and for its word for what it waits for."""
        state = slurm.job_state(job.job_id)
        if state is None or not state.is_live:
            return Standing(phase=Phase.GONE)
        if not state.is_waiting:
            return Standing(phase=Phase.RUNNING)
        return Standing(phase=Phase.PENDING, wait=waiting.plain(job.job_id, state))

    def is_out_of_reach(self, job: Job) -> bool:
        """Return False: every job can be reached where Slurm answers."""
        return False

    def end(self, job: Job) -> str:
        """Return Slurm's state of the job, which has ended."""
        state = slurm.job_state(job.job_id)
        return state.state if state else ""

    def why_not_begun(self, job: Job) -> str:
        """Name the node that could not open the job's output, which lies in the run's folder."""
        node = slurm.node_without_output(job.job_id)
        if not node:
            return ""
        return (
            f"node {node} could not open its output in the run's folder: it does not see that folder, or may "
            f"not write there; put runs (--run) on a file system that all nodes share, or leave it out: "
            f"--slurm exclude={node}"
        )

    def past_end(self, job: Job, restart: int) -> str:
        """Return the state of that run of the job in Slurm's accounting."""
        return slurm.past_state(job.job_id, restart)

    def cancel(self, job: Job) -> None:
        """Cancel the job."""
        slurm.cancel(job.job_id)

    def kill_time(self, environment: Mapping[str, str], request: StopRequest) -> float | None:
        """Return the end of the job that the rank belongs to, with what Slurm waits beyond it."""
        return slurm.kill_time(slurm.own_job_id(environment), request.received_s)
