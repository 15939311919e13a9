"""The ranks of an attempt: how they find each other, agree, exchange values and leave together."""

import fcntl
import json
import logging
import os
import socket
import struct
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

# Public as torch.distributed.TCPStore, under which name type checkers do not see it.
from torch._C._distributed_c10d import PrefixStore, TCPStore

from mri_hpc.base.atomic import replace_bytes
from mri_hpc.base.errors import UserError
from mri_hpc.base.stop_flag import StopFlag
from mri_hpc.rundir.layout import Attempt, RunDir
from mri_hpc.rundir.place import Place
from mri_hpc.training.hang_watch import HUNG

RENDEZVOUS = "rendezvous.json"
SIOCGIFADDR = 0x8915
STOP_PATIENCE_S = 10.0
"""Seconds that a rank still waits for the others after a stop signal, to stop together with them."""
POLL_S = 0.05
CONNECT_S = 1.0
"""Of one try to reach rank 0's store."""
STORE_TIMEOUT = timedelta(minutes=5)
"""Of one answer of it, as usual in torch."""
NEVER = timedelta(days=365)
"""Timeout of what the ranks do together. The hang watch ends a rank that waits too long: a clock would also
count the time for which a job was suspended."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """One rank's view of all of them. One rank alone needs no process group."""

    place: Place
    device: torch.device
    backend: str
    """nccl, gloo, or none for one rank alone."""
    num_hosts: int
    control: Any = None
    """A gloo group for values of the processor, whatever the device."""

    @property
    def rank(self) -> int:
        """This rank."""
        return self.place.rank

    @property
    def world_size(self) -> int:
        """All ranks."""
        return self.place.world_size

    @property
    def is_first(self) -> bool:
        """Tell whether this is rank 0, which writes."""
        return self.place.rank == 0

    @property
    def is_alone(self) -> bool:
        """Tell whether this is the only rank."""
        return self.place.world_size == 1

    def largest(self, value: int) -> int:
        """Return the largest value that any rank gives."""
        if self.is_alone:
            return value
        values = torch.tensor([value], dtype=torch.int64)
        dist.all_reduce(values, op=dist.ReduceOp.MAX, group=self.control)
        return int(values[0])

    def from_rank(self, value: Any, rank: int = 0) -> Any:
        """Return the value that one rank gives, on every rank. Any that pickle knows, of our own ranks."""
        if self.is_alone:
            return value
        values = [value if self.rank == rank else None]
        dist.broadcast_object_list(values, src=rank, group=self.control)
        return values[0]

    def from_all(self, value: Any) -> list[Any]:
        """Return the values of all ranks, by rank, on every rank. Any that pickle knows, of our own ranks."""
        if self.is_alone:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value, group=self.control)
        return values

    def gathered(self, values: np.ndarray) -> list[np.ndarray] | None:
        """Return the values of all ranks, by rank; None on other ranks than the first."""
        if self.is_alone:
            return [values]
        parts: list[Any] | None = [None] * self.world_size if self.is_first else None
        dist.gather_object(values, parts, dst=0, group=self.control)
        return parts

    def copy_from_first(self, tensors: Sequence[torch.Tensor]) -> None:
        """Overwrite tensors on the device with those of rank 0."""
        if not self.is_alone:
            for tensor in tensors:
                dist.broadcast(tensor, src=0)

    def leave(self) -> None:
        """Leave when all ranks do, so that none finds a peer gone in the middle of something."""
        if not self.is_alone:
            dist.barrier(group=self.control)
            dist.destroy_process_group()


def join(
    place: Place,
    run: RunDir,
    attempt: Attempt,
    flag: StopFlag,
    *,
    timeout_s: float,
    at_look: Callable[[], None],
) -> Ranks | None:
    """Meet the other ranks of the attempt; None where this one is asked to stop and they do not come.

    at_look: called as often as they are looked for, as a sign of life. Where they do not come in time, the
    process ends as one that hangs.
    """
    device = pick_device(place)
    if place.world_size == 1:
        return Ranks(place=place, device=device, backend="none", num_hosts=1)
    hosts = _meet(place, run, attempt, _Patience(flag, timeout_s, at_look))
    if not hosts:
        return None
    _pick_interfaces(hosts.names, place.rank)
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(
        backend,
        store=PrefixStore("world", hosts.store),
        rank=place.rank,
        world_size=place.world_size,
        timeout=NEVER,
        device_id=device if backend == "nccl" else None,
    )
    control = dist.new_group(backend="gloo", timeout=NEVER)
    num_hosts = len(set(hosts.names))
    return Ranks(place=place, device=device, backend=backend, num_hosts=num_hosts, control=control)


def pick_device(place: Place) -> torch.device:
    """Choose the GPU of this rank, else the processor. Raises UserError where two ranks would use one GPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    count = torch.cuda.device_count()
    if place.local_rank >= count and count > 1:
        raise UserError(
            f"rank {place.rank} is number {place.local_rank} on {place.host}, which shows it {count} GPUs: "
            f"launch with --tasks-per-node {count}"
        )
    # Where each task is shown its own GPU only, that one is number 0 to all.
    device = torch.device("cuda", place.local_rank % count)
    torch.cuda.set_device(device)
    return device


def share_submission(place: Place, run: RunDir, address: str, port: int) -> Attempt:
    """Give every rank the attempt that rank 0 claimed, through the store that torchrun's agent keeps."""
    store = TCPStore(address, port, is_master=False)
    name = f"mri_hpc/{place.restart}/attempt"
    if place.rank == 0:
        store.set(name, str(run.claim_submission()))
    return Attempt.parse(store.get(name).decode())


