"""The doctor says in plain words what does not fit, and what to type; what fits needs nothing."""

import os
import socket
from pathlib import Path

import pytest

from mri_hpc.base.errors import UserError
from mri_hpc.base.network import Interface
from mri_hpc.cluster.doctor import (
    file_system,
    gpus,
    libraries,
    limits,
    network,
    scheduler,
    site_key,
    weights_cache,
)
from mri_hpc.cluster.doctor.checks import CHECKS, examine
from mri_hpc.cluster.doctor.finding import Check, Level, Site
from mri_hpc.doctor import main
from mri_hpc.intake.labels.pseudonyms import site_key as make_key


def site(folder=Path(), **environment):
    return Site(folder=folder, environment=environment)


def not_fine(findings):
    return [(one.level, one.says, one.cure) for one in findings if one.level is not Level.FINE]


def program(folder, name, script):
    """Put a program on a PATH of its own."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


# Libraries


def test_what_is_installed_here_is_enough():
    assert not_fine(libraries.look(site())) == []


def test_a_library_that_is_missing_or_too_old_is_named_with_what_is_needed(monkeypatch):
    monkeypatch.setattr(
        libraries.importlib.metadata,
        "requires",
        lambda _name: ["numpy>=99.1", "nosuchlibrary", 'pytest>=999; extra == "test"'],
    )
    found = not_fine(libraries.look(site()))
    assert [says.partition(":")[0] for _level, says, _cure in found] == ["not installed", "too old"]
    assert "nosuchlibrary" in found[0][1]
    assert "(at least 99.1 is needed)" in found[1][1]
    assert {level for level, _says, _cure in found} == {Level.PROBLEM}


def test_an_environment_for_preprocessing_alone_is_no_problem(monkeypatch):
    def version(name):
        if name in libraries.ONLY_TO_TRAIN:
            raise libraries.importlib.metadata.PackageNotFoundError(name)
        return "9999"

    monkeypatch.setattr(libraries.importlib.metadata, "version", version)
    found = list(libraries.look(site()))
    assert not_fine(found) == []
    assert "for preprocess and store alone" in found[1].says


# This machine


def test_a_shell_with_little_address_space_is_a_problem(monkeypatch):
    monkeypatch.setattr(
        limits.resource,
        "getrlimit",
        lambda which: (10**9, -1) if which == limits.resource.RLIMIT_AS else (4096, 4096),
    )
    [(level, says, cure)] = not_fine(limits.look(site()))
    assert (level, cure.startswith("ulimit -v unlimited")) == (Level.PROBLEM, True)
    assert "1.00 GB of address space" in says


# The key


def test_no_key_is_made_by_looking_and_where_it_would_be_is_said(tmp_path):
    path = tmp_path / "site.key"
    [(level, says, cure)] = not_fine(site_key.look(site(MRI_KEY_FILE=str(path))))
    assert (level, path.exists()) == (Level.NOTE, False)
    assert str(path) in says
    assert "MRI_KEY_FILE" in cure


def test_a_key_that_everybody_can_read_is_a_problem(tmp_path):
    path = tmp_path / "site.key"
    make_key(path)
    check = next(check for check in CHECKS if check.name == "key")
    looked = site(MRI_KEY_FILE=str(path))
    assert not_fine(dict(examine(looked, [check]))[check]) == []
    path.chmod(0o640)
    assert not_fine(dict(examine(looked, [check]))[check]) == []
    path.chmod(0o644)
    [(level, says, cure)] = not_fine(dict(examine(looked, [check]))[check])
    assert (level, cure) == (Level.PROBLEM, f"chmod 600 {path}")
    assert f"{path} is the site's key, and others may read it" in says


# Slurm's answers, as scontrol prints them

CPU = {"PartitionName": "cpu", "Default": "YES", "MaxTime": "1-00:00:00", "TRES": "cpu=64,node=2"}
GPU = {"PartitionName": "a100", "Default": "NO", "MaxTime": "UNLIMITED", "TRES": "cpu=64,node=2,gres/gpu=8"}


@pytest.mark.parametrize(
    ("partitions", "by_shell", "level", "says", "cure"),
    [
        ([CPU, GPU], None, Level.NOTE, "the default partition has no GPUs", "launch --partition a100"),
        ([GPU], None, Level.PROBLEM, "no partition is the default", "launch --partition a100"),
        ([CPU], "gpu", Level.PROBLEM, "SBATCH_PARTITION=gpu does not exist here; there are: cpu", "site.env"),
        ([], None, Level.NOTE, "does not show its partitions", "sinfo"),
    ],
)
def test_a_partition_that_does_not_fit_is_said_with_the_option_to_type(
    partitions, by_shell, level, says, cure
):
    [found] = not_fine(scheduler.of_partitions(partitions, by_shell))
    assert found[0] is level
    assert says in found[1]
    assert cure in found[2]


@pytest.mark.parametrize(
    ("partitions", "by_shell"), [([CPU], None), ([CPU, GPU], "a100"), ([CPU, GPU], "a100,cpu")]
)
def test_partitions_that_fit_need_nothing(partitions, by_shell):
    assert not_fine(scheduler.of_partitions(partitions, by_shell)) == []


def test_a_kill_that_comes_too_soon_and_a_missing_accounting_are_said():
    fits = {"KillWait": "30 sec", "AccountingStorageType": "accounting_storage/slurmdbd", "JobRequeue": "0"}
    assert not_fine(scheduler.of_settings(fits)) == []
    [soon] = not_fine(scheduler.of_settings({**fits, "KillWait": "5 sec"}))
    assert "5 s (KillWait)" in soon[1]
    [without] = not_fine(scheduler.of_settings({**fits, "AccountingStorageType": "accounting_storage/none"}))
    assert without[1].startswith("no accounting")


@pytest.mark.parametrize(
    ("parameters", "says"), [("a,enable_expedited_requeue", 1), ("enable_configless", 0), ("", 0)]
)
def test_a_site_that_requeues_at_once_is_said_to(parameters, says):
    settings = {"SlurmctldParameters": parameters, "AccountingStorageType": "accounting_storage/slurmdbd"}
    words = [finding.says for finding in scheduler.of_settings(settings)]
    assert sum("launch asks for it, with commands of Slurm 25.11 or later" in one for one in words) == says


def test_what_a_site_may_ask_for_is_named_with_what_to_type(monkeypatch):
    monkeypatch.setattr(scheduler.slurm, "controller_answers", lambda: True)
    settings = {"SrunPortRange": "50000-50099", "AccountingStorageType": "accounting_storage/slurmdbd"}
    monkeypatch.setattr(scheduler.slurm, "configuration", lambda: settings)
    monkeypatch.setattr(scheduler.slurm, "partition_settings", lambda: [CPU])
    monkeypatch.setattr(scheduler.slurm, "accounts", lambda _user: ["chem2041"])
    cures = [one.cure for one in scheduler.look(site()) if one.cure]
    assert cures == [
        "launch --port-range 50000-50099, where ranks do not reach each other on others",
        "export SBATCH_ACCOUNT=chem2041, in site.env, where jobs without one are refused",
    ]
    settings["SrunPortRange"] = "0-0"
    assert [one.cure for one in scheduler.look(site(SBATCH_ACCOUNT="chem2041")) if one.cure] == []


# GPUs

SMI = 'echo "Tesla P100-PCIE-16GB, 6.0, 535.183.01"'


@pytest.mark.parametrize(
    ("torch_says", "level", "says"),
    [
        (
            '["12.8", ["sm_75", "sm_90", "compute_120"], true]',
            Level.PROBLEM,
            "no code for compute capability 6.0",
        ),
        ('["12.8", ["sm_60", "sm_90"], true]', None, ""),
        ('["12.8", ["sm_90", "compute_50"], true]', None, ""),
        ('["12.8", [], false]', Level.PROBLEM, "this driver is too old for"),
        ("[null, [], false]", Level.PROBLEM, "one without CUDA"),
    ],
)
def test_a_torch_that_has_no_code_for_the_gpus_is_a_problem(tmp_path, monkeypatch, torch_says, level, says):
    program(tmp_path, "nvidia-smi", SMI)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(gpus.sys, "executable", str(program(tmp_path, "python", f"echo '{torch_says}'")))
    found = not_fine(gpus.look(site()))
    assert [one[0] for one in found] == [level] * (level is not None)
    assert says in "".join(one[1] for one in found)


def test_a_machine_without_gpu_is_told_where_to_look(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    [(level, _says, cure)] = not_fine(gpus.look(site()))
    assert (level, cure) == (Level.NOTE, "srun --gpus=1 mri-hpc doctor")


# Network and weights


def test_interfaces_are_named_and_a_name_that_does_not_resolve_matters_no_more(monkeypatch):
    def fail(*_given, **_more):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    found = [Interface(name="ib0", address="10.0.0.1")]
    monkeypatch.setattr("mri_hpc.base.network.interfaces", lambda: found)
    assert not_fine(network.look(site())) == []
    assert "ib0 (10.0.0.1)" in next(network.look(site())).says


def test_a_variable_that_names_no_interface_is_said():
    interface = next(name for _number, name in socket.if_nameindex())
    [(_level, says, cure)] = not_fine(network.look(site(NCCL_SOCKET_IFNAME="nosuch0")))
    assert "NCCL_SOCKET_IFNAME=nosuch0 names no interface" in says
    assert "unset NCCL_SOCKET_IFNAME" in cure
    assert not_fine(network.look(site(GLOO_SOCKET_IFNAME="^nosuch0"))) == []
    if interface != "lo":
        assert not_fine(network.look(site(GLOO_SOCKET_IFNAME=interface))) == []


def test_weights_are_looked_for_where_torch_keeps_them(tmp_path):
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    assert [level for level, *_ in not_fine(weights_cache.look(site(TORCH_HOME=str(tmp_path))))] == [
        Level.NOTE
    ]
    (tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth").touch()
    assert not_fine(weights_cache.look(site(TORCH_HOME=str(tmp_path)))) == []


# The command


def test_a_check_that_fails_is_a_problem_and_the_others_go_on():
    def fail(_site):
        yield from ()
        raise UserError("Slurm is configured here but does not answer")

    failing, other = (
        Check(name=name, title=name, look=look) for name, look in (("a", fail), ("b", lambda _: iter(())))
    )
    (_, [found]), (_, nothing) = examine(site(), [failing, other])
    assert (found.level, nothing) == (Level.PROBLEM, [])
    assert "does not answer" in found.says


def test_what_the_system_refuses_is_said_in_words_with_what_to_do():
    def fail(_site):
        yield from ()
        raise PermissionError(13, "Permission denied", "/project/site.key")

    [(_, [found])] = examine(site(), [Check(name="key", title="key", look=fail)])
    assert (found.level, found.says) == (Level.PROBLEM, "Permission denied: /project/site.key")
    assert found.cure.startswith("see who may read and write there")


def test_a_folder_that_cannot_be_written_is_a_problem(tmp_path, monkeypatch):
    monkeypatch.setattr(file_system.os, "access", lambda *_given: False)
    [found] = [one for one in not_fine(file_system.look(site(tmp_path))) if one[0] is Level.PROBLEM]
    assert found[1] == f"{tmp_path} cannot be written by you"
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_that_writes_slowly_is_said_and_not_asked_for_more(tmp_path, monkeypatch):
    monkeypatch.setattr(file_system, "SLOW_S", -1.0)
    [(level, says, cure)] = not_fine(file_system.look(site(tmp_path)))
    assert (level, cure.startswith(f"mri-hpc store prove {tmp_path}")) == (Level.NOTE, True)
    assert "fsync is answered, slowly: files and folders" in says


def test_doctor_leaves_nothing_behind_and_says_what_to_do(tmp_path, capsys, monkeypatch):
    # Also on a machine that is busy.
    monkeypatch.setattr(file_system, "SLOW_S", float("inf"))
    monkeypatch.setenv("MRI_KEY_FILE", str(tmp_path / "nowhere" / "site.key"))
    (tmp_path / "nowhere").touch()
    assert main([str(tmp_path), "--only", "files", "key"]) == 2
    told = capsys.readouterr()
    assert "things that a store relies on" in told.out
    assert "  NOT OK  the site's key cannot be made" in told.out
    assert told.err.startswith(
        "mri-hpc doctor: 1 of 3 findings have to be seen to, the first: the site's key"
    )
    assert sorted(tmp_path.iterdir()) == [tmp_path / "nowhere"]


def test_a_check_that_is_none_is_refused_with_the_one_that_was_meant(capsys):
    assert main(["--only", "slrum"]) == 2
    assert "no check 'slrum'; did you mean 'slurm'?" in capsys.readouterr().err
