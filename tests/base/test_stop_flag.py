"""A signal sets a flag and nothing else."""

import ctypes
import os
import signal
import threading

import pytest

from mri_hpc.base.stop_flag import STOP_SIGNALS, StopFlag, StopRequest


@pytest.fixture
def flag():
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    yield StopFlag().listen()
    for number, handler in before.items():
        signal.signal(number, handler)
    signal.set_wakeup_fd(-1)


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_stop_signal_is_remembered(flag, number):
    assert flag.request is None
    os.kill(os.getpid(), number)
    assert flag.request.signal_name == signal.Signals(number).name


def test_the_first_signal_is_the_one_that_counts(flag):
    os.kill(os.getpid(), signal.SIGUSR2)
    os.kill(os.getpid(), signal.SIGTERM)
    assert flag.request.signal_name == "SIGUSR2"


def test_a_signal_is_heard_while_the_main_thread_is_in_a_long_call(flag):
    flag.hear()
    libc, heard = ctypes.CDLL(None), []
    # All zeros: a mutex that any thread may unlock.
    mutex = (ctypes.c_long * 16)()
    libc.pthread_mutex_lock(mutex)

    def tell():
        os.kill(os.getpid(), signal.SIGTERM)
        heard.append(flag.is_up.wait(20))
        libc.pthread_mutex_unlock(mutex)

    teller = threading.Thread(target=tell)
    teller.start()
    # As a step of torch: no handler runs before it is over, which here is when it was heard.
    libc.pthread_mutex_lock(mutex)
    teller.join()
    assert heard == [True]
    assert flag.request.signal_name == "SIGTERM"


def test_a_reason_of_ones_own_is_taken_unless_a_signal_came_first(flag):
    os.kill(os.getpid(), signal.SIGUSR2)
    flag.take(StopRequest(signal_name="superseded", received_s=0.0))
    assert flag.request.signal_name == "SIGUSR2"
    assert flag.is_up.is_set()
