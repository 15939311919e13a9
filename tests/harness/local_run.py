"""A real run on this machine, without Slurm: launched by its command, watched in its folder."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mri_hpc.cluster.jobs import job_of
from mri_hpc.cluster.on_this_machine import process_began
from mri_hpc.cluster.watching import Watcher
from mri_hpc.rundir.layout import Attempt, RunDir
from mri_hpc.rundir.ledger import Event, Kind, read_events
from mri_hpc.rundir.metrics_log import read_metrics
from mri_hpc.rundir.summary import Summary
from mri_hpc.rundir.wall_clock import WallClock, account
from tests.harness.real_run import BATCH_SIZE, CHECKPOINT_INTERVAL_S, MODEL

POLL_S = 0.05
# To look at all of a run takes longer than whether something is true.
LOOK_S = 1.0
# Without a step or an event: on a machine that others use as well, four ranks take minutes to start.
PATIENCE_S = 300.0
ENDED_BADLY = {"failed", "gave_up", "stopped"}


@dataclass(frozen=True, kw_only=True)
class LocalRun:
    """A run under the supervisor. What does not come is an AssertionError that says where the run stands."""

    run: RunDir
    store: Path
    ranks: int
    epochs: int
    hang_timeout_s: float = 20.0
    checkpoint_interval_s: float = CHECKPOINT_INTERVAL_S

    def launch(self) -> None:
        """The command, as a user types it: makes the run, or resumes it."""
        settings = {
            "store": self.store, "model": MODEL, "batch-size": BATCH_SIZE, "epochs": self.epochs,
            "patience": self.epochs, "checkpoint-interval-s": self.checkpoint_interval_s,
            "hang-timeout-s": self.hang_timeout_s, "cluster": "local", "tasks-per-node": self.ranks,
            "cpus-per-task": 1, "gpus-per-node": 0,
        }  # fmt: skip
        typed = [word for name, value in settings.items() for word in (f"--{name}", value)]
        self.command(*([] if self.run.settings.exists() else [*typed, "--deterministic"]))

    def command(self, *words: object) -> None:
        """Launch with these words."""
        argv = [sys.executable, "-m", "mri_hpc.launch", "--run", self.run.path, *words]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        said = subprocess.run(
            [str(word) for word in argv], env=environment, capture_output=True, text=True, check=False
        )
        assert said.returncode == 0, f"launch {words}: status {said.returncode}\n{said.stdout}{said.stderr}"

    @property
    def attempt(self) -> Attempt:
        """The newest."""
        newest = self.run.newest_attempt()
        assert newest, "nothing was launched"
        return newest

    @property
    def has_finished(self) -> bool:
        """Whether it is finished, and the ledger says so."""
        return self.run.is_finished and bool(self.events(self.attempt, Kind.DECIDED))

    def events(self, attempt: Attempt, kind: Kind) -> list[Event]:
        """What the ledger says of an attempt."""
        return [e for e in read_events(self.run) if e.attempt == str(attempt) and e.kind == kind]

    def num_steps(self) -> int:
        """Steps done and not lost."""
        return sum("loss" in line for line in read_metrics(self.run))

    def supervisor(self) -> int:
        """Its process; 0 where it has ended: its number may be somebody else's by now."""
        job = job_of(self.run, self.attempt.submission)
        return job.pid if job and process_began(job.pid) == job.began else 0

    def rank_pids(self) -> list[int]:
        """Processes of the ranks that live, in the order of their ranks."""
        if not (supervisor := self.supervisor()):
            return []
        try:
            children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
        except (FileNotFoundError, ProcessLookupError):
            return []
        return [int(pid) for pid in children if process_began(int(pid))]

    def wait_for(self, is_true: Callable[[], Any], what: str) -> None:
        """Return as soon as it is true; fail when it does not come, or cannot come any more."""
        seen, deadline, next_look = (0, 0), 0.0, 0.0
        while not is_true():
            if time.monotonic() > next_look:
                progress = (len(read_events(self.run)), self.num_steps())
                if progress != seen:
                    seen, deadline = progress, time.monotonic() + PATIENCE_S
                summary = self.summary()
                has_ended = summary.state in ENDED_BADLY and not is_true()
                if has_ended or time.monotonic() > deadline:
                    words = "\n".join(summary.last_words)
                    raise AssertionError(
                        f"no {what}: attempt {summary.attempt} is {summary.state} at step {summary.step}; "
                        f"{summary.reason}\n{words}"
                    )
                next_look = time.monotonic() + LOOK_S
            time.sleep(POLL_S)

    def summary(self) -> Summary:
        """What status shows."""
        return Watcher(self.run).look().summary

    def clock(self) -> WallClock:
        """Into what its time went."""
        return account(read_events(self.run), read_metrics(self.run), time.time())
