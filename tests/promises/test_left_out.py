"""A rank trains and predicts without modules that it leaves out, to the same bits; who asks gets them."""

import os
import subprocess
import sys

from tests.harness.results import results_of

SETTINGS = {"model": "shufflenet_v2_x0_5", "checkpoint_interval_s": 0.0, "ema_decay": 0.9, "clip_norm": 1.0}
TRAIN = """
import sys
from mri_hpc.train import main
from mri_hpc.training.left_out import COMPILER, are_left_out

assert main(sys.argv[1:]) == 0
assert are_left_out(), "something in a run asks for the compiler"

import torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
DistributedDataParallel(torch.nn.Linear(2, 1))(torch.ones(1, 2)).sum().backward()
assert are_left_out(), "what ranks exchange gradients by asks for the compiler"
dist.destroy_process_group()

import torch._dynamo.config as config
import torchvision

assert not are_left_out()
assert config is sys.modules[COMPILER].config is torch._dynamo.config
assert torch._dynamo.utils.get_optimize_ddp_mode() == "ddp_optimizer"
assert torchvision.datasets.FakeData(2)
import torch._inductor.config

assert torch._inductor.config.deterministic is torch.are_deterministic_algorithms_enabled() is True
print(torch.compile(lambda x: x + 1, backend="eager")(torch.ones(1)).item())
"""


def test_a_run_is_the_same_to_the_bit_and_what_is_left_out_is_there_for_who_asks(new_run, uninterrupted):
    run = new_run(**SETTINGS)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    words = [sys.executable, "-c", TRAIN, "--run", str(run.path)]
    ran = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (0, "2.0\n"), ran.stderr
    # Ranks of the nursery have all of torch.
    assert results_of(run) == uninterrupted(SETTINGS, ranks=1)
