"""Stands in for a rank: takes steps, saves, agrees to stop, and fails as RUN/standin.json tells it to,
or STANDIN_PLAN of its environment, which tells all runs alike.

steps, step_s: how long it works. save_every: steps between periodic saves. is_stubborn: no signal stops it.
then: in place of steps once it was restarted, how many more.
fail: ways to die, {"attempt", "rank", "step", "how"} each; "how" is an exit status or the name of a signal.
"""

import argparse
import fcntl
import json
import os
import signal
import sys
import time
from pathlib import Path

from mri_hpc.base.atomic import publish_new_bytes, replace_bytes
from mri_hpc.base.stop_flag import StopFlag, StopRequest
from mri_hpc.cluster.choice import kill_time_of
from mri_hpc.cluster.rank import place_of
from mri_hpc.rundir.layout import Attempt, RunDir
from mri_hpc.rundir.ledger import Kind, record
from mri_hpc.rundir.manifests import MANIFEST, Manifest, newest_manifest
from mri_hpc.rundir.metrics_log import MetricsLog
from mri_hpc.rundir.progress import Progress

STEPS_PER_EPOCH = 10


def save(run, attempt, step, reason="stop"):
    progress = Progress(step=step, epoch=step // STEPS_PER_EPOCH, samples_digest="ab")
    manifest = Manifest(
        progress=progress,
        attempt=str(attempt),
        written_s=time.time(),
        weights_digest="cd",
        files={},
        conditions={},
    )
    folder = run.checkpoints / str(step)
    folder.mkdir(parents=True, exist_ok=True)
    replace_bytes(folder / MANIFEST, manifest.to_json())
    record(run, attempt, Kind.SAVED, step=step, seconds=0.0, bytes=0, reason=reason)


def die_if_told(ways, attempt, rank, step):
    for way in ways:
        told = (way.get("attempt", str(attempt)), way.get("rank", rank), way["step"])
        if told == (str(attempt), rank, step):
            print(f"dying: {way['how']}", flush=True)
            if isinstance(way["how"], str):
                signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.Signals[way["how"]]])
                signal.signal(signal.Signals[way["how"]], signal.SIG_DFL) if way["how"] != "SIGKILL" else None
                os.kill(os.getpid(), signal.Signals[way["how"]])
            sys.exit(way["how"])


def left_s(request):
    """From the signal to the kill, as far as anybody knows."""
    kill_s = kill_time_of(os.environ)(request)
    return kill_s and kill_s - request.received_s


def read_plan(path):
    """The plan; a test that launches a new run can write it only after the launch."""
    while not (path.exists() and path.read_text()):
        time.sleep(0.01)
    return json.loads(path.read_text())


def say_where(note):
    """Write its number into a note and hold that, which nobody closes, for as long as it lives."""
    file = note.open("w")
    fcntl.flock(file, fcntl.LOCK_EX)
    file.write(str(os.getpid()))
    file.flush()
    return file


def has_died(note):
    """Whether nobody holds the note of a rank, as seen from any node."""
    try:
        with note.open() as file:
            # Whoever has not written it yet may not hold it either.
            if file.read():
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return True
    except (FileNotFoundError, BlockingIOError):
        pass
    return False


def all_agree(folder, world_size):
    """Whether every rank agrees, however late it starts; False where one has died instead."""
    while True:
        # Before its word is looked for, which may be its last.
        dead = [rank for rank in range(world_size) if has_died(folder / f"rank{rank}.pid")]
        silent = [rank for rank in range(world_size) if not (folder / f"agreed{rank}").exists()]
        if not silent:
            return True
        if set(dead) & set(silent):
            return False
        time.sleep(0.01)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--run", type=Path)
    parser.add_argument("--submission", type=int)
    options = parser.parse_args()
    run, place, flag = RunDir(options.run), place_of(os.environ), StopFlag().listen()
    attempt = Attempt(submission=options.submission, restart=place.restart)
    told = os.environ.get("STANDIN_PLAN")
    plan = json.loads(told) if told else read_plan(run.path / "standin.json")
    print(f"rank {place.rank} of {place.world_size} pid {os.getpid()}", flush=True)
    _held = say_where(run.attempt_folder(attempt) / f"rank{place.rank}.pid")
    manifest = newest_manifest(run)
    step = manifest.progress.step if manifest else 0
    if "then" in plan and place.restart > 0:
        plan["steps"] = step + plan["then"]
    if place.rank == 0:
        record(
            run, attempt, Kind.STARTED, ranks=place.world_size, host=place.host, resumed_step=step, epoch=0
        )
        metrics = MetricsLog(run, attempt, resumed_step=step, resumed_epoch=step // STEPS_PER_EPOCH)
    agreement = run.attempt_folder(attempt) / "stop"
    while step < plan["steps"]:
        die_if_told(plan.get("fail", []), attempt, place.rank, step)
        if flag.request and not plan.get("is_stubborn"):
            publish_new_bytes(agreement, flag.request.signal_name.encode())
        if agreement.exists():
            (run.attempt_folder(attempt) / f"agreed{place.rank}").touch()
            if not all_agree(run.attempt_folder(attempt), place.world_size):
                print("a peer is gone", flush=True)
                return 1
            if place.rank == 0:
                record(
                    run,
                    attempt,
                    Kind.STOP_AGREED,
                    signal=agreement.read_text(),
                    rank=0,
                    phase="training",
                    step=step,
                    left_s=left_s(flag.request or StopRequest(signal_name="SIGTERM", received_s=time.time())),
                )
                save(run, attempt, step)
            return 75
        time.sleep(plan["step_s"])
        step += 1
        if place.rank == 0 and step % plan.get("save_every", plan["steps"]) == 0:
            save(run, attempt, step, reason="interval")
        if place.rank == 0:
            metrics.step(
                step=step,
                epoch=step // STEPS_PER_EPOCH,
                loss=1 / step,
                lr=0.1,
                images=8,
                seconds=plan["step_s"],
            )
    if place.rank == 0:
        save(run, attempt, step)
        run.mark_done()
    return 0


if __name__ == "__main__":
    sys.exit(main())
