"""One rank of a replay: what ``mri-hpc verify-run`` starts, in a folder that it removes."""

import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mri_hpc.base.command import run_command
from mri_hpc.base.errors import UserError
from mri_hpc.base.stop_flag import StopFlag
from mri_hpc.cluster.rank import place_of
from mri_hpc.rundir.layout import Attempt, RunDir
from mri_hpc.rundir.place import Place
from mri_hpc.rundir.replay import read_interval, write_replayed
from mri_hpc.training.left_out import leave_out

NAME = "mri-hpc verify-run"


@dataclass(frozen=True, kw_only=True)
class ReplayOptions:
    """Do some steps of a run again, as one of its ranks; verify-run starts it."""

    run: Path
    """Folder with what is to be done again: not that of the run."""
    submission: int
    """1: of that folder."""


def main(argv: Sequence[str] | None = None) -> int:
    """Do this rank's part; return its exit status."""
    return run_command(NAME, ReplayOptions, _replay, argv, example=f"{NAME} runs/resnet18-1a2b3c4d")


def _replay(options: ReplayOptions) -> None:
    place = place_of(os.environ)
    logging.basicConfig(
        level=logging.INFO, format=f"%(asctime)s rank {place.rank} %(levelname)s %(message)s", force=True
    )
    leave_out()
    do_again(options.run, place, threads=int(os.environ["OMP_NUM_THREADS"]))


def do_again(folder: Path, place: Place, *, threads: int) -> None:
    """Do the interval again that a folder says, and leave there what came of it. Raises UserError."""
    # Whoever asks for help waits for no torch.
    from mri_hpc.rundir.settings import load_training
    from mri_hpc.training.agreed_stop import AgreedStop
    from mri_hpc.training.arithmetic import use_device
    from mri_hpc.training.hang_watch import HangWatch
    from mri_hpc.training.pinned_collectives import are_pinned, pin_collectives
    from mri_hpc.training.ranks import join, see_own_part, too_few_gpus
    from mri_hpc.training.replay import replay

    interval, flag = read_interval(folder), StopFlag()
    settings = load_training(RunDir(Path(interval.run)))
    use_device(deterministic=settings.deterministic, threads=threads)
    if settings.deterministic and interval.is_on_gpus and are_pinned(interval.conditions):
        pin_collectives(os.environ)
    if too_few_gpus(place):
        within = ", by which losses are compared within rounding" if settings.sums == "ddp" else ""
        raise UserError(
            f"the run had {place.world_size} ranks, and this machine has GPUs for fewer: give "
            f"--ranks 1{within}"
        )
    see_own_part(place, os.environ)
    watch = HangWatch(settings.hang_timeout_s)
    attempt = Attempt(submission=1, restart=0)
    ranks = join(place, RunDir(folder), attempt, flag, timeout_s=settings.hang_timeout_s, at_look=watch.beat)
    # Nothing asks this rank to stop: it is killed.
    assert ranks
    replayed = replay(interval, ranks, AgreedStop(flag, ranks, at_boundary=watch.beat), threads=threads)
    if ranks.is_first:
        write_replayed(folder, replayed)
    ranks.leave()
    watch.close()


if __name__ == "__main__":
    sys.exit(main())
