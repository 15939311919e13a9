"""The use that rank 0 makes of cores, memory and GPU."""

import sys
import types

import pytest
import torch

from mri_hpc.rundir.allotment import Allotment
from mri_hpc.rundir.place import Place
from mri_hpc.training import use_meter
from mri_hpc.training.ranks import Ranks
from mri_hpc.training.use_meter import UseMeter, gpu_question

GPU = torch.device("cuda", 0)


def ranks(device="cpu", world_size=1, hosts=1):
    place = Place(world_size=world_size)
    return Ranks(place=place, device=torch.device(device), backend="none", num_hosts=hosts)


@pytest.fixture
def gpu(monkeypatch):
    """A machine whose GPU is as busy as is said, and a clock to set."""
    said = types.SimpleNamespace(busy=[], now_s=0.0, failure=None)

    def utilization(_device):
        if said.failure:
            raise said.failure
        return said.busy.pop(0)

    driver = types.ModuleType("pynvml")
    driver.NVMLError = type("NVMLError", (Exception,), {})
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    monkeypatch.setattr(torch.cuda, "utilization", utilization)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda _device: 30)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (50, 80))
    monkeypatch.setattr(use_meter.time, "monotonic", lambda: said.now_s)
    return said


def test_the_first_rank_speaks_for_all_on_its_node(monkeypatch):
    monkeypatch.setattr(use_meter, "held_bytes", lambda: 100)
    meter = UseMeter(ranks(world_size=5, hosts=2), Allotment(cores=4, memory_bytes=1000, is_of_job=True))
    found = meter.values()
    assert (found["memory_bytes"], found["memory_limit_bytes"]) == (300, 1000)
    assert (found["cores"], found["is_of_job"]) == (4, True)
    assert found["cores_used"] >= 0
    assert "has_gpu" not in found


def test_memory_of_learners_that_were_thrown_away_is_left_out(monkeypatch):
    peak = iter([100, 40, 60])
    monkeypatch.setattr(use_meter, "held_bytes", lambda: next(peak))
    forgotten = []
    monkeypatch.setattr(use_meter, "forget_peak", lambda: forgotten.append("host"))
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", forgotten.append)
    monkeypatch.setattr(UseMeter, "_of_gpu", lambda _self: {})
    meter = UseMeter(ranks("cuda"), Allotment())
    with meter.without_trials():
        assert forgotten == []
    assert forgotten == ["host", torch.device("cuda")]
    # Of what came before them, as opening the store, the peak counts.
    assert [meter.values()["memory_bytes"] for _time in range(2)] == [100, 100]


def test_what_no_job_has_asked_for_is_no_limit():
    found = UseMeter(ranks(), Allotment(memory_bytes=1000)).values()
    assert "memory_limit_bytes" not in found
    assert "is_of_job" not in found


def test_a_gpu_is_looked_at_every_few_seconds_and_no_more(gpu):
    gpu.busy = [10, 30]
    meter = UseMeter(ranks("cuda"), Allotment())
    for gpu.now_s in (1.0, 5.0, 6.0, 9.9, 10.0):
        meter.look()
    assert gpu.busy == []
    found = meter.values()
    assert (found["has_gpu"], found["gpu_busy"]) == (True, 0.2)
    assert (found["gpu_bytes"], found["gpu_limit_bytes"]) == (30, 80)


def test_a_driver_that_does_not_say_is_asked_no_more(gpu):
    meter = UseMeter(ranks("cuda"), Allotment())
    gpu.failure = sys.modules["pynvml"].NVMLError("not supported")
    gpu.now_s = 5.0
    meter.look()
    gpu.failure, gpu.busy, gpu.now_s = None, [50], 10.0
    meter.look()
    assert gpu.busy == [50]
    assert "gpu_busy" not in meter.values()


def test_without_gpu_or_without_the_library_nothing_is_asked(monkeypatch):
    assert gpu_question(torch.device("cpu")) is None
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert gpu_question(GPU) is None
