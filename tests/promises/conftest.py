"""Real ranks in real processes, on a store made of pictures."""

import contextlib
import itertools
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mri_hpc.preprocess import main as preprocess
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.settings import JobSettings, TrainingSettings, save_settings
from tests.harness.handlers import handlers_kept
from tests.harness.results import results_of
from tests.harness.scenes import SCENES, Stage, small_limits

SIDE = 32


@pytest.fixture(scope="session")
def picture_store(tmp_path_factory) -> Path:
    """A store of 96 images of 48 patients in three classes."""
    # The name of the source decides on the order of the images: the same, whatever tests ran before.
    folder = tmp_path_factory.mktemp("pictures")
    raw, store = folder / "raw", folder / "store"
    random = np.random.default_rng(0)
    for label, patient, part in itertools.product(range(3), range(16), range(2)):
        folder = raw / f"class{label}" / f"p{label}{patient:02d}"
        folder.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 90, (SIDE, SIDE))
        pixels[4 : 12 + 4 * label, 6:20] += 60
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{part}.png")
    arguments = ["--source", str(raw), "--store", str(store), "--size", str(SIDE), "--ids", "as-given"]
    with handlers_kept():
        assert preprocess(arguments) == 0
    return store


@dataclass
class World:
    """The ranks of one attempt, running."""

    pids: list[int]
    logs: list[Path]
    nursery: subprocess.Popen

    def statuses(self) -> list[int]:
        """Wait for all; their exit statuses by rank."""
        return [self._ask({"wait": pid})["status"] for pid in self.pids]

    def signal(self, rank, number) -> None:
        os.kill(self.pids[rank], number)

    def is_suspended(self, rank) -> bool:
        """Whether a rank stands still, as after SIGSTOP."""
        return self._states(rank) == {"T"}

    def is_waiting(self, rank) -> bool:
        """Whether no thread of a rank has anything to do, for a tenth of a second."""
        for _look in range(5):
            if self._states(rank) != {"S"}:
                return False
            time.sleep(0.02)
        return True

    def _states(self, rank) -> set[str]:
        states = set()
        for thread in Path(f"/proc/{self.pids[rank]}/task").glob("*/stat"):
            # It may end while it is looked at.
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                states.add(thread.read_text().rpartition(")")[2].split()[0])
        return states

    def log(self, rank=0) -> str:
        return self.logs[rank].read_text()

    def _ask(self, request):
        return ask(self.nursery, request)


def ask(nursery, request):
    nursery.stdin.write(json.dumps(request) + "\n")
    nursery.stdin.flush()
    return json.loads(nursery.stdout.readline())


@pytest.fixture(scope="session")
def nursery():
    """The process that rank processes are forked from."""
    script = Path(__file__).with_name("rank_nursery.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    with subprocess.Popen(
        [sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        yield process
        process.stdin.close()


@pytest.fixture
def start_ranks(nursery):
    """Starts ranks of one attempt as processes of their own; breaks: rank → what to break in it."""
    started = itertools.count()

    def start(run, *, ranks, restart=0, breaks=None, break_all=(), only=None) -> World:
        run.attempts.mkdir(exist_ok=True)
        number = next(started)
        chosen = range(ranks) if only is None else only
        logs = [run.attempts / f"start{number}-rank{rank}.log" for rank in chosen]
        pids = []
        for rank, log in zip(chosen, logs, strict=True):
            place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks}
            request = {
                "argv": ["--run", str(run.path), "--submission", "1"],
                "environment": {
                    **{name: str(value) for name, value in place.items()},
                    "TORCHELASTIC_RESTART_COUNT": str(restart),
                },
                "log": str(log),
                "break": [*break_all, *(breaks or {}).get(rank, ())],
            }
            pids.append(ask(nursery, request)["pid"])
        return World(pids=pids, logs=logs, nursery=nursery)

    return start


@pytest.fixture
def new_run(tmp_path, picture_store):
    """Makes the folder of a run that has not started."""

    def make(name="run", **settings) -> RunDir:
        run = RunDir(tmp_path / name)
        run.path.mkdir()
        usual = {"batch_size": 18, "epochs": 2, "deterministic": True, "store": str(picture_store)}
        save_settings(run, TrainingSettings(**{**usual, **settings}), JobSettings())
        return run

    return make


@pytest.fixture(scope="session")
def whole_runs():
    """Remembers what uninterrupted runs came to, by their settings and ranks."""
    return {}


@pytest.fixture
def uninterrupted(whole_runs, new_run, start_ranks):
    """Gives what the uninterrupted run of these settings comes to; each is run once."""

    def get(settings, ranks=2):
        key = json.dumps([settings, ranks])
        if key not in whole_runs:
            run = new_run("whole", **settings)
            assert start_ranks(run, ranks=ranks).statuses() == [0] * ranks
            whole_runs[key] = results_of(run)
        return whole_runs[key]

    return get


@pytest.fixture
def limits():
    """A small store comes to what otherwise only large ones come to."""
    with small_limits():
        yield


@pytest.fixture(scope="session")
def stage(tmp_path_factory):
    """Stages by the name of the scene and the number of tasks, each made once."""
    scenes, made = {scene.name: scene for scene in SCENES}, {}

    def get(name, tasks=1):
        if (name, tasks) not in made:
            with small_limits():
                made[name, tasks] = Stage(scenes[name], tasks, tmp_path_factory.mktemp(f"{name}-{tasks}"))
        return made[name, tasks]

    return get
