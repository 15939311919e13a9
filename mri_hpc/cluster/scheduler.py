"""The seam between runs and the schedulers of their jobs: Slurm, or this machine."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from mri_hpc.base.stop_flag import StopRequest
from mri_hpc.cluster.jobs import Job
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.node_range import NodeRange
from mri_hpc.rundir.settings import JobSettings


class Phase(StrEnum):
    """Phases of a job."""

    PENDING = "pending"
    RUNNING = "running"
    GONE = "gone"


@dataclass(frozen=True, kw_only=True)
class Standing:
    """The phase of a job, and what it waits for."""

    phase: Phase
    wait: str = ""
    """For people: what it waits for, in the scheduler's words."""
    end: str = ""
    """The scheduler's word for how one that is gone has ended, as in CAUSE_OF_STATE; empty without one."""
    asked_s: float = field(default_factory=time.time, compare=False)
    """Unix time at which it was so."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Numbers of a job's nodes, ranks, GPUs and threads."""

    nodes: int
    ranks_per_node: int
    gpus_per_node: int
    threads: int = 1
    """Of each rank on this machine; Slurm's jobs find theirs in the environment."""
    notes: tuple[str, ...] = ()
    """For people: wishes that cannot be met here."""
    free: NodeRange | None = None
    """Nodes of which each attempt may have any number, these sizes being those of the most; None: of none."""

    @property
    def ranks(self) -> int:
        """All ranks together."""
        return self.nodes * self.ranks_per_node

    @property
    def least_ranks(self) -> int:
        """Ranks of the smallest attempt."""
        return self.ranks // self.free.most * self.free.least if self.free else self.ranks

    @property
    def ranks_in_words(self) -> str:
        """Ranks for people."""
        is_one = self.least_ranks == self.ranks
        return f"{self.ranks} rank(s)" if is_one else f"{self.least_ranks} to {self.ranks} ranks"


class Scheduler(Protocol):
    """A scheduler: takes jobs, and reports on them. ``cluster.choice`` alone chooses among them.

    Every method raises UserError where it does not answer, unless its docstring says otherwise.
    """

    @property
    def is_queue(self) -> bool:
        """Tell whether jobs that there is no room for wait, so that many can be submitted at once."""

    def sizes(self, settings: JobSettings) -> Sizes:
        """Work out the sizes that the settings come to, here and now; UserError where these cannot be."""

    def where(self, sizes: Sizes) -> str:
        """Name, for people, where a job of these sizes runs."""

    def describe(self, run: RunDir, submission: int, settings: JobSettings, sizes: Sizes) -> str:
        """Show what `submit` would submit, as a script to read."""

    def submit(self, run: RunDir, submission: int, settings: JobSettings, sizes: Sizes) -> Job:
        """Have the ranks of a submission started; UserError where that is refused."""

    def name(self, job: Job) -> str:
        """Name a job for people."""

    def ask_about(self, jobs: Sequence[Job]) -> None:
        """Ask how all these jobs stand, so that `standing` of each need not. Never raises UserError."""

    def standing(self, job: Job, age_s: float = math.inf) -> Standing:
        """Return how the job stands, or stood a short while ago. One out of reach counts as running.

        age_s: seconds for which an answer counts, where that is shorter than it counts by itself.
        """

    def is_out_of_reach(self, job: Job) -> bool:
        """Tell whether the job can neither be asked nor cancelled from here."""

    def why_not_begun(self, job: Job) -> str:
        """Say, for people, why a job that is gone could not begin; empty where it could, or unknown."""

    def past_end(self, job: Job, restart: int) -> str:
        """Return its word, as `Standing.end`, for how an earlier run of a requeued job ended, counted from 0.

        Never raises UserError.
        """

    def cancel(self, job: Job) -> None:
        """Tell the job to end for good; its ranks save first. UserError where it is out of reach."""

    def kill_time(self, environment: Mapping[str, str], request: StopRequest) -> float | None:
        """Return the Unix time from which this rank may be killed after a stop signal; None if unknown.

        Never raises UserError.
        """
