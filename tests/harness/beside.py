"""Folders of tests, each in a process of its own beside all others: one session, one summary, one status.

A test is of the first folder, or file, that holds it.

Those that wait, for Slurm or for ranks, leave the processors to those that compute. What came of them is read
from pipes between two tests: with a thread for that, no test could fork.
"""

import fcntl
import multiprocessing.connection
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

PIPE_BYTES = 2**20
# How long fixtures may take to clear away after an interruption.
PATIENCE_S = 120.0
MOST_CHARACTERS = 5000


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --beside, and the options by which a process beside learns its folder, and where to report."""
    text = "run the tests of this folder or file in a process of their own, beside all others; may come again"
    parser.addoption("--beside", metavar="FOLDER", action="append", default=[], help=text)
    parser.addoption("--lane", metavar="FOLDER", help="set by --beside")
    parser.addoption("--lane-reports", metavar="DESCRIPTOR", type=int, help="set by --beside")


def pytest_configure(config: pytest.Config) -> None:
    """Take one side or the other."""
    lane, folders = config.getoption("lane"), config.getoption("beside")
    if lane:
        config.pluginmanager.register(Beside(config, lane, config.getoption("lane_reports")))
    elif folders and not config.option.collectonly:
        config.pluginmanager.register(Here(config, folders))


def _folder_of(path: Path, folders: Sequence[str]) -> str | None:
    """Return the first of the folders that holds a path; None: it is of none."""
    return next((folder for folder in folders if path.is_relative_to(Path(folder).absolute())), None)


class Beside:
    """A process beside: runs the tests of a folder, and reports each at once."""

    def __init__(self, config: pytest.Config, folder: str, descriptor: int) -> None:
        self._config, self._folder = config, folder
        self._folders = config.getoption("beside")
        # What tests start must not keep it open.
        os.set_inheritable(descriptor, False)
        self._reports = Connection(descriptor, readable=False)

    def pytest_ignore_collect(self, collection_path: Path) -> bool | None:
        """Read no tests of other folders: their imports would cost each process seconds."""
        is_on_the_way = Path(self._folder).absolute().is_relative_to(collection_path)
        is_own = _folder_of(collection_path, self._folders) == self._folder
        return None if is_on_the_way or is_own else True

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep the tests of the folder."""
        items[:] = [item for item in items if _folder_of(item.path, self._folders) == self._folder]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Pass the report on."""
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        self._reports.send(data)


class Lane:
    """A process beside, as the one that started it sees it."""

    def __init__(self, folder: str, items: Sequence[pytest.Item]) -> None:
        self.missing = {item.nodeid: item for item in items}
        """Tests that it has not reported yet, by their names."""
        self._folder = folder
        self._held: list[pytest.TestReport] = []

    def start(self, arguments: Sequence[str]) -> None:
        """Start it with the arguments that this pytest was given."""
        reading, writing = os.pipe()
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self.reports = Connection(reading, writable=False)
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the last words
        options = [*arguments, f"--lane={self._folder}", f"--lane-reports={writing}"]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pytest", *options],
            pass_fds=[writing],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            # An interruption reaches it once: from here.
            start_new_session=True,
        )
        os.close(writing)

    def take(self, report: pytest.TestReport) -> list[pytest.TestReport]:
        """Take a report; return all of a test once it has ended, so that they stand together."""
        self._held.append(report)
        if report.when != "teardown":
            return []
        del self.missing[report.nodeid]
        held, self._held = self._held, []
        return held

    def interrupt(self) -> None:
        """Have it clear away and end."""
        self._process.send_signal(signal.SIGINT)

    def last_words(self) -> str:
        """Wait for its end, and return how it ended."""
        with self._output as output:
            status = self._process.wait(PATIENCE_S)
            output.seek(0)
            words = output.read().decode(errors="replace")[-MOST_CHARACTERS:]
        return f"the process beside ended with status {status}:\n{words}"


class Here:
    """The process that was started: runs all other tests, and reports those beside among its own."""

    def __init__(self, config: pytest.Config, folders: Sequence[str]) -> None:
        self._config, self._folders = config, folders
        self._lanes: list[Lane] = []
        # By their reports, as long as there may be more of them.
        self._reporting: dict[Connection, Lane] = {}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Leave the tests of each folder to a process beside, unless there are no others."""
        whose = {item: _folder_of(item.path, self._folders) for item in items}
        for folder in self._folders:
            inside = [item for item in items if whose[item] == folder]
            if inside and len(inside) < len(items):
                self._lanes.append(Lane(folder, inside))
                items[:] = [item for item in items if whose[item] != folder]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """Run all at once."""
        session.testscollected += sum(len(lane.missing) for lane in self._lanes)
        started: list[Lane] = []
        try:
            for lane in self._lanes:
                lane.start(self._config.invocation_params.args)
                started.append(lane)
                self._reporting[lane.reports] = lane
            done = yield
            while self._reporting:
                self._receive(timeout_s=None)
                if session.shouldfail:
                    raise session.Failed(session.shouldfail)
        except BaseException:
            for lane in started:
                lane.interrupt()
            raise
        finally:
            words = [lane.last_words() for lane in started]
        for lane, last in zip(started, words, strict=True):
            self._report_missing(lane, last)
        return done

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self) -> Generator[None, object, object]:
        """After each test, report what came of those beside meanwhile."""
        done = yield
        while self._receive(timeout_s=0):
            pass
        return done

    def _receive(self, timeout_s: float | None) -> bool:
        """Take a report of each process beside that has one; False where none has."""
        ready = multiprocessing.connection.wait(self._reporting, timeout_s)
        for reports in ready:
            assert isinstance(reports, Connection)
            try:
                data = reports.recv()
            except EOFError:
                del self._reporting[reports]
                continue
            report = self._config.hook.pytest_report_from_serializable(config=self._config, data=data)
            if whole := self._reporting[reports].take(report):
                self._log(whole)
        return bool(ready)

    def _report_missing(self, lane: Lane, words: str) -> None:
        for item in lane.missing.values():
            at = (item.nodeid, item.location)
            self._log([pytest.TestReport(*at, keywords={}, outcome="failed", longrepr=words, when="call")])

    def _log(self, reports: list[pytest.TestReport]) -> None:
        hook, of = self._config.hook, {"nodeid": reports[0].nodeid, "location": reports[0].location}
        hook.pytest_runtest_logstart(**of)
        for report in reports:
            hook.pytest_runtest_logreport(report=report)
        hook.pytest_runtest_logfinish(**of)
