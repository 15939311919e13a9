"""The version stands in one place, wherever the code runs from."""

import configparser
import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

import mri_hpc
from mri_hpc.base.version import version, version_of

ROOT = Path(__file__).parents[2]


def stated():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    return setup["metadata"]["version"]


def test_a_checkout_says_the_version_of_its_setup_cfg_also_where_another_was_installed(tmp_path):
    (tmp_path / "setup.cfg").write_text("[metadata]\nname = mri_hpc\nversion = 7.8.9\n")
    assert version(tmp_path) == "7.8.9"
    assert mri_hpc.__version__ == stated()


@pytest.mark.parametrize("setup", [None, "[metadata]\nname = other\nversion = 7.8.9\n"])
def test_elsewhere_the_version_is_that_of_what_is_installed(setup, tmp_path, monkeypatch):
    if setup:
        (tmp_path / "setup.cfg").write_text(setup)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: f"installed {name}")
    assert version(tmp_path) == "installed mri_hpc"


@pytest.mark.parametrize("package", ["tifffile", "numpy", "packaging"])
def test_the_version_of_a_library_is_what_its_metadata_say(package):
    assert version_of(package) == importlib.metadata.version(package)


def test_the_version_of_a_library_is_known_also_where_no_folder_beside_it_says_it(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: f"installed {name}")
    assert version_of("elsewhere") == "installed elsewhere"
    for number in ("1.5", "1.6"):
        (tmp_path / f"elsewhere-{number}.dist-info").mkdir()
    assert version_of("elsewhere") == "installed elsewhere"


def test_the_command_says_its_version():
    ran = subprocess.run([sys.executable, "-m", "mri_hpc", "--version"], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (0, f"mri-hpc {stated()}\n")


def test_another_name_in_the_package_is_none():
    with pytest.raises(AttributeError, match="has no attribute 'versoin'"):
        mri_hpc.versoin  # noqa: B018


def test_the_changes_of_a_version_are_written_down():
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    heading = "## Unreleased\n" if ".dev" in stated() else f"## {stated()} "
    assert f"\n{heading}" in changes
