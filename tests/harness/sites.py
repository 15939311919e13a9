"""Habits of sites, by real means, on a sandbox: no names, few ports, other networks, folders of a node's own.

Each is undone when its block ends.
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.harness.cluster import Slurm

SLURMD_PORT = 6818


@contextlib.contextmanager
def without_names(slurm: Slurm, node: str, lines: Sequence[str] = ()) -> Iterator[None]:
    """A node on which no name of another resolves, but for those in `lines`, as of /etc/hosts."""
    hosts = slurm.dir / "etc" / f"hosts-{node}"
    hosts.write_text("\n".join(["127.0.0.1 localhost", *lines]) + "\n")
    with _mounted(slurm, node, "--bind", str(hosts), "/etc/hosts"):
        yield


@contextlib.contextmanager
def few_ports(slurm: Slurm, node: str, low: int, high: int) -> Iterator[None]:
    """A node that others reach on few ports alone, and on Slurm's; srun's lie among the few."""
    conf = slurm.dir / "etc" / "slurm.conf"
    before = conf.read_text()
    conf.write_text(f"{before}SrunPortRange={low}-{high}\n")
    rule = f"tcp flags & (syn | ack) == syn tcp dport != {{ {SLURMD_PORT}, {low}-{high} }} drop"
    for words in (
        ["add", "table", "inet", "site"],
        ["add", "chain", "inet", "site", "in", "{ type filter hook input priority 0; }"],
        ["add", "rule", "inet", "site", "in", "iifname", "!=", "lo", rule],
    ):
        slurm.sandbox("exec", node, "nft", " ".join(words))
    try:
        yield
    finally:
        slurm.sandbox("exec", node, "nft", "delete table inet site")
        conf.write_text(before)


@contextlib.contextmanager
def dead_network(slurm: Slurm, node: str, address: str) -> Iterator[None]:
    """A second network of a node, of which no other node is a part: a cable whose other end lies in it."""
    slurm.sandbox("exec", node, "ip", "link", "add", "eth1", "type", "veth", "peer", "name", "eth1end")
    try:
        slurm.sandbox("exec", node, "ip", "address", "add", f"{address}/24", "dev", "eth1")
        for end in ("eth1", "eth1end"):
            slurm.sandbox("exec", node, "ip", "link", "set", end, "up")
        yield
    finally:
        slurm.sandbox("exec", node, "ip", "link", "delete", "eth1")


@contextlib.contextmanager
def without_folder(slurm: Slurm, node: str, folder: Path) -> Iterator[None]:
    """A node on which a folder is one of its own, and empty."""
    with _mounted(slurm, node, "-t", "tmpfs", "tmpfs", str(folder)):
        yield


@contextlib.contextmanager
def without_file(slurm: Slurm, node: str, file: Path) -> Iterator[None]:
    """A node that does not see a file of a folder: the folder, without it, is the node's own."""
    with without_folder(slurm, node, file.parent):
        yield


@contextlib.contextmanager
def with_clock(slurm: Slurm, node: str, ahead_s: int, folder: Path) -> Iterator[None]:
    """A node whose shells read a clock that is ahead; whose pythons do where PYTHONPATH names the folder."""
    (folder / "sitecustomize.py").write_text(
        "import os, time\n"
        f"if os.environ.get('SLURMD_NODENAME') == {node!r}:\n"
        "    _real = time.time\n"
        f"    time.time = lambda: _real() + {ahead_s}\n"
    )
    date = folder / "date"
    date.write_text(f"#!/bin/sh\nexec {folder}/real_date -d '{ahead_s} seconds' \"$@\"\n")
    date.chmod(0o755)
    real = folder / "real_date"
    real.write_bytes(Path("/bin/date").read_bytes())
    real.chmod(0o755)
    with _mounted(slurm, node, "--bind", str(date), str(Path("/bin/date").resolve())):
        yield


@contextlib.contextmanager
def _mounted(slurm: Slurm, node: str, *words: str) -> Iterator[None]:
    slurm.sandbox("exec", node, "mount", *words)
    try:
        yield
    finally:
        slurm.sandbox("exec", node, "umount", "--lazy", words[-1])
