"""What is decided about GPUs, where there need be none: torch is told what it finds."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from mri_hpc.base.errors import UserError
from mri_hpc.rundir.place import Place
from mri_hpc.rundir.settings import TrainingSettings
from mri_hpc.training import arithmetic, rank, ranks
from mri_hpc.training.arithmetic import free_memory, use_device
from mri_hpc.training.ranks import pick_device, see_own_part, too_few_gpus


def place(local_rank):
    return Place(rank=8 + local_rank, local_rank=local_rank, world_size=16, host="n2", restart=0, job_id="")


@pytest.fixture
def gpus(monkeypatch):
    """Pretends a number of GPUs; returns the list of those that are set as the process's own."""

    def pretend(count, *, has_bf16=True):
        taken = []
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "set_device", taken.append)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_how: has_bf16)
        return taken

    return pretend


@pytest.fixture
def environment(monkeypatch):
    """Stands in for the process's environment; empty at first."""
    pretended = SimpleNamespace(environ={})
    for module in (arithmetic, ranks):
        monkeypatch.setattr(module, "os", pretended)
    return pretended.environ


@pytest.mark.parametrize(
    ("count", "local_rank", "device"),
    [
        (0, 3, "cpu"),
        (4, 0, "cuda:0"),
        (4, 3, "cuda:3"),
        # Each task is shown its own GPU alone.
        (1, 0, "cuda:0"),
        (1, 3, "cuda:0"),
    ],
)
def test_a_rank_takes_the_gpu_of_its_number_on_the_node(gpus, count, local_rank, device):
    taken = gpus(count)
    assert pick_device(place(local_rank)) == torch.device(device)
    assert taken == ([torch.device(device)] if count else [])


def test_ranks_that_would_share_a_gpu_are_refused(gpus):
    taken = gpus(2)
    with pytest.raises(
        UserError, match=r"^rank 10 is number 2 on n2, which shows it 2 GPUs: .*--tasks-per-node 2$"
    ):
        pick_device(place(2))
    assert taken == []


PARTS = "MIG-0aa0,MIG-1bb1"


@pytest.mark.parametrize(
    ("shown", "local_rank", "own"),
    [
        (PARTS, 0, "MIG-0aa0"),
        (PARTS, 1, "MIG-1bb1"),
        # Slurm shows each task its own alone.
        ("MIG-1bb1", 1, "MIG-1bb1"),
        ("0,1", 1, "0,1"),
        ("", 1, ""),
    ],
)
def test_a_rank_that_is_given_parts_of_gpus_sees_its_own(gpus, environment, shown, local_rank, own):
    # Of several parts CUDA shows a process the first alone.
    taken = gpus(1 if "MIG" in shown else 2)
    environment["CUDA_VISIBLE_DEVICES"] = shown
    see_own_part(place(local_rank), environment)
    device = pick_device(place(local_rank))
    assert environment["CUDA_VISIBLE_DEVICES"] == own
    assert taken == [device]
    assert device.index == (0 if "MIG" in shown else local_rank)


def test_more_ranks_than_parts_of_gpus_are_refused(gpus, environment):
    gpus(1)
    environment["CUDA_VISIBLE_DEVICES"] = PARTS
    with pytest.raises(UserError, match=r"which shows it 2 GPUs: launch with --tasks-per-node 2$"):
        see_own_part(place(2), environment)
    # Those of verify-run, all on this machine.
    few = {number: too_few_gpus(replace(place(0), world_size=number)) for number in (1, 2, 3)}
    assert few == {1: False, 2: False, 3: True}


def test_a_rank_sees_its_own_part_before_anything_asks_cuda(monkeypatch, planned_run):
    """CUDA reads the environment once."""
    shown = []

    def ask():
        shown.append(rank.os.environ["CUDA_VISIBLE_DEVICES"])
        raise RuntimeError("CUDA has been asked")

    monkeypatch.setattr(rank.os, "environ", {"CUDA_VISIBLE_DEVICES": PARTS})
    monkeypatch.setattr(torch.cuda, "is_available", ask)
    monkeypatch.setattr(rank, "use_device", lambda **_options: None)
    run = planned_run(training=TrainingSettings(deterministic=True))
    with pytest.raises(RuntimeError, match="CUDA has been asked"):
        rank.run_rank(
            run, rank.Attempt(submission=1, restart=0), place(1), rank.StopFlag(),
            threads=1, times=rank.StartTimes(), allotment=rank.Allotment(),
        )  # fmt: skip
    assert shown == ["MIG-1bb1"]


