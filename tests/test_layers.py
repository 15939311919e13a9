"""Imports go down the layers, each outside thing has one door, and light commands start light."""

import subprocess
import sys
from pathlib import Path

import pytest

from mri_hpc.__main__ import COMMANDS

ROOT = Path(__file__).parents[1]
SLOW = {
    "numpy", "torch", "rich", "PIL", "cv2", "simplejpeg", "h5py", "imagecodecs", "tifffile", "nibabel",
    "isal", "pydicom", "sklearn", "matplotlib", "submitit",
}  # fmt: skip
"""Libraries that take long to load."""


def test_imports_go_down_the_layers_and_each_outside_thing_has_one_door():
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_code_is_formatted_linted_and_typed():
    for check in (["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"]):
        ran = subprocess.run([sys.executable, "-m", *check], cwd=ROOT, capture_output=True, text=True)
        assert ran.returncode == 0, f"{' '.join(check)}\n{ran.stdout}{ran.stderr}"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example_without_importing_what_takes_long(command):
    # Help of store lists its actions, and so imports all of them.
    code = (
        "import contextlib, sys; from mri_hpc.__main__ import main; sys.argv[1:] = [sys.argv[1], '--help']\n"
        "with contextlib.suppress(SystemExit): main()\n"
        "print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", code, command], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert "Example:" in ran.stdout
    assert SLOW & set(ran.stderr.split()) == set()


def test_what_decides_on_the_end_of_a_job_imports_nothing_that_takes_long():
    code = "import sys, mri_hpc.cluster.batch; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"numpy", "rich", "torch", "submitit", "msgspec", "argparse"} & set(ran.stdout.split()) == set()


def test_only_one_module_reads_the_environment_of_slurm():
    readers = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "mri_hpc").rglob("*.py")
        if '"SLURM_' in path.read_text(encoding="utf-8")
    ]
    assert readers == ["mri_hpc/cluster/slurm.py"]
