"""What the marks of tests say is so: the fast ones see a machine on which nothing was installed for them."""

import os
import shutil
import subprocess

import pytest

from tests.harness.cluster import PROGRAMS
from tests.harness.disks import can_mount
from tests.harness.system_calls import can_trace
from tests.kinds import COLLECTED, ROOMS, TESTS, kinds_of


def test_every_test_is_of_one_kind(request):
    wrong = [item.nodeid for item in request.config.stash[COLLECTED] if len(kinds_of(item)) != 1]
    assert wrong == []


def test_every_room_has_a_kind():
    rooms = {file.relative_to(TESTS).parts[0] for file in TESTS.rglob("test_*.py")}
    assert rooms == set(ROOMS), "name each room in tests/kinds.py"


def test_a_fast_test_finds_no_program_that_has_to_be_installed_and_has_no_power_of_root(tmp_path):
    assert [name for name in PROGRAMS if shutil.which(name)] == []
    assert not can_trace()
    assert not can_mount()
    closed = tmp_path / "closed"
    closed.touch(mode=0)
    with pytest.raises(PermissionError):
        closed.read_bytes()
    assert subprocess.run(["cat", closed], capture_output=True).returncode != 0


@pytest.mark.slow
def test_other_tests_see_the_machine_as_it_is(bare_path, tmp_path):
    assert str(bare_path) not in os.get_exec_path()
    if os.geteuid() == 0:
        closed = tmp_path / "closed"
        closed.touch(mode=0)
        assert closed.read_bytes() == b""