@pytest.mark.parametrize(
    ("precision", "count", "has_bf16", "dtype"),
    [
        ("auto", 1, True, torch.bfloat16),
        ("auto", 1, False, torch.float32),
        ("auto", 0, True, torch.float32),
        ("fp32", 1, True, torch.float32),
        ("fp16", 1, False, torch.float16),
        ("bf16", 0, False, torch.bfloat16),
    ],
)
def test_auto_is_bf16_on_gpus_that_have_it(gpus, precision, count, has_bf16, dtype):
    gpus(count, has_bf16=has_bf16)
    assert arithmetic.dtype_of(precision, pick_device(place(0))) is dtype


@pytest.mark.parametrize(
    ("precision", "count", "dtype"),
    [("auto", 0, torch.bfloat16), ("fp32", 0, torch.float32), ("auto", 1, torch.float32)],
)
def test_a_processor_with_a_matrix_unit_computes_in_bf16_where_the_run_uses_it(gpus, precision, count, dtype):
    gpus(count, has_bf16=False)
    assert arithmetic.dtype_of(precision, pick_device(place(0)), matrix_unit=True) is dtype


@pytest.mark.parametrize(
    ("before", "is_deterministic", "after"),
    [
        ({}, True, {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}),
        ({"CUBLAS_WORKSPACE_CONFIG": ":16:8"}, True, {"CUBLAS_WORKSPACE_CONFIG": ":16:8"}),
        ({}, False, {}),
    ],
)
def test_cublas_is_told_before_it_starts_to_be_deterministic_unless_the_site_has(
    environment, monkeypatch, before, is_deterministic, after
):
    environment.update(before)
    asked = []
    # Of the whole process, which has other tests to do.
    monkeypatch.setattr(arithmetic, "keep_freed", lambda: None)
    monkeypatch.setattr(torch, "set_num_threads", lambda _threads: None)
    monkeypatch.setattr(torch, "use_deterministic_algorithms", asked.append)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    use_device(deterministic=is_deterministic, threads=1)
    assert environment == after
    assert asked == [True] * is_deterministic
    assert torch.backends.cudnn.benchmark is not is_deterministic


@pytest.mark.parametrize(
    ("before", "is_wish", "after"),
    [
        ({}, False, ("eth1", "=eth1")),
        ({"GLOO_SOCKET_IFNAME": "ib0"}, False, ("ib0", "=eth1")),
        ({"NCCL_SOCKET_IFNAME": "ib"}, False, ("eth1", "ib")),
        # Typed, it comes before what the site names.
        ({"GLOO_SOCKET_IFNAME": "ib0", "NCCL_SOCKET_IFNAME": "ib"}, True, ("eth1", "=eth1")),
    ],
)
def test_ranks_talk_by_the_network_on_which_they_met_unless_the_site_names_another(before, is_wish, after):
    environment = dict(before)
    ranks._pick_interface("eth1", is_wish, environment)
    assert (environment["GLOO_SOCKET_IFNAME"], environment["NCCL_SOCKET_IFNAME"]) == after


def test_a_rank_keeps_the_memory_of_its_steps_and_not_that_of_its_trials(monkeypatch):
    done = []
    monkeypatch.setattr(arithmetic, "keep_freed", lambda: done.append("kept"))
    monkeypatch.setattr(arithmetic, "give_back", lambda: done.append("given back"))
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    monkeypatch.setattr(torch, "set_num_threads", lambda _threads: None)
    use_device(deterministic=False, threads=1)
    free_memory(torch.device("cpu"))
    assert done == ["kept", "given back"]
