"""Memory and time of a login node, and questions to Slurm's controller: launch, status of many runs, doctor.

    python tools/benchmarks/login_node.py [FOLDER] [--before CHECKOUT ...]

Makes a small store, and 200 runs of 24 epochs and 1,920 steps each, half of which wait for Slurm, in FOLDER,
and removes them. Slurm is played by commands that count their calls. Side by side, in turns: launch of a new
run, of this checkout and of others (git archive TAG | tar x -C CHECKOUT), up to the job's number. Then status
of the 200 runs, of this checkout alone: others have no table.

2026-11-30, two cores of an Intel Xeon (virtual), load 22, but with priority over all else (its autogroup at
-15), torch 2.14, n = 5, medians: launch 74 MB, 0.39 s of processor, 0.49 s by the clock. Status of 200 runs:
25 MB, 0.49 and 0.53 s, one squeue. Doctor: 73 MB, 1.24 and 2.61 s, sinfo, twice scontrol; at a load of 2.5,
without priority, 0.78 and 1.25 s. Calls of a launch: sinfo, sbatch. Under a load of 17, n = 3: launch 73 MB;
before what trains was left out 688 MB, 0.1.0 690 MB: 0.11 of their memory.
"""

import argparse
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mri_hpc.cluster.jobs import publish_job, slurm_job
from mri_hpc.rundir.layout import Attempt, RunDir
from mri_hpc.rundir.ledger import Kind, record
from mri_hpc.rundir.metrics_log import MetricsLog
from mri_hpc.rundir.settings import JobSettings, TrainingSettings, save_settings

ROOT = Path(__file__).parents[2]
RUNS = 200
EPOCHS, STEPS_AN_EPOCH = 24, 80
FIRST_JOB = 1000
ANSWERS = {
    "sinfo": "echo 'gpu*|gpu:2|1-00:00:00|4|1-infinite'",
    "sbatch": "echo Submitted batch job 7",
    "squeue": f"seq {FIRST_JOB} {FIRST_JOB + RUNS} | sed 's/$/|PENDING|Priority|Unknown/'",
    "scontrol": "echo 'Slurmctld(primary) at head is UP'",
    "sacct": "true", "scancel": "true", "srun": "true",
}  # fmt: skip
MEASURED = (
    "import pathlib, re, runpy, sys, time\n"
    "sys.argv[0] = sys.argv.pop(1)\n"
    "try:\n    runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)\n"
    "except SystemExit as leaving:\n    status = leaving.code\n"
    "peak = re.search(r'VmHWM:\\s*(\\d+)', pathlib.Path('/proc/self/status').read_text())[1]\n"
    "print('MEASURED', peak, time.process_time(), status, file=sys.stderr)\n"
)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """One command, from the start of Python to its end."""

    peak_mb: float
    processor_s: float
    elapsed_s: float


def main() -> int:
    """Measure and print a Markdown table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, help="where to work (the system's temporary folder)")
    parser.add_argument("--before", nargs="*", default=[], type=Path, help="other checkouts")
    parser.add_argument("--rounds", type=int, default=5, help="of each command (5)")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="login-node-", dir=options.folder))
    try:
        values = measure(folder, [ROOT, *(path.absolute() for path in options.before)], options.rounds)
    finally:
        shutil.rmtree(folder)
    print(table(values))
    print(json.dumps(values))
    return 0


def measure(folder: Path, checkouts: Sequence[Path], rounds: int) -> dict[str, Any]:
    """Measure launch of each checkout in turns, status and doctor of this one, and Slurm's calls."""
    environment, calls = slurm_of(folder)
    store = make_store(folder)
    launches: dict[str, list[Cost]] = {str(checkout): [] for checkout in checkouts}
    for number in range(1 + rounds):
        for checkout in checkouts:
            run = folder / f"launched-{number}-{checkouts.index(checkout)}"
            words = ["mri_hpc.launch", "--store", store, "--run", run, "--epochs", "5"]
            launches[str(checkout)].append(cost(words, checkout, folder, environment))
    called = calls.read_text().split()[:20]
    make_runs(folder / "runs")
    calls.write_text("")
    shown = [cost(["mri_hpc.status", folder / "runs"], ROOT, folder, environment) for _ in range(1 + rounds)]
    asked = calls.read_text().split()
    calls.write_text("")
    looked = [cost(["mri_hpc.doctor", folder], ROOT, folder, environment) for _ in range(1 + rounds)]
    return {
        "date": time.strftime("%Y-%m-%d"), "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "load": round(os.getloadavg()[0], 1), "rounds": rounds,
        # The first ones compile.
        "launch": {name: [one.__dict__ for one in costs[1:]] for name, costs in launches.items()},
        "launch_calls": called, "status": [one.__dict__ for one in shown[1:]],
        "status_calls": asked,
        "doctor": [one.__dict__ for one in looked[1:]], "doctor_calls": calls.read_text().split(),
    }  # fmt: skip


