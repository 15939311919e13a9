"""An attempt that was cut off writes nothing over what a newer one wrote, whenever it comes back."""

import signal
from pathlib import Path

import pytest

from mri_hpc.rundir.manifests import checkpoint_folders, read_manifest
from mri_hpc.rundir.metrics_log import read_metrics
from tests.harness.results import results_of

SMALL = {"model": "shufflenet_v2_x0_5", "checkpoint_interval_s": 0.0}
CHECKPOINT = "mri_hpc.training.checkpoint"
RANK, PARTS = "mri_hpc.training.rank", "mri_hpc.training.parts"


def checkpoints(run):
    """Step → the attempt that wrote it."""
    return {folder.name: read_manifest(folder).attempt for folder in checkpoint_folders(run)}


def is_frozen(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


@pytest.mark.parametrize(
    ("module", "where", "number"),
    [
        (CHECKPOINT, "_publish", 3),
        (CHECKPOINT, "write_state", 3),
        (CHECKPOINT, "prune", 3),
        (PARTS, "build", 1),
    ],
)
def test_ranks_that_froze_amid_a_save_or_the_start_find_that_a_newer_attempt_has_the_run(
    module, where, number, uninterrupted, new_run, start_ranks, wait_for
):
    run = new_run(**SMALL)
    old = start_ranks(run, ranks=1, breaks={0: [["freeze_at", module, where, number]]})
    wait_for(lambda: is_frozen(old.pids[0]), what=f"{where}, time {number}")
    stop = {0: [["signal_in", "training", "SIGTERM", 1]]}
    assert start_ranks(run, ranks=1, restart=1, breaks=stop).statuses() == [75]
    written = checkpoints(run), read_metrics(run)
    old.signal(0, signal.SIGCONT)
    assert old.statuses() == [75]
    assert (checkpoints(run), read_metrics(run)) == written
    assert "1.1" in written[0].values()
    assert start_ranks(run, ranks=1, restart=2).statuses() == [0]
    assert results_of(run) == uninterrupted(SMALL, ranks=1)
