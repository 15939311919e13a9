"""A signal sets a flag and nothing else."""

import os
import signal

import pytest

from mri_hpc.base.stop_flag import STOP_SIGNALS, StopFlag


@pytest.fixture
def flag():
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    yield StopFlag().listen()
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_stop_signal_is_remembered(flag, number):
    assert flag.request is None
    os.kill(os.getpid(), number)
    assert flag.request.signal_name == signal.Signals(number).name


def test_the_first_signal_is_the_one_that_counts(flag):
    os.kill(os.getpid(), signal.SIGUSR2)
    os.kill(os.getpid(), signal.SIGTERM)
    assert flag.request.signal_name == "SIGUSR2"
