"""The run of a drill is one that training takes, from its store to its last file."""

import dataclasses
import os
import subprocess
import sys

from mri_hpc.cluster.drill.folder import DrillFolder
from mri_hpc.cluster.drill.trial import prepare
from mri_hpc.cluster.scheduler import Sizes
from mri_hpc.rundir.metrics_log import read_metrics
from mri_hpc.rundir.provenance import read_provenance
from mri_hpc.rundir.settings import JobSettings, save_settings


def test_the_run_of_a_drill_is_trained_to_its_end(tmp_path):
    drill = DrillFolder.beside(tmp_path)
    plan = prepare(drill, JobSettings(), Sizes(nodes=1, ranks_per_node=1, gpus_per_node=0))
    plan.run.path.mkdir()
    plan.run.recipe.write_bytes((drill.store / "recipe.json").read_bytes())
    # A busy machine is not a hang.
    training = dataclasses.replace(plan.training, epochs=1, hang_timeout_s=3600.0)
    save_settings(plan.run, training, plan.job)
    ran = subprocess.run(
        [sys.executable, "-m", "mri_hpc.train", "--run", plan.run.path],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert plan.run.is_finished
    assert read_provenance(plan.run)["weights_digest"]
    assert all(line["loss"] > 0 for line in read_metrics(plan.run) if "loss" in line)
