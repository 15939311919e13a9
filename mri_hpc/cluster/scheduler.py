"""The seam between runs and whoever runs their jobs: Slurm, or this machine."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from mri_hpc.base.stop_flag import StopRequest
from mri_hpc.cluster.jobs import Job
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.settings import JobSettings


class Phase(StrEnum):
    """Where a job stands."""

    PENDING = "pending"
    RUNNING = "running"
    GONE = "gone"


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where a job stands now."""

    phase: Phase
    wait: str = ""
    """For people: what it waits for, in whose words."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How many processes the job has, and where."""

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


class Scheduler(Protocol):
    """Takes jobs, and tells how they are. Which one is meant, ``cluster.choice`` alone settles.

    Where nothing else is said, UserError where it does not answer.
    """

    @property
    def ask_every_s(self) -> float:
        """Seconds between two questions of one watcher about one job."""

    def sizes(self, settings: JobSettings) -> Sizes:
        """Return what the settings come to, here and now; UserError where that cannot be."""

    def where(self, sizes: Sizes) -> str:
        """Name, for people, where a job of these sizes runs."""

    def describe(self, run: RunDir, submission: int, settings: JobSettings, sizes: Sizes) -> str:
        """Return what `submit` would submit, as a script to read."""

    def submit(self, run: RunDir, submission: int, settings: JobSettings, sizes: Sizes) -> Job:
        """Have the ranks of a submission started; UserError where that is refused."""

    def name(self, job: Job) -> str:
        """Name a job for people."""

    def standing(self, job: Job) -> Standing:
        """Return where the job stands now. One that cannot be asked from here counts as running."""

    def is_out_of_reach(self, job: Job) -> bool:
        """Tell whether the job cannot be asked, or told anything, from here."""

    def end(self, job: Job) -> str:
        """Return the scheduler's word for how a job has ended, as in CAUSE_OF_STATE; empty without one."""

    def past_end(self, job: Job, restart: int) -> str:
        """Return the same of an earlier run of a requeued job, counted from 0; never raises UserError."""

    def cancel(self, job: Job) -> None:
        """Tell the job to end for good; its ranks save first. UserError where it is out of reach."""

    def kill_time(self, environment: Mapping[str, str], request: StopRequest) -> float | None:
        """Return when the rank with this environment may be killed after a stop signal; None if unknown.

        Unix time; never raises UserError.
        """
