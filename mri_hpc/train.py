"""``mri-hpc train``: one rank of a run. launch starts it; torchrun can start it by hand."""

import errno
import gc
import logging
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mri_hpc.base.command import run_command
from mri_hpc.base.errors import UserError
from mri_hpc.base.exit_status import DONE, LOST_PEER
from mri_hpc.base.memory import limit_bytes
from mri_hpc.base.stop_flag import StopFlag
from mri_hpc.cluster.rank import place_of
from mri_hpc.cluster.slurm import memory_of_node, own_job_id
from mri_hpc.rundir.allotment import Allotment
from mri_hpc.rundir.layout import Attempt, RunDir, open_run
from mri_hpc.rundir.place import Place
from mri_hpc.training.left_out import leave_out
from mri_hpc.training.start_times import StartTimes

# How gloo, NCCL and torch's store say that the process at the other end has gone.
GONE_PEER = ("closed by peer", "reset by peer", "Broken pipe", "was likely closed", "remote process exit")

EXAMPLE = "torchrun --nproc-per-node 2 -m -- mri_hpc.train --run runs/resnet18-1a2b3c4d"


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Train one rank of a run, whose settings are in RUN/settings.toml (mri-hpc launch writes them).

    Exit status 75: all ranks were asked to stop and have saved; start them again to go on.
    """

    run: Path
    """Folder of the run."""
    submission: int | None = None
    """Number that launch claimed for these ranks; without it, rank 0 claims one."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run_command("mri-hpc train", TrainOptions, _train, argv, example=EXAMPLE)


def threads_of(run: RunDir, environment: Mapping[str, str], place: Place) -> int:
    """Return the torch threads of this rank: OMP_NUM_THREADS, else the job's cores, else 1 beside others."""
    if environment.get("OMP_NUM_THREADS", "").isdigit():
        return int(environment["OMP_NUM_THREADS"])
    from mri_hpc.rundir.settings import load_job

    per_task = load_job(run).cpus_per_task
    return per_task or (len(os.sched_getaffinity(0)) if place.world_size == 1 else 1)


def allotment_of(run: RunDir, environment: Mapping[str, str], threads: int) -> Allotment:
    """Return what this rank, of so many threads, was given of its node."""
    from mri_hpc.rundir.settings import load_job

    of_node = [memory_of_node(environment), limit_bytes()]
    return Allotment(
        cores=load_job(run).cpus_per_task or threads,
        memory_bytes=min((size for size in of_node if size), default=None),
        is_of_job=bool(own_job_id(environment)),
    )


def _train(options: TrainOptions) -> int:
    # First of all: what follows takes seconds, and a signal in them must not be lost.
    flag = StopFlag().listen()
    flag.hear()
    run = open_run(options.run)
    if run.is_finished:
        print(f"{run.path} is finished")
        return DONE
    times = StartTimes()
    place = place_of(os.environ)
    logging.basicConfig(
        level=logging.INFO,
        format=f"%(asctime)s rank {place.rank} %(levelname)s %(message)s",
        stream=sys.stderr,
        force=True,
    )
    threads = threads_of(run, os.environ, place)
    times.end_of("python")
    # Importing makes half a million objects that stay: looking for garbage among them takes a fifth of it.
    gc.disable()
    leave_out()
    # Only here, since torch takes seconds to import: --help and a finished run need none.
    from mri_hpc.cluster.choice import kill_time_of
    from mri_hpc.training.rank import run_rank

    gc.freeze()
    gc.enable()
    times.end_of("torch")
    attempt = _attempt(options, run, place)
    kill_time = kill_time_of(os.environ)

    try:
        return run_rank(
            run, attempt, place, flag,
            threads=threads, times=times, allotment=allotment_of(run, os.environ, threads),
            kill_time=kill_time, on_predicted=_after_predictions,
        )  # fmt: skip
    except OSError as error:
        if error.errno not in (errno.EIO, errno.ESTALE):
            raise
        # A file server or a disk that fails for a while: no end of the run, as its user's error would be.
        raise RuntimeError("the files of this run cannot be read or written now") from error
    except RuntimeError as error:
        if not any(words in str(error) for words in GONE_PEER):
            raise
        traceback.print_exc()
        return LOST_PEER


def _after_predictions(run: RunDir, beat: Callable[[], None]) -> None:
    """Leave beside the predictions what later commands hold new patients against. beat: a sign of life."""
    # What reads a store image by image is imported once the training has ended.
    from mri_hpc.results.answers.calibration import calibrate
    from mri_hpc.results.answers.pooling_choice import choose_pooling
    from mri_hpc.results.answers.resemblance_run import find_resemblance

    # First: what is calibrated is pooled.
    choose_pooling(run)
    beat()
    calibrate(run)
    beat()
    find_resemblance(run, beat)


def _attempt(options: TrainOptions, run: RunDir, place: Place) -> Attempt:
    """Claim the attempt that this start of the ranks is."""
    if options.submission is not None:
        attempt = Attempt(submission=options.submission, restart=place.restart)
        run.claim_attempt(attempt)
        return attempt
    if place.world_size == 1:
        return run.claim_submission()
    # Its agent keeps a store that outlives every rank; elsewhere there is none to share a number through.
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        raise UserError(
            f"{place.world_size} ranks that neither launch nor torchrun has started need --submission N: "
            f"the same for all, and one above the highest in {run.attempts}"
        )
    from mri_hpc.training.ranks import share_submission

    return share_submission(place, run, os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))


if __name__ == "__main__":
    sys.exit(main())
