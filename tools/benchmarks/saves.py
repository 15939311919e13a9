"""How long a save holds training, beside that of another checkout, in turns.

    git archive COMMIT | tar x -C BEFORE
    python tools/benchmarks/saves.py FOLDER --before BEFORE [--threads 2]

Two processes, of this checkout and the other, hold the same network, with AdamW, in memory. In turns each
does steps on made-up images, saves once by its journal as at an interval, goes on until that checkpoint is
durable, and does a few steps more. A stall is what the loop waited, plus what the steps from then on took
beyond the median of the steps before. Steps are real ones (forward, backward, optimizer) of few small images.
FOLDER lies on the disk that checkpoints go to.

Also said: seconds until the checkpoint is durable, and the memory that a save took beyond what steps take.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
NETWORKS = {"resnet18": (96, 32), "vit_l_16": (64, 8)}
"""Name → side of the images, and images a step."""
TURNS = 3
BEFORE, AFTER = 6, 3
"""Steps before a save, and after it is durable."""

WORKER = """
import json, sys, time
from contextlib import suppress
from pathlib import Path
import numpy as np, torch
from mri_hpc.base.memory import forget_peak, held_bytes
from mri_hpc.base.stop_flag import StopFlag
from mri_hpc.loading.batches import Batch
from mri_hpc.loading.micro_batches import deal
from mri_hpc.rundir.allotment import Allotment
from mri_hpc.rundir.layout import Attempt, RunDir
from mri_hpc.rundir.place import Place
from mri_hpc.rundir.progress import Progress
from mri_hpc.rundir.settings import TrainingSettings
from mri_hpc.training import saver as savers
from mri_hpc.training.agreed_stop import AgreedStop
from mri_hpc.training.journal import Journal, StepsUnderWay
from mri_hpc.training.learner import Learner
from mri_hpc.training.model import build
from mri_hpc.training.ranks import Ranks
from mri_hpc.training.start_times import StartTimes
from mri_hpc.training.use_meter import UseMeter
Kind = savers.WaitingSaver
with suppress(ImportError):
    from mri_hpc.training.background_saver import BackgroundSaver as Kind

folder, name, side, images, threads, before, after = sys.argv[1:]
side, images, before, after = int(side), int(images), int(before), int(after)
torch.set_num_threads(int(threads))
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
alone = Ranks(place=Place(), device=device, backend="none", num_hosts=1)
settings = TrainingSettings(model=name, checkpoint_interval_s=0.0, checkpoint_keep=2, batch_size=images)
learner = Learner(
    build(settings, 4, (side, side)), settings, alone,
    weights_of_classes=np.ones(4, np.float32), steps_per_epoch=1000,
)
run, attempt = RunDir(Path(folder)), Attempt(submission=1, restart=0)
run.path.mkdir(); run.claim_attempt(attempt)
saver = Kind(run, attempt, keep=2)
journal = Journal(
    run, attempt, settings, learner, saver, resumed=Progress(), conditions={}, times=StartTimes(),
    stop=AgreedStop(StopFlag(), alone), meter=UseMeter(alone, Allotment()),
)
keys = np.arange(images, dtype=np.uint64)
batch = Batch(
    images=torch.randint(0, 255, (images, side, side), dtype=torch.uint8, device=device),
    labels=torch.randint(0, 4, (images,), device=device),
    keys=keys, step_keys=keys, micro_batches=tuple(deal(images, world_size=1)),
)
steps, progress = StepsUnderWay(is_late=device.type == "cuda"), Progress()

def step():
    global progress
    began = time.monotonic()
    loss = learner.train_step(batch, progress)
    progress = progress.after_step(keys)
    journal.steps(steps.add(progress, loss, images))
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.monotonic() - began

def is_under_way():
    return getattr(saver, "under_way", None) is not None and saver.ended() is None

for _ in range(4):
    step()
