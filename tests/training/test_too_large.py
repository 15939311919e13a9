"""A step that does not fit into the memory of a GPU."""

import pytest
import torch

from mri_hpc.base.errors import UserError
from mri_hpc.base.stop_flag import StopFlag
from mri_hpc.rundir.allotment import Allotment
from mri_hpc.rundir.layout import Attempt, RunDir
from mri_hpc.rundir.place import Place
from mri_hpc.rundir.settings import JobSettings, TrainingSettings, save_settings
from mri_hpc.training import rank
from mri_hpc.training.start_times import StartTimes


def run_out_of_memory(tmp_path, monkeypatch, **settings):
    def work(_rank):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has")

    monkeypatch.setattr(rank._Rank, "work", work)
    run = RunDir(tmp_path)
    save_settings(run, TrainingSettings(**settings), JobSettings())
    attempt = Attempt(submission=1, restart=0)
    rank.run_rank(run, attempt, Place(), StopFlag(), threads=1, times=StartTimes(), allotment=Allotment())


def test_a_step_that_does_not_fit_is_one_line_that_says_what_helps(tmp_path, monkeypatch):
    with pytest.raises(UserError) as failure:
        run_out_of_memory(tmp_path, monkeypatch, batch_size=512, accumulate=2)
    assert str(failure.value) == (
        "--batch-size 512 over 1 rank(s) in 2 parts does not fit into the GPU's memory (CUDA out of memory): "
        "launch this run on more ranks, or a new one with --accumulate 4, a smaller --batch-size, or "
        "--batch-size auto"
    )


def test_a_micro_batch_of_fixed_size_that_does_not_fit_is_not_told_to_take_more_ranks(tmp_path, monkeypatch):
    with pytest.raises(UserError) as failure:
        run_out_of_memory(tmp_path, monkeypatch, batch_size=512, sums="fixed-1", micro_batches=4)
    assert str(failure.value) == (
        "a micro-batch, of which --batch-size 512 has 4, does not fit into the GPU's memory (CUDA out of "
        "memory), on however many ranks: launch a new run with --micro-batches 8, or a smaller --batch-size"
    )
