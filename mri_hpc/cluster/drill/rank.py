"""A rank of a drill: trains until Slurm's signal, comes back, ends, and does it all again uninterrupted.

It is a rank of training in all else: started by `mri_hpc.cluster.rank`, and running `mri_hpc.train`.
"""

import argparse
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

from mri_hpc.base.atomic import replace_bytes
from mri_hpc.base.exit_status import AGAIN, DONE
from mri_hpc.cluster import slurm
from mri_hpc.cluster.drill.folder import DrillFolder
from mri_hpc.cluster.drill.terms import BY, LIMIT_MIN
from mri_hpc.cluster.drill.trial import shorten
from mri_hpc.cluster.rank import RANK_MODULE, become, place_of, rank_command
from mri_hpc.rundir import server_clock
from mri_hpc.rundir.layout import Attempt, RunDir
from mri_hpc.rundir.ledger import Kind, read_events, record
from mri_hpc.rundir.metrics_log import read_metrics

POLL_S = 0.1
STEPS = 3
"""Before the signal: what the ranks add up shows in the loss of the step after it."""
SIGNAL_WITHIN_S = 15.0
"""In which Slurm's signal has to have reached the ranks."""
NODE = "drill: rank {rank} on {node}"
"""The first line of a rank's log."""


def main() -> int:
    """Be the rank of the run, then that of its twin; return the exit status."""
    parser = argparse.ArgumentParser(prog="mri_hpc.cluster.drill.rank")
    parser.add_argument("--run", required=True, type=Path)
    parser.add_argument("--submission", required=True, type=int)
    options = parser.parse_args()
    drill, place = DrillFolder(options.run.parent), place_of(os.environ)
    attempt = Attempt(submission=options.submission, restart=place.restart)
    print(NODE.format(rank=place.rank, node=slurm.node_name()), file=sys.stderr, flush=True)
    if place.rank == 0:
        play = _interrupt if attempt.restart == 0 else _end_in_time
        threading.Thread(target=play, args=(drill, attempt), daemon=True).start()
    status = become(RANK_MODULE)
    if status == AGAIN and place.rank == 0:
        shorten(drill)
    if status == DONE:
        # In a process and a group of their own, as after another launch.
        sys.stderr.flush()
        if place.rank == 0:
            # It outlives this program, and ends the next one.
            signal.alarm(max(1, round(_left_s(drill, attempt))))
        command = rank_command(drill.twin.path, options.submission, RANK_MODULE)
        os.execv(command[0], command)
    return status


def _interrupt(drill: DrillFolder, attempt: Attempt) -> None:
    """Have Slurm tell the ranks to stop, once they have taken a few steps."""
    while len(read_metrics(drill.run)) < STEPS:
        time.sleep(POLL_S)
    sent_s, complaint = time.time(), slurm.tell_ranks(slurm.own_job_id(), signal.SIGUSR2)
    _note_signal(drill, sent_s, complaint)
    give_up_s = time.monotonic() + SIGNAL_WITHIN_S
    while not _has(drill.run, attempt, Kind.STOP_AGREED):
        if complaint or time.monotonic() > give_up_s:
            # The rest of the drill is played all the same.
            _note_signal(drill, sent_s, complaint or f"nothing had come after {SIGNAL_WITHIN_S:.0f} s")
            os.kill(os.getpid(), signal.SIGUSR2)
            return
        time.sleep(POLL_S)


def _note_signal(drill: DrillFolder, sent_s: float, complaint: str) -> None:
    replace_bytes(drill.signal_note, json.dumps({"time": sent_s, "complaint": complaint}).encode())


def _end_in_time(drill: DrillFolder, attempt: Attempt) -> None:
    """End the job when its attempts together have had their minutes."""
    time.sleep(max(0.0, _left_s(drill, attempt)))
    # Before the job hears of it: whoever decides on its end reads it here.
    record(drill.run, attempt, Kind.CANCELLED, by=BY)
    slurm.cancel(slurm.own_job_id())


def _left_s(drill: DrillFolder, attempt: Attempt) -> float:
    """Return the seconds for which the job may still have its nodes, all by the clock of the ledger."""
    events = read_events(drill.run)
    first = Attempt(submission=attempt.submission, restart=0)
    gone = [e.time for e in events if e.kind == Kind.RANKS_GONE and e.attempt == str(first)]
    starts = [e.time for e in events if e.kind == Kind.STARTING and e.attempt == str(attempt)]
    before_s = gone[-1] - drill.began.stat().st_mtime if gone else 0.0
    return 60 * LIMIT_MIN - before_s - (server_clock.now(drill.run.attempts) - starts[-1] if starts else 0.0)


def _has(run: RunDir, attempt: Attempt, kind: Kind) -> bool:
    return any(e.kind == kind and e.attempt == str(attempt) for e in read_events(run))


if __name__ == "__main__":
    sys.exit(main())
