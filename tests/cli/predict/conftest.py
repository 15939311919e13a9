"""A run that was really trained, which all tests of predict share."""

import os
import shutil
import subprocess
import sys

import pytest

from mri_hpc import preprocess
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.settings import JobSettings, TrainingSettings, save_settings
from tests.cli.predict.drawn import CLASSES, KEY, draw, store_aside
from tests.harness.handlers import handlers_kept


@pytest.fixture(scope="package")
def trained(tmp_path_factory):
    """A run that was really trained, for one epoch, and the folder of its images; its store is gone."""
    root = tmp_path_factory.mktemp("trained")
    for number in range(60):
        label = number % 2
        draw(root / "raw" / CLASSES[label] / f"P{number // 2:02d}" / f"{number}.png", number, label)
    run, store = RunDir(root / "a 'run'"), root / "store"
    with pytest.MonkeyPatch.context() as patch, handlers_kept():
        # A key of its own would now and then leave a split without any of these few patients.
        (root / "key").write_text(KEY.hex())
        (root / "key").chmod(0o600)
        patch.setenv("MRI_KEY_FILE", str(root / "key"))
        options = ["--source", root / "raw", "--store", store, "--size", 32]
        assert preprocess.main([str(option) for option in options]) == 0
    run.path.mkdir()
    shutil.copy(store / "recipe.json", run.recipe)
    settings = TrainingSettings(
        model="squeezenet1_1",
        store=str(store),
        epochs=1,
        batch_size=16,
        augment=False,
        lr=1e-4,
        normalise="imagenet",
    )
    save_settings(run, settings, JobSettings())
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "MRI_"))}
    command = [sys.executable, "-m", "mri_hpc.train", "--run", str(run.path)]
    ran = subprocess.run(command, env={**environment, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    store.rename(store_aside(root))
    return run, root / "raw"