def slurm_of(folder: Path) -> tuple[dict[str, str], Path]:
    """Make Slurm's commands, which count their calls; return an environment, and the file of calls."""
    calls, commands = folder / "calls", folder / "bin"
    commands.mkdir()
    for name, answer in ANSWERS.items():
        # Their own version they tell without asking anybody.
        own = '[ "$1" = --version ] && exit'
        (commands / name).write_text(f"#!/bin/sh\n{own}\necho {name} >> {calls}\n{answer}\n")
        (commands / name).chmod(0o755)
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SBATCH_"))}
    return {**plain, "PATH": f"{commands}:{os.environ['PATH']}"}, calls


def make_store(folder: Path) -> Path:
    """Make a store of two classes."""
    noise = np.random.default_rng(0)
    for name in ("glioma", "meningioma"):
        for patient in range(30):
            picture = folder / "raw" / name / f"{name}{patient}" / "slice.png"
            picture.parent.mkdir(parents=True)
            Image.fromarray(noise.integers(0, 255, (32, 32), dtype=np.uint8)).save(picture)
    words = ["--source", folder / "raw", "--store", folder / "store", "--size", "32", "--ids", "as-given"]
    command = [sys.executable, "-m", "mri_hpc.preprocess", *map(str, words)]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "store"


def make_runs(folder: Path) -> None:
    """Make runs that have trained to their last epoch; every other one waits to be requeued by Slurm."""
    for number in range(RUNS):
        run, attempt = RunDir(folder / f"resnet18-{number:08x}"), Attempt(submission=1, restart=0)
        run.claim_attempt(attempt)
        save_settings(
            run, TrainingSettings(snapshot="ab12", schedule_epochs=30), JobSettings(cluster="slurm")
        )
        publish_job(run, 1, slurm_job(str(FIRST_JOB + number)))
        record(run, attempt, Kind.STARTED, ranks=2, host="n1", job_id=str(FIRST_JOB + number))
        log = MetricsLog(run, attempt, resumed_step=0, resumed_epoch=0)
        for step in range(1, EPOCHS * STEPS_AN_EPOCH + 1):
            epoch = (step - 1) // STEPS_AN_EPOCH
            log.step(step=step, epoch=epoch, loss=1 / step, lr=1e-3, images=64, seconds=0.2)
            if step % STEPS_AN_EPOCH == 0:
                log.validation(step=step, epoch=epoch, loss=1 / step, balanced_accuracy=0.9)
                record(run, attempt, Kind.EPOCH, epoch=epoch, validation_loss=1 / step, training_s=16)
                record(run, attempt, Kind.SAVED, step=step, seconds=0.3, bytes=10**8, reason="epoch")
        log.close()
        values = {"decision": "again", "cause": "preempted", "reason": "preempted: resumes"}
        record(run, attempt, Kind.DECIDED, **values, step=step, status=75)
        if number % 2:
            run.mark_done()


def cost(words: Sequence[object], checkout: Path, folder: Path, environment: Mapping[str, str]) -> Cost:
    """Run one command of a checkout; what it printed of itself is its cost.

    Status 2 is that of a doctor who found something wrong with this machine.
    """
    began = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-c", MEASURED, *map(str, words)],
        env={**environment, "PYTHONPATH": str(checkout)}, cwd=folder, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    elapsed_s = time.monotonic() - began
    found = re.search(r"^MEASURED (\d+) ([\d.]+) (\w+)$", ended.stderr, re.MULTILINE)
    assert found and found[3] in ("0", "None", "2" if "mri_hpc.doctor" in words else "0"), ended.stderr
    return Cost(peak_mb=int(found[1]) / 1024, processor_s=float(found[2]), elapsed_s=elapsed_s)


def table(values: Mapping[str, Any]) -> str:
    """Lay out medians, and ratios to this checkout's."""
    titles = ("what", "peak memory, MB", "of this checkout's", "processor, s", "clock, s")
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    ours = statistics.median(one["peak_mb"] for one in values["launch"][str(ROOT)])
    rows = {f"launch, {name}": costs for name, costs in values["launch"].items()}
    rows |= {f"status of {RUNS} runs": values["status"], "doctor": values["doctor"]}
    for name, costs in rows.items():
        keys = ("peak_mb", "processor_s", "elapsed_s")
        peak, processor, clock = (statistics.median(one[key] for one in costs) for key in keys)
        lines.append(f"| {name} | {peak:.0f} | {peak / ours:.2f} | {processor:.2f} | {clock:.2f} |")
    status, doctor = (len(values[f"{name}_calls"]) / (1 + values["rounds"]) for name in ("status", "doctor"))
    return "\n".join(
        [*lines, "", f"load {values['load']}; calls of one status: {status:g}, of one doctor: {doctor:g}"]
    )


if __name__ == "__main__":
    sys.exit(main())
