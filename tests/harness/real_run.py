"""A small real run on a sandbox: launched by its command, watched in its folder."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mri_hpc.cluster.jobs import job_of
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.ledger import Event, Kind, read_events
from mri_hpc.rundir.manifests import newest_manifest
from mri_hpc.rundir.metrics_log import read_metrics
from tests.harness.cluster import LEAST_PAUSE_S, Slurm
from tests.harness.disks import Disk

SIDE = 32
PATIENTS = {"train": 60, "validation": 4, "test": 4}
SLICES = 4
BATCH_SIZE = 8
CHECKPOINT_INTERVAL_S = 2.0
RANKS = 4
# It has batch normalisation, whose running statistics a resume can lose, and a step of 0.07 s on two cores.
MODEL = "shufflenet_v2_x0_5"
TRAINING = {
    "model": MODEL, "batch-size": BATCH_SIZE, "patience": 99, "hang-timeout-s": 120,
}  # fmt: skip
JOB = {"nodes": 2, "tasks-per-node": 2, "gpus-per-node": 0, "cpus-per-task": 1, "time-limit-min": 20}
# On a machine that others use as well, four ranks may take a minute until their first step.
PATIENCE_S = 300.0


def make_store(folder: Path) -> Path:
    """A store of pictures in two classes, whose folders name the splits: 60 steps an epoch."""
    random = np.random.default_rng(0)
    for split, patients in PATIENTS.items():
        for label, patient, part in itertools.product(range(2), range(patients), range(SLICES)):
            below = folder / "raw" / split / f"class{label}" / f"{split}{label}{patient:02d}"
            draw(below / f"{part}.png", label, random)
    return stored(folder)


def draw(file: Path, label: int, random: np.random.Generator, *, side: int = SIDE) -> None:
    """Draw a slice of a class."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = random.integers(0, 90, (side, side))
    pixels[4 : 12 + 8 * label, 6:20] += 60
    # Noise does not get smaller, however long one tries.
    Image.fromarray(pixels.astype(np.uint8)).save(file, compress_level=1)


def stored(folder: Path, *, side: int = SIDE) -> Path:
    """Preprocess what lies below `raw`; return the store."""
    _run_module("preprocess", "--source", folder / "raw", "--store", folder / "store", "--size", side)
    return folder / "store"


