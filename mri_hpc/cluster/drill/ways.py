"""The ways between the nodes of a drill: each listens and connects to all others, before any rank does."""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from mri_hpc.base import network
from mri_hpc.base.atomic import publish_new_bytes
from mri_hpc.base.network import PortRange
from mri_hpc.cluster import slurm
from mri_hpc.cluster.doctor.finding import Finding, note, problem

LISTENS, TRIED, LEFT = "listens", "tried", "left"
"""Ends of the files by which nodes tell the others how far they are."""
POLL_S = 0.25
LATE_S = 5.0
"""For which a node still waits for the others once it has nothing else to do."""
ANSWER_S = 5.0
"""For a node to take a connection: a lost packet is sent again after one and three."""
AT_ONCE = 32
SHOWN = 3
"""Nodes that are named; of more, their number."""
CURE = (
    "where only some ports are open between nodes: --port-range LOW-HIGH; by another network: --interface "
    "NAME; one node needs no network: --nodes 1"
)


@dataclass(frozen=True, kw_only=True)
class Apart:
    """Another node that is not reached from this one, though it listens."""

    node: str
    why: str


class Ways:
    """The ways from this node to the others of its job."""

    def __init__(self, folder: Path, *, interface: str = "", ports: str = "") -> None:
        """folder: seen by all nodes, and theirs alone. interface, ports: as typed; empty for any."""
        self._folder, self._interface = folder, interface
        self._ports = PortRange.parse(ports) if ports else None
        self._node = slurm.node_name()
        addresses = slurm.node_addresses()
        self._own_name = addresses.pop(self._node, "")
        self._others = addresses

    def wrong_names(self) -> Iterator[Finding]:
        """Say whose name stands for something else here than Slurm has; ranks need no names."""
        wrong, began_s = [], time.monotonic()
        for node, address in self._others.items():
            there = network.resolve(node) if network.is_address(address) else [address]
            if address not in there:
                where = f"to {', '.join(there)}" if there else "nowhere"
                wrong.append(f"{node} leads {where}, not to {address}")
            if time.monotonic() - began_s > LATE_S:
                # Where whom to ask for names does not answer, each takes as long.
                break
        if wrong:
            yield note(
                f"names of nodes are not there as Slurm has them: {_listed(wrong, '; ')}; ranks go by "
                f"Slurm's addresses, other programs by names",
                "nothing for a run; for other programs ask your cluster's help desk",
            )

    def missing_interface(self) -> Iterator[Finding]:
        """Say that this node has no such interface as was typed."""
        if self._interface and not self._own_addresses():
            there = network.interfaces_in_words()
            yield problem(
                f"it has no interface {self._interface} with an IPv4 address, but {there}",
                "name one of these with --interface, or leave it out",
            )

    def apart(self, is_busy: Callable[[], bool]) -> Iterator[Apart]:
        """Yield each node that is not reached from here. UserError where no typed port is free.

        is_busy: tells whether this node has other things to do, and can wait for the others meanwhile.
        """
        own = self._own_addresses()
        if not self._others or not own:
            return
        with (
            network.listening("", self._ports, first=os.getpid()) as port,
            ThreadPoolExecutor(AT_ONCE) as pool,
        ):
            self._tell(LISTENS, json.dumps([own, port]))
            tries = self._try_all(pool, is_busy)
            # Whoever fails to come from now on knows why.
            self._tell(LEFT)
        for node, tried in tries.items():
            if why := tried.result():
                yield Apart(node=node, why=why)

    def _own_addresses(self) -> list[str]:
        if self._interface:
            return [one.address for one in network.interfaces() if one.name == self._interface]
        return network.own_addresses((self._own_name, self._node, os.uname().nodename))

    def _try_all(self, pool: ThreadPoolExecutor, is_busy: Callable[[], bool]) -> dict[str, Future[str]]:
        """Connect to each node that comes, until all have tried all; return what comes of it."""
        tries: dict[str, Future[str]] = {}
        has_tried, late_s = False, LATE_S
        while True:
            there = self._there()
            for node in self._others:
                if node not in tries and f"{node}.{LISTENS}" in there:
                    tries[node] = pool.submit(self._why_apart, node)
            if (
                not has_tried
                and len(tries) == len(self._others)
                and all(one.done() for one in tries.values())
            ):
                self._tell(TRIED)
                has_tried = True
            if has_tried and all({f"{node}.{TRIED}", f"{node}.{LEFT}"} & there for node in self._others):
                return tries
            late_s -= 0.0 if is_busy() else POLL_S
            if late_s < 0:
                return tries
            time.sleep(POLL_S)

    def _why_apart(self, node: str) -> str:
        """Connect to a node that listens; return why that fails, or empty, as of one that has left since."""
        addresses, port = json.loads((self._folder / f"{node}.{LISTENS}").read_text(encoding="utf-8"))
        whys = []
        for address in addresses:
            why = network.why_unreachable(address, port, within_s=ANSWER_S)
            if not why:
                return ""
            whys.append(f"{address} port {port} by {network.way_to(address)}: {why}")
        return "" if f"{node}.{LEFT}" in self._there() else "; ".join(whys)

    def _there(self) -> set[str]:
        # Listing the folder makes a network file system ask its server for new names.
        return {path.name for path in self._folder.iterdir()}

    def _tell(self, end: str, text: str = "") -> None:
        publish_new_bytes(self._folder / f"{self._node}.{end}", text.encode())


def judge_ways(apart: Mapping[tuple[str, str], str]) -> dict[str, list[Finding]]:
    """Judge which nodes are at fault: one that several do not reach, else those that do not reach others.

    apart: (node, another that it does not reach) → why.
    """
    found: dict[str, list[Finding]] = {}
    sources: dict[str, list[str]] = {}
    for node, other in apart:
        sources.setdefault(other, []).append(node)
    closed = {other: nodes for other, nodes in sources.items() if len(nodes) > 1}
    for other, nodes in closed.items():
        says = f"{_listed(nodes)} do not reach it ({apart[nodes[0], other]})"
        found[other] = [problem(says, CURE)]
    targets: dict[str, list[str]] = {}
    for node, other in apart:
        if other not in closed:
            targets.setdefault(node, []).append(other)
    for node, others in targets.items():
        says = f"it does not reach {_listed(others)} ({apart[node, others[0]]})"
        found.setdefault(node, []).append(problem(says, CURE))
    return found


def _listed(names: list[str], between: str = ", ") -> str:
    shown = between.join(names[:SHOWN])
    return f"{shown} and {len(names) - SHOWN} more" if len(names) > SHOWN else shown
