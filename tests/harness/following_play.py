"""Images that arrive by a clock, arrays that add them, and a run that follows, on a sandbox."""

import csv
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mri_hpc.rundir.decisions import Cause
from mri_hpc.rundir.following import adoptions_of, as_list
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.ledger import Kind, read_events
from mri_hpc.storage.store import Store
from tests.harness.array_tasks import processes_of, wait_for_array
from tests.harness.cluster import Slurm
from tests.harness.real_run import PATIENCE_S, RealRun, module
from tests.harness.results import events, results_of

ROOT = Path(__file__).parents[2]
# A node holds one rank; a task of the array takes the memory of none.
SANDBOX = ("--nodes", 4, "--cpus-per-node", 2, "--gpus-per-node", 0, "--slurmd-timeout", 60)
PARTS = 10
TASKS = 2
SIDE = 64
HITS = 3
MOST_OF_SEQUENCE = 0.7
SETTINGS = {
    "model": "shufflenet_v2_x0_5", "batch-size": 16, "nodes": 2, "tasks-per-node": 1, "gpus-per-node": 0,
    "cpus-per-task": 1, "time-limit-min": 60, "hang-timeout-s": 300, "patience": 99, "start-classes": 3,
    "checkpoint-interval-s": 5,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """Images that arrive, and when."""

    source: Path
    images: int
    clock_s: float

    def parts(self, chance: random.Random) -> list[list[tuple[Path, str]]]:
        """Cut so many images into parts, a patient's together: file and where it arrives, by part."""
        with (self.source / "index.csv").open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        patients = sorted({row["patient"] for row in rows})
        chance.shuffle(patients)
        # In an order of patients, cut after so many images.
        order = {name: number for number, name in enumerate(patients)}
        rows.sort(key=lambda row: order[row["patient"]])
        rows = rows[: self.images]
        paths = [(Path(row["path"]), row["patient"]) for row in rows]
        found = [(self.source / path, f"{path.parent}/{patient}/{path.name}") for path, patient in paths]
        size = -(-len(found) // PARTS)
        return [found[at : at + size] for at in range(0, len(found), size)]


@dataclass(kw_only=True)
class Play:
    """Arrival, arrays and runs in one folder."""

    folder: Path
    slurm: Slurm
    say: Callable[[str], None]
    chance: random.Random
    arrival: Arrival
    epochs: int
    decay: int
    killed: list[str] = field(default_factory=list)

    def problems(self) -> Iterator[str]:
        """Play all; say what it came to; yield what is not as it should be."""
        parts = self.arrival.parts(self.chance)
        following_s, following = self._follow(parts)
        clean = self._clean_store()
        digest, wanted = (Store(store).resolve().content_digest for store in (following.store, clean))
        self.say(f"content {digest[:16]}, of one clean task {wanted[:16]}; killed {', '.join(self.killed)}")
        if not self.killed or len(events(following.run, Kind.ADOPTED)) < 2:
            yield "nothing was killed, or no newer snapshot was taken up: give a longer --clock-s"
        if digest != wanted:
            yield "the content is not that of one clean task"
        yield from self._replay(following)
        sequence_s = self._sequence(parts)
        ratio = following_s / sequence_s
        self.say(
            f"{following_s:.0f} s with following, {sequence_s:.0f} s one after the other: {ratio:.2f}, "
            f"of which the arrival {self.arrival.clock_s * (len(parts) - 1):.0f} s"
        )
        if ratio > MOST_OF_SEQUENCE:
            yield f"it took {ratio:.2f} of the time of one after the other, more than {MOST_OF_SEQUENCE}"

    def _follow(self, parts: list[list[tuple[Path, str]]]) -> tuple[float, RealRun]:
        """Have all arrive while arrays and a run work, and kill some of both; return the seconds, the run."""
        folder, began = self.folder / "live", time.monotonic()
        run, arrays = self._run("following", folder / "store", "--follow"), list[str]()
        hit_tasks, hit_ranks = (self.chance.sample(range(1, len(parts) - 1), HITS) for _ in range(2))
        for number, part in enumerate(parts):
            _lay(part, folder / "raw")
            arrays.append(self._array(folder))
            to_hit = [self._hit_a_task] * (number in hit_tasks) + [self._hit_a_rank] * (number in hit_ranks)
            until = began + (number + 1) * self.arrival.clock_s
            while number < len(parts) - 1 and time.monotonic() < until:
                to_hit = [hit for hit in to_hit if not hit(arrays[-1], run)]
                if _waits_for_images(run):
                    run.launch(check=False)
                time.sleep(0.2)
        for array in arrays:
            wait_for_array(self.slurm, array)
        # Once more, as a user does who knows that tasks were lost.
        wait_for_array(self.slurm, self._array(folder))
        run.launch("--no-follow")
        run.wait_for(lambda: run.run.is_finished, "the end of the run that follows", PATIENCE_S * 4)
        took_s = time.monotonic() - began
        images = [event["images"] for event in events(run.run, Kind.ADOPTED)]
        self.say(f"followed: {as_list_of(run.run)}, training images {images}, decisions {run.decisions()}")
        return took_s, run

    def _hit_a_task(self, array: str, _run: RealRun) -> bool:
        return self._kill(processes_of(array), f"task of {array}")

    def _hit_a_rank(self, _array: str, run: RealRun) -> bool:
        # Once it has kept something: a run that crashes thrice at one checkpoint gives up.
        kinds = [event.kind for event in run.events(Kind.STARTED, Kind.SAVED)]
        has_saved = bool(kinds) and kinds[-1] == Kind.SAVED
        return self._kill(run.ranks() if has_saved else {}, f"rank at step {run.step()}")

    def _kill(self, processes: dict[int, int], what: str) -> bool:
        """Kill one of some processes, if any lives."""
        if not processes:
            return False
        number = self.chance.choice(sorted(processes))
        try:
            os.kill(processes[number], signal.SIGKILL)
        except ProcessLookupError:
            return False
        self.killed.append(f"{what} ({number})")
        return True

    def _clean_store(self) -> Path:
        """All images, stored by one task in a place of its own."""
        folder = self.folder / "clean"
        shutil.copytree(self.folder / "live" / "raw", folder / "raw")
        _preprocess(folder)
        return folder / "store"

    def _replay(self, following: RealRun) -> Iterator[str]:
        """Train a new run on the list that the ledger holds."""
        told = self._run("told", following.store, "--snapshot", as_list_of(following.run))
        told.launch()
        told.wait_for(lambda: told.run.is_finished, "the end of the run that was told", PATIENCE_S * 4)
        wanted, got = results_of(following.run), results_of(told.run)
        self.say(f"weights {wanted['weights_digest'][:16]}, of the replay {got['weights_digest'][:16]}")
        yield from (f"{name} of the replay differ" for name in wanted if wanted[name] != got[name])
        verified = subprocess.run(
            [*module("verify_run"), following.run.path, "--steps", "20"], capture_output=True, text=True,
            env=following.environment, check=False,
        )  # fmt: skip
        self.say(f"verify-run: {(verified.stdout.splitlines() or [verified.stderr])[-1]}")
        if verified.returncode:
            yield f"verify-run: {verified.stdout}{verified.stderr}"

    def _sequence(self, parts: list[list[tuple[Path, str]]]) -> float:
        """Have all arrive by the same clock, then one array, then a run; return the seconds."""
        folder, began = self.folder / "after", time.monotonic()
        for number, part in enumerate(parts):
            _lay(part, folder / "raw")
            time.sleep(max(0.0, began + number * self.arrival.clock_s - time.monotonic()))
        wait_for_array(self.slurm, self._array(folder))
        run = self._run("run-after", folder / "store")
        run.launch()
        run.wait_for(lambda: run.run.is_finished, "the end of the run after all", PATIENCE_S * 4)
        return time.monotonic() - began

    def _run(self, name: str, store: Path, *options: str) -> RealRun:
        settings = {**SETTINGS, "decay-epochs": self.decay}
        typed = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
        return RealRun(
            run=RunDir(self.folder / name), slurm=self.slurm, store=store, epochs=self.epochs,
            options=[*typed, "--allow-leaks", *options],
        )  # fmt: skip

    def _array(self, folder: Path) -> str:
        variables = {
            "MRI_SOURCE": folder / "raw", "MRI_STORE": folder / "store", "MRI_PYTHON": sys.executable,
        }  # fmt: skip
        return self.slurm.run(
            ["sbatch", "--parsable", f"--array=0-{TASKS - 1}", f"--chdir={self.folder}",
             ROOT / "hpc/slurm/preprocess_array.sh", "--size", SIDE, "--ids", "as-given"],
            env={**self.slurm.env, "OMP_NUM_THREADS": "1", **{k: str(v) for k, v in variables.items()}},
            cwd=ROOT,
        ).stdout.strip()  # fmt: skip


def as_list_of(run: RunDir) -> str:
    """What a run's ledger says that it was trained on, as a setting."""
    return as_list({one.epoch: one.snapshot for one in adoptions_of(read_events(run)).values()})


def _waits_for_images(run: RealRun) -> bool:
    """Whether the run has not begun, for want of images, or has caught up."""
    last = run.events(Kind.SUBMITTED, Kind.DECIDED)[-1:]
    return not last or last[0].values.get("cause") == Cause.CAUGHT_UP


def _lay(part: list[tuple[Path, str]], root: Path) -> None:
    """Let files arrive, each whole."""
    for file, place in part:
        target = root / place
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)


def _preprocess(folder: Path) -> None:
    words = ["--source", folder / "raw", "--store", folder / "store", "--size", SIDE, "--ids", "as-given"]
    ran = subprocess.run(
        [*module("preprocess"), *map(str, words)], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
