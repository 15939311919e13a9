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
from tests.harness.array_tasks import Struck, is_done, wait_for_array

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


def test_an_array_whose_tasks_are_killed_requeued_and_cancelled_ends_as_one_clean_task(
    slurm, array, source, tmp_path, preprocess
):
    store = tmp_path / "store"
    job = array()
    struck = Struck(slurm=slurm, job=job, store=store)
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
