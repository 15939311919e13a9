"""Tests of one kind in a process of their own beside all others: one session, one summary, one status.

Those that wait for Slurm leave the processors to those that compute. What came of them is read from a pipe
between two tests: with a thread for that, no test could fork.
"""

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator
from multiprocessing.connection import Connection
from typing import IO

import pytest

PIPE_BYTES = 2**20
# How long fixtures may take to clear away after an interruption.
PATIENCE_S = 120.0
MOST_CHARACTERS = 5000


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --beside, and the option by which the process beside is told where to report."""
    text = "run the tests with this marker in a process of their own, beside all others"
    parser.addoption("--beside", metavar="MARKER", help=text)
    parser.addoption("--beside-reports", metavar="DESCRIPTOR", type=int, help="set by --beside")


def pytest_configure(config: pytest.Config) -> None:
    """Take one side or the other."""
    marker, reports = config.getoption("beside"), config.getoption("beside_reports")
    if reports is not None:
        config.pluginmanager.register(Beside(config, marker, reports))
    elif marker and not config.option.collectonly:
        config.pluginmanager.register(Here(config, marker))


class Beside:
    """The process beside: runs the tests with the marker, and reports each at once."""

    def __init__(self, config: pytest.Config, marker: str, descriptor: int) -> None:
        self._config, self._marker = config, marker
        # What tests start must not keep it open.
        os.set_inheritable(descriptor, False)
        self._reports = Connection(descriptor, readable=False)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep the tests with the marker."""
        items[:] = [item for item in items if item.get_closest_marker(self._marker)]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Pass the report on."""
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        self._reports.send(data)


class Here:
    """The process that was started: runs all other tests, and reports those beside among its own."""

    def __init__(self, config: pytest.Config, marker: str) -> None:
        self._config, self._marker = config, marker
        self._beside: dict[str, pytest.Item] = {}
        self._reports: Connection | None = None
        self._held: list[pytest.TestReport] = []

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Leave the tests with the marker to the process beside, unless there are no others."""
        beside = [item for item in items if item.get_closest_marker(self._marker)]
        if len(beside) < len(items):
            items[:] = [item for item in items if not item.get_closest_marker(self._marker)]
            self._beside = {item.nodeid: item for item in beside}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """Run both at once."""
        if not self._beside:
            return (yield)
        session.testscollected += len(self._beside)
        with tempfile.TemporaryFile() as output:
            process = self._start(output)
            try:
                done = yield
                while self._reports:
                    self._receive()
                    if session.shouldfail:
                        raise session.Failed(session.shouldfail)
            except BaseException:
                process.send_signal(signal.SIGINT)
                raise
            finally:
                status = process.wait(PATIENCE_S)
            self._report_missing(f"the process beside ended with status {status}:\n{_last_words(output)}")
        return done

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self) -> Generator[None, object, object]:
        """After each test, report what came of those beside meanwhile."""
        done = yield
        while self._reports and self._reports.poll():
            self._receive()
        return done

    def _start(self, output: IO[bytes]) -> "subprocess.Popen[bytes]":
        reading, writing = os.pipe()
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._reports = Connection(reading, writable=False)
        options = [*self._config.invocation_params.args, f"--beside-reports={writing}"]
        process = subprocess.Popen(
            [sys.executable, "-m", "pytest", *options],
            pass_fds=[writing],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # An interruption reaches it once: from here.
            start_new_session=True,
        )
        os.close(writing)
        return process

    def _receive(self) -> None:
        """Take one report; those of a test are held back until it has ended, so that they stand together."""
        assert self._reports
        try:
            data = self._reports.recv()
        except EOFError:
            self._reports = None
            return
        report = self._config.hook.pytest_report_from_serializable(config=self._config, data=data)
        self._held.append(report)
        if report.when == "teardown":
            del self._beside[report.nodeid]
            self._log(self._held)
            self._held = []

    def _report_missing(self, words: str) -> None:
        for item in self._beside.values():
            at = (item.nodeid, item.location)
            self._log([pytest.TestReport(*at, keywords={}, outcome="failed", longrepr=words, when="call")])

    def _log(self, reports: list[pytest.TestReport]) -> None:
        hook, of = self._config.hook, {"nodeid": reports[0].nodeid, "location": reports[0].location}
        hook.pytest_runtest_logstart(**of)
        for report in reports:
            hook.pytest_runtest_logreport(report=report)
        hook.pytest_runtest_logfinish(**of)


def _last_words(output: IO[bytes]) -> str:
    output.seek(0)
    return output.read().decode(errors="replace")[-MOST_CHARACTERS:]
