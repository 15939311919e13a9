"""A process is known by its number and its beginning."""

import os
import subprocess
import sys
import time

import pytest

from mri_hpc.base.process import look_at

# Gives itself a name that looks like what follows it in /proc, and is no UTF-8; then waits to be ended.
NAMED = "import sys; open('/proc/self/comm', 'wb').write(b') Z \\xff'); print(flush=True); sys.stdin.read()"


def test_the_beginning_of_a_process_is_when_it_was_started():
    before_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    with subprocess.Popen([sys.executable, "-c", NAMED], stdin=-1, stdout=-1) as child:
        child.stdout.readline()
        after_s = time.clock_gettime(time.CLOCK_BOOTTIME)
        process = look_at(child.pid)
        child.stdin.close()
    tick_s = 1 / os.sysconf("SC_CLK_TCK")
    assert before_s - tick_s <= process.start_ticks * tick_s <= after_s
    assert process.state in "RS"


def test_a_process_that_was_not_waited_for_has_ended_and_one_that_was_is_not_there():
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert look_at(child.pid).state == "Z"
    child.wait()
    with pytest.raises(OSError):
        look_at(child.pid)
