"""hpc/slurm/preprocess_array.sh on a real Slurm: tasks requeued, killed and cancelled lose nothing."""

import os
import re
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mri_hpc.storage.disk.layout import open_store
from mri_hpc.storage.snapshot.catalogue import resolve
from mri_hpc.storage.upkeep.verify import verify

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "hpc" / "slurm" / "preprocess_array.sh"
TASKS, PICTURES, SIDE = 8, 1600, 256
SIZE, CHUNK_IMAGES = 32, 10


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Enough pictures that every task is at work for seconds: of a few seeds, each with bytes of its own."""
    folder = tmp_path_factory.mktemp("array") / "raw"
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
    for number in range(PICTURES):
        path = folder / f"class{number % 2}" / f"p{number % 40}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.roll(noise, number)).save(path, compress_level=0)
    return folder


@pytest.fixture
def array(slurm, source, tmp_path):
    """Submits the array once more, as a user does; its number."""
    environment = {
        **slurm.env,
        "MRI_SOURCE": str(source),
        "MRI_STORE": str(tmp_path / "store"),
        "MRI_PYTHON": sys.executable,
        "MRI_KEY_FILE": str(tmp_path / "site.key"),
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }

    def submit():
        words = ["sbatch", "--parsable", f"--array=0-{TASKS - 1}", "--mem=200M", SCRIPT, "--size", SIZE]
        said = slurm.run([*words, "--chunk-images", CHUNK_IMAGES], cwd=tmp_path, env=environment)
        return said.stdout.strip()

    return submit


def process_of(job, task):
    """The process that does the work of an array task, on whichever node; 0: none."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            values = dict(
                item.split(b"=", 1) for item in (folder / "environ").read_bytes().split(b"\0") if b"=" in item
            )
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        place = (values.get(b"SLURM_ARRAY_JOB_ID"), values.get(b"SLURM_ARRAY_TASK_ID"))
        if b"mri_hpc.preprocess" in words and place == (job.encode(), str(task).encode()):
            return int(folder.name)
    return 0


class Struck:
    """Hits tasks of an array: each once, while it is under way and after the store has grown."""

    def __init__(self, slurm, job, store):
        self.slurm, self.job, self.commits = slurm, job, store / "commits"
        self.tasks = []

    def strike(self, hit):
        """Hit one more task, by its number and its process; returns the number."""
        before = self._num_commits()

        def is_struck():
            if self._num_commits() <= before:
                return False
            for task in set(range(TASKS)) - set(self.tasks):
                process = process_of(self.job, task)
                if process and hit(f"{self.job}_{task}", process):
                    self.tasks.append(task)
                    return True
            return False

        self.slurm.wait_until(is_struck, what="a task that is under way", timeout_s=120)
        return self.tasks[-1]

    def _num_commits(self):
        return len(list(self.commits.glob("*.json"))) if self.commits.exists() else 0


def test_an_array_whose_tasks_are_killed_requeued_and_cancelled_ends_as_one_clean_task(
    slurm, array, source, tmp_path, preprocess
):
    store = tmp_path / "store"
    job = array()
    struck = Struck(slurm, job, store)
    killed = struck.strike(lambda _task, process: not os.kill(process, signal.SIGKILL))
    requeued = struck.strike(lambda task, _process: is_done(slurm, "scontrol", "requeue", task))
    cancelled = struck.strike(lambda task, _process: is_done(slurm, "scancel", task))
    wait_for_array(slurm, job)

    def said(job, task):
        return (tmp_path / f"preprocess-{job}_{task}.out").read_text()

    assert "stored " not in said(job, killed)
    assert "stopped by SIGTERM" in said(job, cancelled)
    begun, again = said(job, requeued).split("run it again")
    assert "stopped by SIGTERM" in begun
    assert re.search(r"stored \d+, already there \d+", again.partition("\n")[2].partition("\n")[2])
    first = resolve(store)
    assert 0 < len(first) < PICTURES
    assert verify(open_store(store)).problems == []

    second = array()
    wait_for_array(slurm, second)
    counts = [re.search(r"stored (\d+), already there (\d+)", said(second, task)) for task in range(TASKS)]
    stored, there = (sum(int(found[group]) for found in counts) for group in (1, 2))
    assert (stored, there) == (PICTURES - len(first), len(first))
    assert preprocess(source, tmp_path / "clean", "--size", SIZE)[0] == 0
    assert resolve(store).content_digest == resolve(tmp_path / "clean").content_digest
    assert len(resolve(store)) == PICTURES
    assert verify(open_store(store)).problems == []


def is_done(slurm, *words):
    """Whether Slurm has done as it was told: not where the task has just ended."""
    return slurm.run(words, check=False).returncode == 0


def wait_for_array(slurm, job):
    """Return once no task of the array waits or runs."""
    queued = ["squeue", "--noheader", "--jobs", job]
    slurm.wait_until(
        lambda: not slurm.run(queued, check=False).stdout.strip(), what=f"the end of {job}", timeout_s=240
    )
