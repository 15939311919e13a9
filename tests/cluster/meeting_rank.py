"""Stands in for a rank that meets the others, exchanges one value, and notes how; it trains nothing."""

import argparse
import json
import os
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist

from mri_hpc.base.errors import UserError
from mri_hpc.base.stop_flag import StopFlag
from mri_hpc.cluster.rank import place_of
from mri_hpc.rundir.layout import Attempt, RunDir
from mri_hpc.rundir.settings import load_job
from mri_hpc.training.meeting import Wishes
from mri_hpc.training.ranks import join


def ports_of_this_process():
    """Those on which it listens."""
    own = {str(file.readlink()) for file in Path("/proc/self/fd").iterdir() if file.is_symlink()}
    rows = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{name}").read_text().splitlines()
    ]
    listening = [row[1] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in own]
    return sorted(int(address.rsplit(":", 1)[1], 16) for address in listening)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--run", type=Path)
    parser.add_argument("--submission", type=int)
    options = parser.parse_args()
    run, place, flag = RunDir(options.run), place_of(os.environ), StopFlag().listen()
    attempt = Attempt(submission=options.submission, restart=place.restart)
    began_s = time.monotonic()
    try:
        ranks = join(
            place, run, attempt, flag, timeout_s=600, at_look=lambda: None, wishes=Wishes.of(load_job(run))
        )
    except UserError as error:
        print(f"mri-hpc train: {error}", file=sys.stderr)
        return 2
    finally:
        took = {"seconds": time.monotonic() - began_s}
        (run.path / f"met{place.rank}.json").write_text(json.dumps(took))
    assert ranks
    total = torch.tensor([float(place.rank + 1)])
    dist.all_reduce(total)
    found = {
        **took,
        "total": total.item(),
        "interface": os.environ["GLOO_SOCKET_IFNAME"],
        "ports": ports_of_this_process(),
    }
    (run.path / f"met{place.rank}.json").write_text(json.dumps(found))
    ranks.leave()
    if place.rank == 0:
        run.mark_done()
    return 0


if __name__ == "__main__":
    sys.exit(main())
