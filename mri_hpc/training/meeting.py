"""The meeting of an attempt's ranks: rank 0 publishes where it listens, the others come, all reach all."""

import errno
import json
import logging
import os
import secrets
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn

import torch.distributed as dist

# Public as torch.distributed.TCPStore, under which name type checkers do not see it.
from torch._C._distributed_c10d import TCPStore

from mri_hpc.base import network
from mri_hpc.base.atomic import replace_bytes
from mri_hpc.base.errors import UserError
from mri_hpc.base.network import PortRange
from mri_hpc.base.stop_flag import StopFlag
from mri_hpc.rundir.layout import Attempt, RunDir
from mri_hpc.rundir.ledger import Kind, read_events
from mri_hpc.rundir.place import Place
from mri_hpc.rundir.settings import JobSettings
from mri_hpc.training.hang_watch import HUNG

RENDEZVOUS = "rendezvous.json"
LOOPBACK = "127.0.0.1"
STOP_PATIENCE_S = 10.0
"""Seconds that a rank still waits for the others after a stop signal, to stop together with them."""
POLL_S = 0.05
CONNECT_S = 1.0
"""Of one try to reach rank 0's store."""
REACH_S = 15.0
"""Of all tries: rank 0 publishes an address at which it listens already."""
ANSWER_S = 5.0
"""For a rank of another node to take a connection: a lost packet is sent again after one and three."""
STORE_TIMEOUT = timedelta(minutes=5)
"""Of one answer of it, as usual in torch."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Hosts:
    """All ranks have met at this store."""

    store: TCPStore
    names: Sequence[str]
    """Host of each rank."""
    interface: str = ""
    """Interface of this host that reaches the others; empty where one host has all ranks."""


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """By which network, and which ports, the user wants the ranks to meet."""

    interface: str | None = None
    ports: PortRange | None = None

    @classmethod
    def of(cls, job: JobSettings) -> "Wishes":
        """Return those of a run's settings."""
        return cls(interface=job.interface, ports=PortRange.parse(job.port_range) if job.port_range else None)


class Patience:
    """Patience of a rank that waits for the others: less once it is asked to stop, with nothing to save."""

    def __init__(self, flag: StopFlag, timeout_s: float, at_look: Callable[[], None]) -> None:
        self._flag, self._timeout_s, self._at_look = flag, timeout_s, at_look
        # Counted, and not by a clock: a suspended job does not look.
        self._looks_left = round(timeout_s / POLL_S)

    def outlasts(
        self, look: Callable[[], bool], *, what: str, look_s: float = 0.0, within_s: float | None = None
    ) -> bool:
        """Wait until it is there; False where a stop ends the wait. Ends the process after the timeout.

        look_s: how long one look may take. within_s: TimeoutError after looks of so many seconds together.
        """
        looks_within = None if within_s is None else round(within_s / POLL_S)
        # By looking again and again: a signal's handler cannot run within one long call of the store.
        while True:
            began_s = time.monotonic()
            if is_there := self._look(look):
                return True
            request = self._flag.request
            if request and (is_there is None or time.time() - request.received_s > STOP_PATIENCE_S):
                log.warning("told to stop by %s while waiting for %s", request.signal_name, what)
                return False
            self._at_look()
            # A look during which the job was suspended took no longer than it may.
            cost = 1 + round(min(time.monotonic() - began_s, look_s) / POLL_S)
            self._looks_left -= cost
            if self._looks_left < 0:
                # A peer hangs, or its node has stalled: another attempt may meet.
                print(
                    f"hung: waited {self._timeout_s:.0f} s for {what}: see the logs of the other ranks",
                    file=sys.stderr,
                )
                raise SystemExit(HUNG)
            if looks_within is not None:
                looks_within -= cost
                if looks_within < 0:
                    raise TimeoutError(what)
            time.sleep(POLL_S)

    def _look(self, look: Callable[[], bool]) -> bool | None:
        """Tell whether it is there; None where rank 0, which keeps the store, was asked to stop and left."""
        try:
            return look()
        except dist.DistNetworkError:
            if not self._flag.request:
                raise
            return None


