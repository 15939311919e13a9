"""Ctrl-C before a command has begun: what it imports takes seconds on a busy disk."""

import os
import subprocess
import sys

import pytest

from mri_hpc.__main__ import COMMANDS
from mri_hpc.base.interruption import command_of

# Python runs this before all else. The interruption comes when a module is looked for.
AT_IMPORT = """
import os, signal, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "mri_hpc.base.command":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Finder())
"""
# It comes where Python would forget it.
WHILE_PUTTING_AWAY = """
import sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "mri_hpc.base.command":
            Lost()

class Lost:
    def __del__(self):
        raise KeyboardInterrupt

sys.meta_path.insert(0, Finder())
"""
FAILURE = AT_IMPORT.replace("os.kill(os.getpid(), signal.SIGINT)", "raise RuntimeError('a bug')")


def start(folder, trouble, *words):
    (folder / "sitecustomize.py").write_text(trouble)
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_an_interruption_of_its_imports_ends_each_command_in_one_line(tmp_path, command):
    for words in (("-m", f"mri_hpc.{command.replace('-', '_')}"), ("-m", "mri_hpc", command)):
        status, out, err = start(tmp_path, AT_IMPORT, *words)
        assert (status, out, err) == (130, "", f"mri-hpc {command}: interrupted\n")


def test_an_interruption_that_python_would_forget_ends_a_command_too(tmp_path):
    status, _out, err = start(tmp_path, WHILE_PUTTING_AWAY, "-m", "mri_hpc.status")
    assert (status, err) == (130, "mri-hpc status: interrupted\n")


def test_what_is_no_interruption_keeps_its_traceback(tmp_path):
    status, _out, err = start(tmp_path, FAILURE, "-m", "mri_hpc.status")
    assert (status, err.splitlines()[0][:9], err.splitlines()[-1]) == (1, "Traceback", "RuntimeError: a bug")


def test_only_a_command_of_ours_is_spoken_for(tmp_path):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "__init__.py").write_text("import mri_hpc.base.command\n")
    (tmp_path / "theirs" / "tool.py").write_text("")
    _status, _out, err = start(tmp_path, AT_IMPORT, "-m", "theirs.tool")
    assert err.splitlines()[-1] == "KeyboardInterrupt"
    assert command_of(["python", "-m", "theirs.mri_hpc"]) is None
    assert command_of(["python", "-mmri_hpc.status", "runs/a"]) == "mri-hpc status"
