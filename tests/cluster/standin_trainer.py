"""Stands in for training in a drill: takes steps until it is told to stop or its epochs are over."""

import argparse
import os
import sys
import time
from pathlib import Path

from mri_hpc.base.atomic import publish_new_bytes, replace_bytes
from mri_hpc.base.stop_flag import StopFlag
from mri_hpc.cluster.rank import place_of
from mri_hpc.rundir.layout import Attempt, RunDir
from mri_hpc.rundir.ledger import Kind, record
from mri_hpc.rundir.manifests import MANIFEST, Manifest, newest_manifest
from mri_hpc.rundir.metrics_log import MetricsLog
from mri_hpc.rundir.progress import Progress
from mri_hpc.rundir.provenance import write_provenance
from mri_hpc.rundir.settings import load_training

STEPS_AN_EPOCH, STEP_S = 3, 0.1


def save(run, attempt, step):
    manifest = Manifest(
        progress=Progress(step=step, epoch=step // STEPS_AN_EPOCH),
        attempt=str(attempt), written_s=time.time(), weights_digest="cd", files={}, conditions={},
    )  # fmt: skip
    folder = run.checkpoints / str(step)
    folder.mkdir(parents=True, exist_ok=True)
    replace_bytes(folder / MANIFEST, manifest.to_json())


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--run", type=Path)
    parser.add_argument("--submission", type=int)
    options = parser.parse_args()
    flag = StopFlag().listen()
    flag.hear()
    run, place = RunDir(options.run), place_of(os.environ)
    attempt = Attempt(submission=options.submission, restart=place.restart)
    manifest = newest_manifest(run)
    step, agreement = manifest.progress.step if manifest else 0, run.attempt_folder(attempt) / "stop"
    resumed, is_first = step, place.rank == 0
    if is_first:
        record(run, attempt, Kind.STARTED, ranks=place.world_size, resumed_step=step, epoch=0, device="none")
        metrics = MetricsLog(run, attempt, resumed_step=step, resumed_epoch=step // STEPS_AN_EPOCH)
    while is_first and step < load_training(run).epochs * STEPS_AN_EPOCH:
        if flag.request:
            record(run, attempt, Kind.STOP_AGREED, signal=flag.request.signal_name, rank=0, step=step)
            save(run, attempt, step)
            publish_new_bytes(agreement, b"")
            return 75
        time.sleep(STEP_S)
        step += 1
        metrics.step(step=step, epoch=0, loss=1 / step, lr=0.1, images=8, seconds=STEP_S)
        if step == resumed + 1:
            record(run, attempt, Kind.FIRST_STEP, seconds=STEP_S)
    if is_first:
        write_provenance(run, {"weights_digest": "ab"})
        run.mark_done()
    while not run.is_finished:
        # Other ranks wait for the word of the first.
        if agreement.exists():
            return 75
        time.sleep(STEP_S)
    return 0


if __name__ == "__main__":
    sys.exit(main())