def meet(
    place: Place, run: RunDir, attempt: Attempt, patience: Patience, wishes: Wishes | None = None
) -> Hosts | None:
    """Meet all ranks at the store of this attempt, which rank 0 opens and publishes; None: asked to stop.

    Raises UserError where they cannot reach each other; of a run whose ranks have met before the process ends
    as one that crashes, since another attempt, or other nodes, may do.
    """
    wishes = wishes or Wishes()
    address = _wanted_address(wishes)
    if place.rank == 0:
        store, towards = _open(place, run, attempt, wishes, address), ""
    else:
        found = _come(place, run, attempt, patience)
        if found is None:
            return None
        store, towards = found
    store.set(_name(place.rank), json.dumps({"host": place.host, "towards": towards}))
    names = [_name(rank) for rank in range(place.world_size)]
    if not patience.outlasts(lambda: store.check(names), what=f"all {place.world_size} ranks"):
        return None
    came = [json.loads(store.get(name)) for name in names]
    hosts = [str(one["host"]) for one in came]
    if len(set(hosts)) == 1:
        return Hosts(store=store, names=hosts)
    # Rank 0 talks by the address at which the others have found it.
    reached = next((str(one["towards"]) for one in came if one["towards"] != LOOPBACK and one["towards"]), "")
    # Another node may have found it by another address, and know no way to this one.
    own = address or (reached if place.host == hosts[0] else network.own_address_towards(towards))
    own = own if network.is_address(reached) else ""
    interface = network.interface_of(own)
    if not _reach_all(place, run, store, hosts, patience, own=own, wishes=wishes):
        return None
    return Hosts(store=store, names=hosts, interface=interface)


def _wanted_address(wishes: Wishes) -> str:
    """Return this node's address on the interface that the user, or the site, names; empty without one."""
    by_site = os.environ.get("GLOO_SOCKET_IFNAME", "").split(",")[0]
    found = {one.name: one.address for one in network.interfaces()}
    if wishes.interface and wishes.interface not in found:
        raise UserError(
            f"node {os.uname().nodename} has no interface {wishes.interface} with an IPv4 address; it has "
            f"{network.interfaces_in_words()}: name one of these with --interface, or leave it out"
        )
    return found.get(wishes.interface or by_site, "")


def _open(place: Place, run: RunDir, attempt: Attempt, wishes: Wishes, address: str) -> TCPStore:
    """Open rank 0's store on a free port, and publish at which addresses others may find it."""
    opened: list[TCPStore] = []

    def bind(port: int) -> None:
        try:
            # By its own address no name has to be known; it listens at all of them.
            opened.append(TCPStore(LOOPBACK, port, is_master=True, wait_for_workers=False))
        except dist.DistNetworkError as error:
            if "EADDRINUSE" not in str(error):
                raise
            raise OSError(errno.EADDRINUSE, str(error)) from None

    network.bind_within(bind, wishes.ports, os.getpid())
    store, token = opened[0], secrets.token_hex(8)
    store.set(token, "")
    where = {
        "host": place.host, "port": store.port, "token": token,
        "addresses": [address] if address else _own_addresses(place),
    }  # fmt: skip
    replace_bytes(run.attempt_folder(attempt) / RENDEZVOUS, json.dumps(where).encode())
    return store


def _own_addresses(place: Place) -> list[str]:
    """List the addresses at which other nodes may reach this one: first those that Slurm knows."""
    found = network.own_addresses((*place.addresses, place.host, os.uname().nodename))
    # A network of IPv6 alone: its store finds the name, and gloo and NCCL their way.
    return found or [place.host]


def _come(place: Place, run: RunDir, attempt: Attempt, patience: Patience) -> tuple[TCPStore, str] | None:
    """Come to rank 0's store; return it, and the address by which it was reached."""
    path = run.attempt_folder(attempt) / RENDEZVOUS
    # Listing the folder makes a network file system ask its server for new names.
    if not patience.outlasts(lambda: path in path.parent.iterdir(), what=f"rank 0 to publish {path}"):
        return None
    where = json.loads(path.read_text(encoding="utf-8"))
    addresses = [LOOPBACK] if where["host"] == place.host else list(where["addresses"])
    met: list[tuple[TCPStore, str]] = []
    what = "rank 0 to answer at " + ", ".join(f"{address}:{where['port']}" for address in addresses)
    try:
        is_met = patience.outlasts(
            lambda: _join_store(where, addresses, met),
            what=what, look_s=CONNECT_S * len(addresses), within_s=REACH_S,
        )  # fmt: skip
    except TimeoutError:
        tried = [_tried(address, where["port"]) for address in addresses]
        _refuse(run, f"rank {place.rank} on {place.host} does not reach rank 0 on {where['host']}", tried)
    return met[0] if is_met else None


