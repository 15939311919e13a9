"""--beside FOLDER: several processes are one session, whatever becomes of any."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
Session = Callable[..., tuple[int, str]]
# Each waits for the files that the others make.
MEET = """
import time
from pathlib import Path

def test_meets():
    own = Path(__file__).parent
    (own / "met").touch()
    while len(list(own.parent.glob("*/met"))) < 3:
        time.sleep(0.01)
"""
# Each waits for the other file of its folder, and notes who reads it.
MEET_IN_FOLDER = """
import os, time
from pathlib import Path

own = Path(__file__)
with own.with_suffix(".read").open("a") as note:
    note.write(f"{os.getpid()} ")

def test_meets():
    own.with_suffix(".met").touch()
    while len(list(own.parent.glob("*.met"))) < 2:
        time.sleep(0.01)
"""
WAITS = """
import time, pytest

@pytest.mark.parametrize("number", range(1000))
def test_waits(number):
    time.sleep(0.1)
"""


@pytest.fixture
def session(tmp_path: Path) -> Session:
    """Runs pytest on a module in each of three folders, two of them beside: status and what it printed."""

    def run(*options: object, here: str, slow: str = "", late: str = "", more: str = "") -> tuple[int, str]:
        (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib\n")
        for folder, module in {"here": here, "slow": slow, "late": late}.items():
            (tmp_path / folder).mkdir()
            (tmp_path / folder / "test_it.py").write_text(module)
        (tmp_path / "slow" / "test_more.py").write_text(more)
        beside = ["--beside", tmp_path / "slow", "--beside", tmp_path / "late"]
        words = ["-p", "tests.harness.beside", *options, *beside, tmp_path]
        # What pytest would load besides takes more than all the rest.
        environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        ran = subprocess.run(
            [sys.executable, "-m", "pytest", *map(str, words)],
            cwd=ROOT, capture_output=True, text=True, timeout=300, env=environment,
        )  # fmt: skip
        return ran.returncode, ran.stdout + ran.stderr

    return run


def test_all_run_at_once_and_one_line_counts_them(session: Session) -> None:
    status, said = session(here=MEET, slow=MEET, late=MEET)
    assert status == 0, said
    assert re.search(r"^=+ 3 passed in ", said.splitlines()[-1])


@pytest.mark.parametrize("words", ["-q", "-v"])
def test_a_failure_beside_is_told_as_any_other(session: Session, words: str) -> None:
    status, said = session(
        words,
        here="def test_here(): pass\n",
        slow="def test_beside(): assert 1 + 1 == 3, 'sums'\n",
        late="import pytest\n@pytest.mark.skip(reason='not today')\ndef test_skipped(): pass\n",
    )
    assert status == 1
    assert "AssertionError: sums" in said
    assert "FAILED" in said and "test_it.py::test_beside" in said
    assert "1 failed, 1 passed, 1 skipped in " in said.splitlines()[-1]


def test_tests_whose_process_dies_have_failed_and_its_last_words_are_told(session: Session) -> None:
    status, said = session(
        "-s",
        here="def test_here(): pass\n",
        slow="import os\n"
        "def test_before(): pass\n"
        "def test_deadly(): os.write(1, b'alas'); os._exit(3)\n"
        "def test_after(): pass\n",
        late="def test_late(): pass\n",
    )
    assert status == 1
    assert "the process beside ended with status 3:" in said and "alas" in said
    assert "2 failed, 3 passed in " in said.splitlines()[-1]


@pytest.mark.parametrize("failing", ["here", "slow"])
def test_the_first_failure_anywhere_ends_all_where_that_is_asked_for(session: Session, failing: str) -> None:
    modules = {name: MEET + WAITS for name in ("here", "slow", "late")}
    status, said = session("-x", **{**modules, failing: MEET + "def test_fails(): assert False\n"})
    assert status == 1
    assert "stopping after 1 failures" in said
    assert re.search(r"1 failed, \d\d? passed in ", said.splitlines()[-1])


def test_a_file_may_run_beside_the_rest_of_its_folder_and_each_process_reads_its_own_tests_alone(
    session: Session, tmp_path: Path
) -> None:
    file = ["--beside", tmp_path / "slow" / "test_more.py"]
    status, said = session(*file, here="def test_here(): pass\n", slow=MEET_IN_FOLDER, more=MEET_IN_FOLDER)
    assert status == 0, said
    assert "3 passed in " in said.splitlines()[-1]
    readers = [note.read_text().split() for note in (tmp_path / "slow").glob("*.read")]
    # The process that was started, which knows of all, and that of the file.
    assert [len(set(processes)) for processes in readers] == [2, 2]
    assert len({process for processes in readers for process in processes}) == 3


def test_where_all_tests_are_of_the_folders_the_last_of_these_runs_here(session: Session) -> None:
    status, said = session(here="", slow="def test_beside(): pass\n", late="def test_late(): pass\n")
    assert status == 0, said
    assert "2 passed in " in said.splitlines()[-1]
