"""Under --deterministic what NCCL may choose is pinned as a set, recorded, and named when it changes."""

from dataclasses import replace

import pytest
import torch

from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.manifests import MANIFEST, Manifest
from mri_hpc.rundir.place import Place
from mri_hpc.rundir.progress import Progress
from mri_hpc.rundir.settings import TrainingSettings
from mri_hpc.training import rank
from mri_hpc.training.conditions import changes, conditions
from mri_hpc.training.pinned_collectives import PINNED, are_pinned, described, may_pin, pin_collectives
from mri_hpc.training.ranks import Ranks

ALL = " ".join(f"{name}={value}" for name, value in PINNED.items())


class OnGpus(Ranks):
    """The first of two ranks; the other one has what this one has, or other variables."""

    others: str = ""

    def from_all(self, value):
        return [value, (*value[:-1], self.others or value[-1])]


RANKS = OnGpus(place=Place(world_size=2), device=torch.device("cpu"), backend="nccl", num_hosts=1)


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    for name in PINNED:
        monkeypatch.delenv(name, raising=False)


def test_all_of_the_set_is_set_and_stands_in_the_conditions(monkeypatch):
    environment = {}
    pin_collectives(environment)
    assert environment == PINNED
    assert {"NCCL_ALGO", "NCCL_PROTO", "NCCL_MAX_NCHANNELS", "NCCL_NVLS_ENABLE"} < {*PINNED}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert conditions(RANKS, threads=1, deterministic=True)["collectives"] == f"nccl {ALL}"


def test_what_a_user_has_set_stays_is_said_and_recorded(caplog):
    environment = {"NCCL_ALGO": "Ring", "NCCL_PROTO": "Simple"}
    pin_collectives(environment)
    assert environment == {**PINNED, "NCCL_ALGO": "Ring"}
    assert [record.getMessage() for record in caplog.records] == [
        "NCCL_ALGO=Ring was set here and stays, where --deterministic pins allreduce:tree: weights are equal "
        "to the bit only where it is the same in each attempt"
    ]
    assert described("nccl", environment).startswith("nccl NCCL_ALGO=Ring NCCL_PROTO=Simple ")


def test_another_value_is_named_when_it_changes():
    before, now = f"nccl {ALL}", described("nccl", {**PINNED, "NCCL_PROTO": "LL"})
    assert changes({"collectives": before}, {"collectives": now}) == {"collectives": (before, now)}


def test_ranks_whose_variables_differ_are_recorded_with_both(monkeypatch):
    ranks = replace(RANKS)
    object.__setattr__(ranks, "others", "nccl NCCL_ALGO=Ring")
    found = conditions(ranks, threads=1, deterministic=True)["collectives"]
    assert found == "nccl, nccl NCCL_ALGO=Ring"


def test_processors_have_none_of_it():
    assert described("gloo", {"NCCL_ALGO": "Ring"}) == "gloo"


def keep_checkpoint(run, collectives):
    folder = run.checkpoints / "5"
    folder.mkdir(parents=True)
    manifest = Manifest(
        progress=Progress(step=5), attempt="1.0", written_s=0.0, weights_digest="", files={},
        conditions={"collectives": collectives},
    )  # fmt: skip
    (folder / MANIFEST).write_bytes(manifest.to_json())


def test_a_run_that_began_without_goes_on_without(tmp_path):
    assert may_pin(RunDir(tmp_path / "new"))
    keep_checkpoint(RunDir(tmp_path / "old"), "nccl NCCL_ALGO=Ring")
    assert not may_pin(RunDir(tmp_path / "old"))
    keep_checkpoint(RunDir(tmp_path / "pinned"), f"nccl {ALL}")
    assert may_pin(RunDir(tmp_path / "pinned"))
    # With another value of the user's own it is a set all the same.
    assert are_pinned({"collectives": f"nccl {ALL}".replace("allreduce:tree", "Ring")})
    # One that went on from processors has no sums to keep.
    assert are_pinned({"collectives": "gloo"})


class Reached(Exception):
    """The ranks would meet now."""


@pytest.mark.parametrize(("deterministic", "has_gpu"), [(True, True), (False, True), (True, False)])
def test_it_is_pinned_before_the_ranks_meet_on_gpus_under_deterministic_alone(
    deterministic, has_gpu, planned_run, monkeypatch
):
    def join(*_parts, **_more):
        raise Reached

    monkeypatch.setattr(rank, "join", join)
    monkeypatch.setattr(rank, "use_device", lambda **_options: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    environment = {}
    monkeypatch.setattr(rank.os, "environ", environment)
    run = planned_run(training=TrainingSettings(deterministic=deterministic))
    with pytest.raises(Reached):
        rank.run_rank(
            run, rank.Attempt(submission=1, restart=0), Place(), rank.StopFlag(),
            threads=1, times=rank.StartTimes(), allotment=rank.Allotment(),
        )  # fmt: skip
    assert environment == (PINNED if deterministic and has_gpu else {})