print("ready", flush=True)
for _line in sys.stdin:
    usual = [step() for _ in range(before)]
    forget_peak()
    held = held_bytes()
    began = time.monotonic()
    journal.save_if_due(progress, steps)
    waited = time.monotonic() - began
    beside = []
    while is_under_way():
        beside.append(step())
    durable = time.monotonic() - began
    saved = run.checkpoints / str(progress.step - len(beside))
    beside += [step() for _ in range(after)]
    print(json.dumps({
        "usual": usual, "waited": waited, "beside": beside, "durable": durable,
        "memory": held_bytes() - held,
        "state": sum(file.stat().st_size for file in saved.iterdir()),
    }), flush=True)
journal.close()
"""


def main() -> int:
    """Measure and print a Markdown table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--before", type=Path, help="another checkout, measured in turns with this one")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of torch (all cores)")
    parser.add_argument("--turns", type=int, default=TURNS)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS))
    options = parser.parse_args()
    checkouts = {"now": ROOT, **({"before": options.before.absolute()} if options.before else {})}
    print("| network | checkout | stall | of it waited | until durable | memory : state | step | n |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    values = {}
    for name in options.networks:
        folder = Path(tempfile.mkdtemp(prefix="saves-", dir=options.folder))
        try:
            found = measure(name, checkouts, folder, threads=options.threads, turns=options.turns)
        finally:
            shutil.rmtree(folder)
        for checkout, turns in found.items():
            print(f"| {name} | {checkout} | {row(turns)} |")
        values[name] = found
        if "before" in found:
            stalls = [statistics.median(map(stall, found[checkout])) for checkout in ("now", "before")]
            print(f"{name}: {stalls[0] / stalls[1]:.3f} of before")
    print(json.dumps({"threads": options.threads, "load": os.getloadavg(), **values}))
    return 0


def measure(
    name: str, checkouts: dict[str, Path], folder: Path, *, threads: int, turns: int
) -> dict[str, list[dict[str, Any]]]:
    """Return what each turn of each checkout came to."""
    side, images = NETWORKS[name]
    words = [str(word) for word in (name, side, images, threads, BEFORE, AFTER)]
    workers = {
        checkout: subprocess.Popen(
            [sys.executable, "-c", WORKER, str(folder / checkout), *words],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=path,
            env={**os.environ, "PYTHONPATH": str(path), "OMP_NUM_THREADS": str(threads)},
        )
        for checkout, path in checkouts.items()
    }  # fmt: skip
    found: dict[str, list[dict[str, Any]]] = {checkout: [] for checkout in checkouts}
    try:
        for worker in workers.values():
            assert worker.stdout and worker.stdout.readline() == "ready\n"
        for _turn in range(turns):
            for checkout, worker in workers.items():
                assert worker.stdin and worker.stdout
                worker.stdin.write("save\n")
                worker.stdin.flush()
                found[checkout].append(json.loads(worker.stdout.readline()))
    finally:
        for worker in workers.values():
            worker.kill()
    return found


def stall(turn: dict[str, Any]) -> float:
    """Return the seconds that a save has cost the training."""
    usual = statistics.median(turn["usual"])
    return float(turn["waited"]) + sum(seconds - usual for seconds in turn["beside"])


def row(turns: list[dict[str, Any]]) -> str:
    """Return the cells of one checkout: medians, and the range of stalls."""
    stalls = [stall(turn) for turn in turns]
    middle = statistics.median
    return " | ".join([
        f"{middle(stalls):.3f} s ({min(stalls):.3f}–{max(stalls):.3f})",
        f"{middle(turn['waited'] for turn in turns):.3f} s",
        f"{middle(turn['durable'] for turn in turns):.2f} s",
        f"{middle(turn['memory'] / turn['state'] for turn in turns[:1]):.2f}",
        f"{middle(seconds for turn in turns for seconds in turn['usual']):.3f} s",
        str(len(turns)),
    ])  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
