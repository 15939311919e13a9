"""The four jobs of hpc/slurm/pipeline.sh on a real Slurm: each starts when the one before has succeeded."""

import os
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.settings import load_training

ROOT = Path(__file__).parents[2]
SIDE = 32
OF_LAUNCH = (
    "--epochs", 2, "--decay-epochs", 1, "--batch-size", 4, "--start-images", 2, "--gpus-per-node", 0,
    "--model", "shufflenet_v2_x0_5",
)  # fmt: skip


@pytest.fixture
def project(tmp_path):
    """A folder as a user has it after installing, and images whose folders name the splits."""
    folder = tmp_path / "a project"
    shutil.copytree(ROOT / "hpc", folder / "hpc")
    (folder / ".venv").symlink_to(sys.prefix)
    rng = np.random.default_rng(0)
    for split in ("train", "validation", "test"):
        for label in ("bright", "dark"):
            for patient in range(3):
                below = folder / "data" / "raw" / split / label / f"{split}-{label}-{patient}"
                below.mkdir(parents=True)
                pixels = rng.integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
                Image.fromarray(pixels).save(below / "1.png")
    return folder


@pytest.fixture
def pipeline(slurm, project):
    """Runs the pipeline with few, small epochs; the numbers of its jobs, by stage, and what it printed."""
    path = f"{project / '.venv' / 'bin'}{os.pathsep}{slurm.env['PATH']}"
    home = {**slurm.env, "HOME": str(project), "XDG_CONFIG_HOME": str(project / "config"), "PATH": path}

    def run(*first, expect=0, **variables):
        words = (*first, "--size", SIDE, "--", *OF_LAUNCH)
        ran = slurm.run(
            ["bash", "hpc/slurm/pipeline.sh", *words], cwd=project, timeout=300, check=False,
            env={**home, "MRI_TASKS": "2", **variables},
        )  # fmt: skip
        assert ran.returncode == expect, ran.stdout + ran.stderr
        return dict(re.findall(r"^(\w+) +job (\d+)", ran.stdout, re.MULTILINE)), ran.stdout + ran.stderr

    return run


def leak(project):
    """Put a picture that one patient is trained on into the test split, under another patient."""
    [picture] = (project / "data/raw/train/dark/train-dark-0").iterdir()
    below = project / "data/raw/test/dark/test-dark-9"
    below.mkdir()
    shutil.copy(picture, below / "other.png")


def test_the_pipeline_ends_in_a_submitted_run_and_with_a_leak_in_none(slurm, project, pipeline):
    jobs, _ = pipeline()
    assert list(jobs) == ["preprocess", "compact", "audit", "launch"]
    assert slurm.wait_end(jobs["launch"], timeout_s=240) == "COMPLETED", outputs(project)
    [run] = (project / "runs").iterdir()
    said = (project / f"launch-{jobs['launch']}.out").read_text()
    trained = re.search(rf"runs/{run.name} starts: Slurm job (\d+), 1 rank", said).group(1)
    slurm.run(["scancel", trained])

    leak(project)
    jobs, said = pipeline()
    assert slurm.wait_end(jobs["audit"], timeout_s=240) == "FAILED", outputs(project)
    report = (project / f"audit-{jobs['audit']}.out").read_text()
    assert "the audit did not pass: nothing is launched. Fix what it names" in report
    assert f"audit-{jobs['audit']}.out: where it finds a leak, this says which" in said
    assert slurm.wait_end(jobs["launch"], timeout_s=180) == "CANCELLED"
    assert list((project / "runs").iterdir()) == [run]

    # From this shell, where compute nodes may not submit.
    _, said = pipeline(expect=2, MRI_LAUNCH="here")
    assert "an earlier stage or the audit failed: nothing is launched" in said
    # Then the audit never starts, which sbatch --wait calls a success.
    _, said = pipeline(expect=2, MRI_LAUNCH="here", MRI_SOURCE="nowhere")
    assert "an earlier stage or the audit failed: nothing is launched" in said
    assert list((project / "runs").iterdir()) == [run]


SLOW_ARRAY = """#!/bin/bash
"{python}" "$@" || exit
# Images of this task are stored, and it stays in the queue.
if [[ "$2" == mri_hpc.preprocess ]]; then until [[ -e array-may-end ]]; do sleep 0.2; done; fi
"""


def test_with_follow_training_begins_while_the_array_works_and_its_end_tells_the_run_to_finish(
    slurm, project, pipeline
):
    python = project / "python"
    python.write_text(SLOW_ARRAY.format(python=project / ".venv" / "bin" / "python"))
    python.chmod(0o755)
    jobs, said = pipeline("--follow", MRI_PYTHON=str(python), MRI_LOOK_MIN="0", SQUEUE_STATES="COMPLETED")
    assert list(jobs) == ["preprocess", "follow", "compact", "audit", "launch"]
    assert "starts training, and comes again every 0 minutes" in said

    def has_begun():
        return any((project / "runs").glob("*/events.jsonl"))

    slurm.wait_until(has_begun, what=lambda: outputs(project), timeout_s=180)
    (project / "array-may-end").touch()
    assert slurm.wait_end(jobs["launch"], timeout_s=240) == "COMPLETED", outputs(project)
    [run] = (project / "runs").iterdir()
    said = (project / f"launch-{jobs['launch']}.out").read_text()
    # Whether it has its ranks, or has caught up and left them.
    assert re.search(rf"runs/{run.name} (is already in the hands of Slurm job|resumes at step|starts)", said)
    assert not load_training(RunDir(run)).follow
    looks = "".join(out.read_text() for out in project.glob("follow-*.out"))
    assert f"runs/{run.name} starts: Slurm job" in looks and "rror" not in looks
    assert sorted(project.glob("follow-*.out")) == sorted(project.glob(f"follow-{jobs['preprocess']}-*.out"))
    slurm.wait_until(lambda: "follow-" not in queued(slurm), what=lambda: outputs(project))
    # An array that Slurm has forgotten has gone.
    stage = ["bash", "hpc/slurm/pipeline.sh", "--stage=follow", "99999"]
    gone = slurm.run(stage, cwd=project, env={**slurm.env, "SLURM_SUBMIT_DIR": str(project)})
    assert gone.stdout == ""
    for job in re.findall(r"Slurm job (\d+)", said + looks):
        slurm.run(["scancel", job])


def queued(slurm):
    return slurm.run(["squeue", "--noheader", "--format=%j"]).stdout


def outputs(project):
    """What all stages printed."""
    return "\n".join(f"{out.name}: {out.read_text()}" for out in sorted(project.glob("*.out")))
