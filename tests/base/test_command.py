"""A command ends in one clear line and the right status."""

import importlib
import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import mri_hpc
from mri_hpc.__main__ import COMMANDS
from mri_hpc.base.command import print_json, run_command
from mri_hpc.base.errors import UserError, Verdict
from mri_hpc.base.marks import Flag


@dataclass(frozen=True, kw_only=True)
class Options:
    """Try things."""

    count: int = 1
    """How many."""
    json: Flag = False
    """Print as JSON."""


def run(body, argv=()):
    return run_command("mri-hpc try", Options, body, list(argv), example="mri-hpc try --count 2")


def raising(error):
    def body(_options):
        raise error

    return body


def test_a_users_mistake_is_one_line_and_status_2(capsys):
    assert run(raising(UserError("store is empty; run preprocess"))) == 2
    assert capsys.readouterr().err == "mri-hpc try: store is empty; run preprocess\n"


def test_no_space_is_the_users_to_mend(capsys, tmp_path):
    assert run(raising(OSError(28, "No space left on device", "/store/chunk"))) == 2
    assert capsys.readouterr().err == (
        "mri-hpc try: No space left on device: /store/chunk; make room there, then run it again\n"
    )


def test_a_place_that_is_mounted_for_reading_is_the_users_to_mend(capsys):
    assert run(raising(OSError(30, "Read-only file system", "/store/commits/one"))) == 2
    assert capsys.readouterr().err == (
        "mri-hpc try: Read-only file system: /store/commits/one; choose a place that can be written, or have "
        "that one mounted so, then run it again\n"
    )


def test_too_many_open_files_are_the_users_to_mend(capsys):
    assert run(raising(OSError(24, "Too many open files", "/store/file"))) == 2
    assert capsys.readouterr().err == (
        "mri-hpc try: Too many open files: /store/file; raise the limit on open files (ulimit -n), "
        "then run it again\n"
    )


def test_a_bug_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run(raising(ZeroDivisionError()))


def test_the_body_may_choose_its_status():
    assert run(lambda options: 75) == 75
    assert run(lambda options: None) == 0


def test_what_was_looked_at_and_is_bad_gets_no_second_document(capsys):
    def body(_options):
        print_json({"problems": 1})
        raise Verdict("1 problem")

    assert run(body, ["--json"]) == 2
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {"problems": 1}
    assert printed.err == "mri-hpc try: 1 problem\n"


@pytest.mark.parametrize(
    ("error", "kind"),
    [(UserError("no store"), "user"), (OSError(28, "No space left on device", "/store"), "system")],
)
def test_with_json_an_error_says_its_kind(capsys, error, kind):
    assert run(raising(error), ["--json"]) == 2
    printed = capsys.readouterr()
    found = json.loads(printed.out)["error"]
    assert found["kind"] == kind
    assert printed.err == f"mri-hpc try: {found['message']}\n"


def test_without_json_an_error_leaves_stdout_empty(capsys):
    assert run(raising(UserError("no store"))) == 2
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("words", [["--version"], ["--count", "many", "--version"]])
def test_every_command_tells_the_version(capsys, words):
    assert run(lambda options: None, words) == 0
    assert capsys.readouterr().out == f"mri-hpc {mri_hpc.__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_the_version_is_told_by(command, capsys):
    assert importlib.import_module(f"mri_hpc.{command.replace('-', '_')}").main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("mri-hpc ")


def run_apart(body, *words, stdout):
    """Run a command with the body's source in a process of its own; return what it left."""
    program = (
        "import sys\n"
        "from tests.base.test_command import run\n"
        "from mri_hpc.base.command import print_json\n"
        "from mri_hpc.base.errors import UserError\n"
        f"def body(_options):\n    {body}\n"
        f"sys.exit(run(body, {list(words)!r}))\n"
    )
    # With a buffer: what is printed reaches the file at exit only.
    environment = {**os.environ, "PYTHONUNBUFFERED": "", "PYTHONIOENCODING": "utf-8:strict"}
    return subprocess.run(
        [sys.executable, "-c", program], stdout=stdout, stderr=subprocess.PIPE, env=environment, check=False
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device here that is always full")
@pytest.mark.parametrize(
    ("body", "words"),
    [("print('done')", ()), ("print_json({})", ("--json",)), ("raise UserError('no')", ("--json",))],
)
def test_a_result_for_which_there_is_no_room_is_the_users_to_mend(body, words):
    with Path("/dev/full").open("w") as full:
        found = run_apart(body, *words, stdout=full)
    assert found.returncode == 2
    assert found.stderr.decode().count("\n") == 1


def test_json_of_a_path_that_is_no_text_is_json_still(monkeypatch):
    monkeypatch.setattr("sys.stdout", stream := io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))
    print_json({"store": "st\udcff"})
    stream.flush()
    assert json.loads(stream.buffer.getvalue()) == {"store": "st\udcff"}


def test_a_path_that_is_no_text_is_printed_all_the_same():
    found = run_apart("print('st\\udcff')", stdout=subprocess.PIPE)
    assert (found.returncode, found.stdout) == (0, b"st\\udcff\n")


INTERRUPTED_AMID_EXEC = {
    "work": "run(interrupted, [])",
    "what ends well all the same": "run(caught, [])",
    "imports of an action": "run_action('t', '', {'one': interrupted}, ['one'], example='')",
}


@pytest.mark.parametrize("command", INTERRUPTED_AMID_EXEC.values(), ids=INTERRUPTED_AMID_EXEC)
def test_an_interruption_of_what_python_makes_of_a_text_ends_with_a_status_and_no_signal(tmp_path, command):
    (tmp_path / "interrupted.py").write_text(
        "import sys\n"
        "from mri_hpc.base.command import run_action\n"
        "from tests.base.test_command import run\n"
        "def interrupted(_options=None):\n    exec('raise KeyboardInterrupt')\n"
        "def caught(_options):\n    try: interrupted(None)\n    except KeyboardInterrupt: return 130\n"
        f"sys.exit({command})\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{Path(__file__).parents[2]}"}
    words = [sys.executable, "-m", "interrupted"]
    ran = subprocess.run(words, env=environment, capture_output=True, check=False)
    assert (ran.returncode, ran.stdout) == (130, b""), ran.stderr


def test_a_command_that_is_none_is_refused_as_commands_refuse(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["mri-hpc", "lunch", "--json"])
    assert mri_hpc.__main__.main() == 2
    printed = capsys.readouterr()
    message = "no command 'lunch'; did you mean 'launch'?"
    assert json.loads(printed.out) == {"error": {"kind": "usage", "message": message}}
    assert printed.err == f"mri-hpc: {message}\n"
