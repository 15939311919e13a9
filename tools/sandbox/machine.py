"""Pretended machines: a name, an address, and processes of their own, on the host's file system.

Each has its own network, host name, mounts and process ids. When a machine's first process dies, the kernel
kills all others in it, so nothing that a machine ran can be left behind.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from commands import CLEAN_ENVIRONMENT, attempt, run, wait_until
from failure import SandboxError
from layout import Layout

NAMESPACES = ("--net", "--uts", "--mount", "--pid", "--fork", "--kill-child")
# The mark lies in the environment of the two processes that hold a machine, and of no others.
MARK = "MRI_SANDBOX_MACHINE"


def check_permitted() -> None:
    """Refuse, with the reason, where the kernel does not let us make machines."""
    tried = attempt(["unshare", *NAMESPACES, "mount", "-t", "proc", "proc", "/proc"])
    if tried.returncode != 0:
        raise SandboxError(
            f"this system does not permit namespaces ({tried.stderr.strip()}): "
            "use a virtual machine, or a container started with --privileged"
        )


def start_machine(layout: Layout, name: str) -> int:
    """Start a machine without network or daemons; returns the host's process id of its first process."""
    init = Path(__file__).with_name("machine_init.py")
    argv = ["unshare", *NAMESPACES, sys.executable, "-I", str(init)]
    files = [str(layout.hosts_file), str(layout.etc / "empty")]
    log_file = layout.log_dir / f"machine-{name}.log"
    with log_file.open("ab") as log:
        holder = subprocess.Popen(
            [*argv, name, *files],
            env={**CLEAN_ENVIRONMENT, MARK: f"{layout.tag}/{name}"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
            cwd="/",
        )
    assert holder.stdout is not None
    with holder.stdout as answers:
        if answers.readline() != b"ready\n":
            raise SandboxError(f"machine {name} did not start: {last_line(log_file)}")
    return init_pid(layout, name)


def kill_machines(layout: Layout, name: str | None = None) -> None:
    """End a machine, or all machines of a sandbox, with everything that runs in them."""

    def all_gone() -> bool:
        left = list(processes_of(layout, name))
        for pid in left:
            kill_and_reap(pid)
        return not left

    wait_until(all_gone, what="the end of the sandbox's processes", timeout_s=20)


def kill_and_reap(pid: int) -> None:
    """SIGKILL a process; forget it too where it is a child of ours."""
    try:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, os.WNOHANG)
    except (ProcessLookupError, ChildProcessError):
        return


def run_inside(pid: int, argv: Sequence[str], *, env: dict[str, str] | None = None, stdin: str = "") -> str:
    """Run a command in the machine whose first process is `pid`."""
    return run([*entering(pid), *argv], env={**CLEAN_ENVIRONMENT, **(env or {})}, stdin=stdin)


def entering(pid: int, *, cwd: Path = Path("/")) -> list[str]:
    """Return the words that go before a command to run it inside a machine."""
    return ["nsenter", "--target", str(pid), "--net", "--uts", "--mount", "--pid", f"--wdns={cwd}", "--"]


def init_pid(layout: Layout, name: str) -> int:
    """Return the host's process id of a machine's first process; a SandboxError when the machine is off."""
    for pid in processes_of(layout, name):
        if is_first_in_namespace(pid):
            return pid
    raise SandboxError(f"machine {name} is off: start it with sandbox start-node {name}")


def is_on(layout: Layout, name: str) -> bool:
    """Tell whether the machine's first process lives."""
    return any(is_first_in_namespace(pid) for pid in processes_of(layout, name))


def processes_of(layout: Layout, name: str | None = None) -> Iterator[int]:
    """Find the processes that hold a machine (or all machines) of this sandbox, by their mark."""
    wanted = f"{MARK}={layout.tag}/{name or ''}".encode()
    for pid in [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]:
        if any(word == wanted if name else word.startswith(wanted) for word in environment_of(pid)):
            yield pid


def environment_of(pid: int) -> list[bytes]:
    """Return a process's environment as NAME=VALUE; empty for one that is gone or a zombie."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return []


def is_first_in_namespace(pid: int) -> bool:
    """Tell whether a process of the host is number 1 in a process namespace of its own."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    numbers = next((line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:")), [])
    return len(numbers) > 1 and numbers[-1] == "1"


def last_line(log: Path) -> str:
    """Return the last line of a log, to tell why something failed."""
    try:
        lines = log.read_text(errors="replace").strip().splitlines()
    except FileNotFoundError:
        return "no log"
    return lines[-1] if lines else "empty log"
