"""A store to launch on, and the command without a Slurm that happens to be there."""

import os
import signal
import subprocess

import pytest

from mri_hpc.cluster import slurm
from mri_hpc.cluster.jobs import job_of
from mri_hpc.cluster.on_this_machine import process_began
from mri_hpc.rundir.layout import Attempt, RunDir
from mri_hpc.storage.snapshot.catalogue import resolve


@pytest.fixture
def store(tmp_path, make_pictures, preprocess):
    """A small real store, at a path that a careless shell would break."""
    make_pictures(tmp_path / "raw", 80, side=32, patients=40)
    folder = tmp_path / "a \"st'ore"
    # Ids as given: a site key of its own in each test would split the patients by chance.
    status, _, errors = preprocess(tmp_path / "raw", folder, "--size", "32", "--ids", "as-given")
    assert status == 0, errors
    # The store folds its commits for whoever asks first.
    resolve(folder)
    return folder


@pytest.fixture
def launch(tmp_path, monkeypatch, capsys, standin_rank):
    """Runs mri-hpc launch in this process and a folder of its own; returns (status, stdout, stderr)."""
    from mri_hpc.launch import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(slurm, "controller_answers", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")

    def run(*words):
        capsys.readouterr()
        status = main([str(word) for word in words])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    yield run
    for file in tmp_path.glob("**/attempts/*/job.json"):
        job = job_of(RunDir(file.parents[2]), Attempt.parse(file.parent.name).submission)
        if job and job.pid and process_began(job.pid) == job.began:
            os.kill(job.pid, signal.SIGKILL)


@pytest.fixture(autouse=True)
def reap_supervisors():
    """Supervisors outlive a launch; those of a test are its process's children and are waited for here."""
    yield
    subprocess._cleanup()
