"""The first process of a pretended machine: names it, gives it its own files, then only reaps orphans.

Run as `unshare --net --uts --mount --pid --fork ... machine_init.py NAME HOSTS_FILE EMPTY_FILE`.
"""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path


def main(name: str, hosts_file: str, empty_file: str) -> None:
    socket.sethostname(name)
    mount("-t", "proc", "proc", "/proc")
    # Process ids repeat from machine to machine, and shared-memory files are named after them.
    mount("-t", "tmpfs", "tmpfs", "/dev/shm")
    mount("--bind", hosts_file, "/etc/hosts")
    if Path("/etc/resolv.conf").exists():
        # Without a name server an unknown name fails at once; with one out of reach it hangs for seconds.
        mount("--bind", empty_file, "/etc/resolv.conf")
    print("ready", flush=True)
    rest()


def mount(*arguments: str) -> None:
    """Mount inside this machine's own mount namespace; the host never sees it."""
    subprocess.run(["mount", *arguments], check=True)


def rest() -> None:
    """Live until killed, and reap the orphans that this process inherits.

    In this process, not in a smaller one: while exec swaps a process, its environment reads as empty, and the
    host finds this machine by it.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1):
        os.dup2(nothing, descriptor)
    while True:
        signal.pause()


if __name__ == "__main__":
    main(*sys.argv[1:])
