"""Shows a run until it is in the middle of an epoch: the worst moment to take its job away.

python tools/mid_epoch.py RUN EPOCH      EPOCH counts from 1
"""

import sys
from pathlib import Path

from mri_hpc.cluster.views import View
from mri_hpc.cluster.watching import watch
from mri_hpc.rundir.layout import RunDir


def main() -> int:
    """The command; returns its exit status."""
    run, epoch = RunDir(Path(sys.argv[1]).absolute()), int(sys.argv[2])
    view = watch(run, is_done=lambda view: view.has_ended or is_in_middle(view, epoch))
    if view.has_ended:
        print(
            f"{run.path}: {view.summary.state} before epoch {epoch}; {view.summary.reason}", file=sys.stderr
        )
        return 2
    print(f"epoch {epoch}, step {view.summary.step}")
    return 0


def is_in_middle(view: View, epoch: int) -> bool:
    """Whether half of that epoch is done."""
    if view.total_steps is None:
        return False
    steps_an_epoch = view.total_steps / view.epochs
    return view.summary.step >= (epoch - 0.5) * steps_an_epoch


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
