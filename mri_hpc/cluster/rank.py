"""The start of a rank process, by srun or by the local supervisor, and the record of its end.

Its name is in the jobs that Slurm has queued: a newer version has to start them.
"""

import argparse
import ctypes
import os
import runpy
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mri_hpc.base.exit_status import BUG, DONE
from mri_hpc.base.stop_flag import STOP_SIGNALS
from mri_hpc.cluster import slurm
from mri_hpc.cluster.rank_exits import record_exit
from mri_hpc.rundir.layout import Attempt, RunDir
from mri_hpc.rundir.place import Place

PR_SET_PDEATHSIG = 1
SAVE_GRACE = "MRI_SAVE_GRACE_S"
"""Variable with the seconds for which the supervisor lets its ranks save."""
RANK_MODULE = "mri_hpc.train"
"""Module that a rank runs, as ``python -m``: called with --run and --submission."""


@dataclass(frozen=True, kw_only=True)
class RankStart:
    """The callable that submitit calls in each task; it becomes the rank, without submitit's handlers."""

    run: str
    submission: int
    module: str

    def __call__(self) -> None:
        """Replace this process by the rank's; does not return."""
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        command = rank_command(Path(self.run), self.submission, self.module)
        os.execv(command[0], command)


def rank_command(run: Path, submission: int, module: str) -> list[str]:
    """Return the command line of one rank, which finds its place in its environment."""
    options = ["--run", str(run), "--submission", str(submission)]
    return [sys.executable, "-u", "-m", "mri_hpc.cluster.rank", "--module", module, *options]


def place_of(environment: Mapping[str, str]) -> Place:
    """Return this rank's place: by torchrun, else by Slurm, else by torchrun's variables, else alone."""
    under_slurm = None if "TORCHELASTIC_RUN_ID" in environment else slurm.place(environment)
    if under_slurm:
        return under_slurm
    world_size = int(environment.get("WORLD_SIZE", "1"))
    is_one_host = int(environment.get("LOCAL_WORLD_SIZE", world_size)) == world_size
    return Place(
        rank=int(environment.get("RANK", "0")),
        local_rank=int(environment.get("LOCAL_RANK", "0")),
        world_size=world_size,
        host="localhost" if is_one_host else os.uname().nodename,
        restart=int(environment.get("TORCHELASTIC_RESTART_COUNT", "0")),
    )


def die_with_parent(parent: int) -> None:
    """Have this process killed when its parent dies, whatever it dies of."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(BUG)


def main(argv: Sequence[str] | None = None) -> int:
    """Send this process's output to the rank's log and become the rank."""
    # Until the rank listens, stop signals wait; other signals as anybody's.
    signal.pthread_sigmask(signal.SIG_SETMASK, STOP_SIGNALS)
    parser = argparse.ArgumentParser(prog="mri_hpc.cluster.rank")
    parser.add_argument("--run", required=True)
    parser.add_argument("--submission", required=True, type=int)
    parser.add_argument("--module", required=True)
    parser.add_argument("--parent", type=int)
    options = parser.parse_args(argv)
    if options.parent:
        die_with_parent(options.parent)
    place, run = place_of(os.environ), RunDir(Path(options.run))
    attempt = Attempt(submission=options.submission, restart=place.restart)
    run.claim_attempt(attempt)
    _log_to(run.rank_log(attempt, place.rank))
    sys.argv[1:] = ["--run", options.run, "--submission", str(options.submission)]
    status = BUG
    try:
        status = become(options.module)
    finally:
        try:
            record_exit(run, attempt, place.rank, status)
        except OSError as error:
            # On a full disk the status still says how it ended.
            print(
                f"rank {place.rank} ended with {status}, which is not written down: {error}", file=sys.stderr
            )
    return status


def become(module: str) -> int:
    """Run a module as ``python -m`` does; return the status with which it leaves."""
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as leaving:
        if leaving.code is None or isinstance(leaving.code, int):
            return leaving.code or DONE
        print(leaving.code, file=sys.stderr)
        return BUG
    return DONE


def _log_to(path: Path) -> None:
    log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(log, stream.fileno())
    os.close(log)


if __name__ == "__main__":
    exit_status = main()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    # All is printed and saved. Taking torch's modules apart costs seconds, of the few before a kill.
    os._exit(exit_status)
