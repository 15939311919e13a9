"""A rank that loses another ends with a status of its own, by the words of the real gloo."""

import os
import signal
import subprocess
import sys

import pytest

from mri_hpc.base.exit_status import LOST_PEER

# In place of training: the ranks exchange a value, one is killed, and the other exchanges the next one.
RANK = """
import os, signal, sys
import torch, torch.distributed as dist
import mri_hpc.training.rank as real
from mri_hpc.train import main

def run_rank(run, attempt, place, *_parts, **_more):
    dist.init_process_group(
        "gloo", init_method=f"file://{run.path}/meeting", rank=place.rank, world_size=place.world_size
    )
    dist.all_reduce(torch.ones(1))
    if place.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    for _ in range(9):
        dist.all_reduce(torch.ones(1))

real.run_rank = run_rank
status = main(sys.argv[1:])
sys.stderr.flush()
os._exit(status)
"""
ALONE = """
import sys
import mri_hpc.training.rank as real
from mri_hpc.train import main

def run_rank(*_parts, **_more):
    raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

real.run_rank = run_rank
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def start(planned_run):
    """Starts a rank of a run that does as the code says."""
    run = planned_run()
    here = {**os.environ, "WORLD_SIZE": "2", "GLOO_SOCKET_IFNAME": "lo", "CUDA_VISIBLE_DEVICES": ""}

    def rank(number, code):
        words = [sys.executable, "-c", code, "--run", str(run.path), "--submission", "1"]
        environment = {**here, "RANK": str(number), "LOCAL_RANK": str(number)}
        return subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True)

    return rank


def test_a_rank_whose_peer_was_killed_says_that_it_lost_one_and_shows_where(start):
    ranks = [start(number, RANK) for number in (0, 1)]
    errors = [rank.communicate(timeout=120)[1] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [LOST_PEER, -signal.SIGKILL], errors[0]
    assert "Traceback" in errors[0]
    assert "by peer" in errors[0]


def test_any_other_error_is_a_bug_of_the_rank_itself(start):
    rank = start(0, ALONE)
    assert "mat1 and mat2" in rank.communicate(timeout=120)[1]
    assert rank.returncode == 1
