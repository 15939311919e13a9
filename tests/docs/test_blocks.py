"""Every block of code in the pages runs, or says why not; every command and option that they name exists."""

import contextlib
import importlib
import io
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from mri_hpc.__main__ import COMMANDS
from tests.docs.pages import PAGES, ROOT, blocks_of, inline_code_of, name_of

BLOCKS = [block for page in PAGES for block in blocks_of(page)]
CODE = ("bash", "python")
SHELL = [block for block in BLOCKS if block.language == "bash"]
RUN_PYTHON = [page for page in PAGES if any(b.language == "python" and not b.reason for b in blocks_of(page))]
RUN_SHELL = [block for block in SHELL if not block.reason]
CALL = re.compile(r"(?:python3? -m mri_hpc\.|mri-hpc )(\w[\w-]*)(.*)")
# Commands that have actions, each with options of its own.
WITH_ACTIONS = ("store", "weights", "models")
# Programs of others, with options of their own.
OTHERS = ("squeue", "sbatch", "sinfo", "scontrol", "sacctmgr", "git", "tensorboard")


@pytest.fixture
def desk(tmp_path, make_pictures, make_run, preprocess):
    """A folder as a reader has it: images, a store of them with a snapshot, and a finished run."""
    from mri_hpc.storage.snapshot.catalogue import resolve

    # Under some keys all of so few images fall into one split.
    key = tmp_path / "site.key"
    key.touch(mode=0o600)
    key.write_text("01" * 32)
    make_pictures(tmp_path / "data" / "raw", 24, classes=("glioma", "meningioma", "pituitary"))
    status, _, complaints = preprocess(tmp_path / "data" / "raw", tmp_path / "data" / "store", "--size", "64")
    assert status == 0, complaints
    resolve(tmp_path / "data" / "store")
    (tmp_path / "runs").mkdir()
    make_run("runs/NAME")
    return tmp_path


def run(words, desk):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        words, cwd=desk, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    return ran.returncode, ran.stdout + ran.stderr


@cache
def help_of(command, *action):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert (
            importlib.import_module(f"mri_hpc.{command.replace('-', '_')}").main([*action, "--help-all"]) == 0
        )
    return printed.getvalue()


def calls_in(text):
    """(command, its action, its words) of every call of this program in a text of shell or prose."""
    for line in text.replace("\\\n", " ").splitlines():
        found = CALL.search(line.split("  #")[0])
        if found:
            command, words = found[1], found[2].split()
            action = words[:1] if command in WITH_ACTIONS else []
            yield command, action, words


def check_calls(text, where):
    for command, action, words in calls_in(text):
        if command == "X":
            continue
        assert command in COMMANDS, f"{where}: no command {command}"
        for option in re.findall(r"(?<![\w-])(--[a-z][a-z-]*)", " ".join(words)):
            assert option in help_of(command, *action), f"{where}: {command} {action} has no {option}"


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_every_block_says_what_it_is(block):
    assert block.language in (*CODE, "text", "toml", "json")
    assert not block.reason or block.language in CODE


@pytest.mark.parametrize("page", RUN_PYTHON, ids=name_of)
def test_the_python_of_a_page_runs(page, desk):
    for block in blocks_of(page):
        if block.language == "python" and not block.reason:
            status, output = run([sys.executable, "-c", block.text], desk)
            assert status == 0, f"{block}\n{output}"


@pytest.mark.parametrize("block", RUN_SHELL, ids=str)
def test_the_shell_of_a_page_runs(block, desk):
    status, output = run(["bash", "-euo", "pipefail", "-c", block.text], desk)
    assert status == 0, output


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_shell_that_is_not_run_can_be_read_by_a_shell_and_names_what_exists(block):
    # A reader fills these in.
    text = block.text.replace("<this repository>", "REPOSITORY")
    status, output = run(["bash", "-n", "-c", text], ROOT)
    assert status == 0, output
    check_calls(block.text, str(block))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_and_option_in_the_prose_exists(page):
    for code in inline_code_of(page):
        check_calls(code, name_of(page))


@cache
def all_options():
    """Every option that a command of ours, or a script here, takes."""
    calls = {(command, *action) for block in SHELL for command, action, _ in calls_in(block.text)}
    helps = [help_of(*call) for call in calls | {(command,) for command in COMMANDS}]
    scripts = [*(ROOT / "tools").rglob("*"), *(ROOT / "hpc").rglob("*"), *(ROOT / "tests/harness").iterdir()]
    texts = [file.read_text(encoding="utf-8") for file in scripts if file.is_file() and file.suffix != ".pyc"]
    return set(re.findall(r"--[a-z][a-z-]*", "\n".join([*helps, *texts])))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_option_that_a_page_mentions_is_taken_by_something(page):
    for code in inline_code_of(page):
        if code.startswith(OTHERS):
            continue
        found = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", code))
        assert found <= all_options() | {"--help"}, code


def test_the_pages_have_code_that_runs():
    assert len(RUN_PYTHON) >= 1
    assert len(RUN_SHELL) >= 2
    assert len([call for block in SHELL for call in calls_in(block.text)]) > 30
