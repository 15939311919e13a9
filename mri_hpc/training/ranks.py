"""The ranks of an attempt: how they find each other, agree, exchange values and leave together."""

import logging
import os
from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

# Public as torch.distributed.TCPStore, under which name type checkers do not see it.
from torch._C._distributed_c10d import PrefixStore, TCPStore

from mri_hpc.base.errors import UserError
from mri_hpc.base.gpu_parts import parts_of_gpus
from mri_hpc.base.network import PortRange, kernel_ports
from mri_hpc.base.stop_flag import StopFlag
from mri_hpc.rundir.layout import Attempt, RunDir
from mri_hpc.rundir.place import Place
from mri_hpc.training.meeting import Patience, Wishes, meet
from mri_hpc.training.port_range import keep_within

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

    @property
    def most_on_a_host(self) -> int:
        """Ranks that share the memory of one host."""
        return -(-self.world_size // self.num_hosts)

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

    def await_first(self, work: Callable[[Callable[[], None]], None], *, beat: Callable[[], None]) -> None:
        """Have rank 0 alone work while all others wait.

        work: called on rank 0, with what it is to call as a sign of life; beat: called on all ranks then.
        """

        def tell(is_on: bool) -> None:
            beat()
            self.from_rank(is_on)

        if self.is_first:
            work(lambda: tell(True))
            tell(False)
        else:
            while self.from_rank(None):
                beat()

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
    wishes: Wishes | None = None,
) -> Ranks | None:
    """Meet the other ranks of the attempt; None where this one is asked to stop and they do not come.

    at_look: called as often as they are looked for, as a sign of life. Where they do not come in time, the
    process ends as one that hangs.
    """
    device = pick_device(place)
    if place.world_size == 1:
        return Ranks(place=place, device=device, backend="none", num_hosts=1)
    if wishes and wishes.ports:
        _keep_ports(wishes.ports)
    hosts = meet(place, run, attempt, Patience(flag, timeout_s, at_look), wishes)
    if not hosts:
        return None
    if hosts.interface:
        _pick_interface(hosts.interface, bool(wishes and wishes.interface), os.environ)
    elif len(set(hosts.names)) == 1:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    # NCCL knows no parts of a GPU.
    is_whole = device.type == "cuda" and not parts_of_gpus(os.environ)
    backend = "nccl" if is_whole else "gloo"
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
        raise _too_many_ranks(place, count)
    # Where each task is shown its own GPU only, that one is number 0 to all.
    device = torch.device("cuda", place.local_rank % count)
    torch.cuda.set_device(device)
    return device


def see_own_part(place: Place, environment: MutableMapping[str, str]) -> None:
    """Leave a rank that is given several parts of GPUs its own one: CUDA shows a process the first alone.

    Before anything asks CUDA, also whether there is a GPU: it reads the environment once. UserError where
    there are fewer parts than ranks.
    """
    parts = parts_of_gpus(environment)
    if len(parts) < 2:
        return
    if place.local_rank >= len(parts):
        raise _too_many_ranks(place, len(parts))
    environment["CUDA_VISIBLE_DEVICES"] = parts[place.local_rank]


def _too_many_ranks(place: Place, count: int) -> UserError:
    return UserError(
        f"rank {place.rank} is number {place.local_rank} on {place.host}, which shows it {count} GPUs: "
        f"launch with --tasks-per-node {count}"
    )


def too_few_gpus(place: Place) -> bool:
    """Tell whether ranks on one machine would have to share its GPUs, which NCCL refuses."""
    if parts := parts_of_gpus(os.environ):
        return len(parts) < place.world_size
    return torch.cuda.is_available() and torch.cuda.device_count() < place.world_size


def share_submission(place: Place, run: RunDir, address: str, port: int) -> Attempt:
    """Give every rank the attempt that rank 0 claimed, through the store that torchrun's agent keeps."""
    store = TCPStore(address, port, is_master=False)
    name = f"mri_hpc/{place.restart}/attempt"
    if place.rank == 0:
        store.set(name, str(run.claim_submission()))
    return Attempt.parse(store.get(name).decode())


def _keep_ports(ports: PortRange) -> None:
    """Have all that ranks listen on lie in a range; UserError where this torch cannot be made to."""
    try:
        is_kept = keep_within(ports) > 0
    except OSError:
        is_kept = False
    if not is_kept:
        raise UserError(
            f"gloo and NCCL of this torch cannot be kept within --port-range {ports}: ask your site to open "
            f"{kernel_ports()} between nodes (net.ipv4.ip_local_port_range), or train on one: --nodes 1"
        )


def _pick_interface(interface: str, is_wish: bool, environment: MutableMapping[str, str]) -> None:
    """Tell gloo and NCCL by which network to talk, unless the site has and the user has not.

    Gloo would take the address of the host's own name, which many distributions set to 127.x.
    """
    # NCCL takes a bare name as the beginning of several.
    for variable, name in (("GLOO_SOCKET_IFNAME", interface), ("NCCL_SOCKET_IFNAME", f"={interface}")):
        if is_wish:
            environment[variable] = name
        else:
            environment.setdefault(variable, name)
    log.info("network interface %s", environment["GLOO_SOCKET_IFNAME"])
