"""--beside MARKER: two processes are one session, whatever becomes of either."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
Session = Callable[..., tuple[int, str]]
# Each side waits for a file that the other makes.
MEET = """
import os, time
from pathlib import Path
import pytest

HERE = Path(__file__).parent

def meet(own, other):
    (HERE / own).touch()
    while not (HERE / other).exists():
        time.sleep(0.01)

@pytest.mark.waits
def test_beside():
    meet("beside", "here")

def test_here():
    meet("here", "beside")
"""


@pytest.fixture
def session(tmp_path: Path) -> Session:
    """Runs pytest on one module of these lines, with --beside waits: status and what it printed."""

    def run(module: str, *options: str) -> tuple[int, str]:
        (tmp_path / "pytest.ini").write_text(
            "[pytest]\nmarkers =\n waits: is run beside\n works: is run here\n"
        )
        (tmp_path / "test_it.py").write_text(module)
        words = ["-p", "tests.harness.beside", "--beside", "waits", *options, tmp_path]
        ran = subprocess.run(
            [sys.executable, "-m", "pytest", *map(str, words)],
            cwd=ROOT, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        return ran.returncode, ran.stdout + ran.stderr

    return run


def test_both_run_at_once_and_one_line_counts_them(session: Session) -> None:
    status, said = session(MEET)
    assert status == 0, said
    assert re.search(r"^=+ 2 passed in ", said.splitlines()[-1])


@pytest.mark.parametrize("words", ["-q", "-v", "-ra"])
def test_a_failure_beside_is_told_as_any_other(session: Session, words: str) -> None:
    status, said = session(
        "import pytest\n"
        "@pytest.mark.waits\ndef test_beside(): assert 1 + 1 == 3, 'sums'\n"
        "@pytest.mark.waits\n@pytest.mark.skip(reason='not today')\ndef test_skipped(): pass\n"
        "def test_here(): pass\n",
        words,
    )
    assert status == 1
    assert "AssertionError: sums" in said
    assert "FAILED" in said and "test_it.py::test_beside" in said
    assert "1 failed, 1 passed, 1 skipped in " in said.splitlines()[-1]


def test_tests_whose_process_dies_have_failed_and_its_last_words_are_told(session: Session) -> None:
    status, said = session(
        "import os, pytest\n"
        "@pytest.mark.waits\ndef test_before(): pass\n"
        "@pytest.mark.waits\ndef test_deadly(): os.write(1, b'alas'); os._exit(3)\n"
        "@pytest.mark.waits\ndef test_after(): pass\n"
        "def test_here(): pass\n",
        "-s",
    )
    assert status == 1
    assert "the process beside ended with status 3:" in said and "alas" in said
    assert "2 failed, 2 passed in " in said.splitlines()[-1]


@pytest.mark.parametrize(("failing", "waiting"), [("waits", "works"), ("works", "waits")])
def test_the_first_failure_on_either_side_ends_both_where_that_is_asked_for(
    session: Session, failing: str, waiting: str
) -> None:
    status, said = session(
        MEET
        + f"""
@pytest.mark.{failing}
def test_fails():
    assert False

@pytest.mark.{waiting}
@pytest.mark.parametrize("number", range(1000))
def test_waits(number):
    time.sleep(0.1)
""",
        "-x",
    )
    assert status == 1
    assert "stopping after 1 failures" in said
    assert re.search(r"1 failed, \d\d? passed in ", said.splitlines()[-1])
