"""This machine's network: its interfaces, free ports, and whether an address answers. No torch, no Slurm."""

import contextlib
import errno
import fcntl
import socket
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mri_hpc.base.errors import UserError

SIOCGIFADDR = 0x8915
KERNEL_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")
MOST_PORT = 65535
# Below it only root may listen.
LEAST_PORT = 1024
REASONS = {
    errno.ECONNREFUSED: "nothing listens there, or a firewall refuses",
    errno.EHOSTUNREACH: "no route to it",
    errno.ENETUNREACH: "no route to it",
    errno.EACCES: "forbidden here",
    errno.EPERM: "forbidden here",
}


@dataclass(frozen=True, kw_only=True)
class Interface:
    """A network interface of this machine, with its IPv4 address."""

    name: str
    address: str


@dataclass(frozen=True, kw_only=True)
class PortRange:
    """Ports from low to high, both included."""

    low: int
    high: int

    def __contains__(self, port: int) -> bool:
        return self.low <= port <= self.high

    def __str__(self) -> str:
        return f"{self.low}-{self.high}"

    @classmethod
    def parse(cls, text: str) -> "PortRange":
        """Parse ``LOW-HIGH``; UserError where that is no range of ports that a user may listen on."""
        low, dash, high = text.partition("-")
        is_range = dash and low.isdecimal() and high.isdecimal()
        if not is_range or not LEAST_PORT <= int(low) <= int(high) <= MOST_PORT:
            raise UserError(
                f"--port-range takes LOW-HIGH within {LEAST_PORT}-{MOST_PORT}, such as 50000-50999, got "
                f"{text!r}"
            )
        return cls(low=int(low), high=int(high))


def kernel_ports() -> PortRange:
    """Return the ports among which this machine chooses for programs that name none."""
    low, high = KERNEL_PORTS.read_text().split()
    return PortRange(low=int(low), high=int(high))


def interfaces() -> list[Interface]:
    """List the interfaces that have an IPv4 address, but for loopback, as the system lists them."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _index, name in socket.if_nameindex():
            # An interface without an IPv4 address.
            with contextlib.suppress(OSError):
                reply = fcntl.ioctl(probe, SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
                found.append(Interface(name=name, address=socket.inet_ntoa(reply[20:24])))
    return [one for one in found if not one.address.startswith("127.")]


def interfaces_in_words() -> str:
    """List the interfaces for people: ``eth0 (10.0.0.1), ib0 (10.1.0.1)``."""
    return ", ".join(f"{one.name} ({one.address})" for one in interfaces()) or "none but loopback"


def own_addresses(names: Iterable[str]) -> list[str]:
    """List the addresses at which others may reach this machine: of its names first, then of interfaces."""
    by_name = [address for name in names for address in resolve(name)]
    return list(dict.fromkeys([*by_name, *(one.address for one in interfaces())]))


def own_address_towards(address: str) -> str:
    """Return this machine's own address in packets to another; empty where none would go there."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Connecting a datagram socket only picks a route: nothing is sent.
            probe.connect((address, 9))
        except OSError:
            return ""
        return str(probe.getsockname()[0])


def way_to(address: str) -> str:
    """Name the interface by which packets to an address go."""
    own = own_address_towards(address)
    return interface_of(own) or (own and "loopback") or "no interface"


def is_address(text: str) -> bool:
    """Tell whether a text is an IPv4 address in numbers."""
    try:
        socket.inet_pton(socket.AF_INET, text)
    except OSError:
        return False
    return True


def interface_of(address: str) -> str:
    """Return the name of the interface that has this address; empty where none has."""
    return next((one.name for one in interfaces() if one.address == address), "")


def resolve(name: str) -> list[str]:
    """Return the IPv4 addresses that a name stands for here, but for loopback; none where it is unknown."""
    try:
        found = socket.getaddrinfo(name, None, family=socket.AF_INET, type=socket.SOCK_STREAM)
    except OSError:
        return []
    addresses = dict.fromkeys(str(one[4][0]) for one in found)
    return [address for address in addresses if not address.startswith("127.")]


def why_unreachable(address: str, port: int, *, within_s: float) -> str:
    """Connect, and hang up at once; return in plain words why that fails, or empty."""
    try:
        with socket.create_connection((address, port), timeout=within_s):
            return ""
    except TimeoutError:
        return f"no answer in {within_s:g} s"
    except OSError as error:
        return REASONS.get(error.errno or 0, error.strerror or str(error))


def ports_to_try(ports: PortRange | None, first: int) -> Iterator[int]:
    """Yield every port of a range once, from a place that `first` gives; without one 0, for any."""
    if ports is None:
        yield 0
        return
    size = ports.high - ports.low + 1
    # Jobs that begin at one place each need not try all that others have taken.
    yield from (ports.low + (first + step) % size for step in range(size))


def bind_within(bind: Callable[[int], None], ports: PortRange | None, first: int) -> None:
    """Bind to the first port that is free, by a callback that raises OSError; UserError: all are taken."""
    for port in ports_to_try(ports, first):
        try:
            return bind(port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or ports is None:
                raise
    raise UserError(
        f"all ports of --port-range {ports} are taken on {socket.gethostname()}: give a larger range"
    )


@contextlib.contextmanager
def listening(address: str, ports: PortRange | None, *, first: int = 0) -> Iterator[int]:
    """Listen on a port of this address for the time of a block, deaf to who comes; gives the port.

    first: as of `ports_to_try`.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bind_within(lambda port: listener.bind((address, port)), ports, first)
        listener.listen(128)
        yield int(listener.getsockname()[1])