def _join_store(where: Mapping[str, Any], addresses: Sequence[str], met: list[tuple[TCPStore, str]]) -> bool:
    """Tell whether rank 0 answers at one of its addresses; then its store is the one that was met.

    Rank 0 may be asked to stop, and gone again: left to itself, TCPStore would look for it for minutes.
    """
    for address in addresses:
        # It would try a port that is closed for two seconds, and write a page of its own stack.
        if network.why_unreachable(address, where["port"], within_s=CONNECT_S):
            continue
        try:
            store = TCPStore(address, where["port"], is_master=False, timeout=timedelta(seconds=CONNECT_S))
            # Another machine of this address, such as this one's own bridge, may listen on that port too.
            if store.check([where["token"]]):
                store.set_timeout(STORE_TIMEOUT)
                met.append((store, address))
                return True
        except dist.DistError as error:
            log.info("%s", error)
    return False


def _reach_all(
    place: Place, run: RunDir, store: TCPStore, hosts: Sequence[str], patience: Patience,
    *, own: str, wishes: Wishes,
) -> bool:  # fmt: skip
    """Have the first rank of every host connect to all others', as gloo and NCCL will; False: a stop."""
    firsts = [hosts.index(host) for host in dict.fromkeys(hosts)]
    if place.rank not in firsts:
        return True
    if not own:
        # The others wait for these words, and pass it over.
        store.set(f"listens/{place.rank}", "")
        store.set(f"reached/{place.rank}", "")
        return True
    listens, ended = ([f"{word}/{rank}" for rank in firsts] for word in ("listens", "reached"))
    # An address that is translated on the way is no interface's.
    at = own if network.interface_of(own) else ""
    with network.listening(at, wishes.ports, first=os.getpid()) as port:
        store.set(f"listens/{place.rank}", json.dumps([own, port]))
        if not patience.outlasts(lambda: store.check(listens), what="a rank of every node to listen"):
            return False
        words = {rank: store.get(f"listens/{rank}") for rank in firsts if rank != place.rank}
        others = {rank: json.loads(word) for rank, word in words.items() if word}
        with ThreadPoolExecutor(32) as pool:
            whys = list(
                pool.map(lambda it: network.why_unreachable(it[0], it[1], within_s=ANSWER_S), others.values())
            )
        failed = [(rank, at, why) for (rank, at), why in zip(others.items(), whys, strict=True) if why]
        if failed:
            rank, (address, at_port), why = failed[0]
            _refuse(
                run,
                f"rank {place.rank} on {place.host} does not reach rank {rank} on {hosts[rank]}",
                [f"{address} port {at_port} by {network.way_to(address)}: {why}"],
            )
        store.set(f"reached/{place.rank}", "")
        return patience.outlasts(lambda: store.check(ended), what="all nodes to reach each other")


def _tried(address: str, port: int) -> str:
    why = network.why_unreachable(address, port, within_s=2 * CONNECT_S)
    return f"{address} port {port} by {network.way_to(address)}: {why or 'it answers, but not as rank 0'}"


def _refuse(run: RunDir, what: str, tried: Sequence[str]) -> NoReturn:
    """End this rank, which another cannot be reached from, with what was tried and what to type."""
    message = (
        f"{what} ({'; '.join(tried)}). Where only some ports are open between nodes: --port-range LOW-HIGH "
        "(mri-hpc doctor --only slurm may know which); by another network: --interface NAME (here: "
        f"{network.interfaces_in_words()}); without a node: --slurm exclude=NODE; one node needs no network: "
        "--nodes 1"
    )
    have_met = any(e.kind == Kind.STARTED and int(e.values.get("ranks") or 1) > 1 for e in read_events(run))
    if not have_met:
        raise UserError(message)
    print(f"mri-hpc train: {message}", file=sys.stderr)
    raise SystemExit(HUNG)


def _name(rank: int) -> str:
    return f"host/{rank}"
