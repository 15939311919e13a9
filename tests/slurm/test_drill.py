"""On a real Slurm a drill comes through, names nodes that cannot carry a run, and is looked for by launch.

What trains is a stand-in, and torch is none: how long importing takes is not what is tried here. Real ones
are played by tests/harness/planted_faults, and tests/cluster/drill/test_trial.py trains the run of a drill.
"""

import contextlib
import json
import os
import sys
from pathlib import Path

import pytest

from mri_hpc.cluster.drill import drilling
from mri_hpc.cluster.drill.verdict import FILE
from mri_hpc.doctor import main

SHAPE = ("--gpus-per-node", "0", "--cpus-per-task", "1", "--drill", "--yes", "--json")
NO_TORCH = """
class cuda:
    device_count = staticmethod(lambda: 0)

class version:
    cuda = None
"""


@pytest.fixture
def speaking(slurm, tmp_path, monkeypatch):
    """This process speaks to the sandbox; in its jobs stand-ins train."""
    for name in ("SLURM_CONF", "MRI_SANDBOX_DIR"):
        monkeypatch.setenv(name, slurm.env[name])
    stubs = tmp_path / "stubs"
    stubs.mkdir()
    (stubs / "torch.py").write_text(NO_TORCH)
    (stubs / "torchvision.py").touch()
    standins = Path(__file__).parents[1] / "cluster"
    monkeypatch.setenv("PYTHONPATH", f"{stubs}{os.pathsep}{standins}")
    monkeypatch.setattr(drilling, "RANK", "standin_drill")
    return slurm


@contextlib.contextmanager
def hidden(slurm, node, path):
    """A folder, or a program, that one node does not see: in its own mounts."""
    over = ["-t", "tmpfs", "none", path] if path.is_dir() else ["--bind", "/dev/null", path]
    slurm.sandbox("exec", node, "mount", *over)
    try:
        yield
    finally:
        slurm.sandbox("exec", node, "umount", "--lazy", path)


def test_a_drill_is_interrupted_comes_back_and_ends_as_its_twin(speaking, tmp_path, capsys, monkeypatch):
    # As on sites that export nothing from the shell; but the stand-ins' folder is named by this.
    monkeypatch.setenv("SBATCH_EXPORT", "PYTHONPATH")
    assert main([str(tmp_path), "--nodes", "2", *SHAPE]) == 0
    verdict = json.loads(capsys.readouterr().out)
    says = [one["says"] for one in verdict["findings"] if one["level"] == "fine"]
    assert says[0].startswith("every node sees runs, store and python, and can start ranks: n")
    assert says[1:4] == [
        "2 rank(s) have met and taken a step on none",
        "a signal of Slurm's reached the ranks, and they stopped together",
        "requeued, the run has resumed where it was stopped",
    ]
    assert says[4].startswith(
        "resumed, it ended with the weights of a twin that nothing interrupted, to the bit"
    )
    # The sandbox holds a requeued job for six seconds; clusters for two minutes.
    assert verdict["preemption"]["held_s"] > 5
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [FILE]


def test_a_drill_names_each_node_that_cannot_carry_a_run_before_any_rank_starts(
    speaking, tmp_path, capsys, monkeypatch
):
    runs, python = tmp_path / "runs", tmp_path / "it's python"
    runs.mkdir()
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    monkeypatch.setenv("MRI_PYTHON", str(python))
    with hidden(speaking, "n2", runs), hidden(speaking, "n3", python):
        assert main([str(tmp_path), "--nodes", "3", "--slurm", "nodelist=n[1-3]", *SHAPE]) == 2
    verdict = json.loads(capsys.readouterr().out)
    assert verdict["bad_nodes"] == ["n2", "n3"]
    assert [one["says"] for one in verdict["findings"] if one["level"] == "problem"] == [
        f"n2: it does not see {runs}, where the runs are", f"n3: it has no {python}, the python of the job",
    ]  # fmt: skip
