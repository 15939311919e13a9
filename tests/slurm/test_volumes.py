"""The main job on volumes, on a real Slurm: an array that is killed, an epoch, a report, a new day."""

import os
import re
import signal
import sys
from pathlib import Path

import pytest

from mri_hpc.storage.disk.layout import open_store
from mri_hpc.storage.snapshot.catalogue import resolve
from mri_hpc.storage.upkeep.verify import verify
from tests.harness.array_tasks import Struck, is_done, wait_for_array
from tests.harness.volume_study import make_study

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "hpc" / "slurm" / "preprocess_array.sh"
REAL = ROOT.parent / "shared" / "data"
TASKS, SIZE, CHUNK_IMAGES = 8, 64, 5
FOUR_A_NODE = "--cpus-per-task=4"
SLICES = 22
"""Files of a phantom's series."""
OPENED = "opened below the source:"
NOTED_OPENS = f"""
import sys
opened = []
sys.addaudithook(lambda event, given: event == "open" and opened.append(str(given[0])))
from mri_hpc.preprocess import main
status = main(sys.argv[2:])
print("{OPENED}", *(path for path in set(opened) if path.startswith(sys.argv[1] + "/")), file=sys.stderr)
sys.exit(status)
"""
"""Preprocess, and name the files below a folder that were opened."""


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Heads before and after treatment, in NIfTI and DICOM."""
    root = tmp_path_factory.mktemp("volumes") / "raw"
    return make_study(root, nifti=6, dicom=6, real=REAL if REAL.is_dir() else None)


@pytest.fixture
def user(slurm, study, tmp_path):
    """The environment of somebody who works on the study."""
    # A key of its own would now and then leave a split without any of these few patients.
    key = tmp_path / "site.key"
    key.write_text("22" * 32)
    key.chmod(0o600)
    return {
        **slurm.env, "MRI_SOURCE": str(study.root), "MRI_STORE": str(tmp_path / "store"),
        "MRI_PYTHON": sys.executable, "MRI_KEY_FILE": str(key), "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }  # fmt: skip


def test_volumes_from_an_array_that_is_killed_to_a_report_and_a_new_day(slurm, user, study, tmp_path):
    store, run = tmp_path / "store", tmp_path / "run"

    def say(*words):
        return slurm.run([sys.executable, *words], cwd=tmp_path, env=user, timeout=400)

    killed_and_run_again(slurm, user, store, tmp_path, len(study.rows))
    say("-m", "mri_hpc.preprocess", "--source", study.root, "--store", tmp_path / "clean", "--size", SIZE)
    assert resolve(store).content_digest == resolve(tmp_path / "clean").content_digest
    assert verify(open_store(store)).problems == []

    options = ["--model", "shufflenet_v2_x0_5", "--epochs", 1, "--batch-size", 16]
    job = ["--nodes", 2, "--gpus-per-node", 0, "--cpus-per-task", 1, "--patient-label", "slices"]
    said = say("-m", "mri_hpc.launch", "--store", store, "--run", run, *options, *job).stdout
    assert slurm.wait_end(re.search(r"job (\d+)", said).group(1), timeout_s=400) == "COMPLETED", said
    judged = " ".join(say("-m", "mri_hpc.evaluate", run).stdout.split())
    say("-m", "mri_hpc.report", run)
    page = (run / "report.html").read_text(encoding="utf-8")
    for text in ("the figures mean nothing for any others", "patients have slices of several classes"):
        assert text in judged
        assert text in page
    given = (study.root / "dicom" / "0015", study.root / "nifti" / "N0" / "after_T1.nii.gz")
    told = say("-m", "mri_hpc.predict", run, *given).stdout
    assert SLICES < len(re.findall(r"^[0-9a-f]{16} +(?:before|after) ", told, re.MULTILINE)) <= 2 * SLICES

    new = study.add_dicom("D99", 99)
    of_new = {str(path) for folder in (new, new.with_name("0198")) for path in folder.iterdir()}
    assert len(of_new) == 2 * SLICES
    added = say("-c", NOTED_OPENS, study.root, "--source", study.root, "--store", store)
    assert "stored 2, already there" in added.stdout
    assert set(added.stderr.partition(OPENED)[2].split()) - {str(study.table)} == of_new


def killed_and_run_again(slurm, user, store, folder, num_sources):
    """Shard by an array of which one task is killed, one requeued, one cancelled, and a node falls dark."""

    def submit(tasks):
        words = ["sbatch", "--parsable", f"--array={tasks}", FOUR_A_NODE, SCRIPT, "--size", SIZE]
        return slurm.run([*words, "--chunk-images", CHUNK_IMAGES], cwd=folder, env=user).stdout.strip()

    def said(job, task):
        return (folder / f"preprocess-{job}_{task}.out").read_text()

    job = submit(f"0-{TASKS - 1}")
    struck = Struck(slurm=slurm, job=job, store=store)
    killed = struck.strike(lambda _task, process: not os.kill(process, signal.SIGKILL))
    requeued = struck.strike(held(lambda task: is_done(slurm, "scontrol", "requeue", task)))
    cancelled = struck.strike(held(lambda task: is_done(slurm, "scancel", task)))
    dark = struck.strike(held(lambda task: lose_power(slurm, task)))
    wait_for_array(slurm, job)
    ends = {task: slurm.accounted_states(f"{job}_{task}") for task in range(TASKS)}
    assert ends[dark][-2:] == ["NODE_FAIL", "COMPLETED"]
    assert (ends[requeued][-1], ends[killed][-1], ends[cancelled][-1]) == ("COMPLETED", "FAILED", "CANCELLED")
    assert verify(open_store(store)).problems == []
    first = resolve(store)

    rest = submit("0")
    wait_for_array(slurm, rest)
    stored, there = map(int, re.search(r"stored (\d+), already there (\d+)", said(rest, 0)).groups())
    assert (stored + there, there) == (num_sources, len(set(first.source_hash.tolist())))
    for name, node in slurm.status()["nodes"].items():
        if not node["on"]:
            slurm.sandbox("start-node", name)
    slurm.wait_until(lambda: slurm.status()["healthy"], what="all nodes back in Slurm")


def held(hit):
    """Let a task's process stand still when it is hit: none ends of itself meanwhile."""

    def hit_held(task, process):
        os.kill(process, signal.SIGSTOP)
        return hit(task)

    return hit_held


def lose_power(slurm, task):
    """Take the power from the node of a task, and tell Slurm, which need not find out by itself."""
    node = slurm.run(["squeue", "--noheader", "--jobs", task, "--format=%N"], check=False).stdout.strip()
    slurm.sandbox("kill-node", node)
    return is_done(slurm, "scontrol", "update", f"nodename={node}", "state=down", "reason=dark")