@dataclass
class RealRun:
    """A run of four ranks on two nodes of a sandbox."""

    run: RunDir
    slurm: Slurm
    store: Path
    epochs: int
    options: Sequence[str] = ()
    """More of launch."""
    event_s: float | None = None
    """When that happened from which the next step is timed."""
    next_step_s: float | None = None
    """When a step followed, where no new attempt tells."""
    shell: subprocess.Popen[bytes] | None = None
    """In which it was launched, where that one was to stay."""
    disk: Disk | None = None
    """On which it lies, where it has one of its own."""
    by_hand: bool = False
    """Somebody had to launch again."""
    checkpoint_interval_s: float = CHECKPOINT_INTERVAL_S

    def launch(self, *words: object, check: bool = True) -> subprocess.CompletedProcess[str]:
        """The command, as a user types it."""
        return self.slurm.run(self.launch_command(*words), env=self.environment, check=check)

    def launch_command(self, *words: object) -> list[str]:
        """Launches the run, or resumes it."""
        ours = {"epochs": self.epochs, "checkpoint-interval-s": self.checkpoint_interval_s}
        settings = {**TRAINING, **ours, **JOB} if not self.run.settings.exists() else {}
        typed = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
        new = ["--store", str(self.store), "--deterministic", *typed, *self.options] if settings else []
        return [*module("launch"), "--run", str(self.run.path), *new, *map(str, words)]

    @property
    def environment(self) -> dict[str, str]:
        """One thread a rank, whatever this shell is inside of."""
        return {**self.slurm.env, "OMP_NUM_THREADS": "1"}

    def launch_again(self, *words: object) -> None:
        """What somebody does who finds that the run has ended."""
        self.by_hand, self.event_s = True, time.time()
        self.launch(*words)

    def now(self) -> float:
        """From here on the next step is timed; Unix time."""
        self.event_s = time.time()
        return self.event_s

    @property
    def job_ids(self) -> list[str]:
        """Slurm's number of each submission."""
        numbers = sorted({attempt.submission for attempt in self.run.all_attempts()})
        jobs = [job_of(self.run, number) for number in numbers]
        return [job.job_id for job in jobs if job]

    @property
    def job_id(self) -> str:
        """Slurm's number of the newest submission."""
        return self.job_ids[-1]

    def step(self) -> int:
        """The last step that was done."""
        return max((int(line["step"]) for line in read_metrics(self.run)), default=0)

    def saved_step(self) -> int:
        """Step of the newest checkpoint."""
        manifest = newest_manifest(self.run)
        return manifest.progress.step if manifest else 0

    def events(self, *kinds: Kind) -> list[Event]:
        """Events of the ledger, of these kinds."""
        return [event for event in read_events(self.run) if event.kind in kinds]

    def decisions(self) -> list[str]:
        """What was decided, with its cause: ``again: preempted``."""
        return [f"{event.values['decision']}: {event.values['cause']}" for event in self.events(Kind.DECIDED)]

    def last_words(self) -> list[str]:
        """What the ledger keeps of the log of the rank that failed."""
        return [word for event in self.events(Kind.DECIDED) for word in event.values.get("last_words", ())]

    def logs(self, attempt: str = "*") -> dict[str, str]:
        """What every rank printed: ``1.0/rank0.log`` → text."""
        files = sorted(self.run.attempts.glob(f"{attempt}/rank*.log"))
        return {f"{file.parent.name}/{file.name}": file.read_text(errors="replace") for file in files}

    def status(self) -> dict[str, Any]:
        """What ``mri-hpc status --json`` says."""
        said = self.slurm.run([*module("status"), self.run.path, "--json"], env=self.environment)
        return dict(json.loads(said.stdout))

    def wait_for(self, is_true: Any, what: str, timeout_s: float = PATIENCE_S) -> None:
        """Wait; the error says where the run stands."""
        self.slurm.wait_until(
            is_true,
            what=lambda: f"{what}; step {self.step()}, decisions {self.decisions()}, job {self._job_line()}",
            timeout_s=timeout_s,
            # The moment passes.
            most_pause_s=LEAST_PAUSE_S,
        )

    def wait_for_work_to_lose(self) -> None:
        """Wait until steps were done that no checkpoint holds: few, as those of a busy machine are slow."""
        self.wait_for(
            lambda: self.saved_step() > 0 and self.step() - self.saved_step() >= 2, "steps after a checkpoint"
        )

    def wait_for_steps_after(self, step: int) -> None:
        """Wait until the run has gone on in the same attempt, and note when."""
        self.wait_for(lambda: self.step() > step, f"a step after {step}")
        self.next_step_s = time.time()

    def set_time_limit(self, minutes: int) -> None:
        """As an administrator may, also while the job runs."""
        self.slurm.run(["scontrol", "update", f"JobId={self.job_id}", f"TimeLimit={minutes}"])

    def wait_for_state(self, state: str) -> None:
        """Wait until Slurm says so of the job."""
        self.slurm.wait_state(self.job_id, state, timeout_s=PATIENCE_S)

    def wait_for_end_of_job(self) -> str:
        """The job's last state, once it and its batch script have gone."""
        return self.slurm.wait_end(self.job_id, timeout_s=2 * PATIENCE_S)

    def wait_for_decisions(self, number: int) -> None:
        """Wait until so many attempts were decided about."""
        self.wait_for(lambda: len(self.decisions()) >= number, f"decision {number}")

    def ranks(self) -> dict[int, int]:
        """Rank → process on this host, of the ranks that live."""
        return dict(self._ranks())

    def signal(self, rank: int, number: signal.Signals) -> None:
        """Send a signal to the process of one rank."""
        os.kill(self.process_of(rank), number)

    def process_of(self, rank: int) -> int:
        """The process of one rank on this host."""
        ranks = self.ranks()
        assert rank in ranks, f"rank {rank} does not live; {ranks} do"
        return ranks[rank]

    def steps_lost(self) -> tuple[int, float]:
        """Steps done again, and how many seconds they had taken."""
        lost = self.events(Kind.LOST)
        return sum(e.values["steps"] for e in lost), sum(e.values["seconds"] for e in lost)

    def seconds_to_next_step(self) -> float | None:
        """From the event to the first step after it; None where none followed."""
        if self.event_s is None:
            return None
        steps = [e.time for e in self.events(Kind.FIRST_STEP) if e.time > self.event_s]
        found = self.next_step_s if self.next_step_s is not None else min(steps, default=None)
        return None if found is None else found - self.event_s

    def _ranks(self) -> Iterator[tuple[int, int]]:
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit():
                continue
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
                variables = (folder / "environ").read_bytes().split(b"\0")
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
            place = [word for word in variables if word.startswith(b"SLURM_PROCID=")]
            if b"mri_hpc.cluster.rank" in words and str(self.run.path).encode() in words and place:
                yield int(place[0].split(b"=")[1]), int(folder.name)

    def _job_line(self) -> str:
        fields = self.slurm.job(self.job_id) if self.job_ids else {}
        return " ".join(
            f"{name}={fields[name]}" for name in ("JobState", "Reason", "Restarts") if name in fields
        )


def module(name: str) -> list[str]:
    """The words that run a command of ours."""
    return [sys.executable, "-m", f"mri_hpc.{name}"]


def _run_module(name: str, *words: object) -> None:
    ran = subprocess.run([*module(name), *map(str, words)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