@dataclass(frozen=True, kw_only=True)
class _Hosts:
    """All ranks have met at this store."""

    store: TCPStore
    names: Sequence[str]
    """Host of each rank."""


class _Patience:
    """Patience of a rank that waits for the others: less once it is asked to stop, with nothing to save."""

    def __init__(self, flag: StopFlag, timeout_s: float, at_look: Callable[[], None]) -> None:
        self._flag, self._timeout_s, self._at_look = flag, timeout_s, at_look
        # Counted, and not by a clock: a suspended job does not look.
        self._looks_left = round(timeout_s / POLL_S)

    def outlasts(self, look: Callable[[], bool], *, what: str, look_s: float = 0.0) -> bool:
        """Wait until it is there; False where a stop ends the wait. Ends the process after the timeout.

        look_s: how long one look may take.
        """
        # By looking again and again: a signal's handler cannot run within one long call of the store.
        while not (is_there := self._look(look)):
            request = self._flag.request
            if request and (is_there is None or time.time() - request.received_s > STOP_PATIENCE_S):
                log.warning("told to stop by %s while waiting for %s", request.signal_name, what)
                return False
            self._at_look()
            self._looks_left -= 1 + round(look_s / POLL_S)
            if self._looks_left < 0:
                # A peer hangs, or its node has stalled: another attempt may meet.
                print(
                    f"hung: waited {self._timeout_s:.0f} s for {what}: see the logs of the other ranks",
                    file=sys.stderr,
                )
                raise SystemExit(HUNG)
            time.sleep(POLL_S)
        return True

    def _look(self, look: Callable[[], bool]) -> bool | None:
        """Tell whether it is there; None where rank 0, which keeps the store, was asked to stop and left."""
        try:
            return look()
        except dist.DistNetworkError:
            if not self._flag.request:
                raise
            return None


def _meet(place: Place, run: RunDir, attempt: Attempt, patience: _Patience) -> _Hosts | None:
    """Meet all ranks at the store of this attempt, which rank 0 opens on a free port and publishes."""
    path = run.attempt_folder(attempt) / RENDEZVOUS
    if place.rank == 0:
        store = TCPStore(place.host, 0, is_master=True, wait_for_workers=False)
        store.set(_name(place.rank), place.host)
        replace_bytes(path, json.dumps({"host": place.host, "port": store.port}).encode())
    else:
        # Listing the folder makes a network file system ask its server for new names.
        if not patience.outlasts(lambda: path in path.parent.iterdir(), what=f"rank 0 to publish {path}"):
            return None
        where = json.loads(path.read_text(encoding="utf-8"))
        met: list[TCPStore] = []
        what = f"rank 0 to answer at {where['host']}:{where['port']}"
        if not patience.outlasts(lambda: _join_store(where, place, met), what=what, look_s=CONNECT_S):
            return None
        store = met[0]
    names = [_name(rank) for rank in range(place.world_size)]
    if not patience.outlasts(lambda: store.check(names), what=f"all {place.world_size} ranks"):
        return None
    return _Hosts(store=store, names=[store.get(name).decode() for name in names])


def _join_store(where: Mapping[str, Any], place: Place, met: list[TCPStore]) -> bool:
    """Tell whether rank 0 answers; then its store, which holds this rank's host, is the one that was met.

    Rank 0 may be asked to stop, and gone again: left to itself, TCPStore would look for it for minutes.
    """
    try:
        store = TCPStore(where["host"], where["port"], is_master=False, timeout=timedelta(seconds=CONNECT_S))
        store.set_timeout(STORE_TIMEOUT)
        store.set(_name(place.rank), place.host)
    except dist.DistError as error:
        log.info("%s", error)
        return False
    met.append(store)
    return True


def _name(rank: int) -> str:
    return f"host/{rank}"


def _pick_interfaces(hosts: Sequence[str], rank: int) -> None:
    """Tell gloo and NCCL by which network to talk, unless the site has.

    Gloo would take the address of the host's own name, which many distributions set to 127.x.
    """
    if len(set(hosts)) == 1:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        return
    other = next(host for host in hosts if host != hosts[rank])
    name = interface_towards(hosts[0] if hosts[rank] != hosts[0] else other)
    if name:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
        os.environ.setdefault("NCCL_SOCKET_IFNAME", name)
        log.info("network interface %s", os.environ["GLOO_SOCKET_IFNAME"])


def interface_towards(host: str) -> str | None:
    """Name of the network interface whose address packets to `host` would carry; None if none is found."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Connecting a datagram socket only picks a route: nothing is sent.
            probe.connect((host, 9))
        except OSError:
            return None
        own = probe.getsockname()[0]
        for _index, name in socket.if_nameindex():
            try:
                reply = fcntl.ioctl(probe, SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
            except OSError:
                # An interface without an IPv4 address.
                continue
            if socket.inet_ntoa(reply[20:24]) == own:
                return name
    return None
