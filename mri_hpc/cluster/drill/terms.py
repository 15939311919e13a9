"""The job of a drill: that of the run, but for its time, and what it costs."""

import dataclasses

from mri_hpc.base.errors import UserError
from mri_hpc.cluster.scheduler import Sizes
from mri_hpc.rundir.settings import JobSettings

LIMIT_MIN = 2
"""Minutes for which a drill may have its nodes, over all its attempts."""
SIGNAL_AHEAD_S = 5
"""Slurm's own signal ahead of the limit is not the one that a drill waits for."""

BY = "the drill"
"""Name in the ledger of what ends a job that has had its minutes."""


def job_of_drill(settings: JobSettings) -> JobSettings:
    """Return the settings of a drill's job: those of a run, with a short limit. UserError without Slurm."""
    if settings.cluster == "local":
        raise UserError("--drill is a job of Slurm, and --cluster local asks for none: leave one of them out")
    minutes = min(LIMIT_MIN, settings.time_limit_min)
    # All nodes that a run may have are to be tried.
    nodes = settings.node_range.most
    return dataclasses.replace(
        settings, nodes=nodes, time_limit_min=minutes, signal_ahead_s=SIGNAL_AHEAD_S, mail=False
    )


def cost_of(sizes: Sizes, *, partition: str) -> str:
    """Say what a drill of these sizes costs."""
    gpus = sizes.nodes * sizes.gpus_per_node
    of_gpus = f" with {sizes.gpus_per_node} GPU(s) each" if gpus else ""
    where = f" of partition {partition}" if partition else ""
    hours = LIMIT_MIN / 60 * (gpus or sizes.nodes)
    return (
        f"{sizes.nodes} node(s){where}{of_gpus} for at most {LIMIT_MIN} minutes, "
        f"{hours:.2f} {'GPU' if gpus else 'node'} hours; about 5 minutes by the clock beside the queue, as "
        f"Slurm holds a requeued job for two"
    )
