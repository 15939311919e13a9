"""The three commands of the README's first lines, typed without any option, on a real Slurm."""

import os
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
SIDE = 64
PATIENTS_A_CLASS = 5
SLICES_A_PATIENT = 1
# With the key below these validate. They look like the other class: the loss of validation stops falling, and
# the default recipe ends the training some epochs sooner.
VALIDATING = ("b4", "d3")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder as a user has it after installing: scripts, environment, and images in data/raw."""
    folder = tmp_path / "a project"
    shutil.copytree(ROOT / "hpc", folder / "hpc")
    (folder / ".venv").symlink_to(sys.prefix)
    # A key of its own would now and then leave a split without any of these few patients.
    key = folder / "config" / "mri_hpc" / "site.key"
    key.parent.mkdir(parents=True)
    key.write_text("22" * 32)
    key.chmod(0o600)
    rng = np.random.default_rng(0)
    for label in ("bright", "dark"):
        for patient in range(PATIENTS_A_CLASS):
            below = folder / "data" / "raw" / label / f"{label[0]}{patient}"
            below.mkdir(parents=True)
            is_bright = (label == "bright") != (below.name in VALIDATING)
            for number in range(SLICES_A_PATIENT):
                pixels = rng.normal(180 if is_bright else 60, 20, (SIDE, SIDE)).clip(0, 255)
                pixels[: SIDE // 2] *= 0.3 if is_bright else 1.0
                Image.fromarray(pixels.astype(np.uint8)).save(below / f"{number}.png")
    return folder


def test_from_images_to_a_report_with_no_options_at_all(slurm, project):
    home = {**slurm.env, "HOME": str(project), "XDG_CONFIG_HOME": str(project / "config")}

    def in_project(*words: str, timeout: int = 300) -> str:
        python_first = {**home, "PATH": f"{project / '.venv' / 'bin'}{os.pathsep}{home['PATH']}"}
        return slurm.run(words, cwd=project, env=python_first, timeout=timeout).stdout

    in_project("sbatch", "--wait", "hpc/slurm/preprocess_array.sh")
    num_images = 2 * PATIENTS_A_CLASS * SLICES_A_PATIENT
    stored = [re.search(r"stored (\d+)", out.read_text()) for out in project.glob("preprocess-*.out")]
    assert sum(int(found.group(1)) for found in stored) == num_images

    started = in_project("python", "-m", "mri_hpc.launch", "--nodes", "2")
    (run,) = (project / "runs").iterdir()
    assert f"runs/{run.name}" in started
    job_id = re.search(r"job (\d+)", started).group(1)
    assert slurm.wait_end(job_id, timeout_s=400) == "COMPLETED"
    assert (run / "DONE").exists()

    again = in_project("python", "-m", "mri_hpc.launch", "--nodes", "2")
    assert "finished" in again
    assert len(list((run / "attempts").iterdir())) == 1

    in_project("python", "-m", "mri_hpc.report", f"runs/{run.name}")
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "Research use only" in page
    assert "bright" in page
