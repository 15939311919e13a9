"""What tests see of another file system is seen by them alone."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness.disks import open_the_way

ANOTHER = 64704
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another account")


def status_of(look: Callable[[], int]) -> int:
    """What a child of this process makes of a question: its exit status is the answer."""
    pid = os.fork()
    if not pid:
        try:
            os._exit(look())
        finally:
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_another_account_reaches_a_clone_below_a_closed_home_and_nothing_else_of_it() -> None:
    # Not below pytest's own folder, which is closed itself.
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        clone, letter = home / "work" / "clone", home / "letter"
        clone.mkdir(parents=True)
        (clone / "module.py").touch()
        letter.touch()
        assert home.stat().st_mode & 0o777 == 0o700

        def look() -> int:
            open_the_way(clone, Path("/usr"))
            os.setuid(ANOTHER)
            return 2 * (clone / "module.py").exists() + letter.exists()

        assert status_of(look) == 2
        assert letter.exists()
