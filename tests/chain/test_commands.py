"""Commands of a link, in processes of their own."""

import dataclasses
import signal
import sys
import threading
import time

import pytest

from mri_hpc.base.errors import UserError
from mri_hpc.base.stop_flag import StopFlag, StopRequest
from mri_hpc.chain import commands as of_links
from mri_hpc.chain.commands import Commands, Interrupted, NotOn

STUBBORN = """
import signal, sys, time
print("/raw/Doe/1.png")
signal.signal(signal.SIGTERM, signal.SIG_IGN if "deaf" in sys.argv else lambda *_: sys.exit(75))
print("ready", file=sys.stderr, flush=True)
time.sleep(600)
"""
SIGTERM = StopRequest(signal_name="SIGTERM", received_s=0.0)


@pytest.fixture
def commands(tmp_path):
    return Commands(log=tmp_path / "log", stop=StopFlag())


def test_a_command_that_fails_is_told_in_its_last_line_and_one_that_a_signal_ended_goes_on_later(
    commands, tmp_path
):
    last_line = commands.run("models", ["list", "--models", str(tmp_path / "none")])
    assert last_line == f"{tmp_path / 'none'} holds no model: mri-hpc models add RUN adds one"
    with pytest.raises(UserError, match=r"^mri-hpc models: .*unrecognized options: --lst.* \(see .*log\)$"):
        commands.run("models", ["list", "--lst"])
    log = commands.log.read_text()
    assert log.startswith("$ mri-hpc models list --models ") and "holds no model" in log
    commands.stop.take(SIGTERM)
    with pytest.raises(Interrupted, match="SIGTERM"):
        commands.run("models", ["list"])
    assert commands.log.read_text() == log, "none is begun"


@pytest.fixture
def processes(monkeypatch):
    """Has a command be a process that ends by SIGTERM, or not at all; those that were started."""
    started = []
    popen = of_links.subprocess.Popen

    def start(*words, **more):
        started.append(popen(*words, **more))
        return started[-1]

    monkeypatch.setattr(
        of_links, "program", lambda command, _words: [sys.executable, "-c", STUBBORN, command]
    )
    monkeypatch.setattr(of_links.subprocess, "Popen", start)
    monkeypatch.setattr(of_links, "GRACE_S", 0.2)
    return started


def when_ready(commands, act):
    """Do something once the process has said that it is ready."""

    def wait():
        while not (commands.log.exists() and "ready" in commands.log.read_text()):
            time.sleep(0.01)
        act()

    threading.Thread(target=wait, daemon=True).start()


@pytest.mark.parametrize(("command", "status"), [("deaf", -signal.SIGKILL), ("heeding", 75)])
def test_a_signal_is_passed_on_to_the_command_that_runs_which_is_killed_if_it_does_not_heed_it(
    commands, processes, monkeypatch, command, status
):
    if command == "heeding":
        monkeypatch.setattr(of_links, "GRACE_S", 60.0)
    when_ready(commands, lambda: commands.stop.take(SIGTERM))
    with pytest.raises(Interrupted, match="SIGTERM"):
        commands.run(command, [])
    assert [one.returncode for one in processes] == [status]


def test_a_command_that_heard_the_signal_before_its_link_is_no_failure(commands, processes):
    when_ready(commands, lambda: processes[0].send_signal(signal.SIGINT))
    with pytest.raises(Interrupted, match="SIGINT"):
        commands.run("heeding", [])


def test_a_command_that_is_not_to_go_on_is_ended_with_the_reason(commands, processes, monkeypatch):
    monkeypatch.setattr(of_links, "ASK_EVERY_S", 0.0)
    is_over = threading.Event()
    when_ready(commands, is_over.set)
    with pytest.raises(NotOn, match="hours are used"):
        commands.run("deaf", [], why_not_on=lambda: "hours are used" if is_over.is_set() else "")
    assert processes[0].returncode == -signal.SIGKILL

    def cannot_say():
        raise UserError("the ledger is damaged")

    with pytest.raises(UserError, match="damaged"):
        commands.run("deaf", [], why_not_on=cannot_say)
    assert processes[1].returncode is not None, "no command outlives its link"


def test_lines_of_a_command_that_is_followed_are_said_while_it_works(commands, processes):
    said = []
    following = dataclasses.replace(commands, say=said.append)
    when_ready(commands, lambda: until(said, "ready") or processes[0].terminate())
    with pytest.raises(Interrupted):
        following.run("heeding", [], is_followed=True)
    assert {*said} == {"/raw/Doe/1.png", "ready"} and len(said) == 2
    said.clear()
    commands.log.unlink()
    when_ready(commands, lambda: processes[-1].terminate())
    with pytest.raises(Interrupted):
        following.run("heeding", [])
    assert said == []


def test_a_command_that_is_followed_goes_on_where_nobody_hears_it_any_more(commands, processes):
    heard = []

    def gone(line):
        heard.append(line)
        raise BrokenPipeError

    when_ready(commands, lambda: until(heard, "ready", "/raw/Doe/1.png") or processes[0].terminate())
    with pytest.raises(Interrupted):
        dataclasses.replace(commands, say=gone).run("heeding", [], is_followed=True)
    assert len(heard) == 1


def until(said, line, *or_lines):
    while not {line, *or_lines}.intersection(said):
        time.sleep(0.01)


def test_what_a_command_prints_of_files_is_not_kept(commands, processes):
    for names_files in (False, True):
        commands.log.write_text("")
        when_ready(commands, lambda: processes[-1].terminate())
        with pytest.raises(Interrupted):
            commands.run("heeding", [], names_files=names_files)
        assert ("Doe" in commands.log.read_text()) != names_files
