"""The tasks of an array job: found among the processes, hit while they are under way, waited for."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.harness.cluster import LEAST_PAUSE_S, Slurm


@dataclass(kw_only=True)
class Struck:
    """Hits tasks of an array: each once, while it is under way and after the store has grown."""

    slurm: Slurm
    job: str
    store: Path
    tasks: list[int] = field(default_factory=list)
    """Those that were hit."""

    def strike(self, hit: Callable[[str, int], bool]) -> int:
        """Hit one more task, by its number and its process; returns the number."""
        before = self._num_commits()

        def is_struck() -> bool:
            if self._num_commits() <= before:
                return False
            for task, process in processes_of(self.job).items():
                if task not in self.tasks and hit(f"{self.job}_{task}", process):
                    self.tasks.append(task)
                    return True
            return False

        self.slurm.wait_until(
            is_struck, what="a task that is under way", timeout_s=120, most_pause_s=LEAST_PAUSE_S
        )
        return self.tasks[-1]

    def _num_commits(self) -> int:
        commits = self.store / "commits"
        return len(list(commits.glob("*.json"))) if commits.exists() else 0


def processes_of(job: str) -> dict[int, int]:
    """The processes that do the work of an array, on whichever node, by the numbers of their tasks."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if b"mri_hpc.preprocess" not in (folder / "cmdline").read_bytes().split(b"\0"):
                continue
            items = (folder / "environ").read_bytes().split(b"\0")
            values = dict(item.split(b"=", 1) for item in items if b"=" in item)
            if values.get(b"SLURM_ARRAY_JOB_ID") == job.encode():
                found[int(values[b"SLURM_ARRAY_TASK_ID"])] = int(folder.name)
    return found


def is_done(slurm: Slurm, *words: str) -> bool:
    """Whether Slurm has done as it was told: not where the task has just ended."""
    return slurm.run(words, check=False).returncode == 0


def wait_for_array(slurm: Slurm, job: str) -> None:
    """Return once no task of the array waits or runs."""
    queued = ["squeue", "--noheader", "--jobs", job]
    slurm.wait_until(
        lambda: not slurm.run(queued, check=False).stdout.strip(), what=f"the end of {job}", timeout_s=240
    )
