"""A drill on a real Slurm comes through, names nodes that cannot carry a run, and is looked for by launch."""

import contextlib
import json
import sys

import pytest

from mri_hpc.cluster.drill.verdict import FILE
from mri_hpc.doctor import main

SHAPE = ("--gpus-per-node", "0", "--cpus-per-task", "1", "--drill", "--yes", "--json")


@pytest.fixture
def speaking(slurm, monkeypatch):
    """This process speaks to the sandbox, with one thread a rank."""
    for name in ("SLURM_CONF", "MRI_SANDBOX_DIR"):
        monkeypatch.setenv(name, slurm.env[name])
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return slurm


@contextlib.contextmanager
def hidden(slurm, node, path):
    """A folder, or a program, that one node does not see: in its own mounts."""
    over = ["-t", "tmpfs", "none", path] if path.is_dir() else ["--bind", "/dev/null", path]
    slurm.sandbox("exec", node, "mount", *over)
    try:
        yield
    finally:
        slurm.sandbox("exec", node, "umount", path)


def test_a_drill_is_interrupted_comes_back_and_ends_as_its_twin(speaking, tmp_path, capsys, monkeypatch):
    # As on sites that export nothing from the shell.
    monkeypatch.setenv("SBATCH_EXPORT", "NONE")
    assert main([str(tmp_path), "--nodes", "2", *SHAPE]) == 0
    verdict = json.loads(capsys.readouterr().out)
    says = [one["says"] for one in verdict["findings"]]
    assert says[0].startswith("every node sees runs, store and python, and can start ranks: n")
    assert "2 rank(s) have met and taken a step on cpu" in says
    assert "a signal of Slurm's reached the ranks, and they stopped together" in says
    assert "requeued, the run has resumed where it was stopped" in says
    assert says[-1].startswith(
        "resumed, it ended with the weights of a twin that nothing interrupted, to the bit"
    )
    # The sandbox holds a requeued job for six seconds; clusters for two minutes.
    assert 5 < verdict["preemption"]["held_s"] < 60
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
    assert [one["says"] for one in verdict["findings"]] == [
        f"n2: it does not see {runs}, where the runs are", f"n3: it has no {python}, the python of the job",
    ]  # fmt: skip
