"""Addresses, interfaces and ports of this machine, and why an address does not answer."""

import errno
import socket

import pytest

from mri_hpc.base.errors import UserError
from mri_hpc.base.network import (
    PortRange,
    bind_within,
    is_address,
    kernel_ports,
    listening,
    own_address_towards,
    ports_to_try,
    resolve,
    why_unreachable,
)

PORTS = PortRange(low=41000, high=41004)


@pytest.mark.parametrize(
    "text", ["", "5", "5-", "-5", "a-b", "60000-50000", "80-90", "60000-70000", "1-2-3", "²-9"]
)
def test_what_is_no_range_of_ports_is_refused(text):
    with pytest.raises(UserError, match=r"--port-range takes LOW-HIGH within 1024-65535"):
        PortRange.parse(text)


def test_a_range_holds_both_its_ends_and_writes_itself_as_it_was_typed():
    ports = PortRange.parse("50000-50999")
    assert [port in ports for port in (49999, 50000, 50999, 51000)] == [False, True, True, False]
    assert str(ports) == "50000-50999"


def test_every_port_of_a_range_is_tried_once_wherever_one_begins():
    assert list(ports_to_try(PORTS, 7)) == [41002, 41003, 41004, 41000, 41001]
    assert list(ports_to_try(None, 7)) == [0]


def test_a_port_that_is_taken_is_passed_over_and_none_left_is_said():
    tried = []

    def bind(port):
        tried.append(port)
        if port != 41003:
            raise OSError(errno.EADDRINUSE, "in use")

    bind_within(bind, PORTS, 0)
    assert tried == [41000, 41001, 41002, 41003]
    with pytest.raises(UserError, match=r"all ports of --port-range 41000-41001 are taken on"):
        bind_within(bind, PortRange(low=41000, high=41001), 0)


def test_another_failure_than_a_taken_port_is_no_want_of_ports():
    def bind(_port):
        raise OSError(errno.EADDRNOTAVAIL, "no such address")

    with pytest.raises(OSError, match="no such address"):
        bind_within(bind, PORTS, 0)


def test_one_who_listens_is_reached_and_one_who_left_is_not():
    with listening("127.0.0.1", None) as port:
        assert why_unreachable("127.0.0.1", port, within_s=5) == ""
    assert "nothing listens there" in why_unreachable("127.0.0.1", port, within_s=5)


def test_one_who_listens_takes_a_port_of_the_range():
    with listening("127.0.0.1", PORTS) as first, listening("127.0.0.1", PORTS) as second:
        assert {first, second} <= set(range(41000, 41005))
        assert first != second


def test_an_address_that_swallows_everything_is_given_up_after_the_time():
    # A full queue of those who wait: the kernel answers no more.
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        assert why_unreachable("127.0.0.1", port, within_s=0.2) == "no answer in 0.2 s"
        for one in waiting:
            one.close()


def test_loopback_is_no_address_for_others():
    assert resolve("localhost") == []
    assert resolve("no-such-name.invalid") == []
    assert own_address_towards("127.0.0.1") == "127.0.0.1"
    assert [is_address(text) for text in ("10.0.0.1", "n1", "fe80::1", "")] == [True, False, False, False]


def test_the_kernel_says_which_ports_it_gives():
    ports = kernel_ports()
    with listening("127.0.0.1", None) as port:
        assert port in ports
