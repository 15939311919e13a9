"""Stands in for a rank that notes which GPUs it is shown; it trains nothing, and needs no torch."""

import argparse
import json
import os
import sys
from pathlib import Path

from mri_hpc.cluster.rank import place_of
from mri_hpc.rundir.layout import RunDir


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--run", type=Path)
    parser.add_argument("--submission", type=int)
    run, place = RunDir(parser.parse_args().run), place_of(os.environ)
    seen = {
        "host": place.host,
        "local_rank": place.local_rank,
        "ranks": place.world_size,
        "gpus": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
    }
    (run.path / f"seen{place.rank}.json").write_text(json.dumps(seen))
    if place.rank == 0:
        run.mark_done()
    return 0


if __name__ == "__main__":
    sys.exit(main())
