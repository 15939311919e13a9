"""What equality to the bit rests on is recorded, and what of it has changed is named."""

import platform
import shutil
import subprocess

import pytest
import torch

from mri_hpc.rundir.place import Place
from mri_hpc.training.conditions import changes, code_version, conditions
from mri_hpc.training.ranks import Ranks

ALONE = Ranks(place=Place(), device=torch.device("cpu"), backend="none", num_hosts=1)


def test_a_changed_condition_is_named_with_both_values():
    assert changes({"ranks": 4, "torch": "2.8"}, {"ranks": 2, "torch": "2.8"}) == {"ranks": (4, 2)}


def test_of_what_a_checkpoint_of_before_does_not_hold_nothing_is_said():
    assert changes({"ranks": 4}, {"ranks": 4, "python": "3.12"}) == {}


def test_the_versions_of_this_code_and_of_python_are_conditions():
    found = conditions(ALONE, threads=1, deterministic=True)
    assert (found["mri_hpc"], found["python"]) == (code_version(), platform.python_version())
    assert found["threads"] == 1


@pytest.mark.skipif(not shutil.which("git"), reason="git is not here")
def test_the_version_of_a_checkout_names_its_commit(tmp_path):
    def git(*words):
        who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        ran = subprocess.run(["git", *who, *words], cwd=tmp_path, capture_output=True, text=True, check=True)
        return ran.stdout.strip()

    version = code_version(tmp_path)
    assert "(" not in version
    git("init")
    assert code_version(tmp_path) == version
    git("commit", "--allow-empty", "--message", "first")
    named = f"{version} ({git('rev-parse', 'HEAD')[:12]})"
    assert code_version(tmp_path) == named
    git("pack-refs", "--all")
    assert code_version(tmp_path) == named
    git("checkout", "--detach")
    assert code_version(tmp_path) == named
